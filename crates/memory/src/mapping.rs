//! Weights: read-only bytes that nobody copies.
//!
//! Three sources behave alike: a mapped file (the page cache holds it once, however many processes serve it), bytes inside the binary, and anonymous pages filled
//! once at load with converted weights, then frozen.
//!
//! A mapped file must not be changed while it is served: shortening it turns reads into `SIGBUS`, as with any mapping. Replace files by renaming.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::pod::{Pod, cast};
use crate::process::{drop_pages, errno, page_bytes};

/// Bytes could not be mapped.
#[derive(Debug)]
pub enum MapError {
    /// The file could not be opened, asked for its length or mapped.
    File {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file has no bytes.
    Empty {
        /// Its path.
        path: PathBuf,
    },
    /// The kernel refused anonymous pages.
    Pages {
        /// Bytes asked for.
        requested_bytes: usize,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::File { path, error } => write!(f, "{}: {error}", path.display()),
            MapError::Empty { path } => write!(f, "{}: the file is empty", path.display()),
            MapError::Pages {
                requested_bytes,
                error,
            } => {
                write!(f, "mapping: the kernel refused {requested_bytes} bytes: {error}")
            }
        }
    }
}

impl std::error::Error for MapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MapError::File { error, .. } | MapError::Pages { error, .. } => Some(error),
            MapError::Empty { .. } => None,
        }
    }
}

/// How a file's pages come into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefetch {
    /// When first read.
    Lazy,
    /// Read ahead in the background (`MADV_WILLNEED`).
    Background,
    /// Before `open_with` returns (`MAP_POPULATE`).
    Now,
}

/// Read-only bytes; cloning shares them.
#[derive(Debug, Clone)]
pub struct Mapping {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Static(&'static [u8]),
    Pages(Arc<Pages>),
}

impl Mapping {
    /// Maps a file, read ahead in the background.
    ///
    /// ```
    /// let error = plimsoll_memory::Mapping::open("no/such/model.safetensors".as_ref()).unwrap_err();
    /// assert!(error.to_string().starts_with("no/such/model.safetensors: No such file"));
    /// ```
    pub fn open(path: &Path) -> Result<Mapping, MapError> {
        Self::open_with(path, Prefetch::Background)
    }

    /// Maps a file.
    pub fn open_with(path: &Path, prefetch: Prefetch) -> Result<Mapping, MapError> {
        let failed = |error| MapError::File {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            )));
        }
        let bytes =
            usize::try_from(metadata.len()).map_err(|_| failed(io::Error::from_raw_os_error(libc::EFBIG)))?;
        if bytes == 0 {
            return Err(MapError::Empty {
                path: path.to_owned(),
            });
        }
        let populate = if prefetch == Prefetch::Now {
            libc::MAP_POPULATE
        } else {
            0
        };
        let flags = libc::MAP_PRIVATE | populate;
        let pages = Pages::map(bytes, libc::PROT_READ, flags, file.as_raw_fd()).map_err(failed)?;
        if prefetch == Prefetch::Background {
            pages.will_need().map_err(failed)?;
        }
        Ok(Mapping {
            source: Source::Pages(Arc::new(pages)),
        })
    }

    /// Bytes inside the binary.
    pub const fn from_static(bytes: &'static [u8]) -> Mapping {
        Mapping {
            source: Source::Static(bytes),
        }
    }

    /// Anonymous pages of zeros, to be filled once and then [frozen](OwnedMapping::freeze).
    pub fn owned(bytes: usize) -> Result<OwnedMapping, MapError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Pages::map(bytes.max(1), libc::PROT_READ | libc::PROT_WRITE, flags, -1)
            .map(|pages| OwnedMapping { pages, bytes })
            .map_err(|error| MapError::Pages {
                requested_bytes: bytes,
                error,
            })
    }

    /// The bytes. Files and owned mappings start on a page.
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Static(bytes) => bytes,
            Source::Pages(pages) => pages.bytes(),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Lets the pages that lie wholly within `range` leave memory: bytes that were read once and will hardly be read again. They come
    /// back from the file when they are. Bytes inside the binary and pages that were filled here stay.
    pub fn release(&self, range: Range<usize>) {
        let Source::Pages(pages) = &self.source else {
            return;
        };
        if !pages.from_file || self.bytes().get(range.clone()).is_none() {
            return;
        }
        let page = page_bytes();
        let (start, end) = (range.start.next_multiple_of(page), range.end / page * page);
        if start < end {
            // SAFETY: the pages lie within the mapping, which is of a file, private and never written: dropping them loses nothing.
            let dropped = unsafe { drop_pages(pages.address.as_ptr().add(start).cast(), end - start) };
            debug_assert!(dropped, "madvise: errno {}", errno());
        }
    }

    /// A part of the bytes that keeps the whole alive; `None` when `range` is not inside.
    pub fn slice(&self, range: Range<usize>) -> Option<MappedSlice> {
        self.bytes().get(range.clone())?;
        Some(MappedSlice {
            mapping: self.clone(),
            range,
        })
    }
}

/// Anonymous pages that are still being filled.
#[derive(Debug)]
pub struct OwnedMapping {
    pages: Pages,
    bytes: usize,
}

impl OwnedMapping {
    /// The bytes to fill; zero at first, starting on a page.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the pages are writable, at least `bytes` long, initialised, and borrowed through `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.pages.address.as_ptr(), self.bytes) }
    }

    /// Lets huge pages back the bytes: all of them are used, and fewer entries then cover them. Call it before filling. A kernel built without huge pages
    /// has nothing to set.
    pub fn huge_pages(&mut self) {
        // SAFETY: advice about backing changes no contents.
        let status = unsafe {
            libc::madvise(
                self.pages.address.as_ptr().cast(),
                self.pages.bytes,
                libc::MADV_HUGEPAGE,
            )
        };
        debug_assert!(
            status == 0 || errno() == libc::EINVAL,
            "madvise: errno {}",
            errno()
        );
    }

    /// Ends the filling: the pages become read-only for good.
    pub fn freeze(mut self) -> Result<Mapping, MapError> {
        // SAFETY: no reference into the pages is alive, as `self` is owned.
        let status = unsafe {
            libc::mprotect(
                self.pages.address.as_ptr().cast(),
                self.pages.bytes,
                libc::PROT_READ,
            )
        };
        if status != 0 {
            let error = io::Error::from_raw_os_error(errno());
            return Err(MapError::Pages {
                requested_bytes: self.bytes,
                error,
            });
        }
        self.pages.visible_bytes = self.bytes;
        Ok(Mapping {
            source: Source::Pages(Arc::new(self.pages)),
        })
    }
}

/// A part of a [`Mapping`] that keeps it alive; cloning shares it.
#[derive(Debug, Clone)]
pub struct MappedSlice {
    mapping: Mapping,
    range: Range<usize>,
}

impl MappedSlice {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.mapping.bytes()[self.range.clone()]
    }

    /// The bytes as `T`, or `None` when they are misaligned or ragged for it.
    pub fn cast<T: Pod>(&self) -> Option<&[T]> {
        cast(self.bytes())
    }

    /// Where in the mapping it lies.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// Pages of our own, unmapped on drop.
#[derive(Debug)]
struct Pages {
    address: NonNull<u8>,
    bytes: usize,
    visible_bytes: usize,
    from_file: bool,
}

// SAFETY: a mapping belongs to the process, not to a thread, and a shared `Pages` is only read.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    fn map(bytes: usize, access: i32, flags: i32, file: i32) -> io::Result<Pages> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no existing memory.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, file, 0) };
        match NonNull::new(address.cast::<u8>()) {
            Some(address) if address.as_ptr().cast() != libc::MAP_FAILED => Ok(Pages {
                address,
                bytes,
                visible_bytes: bytes,
                from_file: file >= 0,
            }),
            _ => Err(io::Error::from_raw_os_error(errno())),
        }
    }

    fn will_need(&self) -> io::Result<()> {
        // SAFETY: reading ahead changes no contents.
        let status = unsafe { libc::madvise(self.address.as_ptr().cast(), self.bytes, libc::MADV_WILLNEED) };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(errno()))
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: readable for its whole length until drop; nobody in this process writes to it, and the file's keeper promises the same (module docs).
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.visible_bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no reference into it is left.
        let status = unsafe { libc::munmap(self.address.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(status, 0, "munmap: errno {}", errno());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is removed with the value.
    struct TempFile(PathBuf);

    impl TempFile {
        fn new(name: &str, contents: &[u8]) -> Self {
            let name = format!("plimsoll-mapping-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, contents).unwrap();
            TempFile(path)
        }
    }

    impl Drop for TempFile {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    #[test]
    fn a_file_reads_the_same_however_it_is_fetched() {
        let file = TempFile::new("read", b"0123456789");
        for prefetch in [Prefetch::Lazy, Prefetch::Background, Prefetch::Now] {
            let mapping = Mapping::open_with(&file.0, prefetch).unwrap();
            assert_eq!((mapping.bytes(), mapping.len()), (&b"0123456789"[..], 10));
        }
    }

    #[test]
    fn a_mapping_outlives_the_files_name() {
        let file = TempFile::new("unlinked", &[7; 5000]);
        let mapping = Mapping::open(&file.0).unwrap();
        drop(file);
        let slice = mapping.slice(4096..5000).unwrap();
        drop(mapping);
        assert!(slice.bytes().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn released_pages_come_back_from_the_file() {
        let file = TempFile::new("released", &[9; 20_000]);
        let mapping = Mapping::open_with(&file.0, Prefetch::Now).unwrap();
        mapping.release(100..20_000);
        mapping.release(10..19);
        mapping.release(0..30_000);
        assert!(mapping.bytes().iter().all(|byte| *byte == 9));
        let mut owned = Mapping::owned(8192).unwrap();
        owned.bytes_mut().fill(3);
        let filled = owned.freeze().unwrap();
        filled.release(0..8192);
        assert!(filled.bytes().iter().all(|byte| *byte == 3));
    }

    #[test]
    fn empty_missing_and_irregular_files_are_errors_that_name_them() {
        let file = TempFile::new("empty", b"");
        assert!(matches!(Mapping::open(&file.0), Err(MapError::Empty { .. })));
        let directory = std::env::temp_dir();
        let error = Mapping::open(&directory).unwrap_err().to_string();
        assert_eq!(error, format!("{}: not a regular file", directory.display()));
    }

    #[test]
    fn owned_pages_are_filled_once_and_then_shared() {
        let mut owned = Mapping::owned(8).unwrap();
        owned.huge_pages();
        crate::cast_mut::<u32>(owned.bytes_mut()).unwrap()[1] = 5;
        let mapping = owned.freeze().unwrap();
        assert_eq!(cast::<u32>(mapping.bytes()), Some(&[0, 5][..]));
        assert_eq!(mapping.slice(4..8).unwrap().cast::<u32>(), Some(&[5][..]));
        assert_eq!(mapping.slice(2..6).unwrap().cast::<u32>(), None);
        assert!(mapping.slice(4..9).is_none());
    }

    #[test]
    fn nothing_is_a_valid_length_for_owned_pages_and_too_much_is_an_error() {
        assert!(Mapping::owned(0).unwrap().freeze().unwrap().is_empty());
        assert!(matches!(Mapping::owned(1 << 60), Err(MapError::Pages { .. })));
        assert_eq!(Mapping::from_static(b"ab").slice(1..2).unwrap().bytes(), b"b");
    }
}
