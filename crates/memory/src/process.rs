//! What the kernel says about this process, read without allocating.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Size of a page in bytes.
pub fn page_bytes() -> usize {
    static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
    match PAGE_BYTES.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: a query without preconditions.
            let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let bytes = usize::try_from(bytes).expect("the kernel knows its page size");
            PAGE_BYTES.store(bytes, Ordering::Relaxed);
            bytes
        }
        bytes => bytes,
    }
}

/// Bytes of this process that are in memory (anonymous, file and shared), from `/proc/self/statm`. `None` where `/proc` is not mounted.
///
/// The kernel batches its counting by thread (up to 64 pages each), so small changes may show late.
///
/// ```
/// assert!(plimsoll_memory::process::resident_bytes().unwrap() > 4096);
/// ```
pub fn resident_bytes() -> Option<usize> {
    let mut buffer = [0u8; 128];
    let text = read_into(c"/proc/self/statm", &mut buffer)?;
    let pages: usize = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_bytes())
}

/// Of [`resident_bytes`], those that no file backs (anonymous memory): what the kernel cannot drop when it is short.
pub fn anonymous_bytes() -> Option<usize> {
    let mut buffer = [0u8; 128];
    let text = read_into(c"/proc/self/statm", &mut buffer)?;
    let mut fields = text.split(' ').skip(1);
    let resident: usize = fields.next()?.parse().ok()?;
    let shared: usize = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared) * page_bytes())
}

/// Bytes of address space that this process maps of its own executable: what of the file can be in memory at all, which leaves out the tables that
/// only debuggers read. `None` where `/proc` is not mounted.
///
/// ```
/// assert!(plimsoll_memory::process::executable_bytes().unwrap() > 4096);
/// ```
pub fn executable_bytes() -> Option<usize> {
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    Some(mapped_bytes(&maps, path.to_str()?))
}

/// The sum of what `maps` maps of `path`.
fn mapped_bytes(maps: &str, path: &str) -> usize {
    let of = |line: &str| {
        let (start, end) = line.strip_suffix(path)?.split_once(' ')?.0.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        address(end)?.checked_sub(address(start)?)
    };
    maps.lines().filter_map(of).sum()
}

/// Whether the kernel promises no more memory than it has (`vm.overcommit_memory` = 2), as it was when first asked.
pub fn strict_overcommit() -> bool {
    /// 0: not asked yet; 1: no; 2: yes.
    static STRICT: AtomicUsize = AtomicUsize::new(0);
    if STRICT.load(Ordering::Relaxed) == 0 {
        let mut buffer = [0u8; 8];
        let mode = read_into(c"/proc/sys/vm/overcommit_memory", &mut buffer);
        let strict = mode.is_some_and(|mode| mode.trim() == "2");
        STRICT.store(1 + usize::from(strict), Ordering::Relaxed);
    }
    STRICT.load(Ordering::Relaxed) == 2
}

/// Asks the kernel for huge pages only where [`HugePages`](crate::HugePages) says so, even where the host gives them to everyone: a heap of which a small
/// part is used would hold 2 MiB for it. Returns whether it will: Linux 6.18 and later do. The process's children inherit it.
pub fn take_huge_pages_only_where_asked() -> bool {
    /// The kernel's `PR_THP_DISABLE_EXCEPT_ADVISED`.
    const EXCEPT_ADVISED: libc::c_ulong = 1 << 1;
    let (disable, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: numbers go in, and nothing but a flag of this process changes.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, disable, EXCEPT_ADVISED, unused, unused) == 0 }
}

/// Locks every page of this process that is or comes into memory: no swapping, and the page cache cannot lose weights that were mapped. Nothing comes into memory by
/// this that is not used, and what is given back leaves as before.
///
/// # Errors
/// The kernel's: without `CAP_IPC_LOCK` the address space, reservations included, must fit in `RLIMIT_MEMLOCK`.
pub fn lock_memory() -> std::io::Result<()> {
    // SAFETY: locking changes no contents.
    match unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Drops the contents of whole pages, locked ones too. Returns whether the kernel did.
///
/// # Safety
/// The pages lie in a mapping of the caller's of which nobody holds a view whose bytes must stay: anonymous pages read as zero afterwards, those of a file as the file.
pub(crate) unsafe fn drop_pages(address: *mut libc::c_void, bytes: usize) -> bool {
    // SAFETY: the caller's promise is what the call asks for.
    let drop_with = |advice| unsafe { libc::madvise(address, bytes, advice) } == 0;
    // SAFETY: unlocking changes no contents.
    let unlock = || unsafe { libc::munlock(address, bytes) } == 0;
    // Locked pages are another advice's (Linux 5.18), and before that must be unlocked.
    drop_with(libc::MADV_DONTNEED)
        || errno() == libc::EINVAL
            && (drop_with(libc::MADV_DONTNEED_LOCKED) || unlock() && drop_with(libc::MADV_DONTNEED))
}

/// The longest turn of a thread that takes short ones.
const SHORT_TURN_NS: u64 = 200_000;

/// Asks the kernel to give the calling thread turns of at most 0.2 ms, so that it runs soon after it wakes instead of behind the whole turn of a thread
/// that computes. Returns whether it will: Linux 6.12 and later do, where the runtime of an ordinary thread's `sched_attr` is the length of its turn.
/// Threads started later by this one inherit it.
pub fn take_short_turns() -> bool {
    let mut attributes = SchedAttr::default();
    let size = size_of::<SchedAttr>() as u32;
    let me = 0;
    // SAFETY: `attributes` is writable for `size` bytes; the kernel writes no more.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, me, &raw mut attributes, size, 0) };
    if got != 0 {
        return false;
    }
    attributes.runtime_ns = SHORT_TURN_NS;
    // SAFETY: `attributes` is what the kernel wrote, its own size included, with one number changed.
    unsafe { libc::syscall(libc::SYS_sched_setattr, me, &raw const attributes, 0) == 0 }
}

/// Has the process end quietly when it writes to a pipe that nobody reads, as commands that print do; Rust's runtime turns that into an error of the write. Not for one
/// that serves: a socket may be such a pipe.
pub fn end_with_broken_pipes() {
    // SAFETY: the default action of a signal needs no handler of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The kernel's `struct sched_attr` as of its first version: later fields are not asked for.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size_bytes: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Reads the beginning of a small file into `buffer`.
fn read_into<'a>(path: &std::ffi::CStr, buffer: &'a mut [u8]) -> Option<&'a str> {
    // SAFETY: `path` ends in a nul byte.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return None;
    }
    // SAFETY: `buffer` is writable for its whole length.
    let count = unsafe { libc::read(file, buffer.as_mut_ptr().cast(), buffer.len()) };
    // SAFETY: `file` is ours and is not used again.
    unsafe { libc::close(file) };
    std::str::from_utf8(buffer.get(..usize::try_from(count).ok()?)?).ok()
}

/// The error of the last call into libc on this thread.
pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_turns_leave_the_rest_of_a_thread_as_it_was() {
        let look = || {
            let mut attributes = SchedAttr::default();
            // SAFETY: as in `take_short_turns`.
            let got = unsafe {
                let size = size_of::<SchedAttr>() as u32;
                libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0)
            };
            assert_eq!(got, 0);
            attributes
        };
        std::thread::spawn(move || {
            let before = look();
            let taken = take_short_turns();
            let after = look();
            assert_eq!((after.policy, after.nice), (before.policy, before.nice));
            // Kernels before 6.12 say 0 for an ordinary thread.
            assert!(taken && (after.runtime_ns == SHORT_TURN_NS || after.runtime_ns == before.runtime_ns));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn huge_pages_are_where_they_are_asked_for() {
        let asked = || {
            // SAFETY: as in `take_huge_pages_only_where_asked`.
            unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) }
        };
        let before = asked();
        let taken = take_huge_pages_only_where_asked();
        // Disabled, except where advised; kernels before 6.18 know no exception.
        assert_eq!(asked(), if taken { 3 } else { before });
    }

    #[test]
    fn resident_bytes_follow_touched_pages() {
        let before = resident_bytes().unwrap();
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = resident_bytes().unwrap();
        assert!(after >= before + (32 << 20), "{before} then {after}");
        drop(touched);
    }

    #[test]
    fn only_the_mappings_of_the_file_count() {
        let maps = "1000-3000 r--p 00000000 fe:00 12 /bin/x\n3000-4000 r-xp 00002000 fe:00 12 /bin/x\n\
                    4000-9000 rw-p 00000000 00:00 0 \n9000-a000 r--p 00000000 fe:00 13 /lib/y\n";
        assert_eq!(mapped_bytes(maps, "/bin/x"), 0x3000);
        // No upper bound: a test beside this one that panics has the file mapped once more, for its backtrace.
        assert!(executable_bytes().unwrap() > 4096);
    }

    #[test]
    fn a_missing_file_is_none() {
        assert_eq!(read_into(c"/proc/self/no-such-file", &mut [0; 8]), None);
    }
}
