//! Plain data: types that any bytes may become.
//!
//! Leased slots and scratch are reused without being rebuilt, and weights are views into files. That is sound only for types of which every bit
//! pattern is a value and which have no padding. [`pod_struct!`](crate::pod_struct) lets crates that forbid unsafe code define such structs: the
//! compiler checks the fields, so the caller has nothing to promise.

/// A type of which every bit pattern of its size is a valid value.
///
/// Having a `T: Pod` tells you: its size is not zero, it has no padding, no references, no interior mutability and no drop.
///
/// # Safety
/// All of the above must hold for the implementing type.
pub unsafe trait Pod: Copy + Send + Sync + 'static {}

macro_rules! pod_numbers {
    ($($number:ty),+) => {
        $(
            // SAFETY: a primitive number: no padding, and every bit pattern is a value.
            unsafe impl Pod for $number {}
        )+
    };
}
pod_numbers!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

/// Defines a `#[repr(C)]` struct of [`Pod`] fields and makes it [`Pod`]; padding between fields does not compile.
///
/// The struct also derives `Clone`, `Copy`, `Debug`, `Default` and `PartialEq`. Works in crates with `#![forbid(unsafe_code)]`.
///
/// ```
/// #![forbid(unsafe_code)]
/// plimsoll_memory::pod_struct! {
///     /// A span of the body.
///     pub struct Span { pub start: u32, pub len: u32 }
/// }
/// let spans: &[Span] = plimsoll_memory::cast(&[0; 16]).unwrap();
/// assert_eq!(spans[1], Span { start: 0, len: 0 });
/// ```
///
/// ```compile_fail
/// plimsoll_memory::pod_struct! { struct Padded { small: u8, large: u32 } }
/// ```
#[macro_export]
macro_rules! pod_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty),+ $(,)?
    }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),+ }

        const _: () = {
            const fn is_pod<T: $crate::Pod>() {}
            $(is_pod::<$type>();)+
            assert!(
                ::core::mem::size_of::<$name>() == 0 $(+ ::core::mem::size_of::<$type>())+,
                "the fields leave padding between them: order or widen them"
            );
        };
        // SAFETY: the constant above proves that every field is `Pod` and that nothing lies between them.
        unsafe impl $crate::Pod for $name {}
    };
}

/// Views bytes as a slice of `T`, or `None` when they are misaligned for `T` or not a whole number of it.
///
/// ```
/// let mapping = plimsoll_memory::Mapping::owned(8)?.freeze()?;
/// assert_eq!(plimsoll_memory::cast::<f32>(mapping.bytes()), Some(&[0.0, 0.0][..]));
/// assert_eq!(plimsoll_memory::cast::<f32>(&mapping.bytes()[..7]), None);
/// # Ok::<(), plimsoll_memory::MapError>(())
/// ```
pub fn cast<T: Pod>(bytes: &[u8]) -> Option<&[T]> {
    if !fits::<T>(bytes) {
        return None;
    }
    // SAFETY: aligned and a whole number of `T` (checked by `fits`), every bit pattern is a `T`, and the borrow is that of `bytes`.
    Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// As [`cast`], writable.
pub fn cast_mut<T: Pod>(bytes: &mut [u8]) -> Option<&mut [T]> {
    if !fits::<T>(bytes) {
        return None;
    }
    // SAFETY: as in `cast`; the borrow of `bytes` is unique, and every `T` written is again initialised bytes, as `T` has no padding.
    Some(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// Views a slice of `T` as its bytes, in native order.
pub fn as_bytes<T: Pod>(values: &[T]) -> &[u8] {
    // SAFETY: `T` has no padding, so all of its bytes are initialised; the length is that of the slice, the borrow is the same.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// As [`as_bytes`], writable.
pub fn as_bytes_mut<T: Pod>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `as_bytes`; every bit pattern written is a `T`.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

fn fits<T: Pod>(bytes: &[u8]) -> bool {
    bytes.as_ptr().cast::<T>().is_aligned() && bytes.len().is_multiple_of(size_of::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cast_refuses_misaligned_and_ragged_bytes() {
        let words = [1u32, 2, 3];
        let bytes = as_bytes(&words);
        assert_eq!(cast::<u32>(bytes), Some(&words[..]));
        assert_eq!(cast::<u32>(&bytes[1..5]), None);
        assert_eq!(cast::<u32>(&bytes[..6]), None);
        assert_eq!(cast::<u32>(&bytes[..0]), Some(&[][..]));
    }

    #[test]
    fn writing_through_a_cast_reaches_the_bytes() {
        let mut words = [0u64; 2];
        cast_mut::<f32>(as_bytes_mut(&mut words)).unwrap()[3] = 1.0;
        assert_eq!(as_bytes(&words)[12..], 1.0f32.to_ne_bytes());
    }
}
