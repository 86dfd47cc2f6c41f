//! SIGPROF: the kernel's clock of CPU time interrupts a thread that runs, or somebody asks one thread where it stands. Either way its stack is written to the ring.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::Sample;

/// Takes SIGPROF over, for the life of the process.
pub(super) fn install() {
    // SAFETY: all zeros is a valid `sigaction`; what matters is set below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler only reads its own stack, the clock and the thread's number, and writes to atomics; it restores `errno`.
    let refused = unsafe { libc::sigaction(libc::SIGPROF, &action, std::ptr::null_mut()) };
    assert_eq!(refused, 0, "SIGPROF can be handled");
}

extern "C" fn on_signal(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the address of this thread's own `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; and the kernel hands a handler that asked for it a valid `siginfo_t`.
    let (saved, code) = unsafe { (*errno, (*info).si_code) };
    super::sample(match code {
        libc::SI_TKILL => Sample::Asked,
        _ => Sample::Cpu,
    });
    // SAFETY: as above.
    unsafe { *errno = saved };
}

static RUNS: AtomicBool = AtomicBool::new(false);

/// CPU time is sampled while this lives.
#[derive(Debug)]
pub struct CpuSampling(());

impl CpuSampling {
    /// Samples `hertz` times in each second of CPU time; `None` while somebody else does, or before [`enable`](super::enable).
    pub fn start(hertz: u32) -> Option<CpuSampling> {
        if super::get().is_none() || RUNS.swap(true, SeqCst) {
            return None;
        }
        set_timer(1_000_000 / i64::from(hertz.clamp(1, 1000)));
        Some(CpuSampling(()))
    }
}

impl Drop for CpuSampling {
    fn drop(&mut self) {
        set_timer(0);
        RUNS.store(false, SeqCst);
    }
}

fn set_timer(period_us: i64) {
    let period = libc::timeval {
        tv_sec: period_us / 1_000_000,
        tv_usec: period_us % 1_000_000,
    };
    let timer = libc::itimerval {
        it_interval: period,
        it_value: period,
    };
    // SAFETY: a timer of our own, whose signal is handled since `install`.
    unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) };
}

/// Asks thread `thread` of this process to write its stack to the samples, as [`Sample::Asked`]; false when there is no such thread.
pub fn ask(thread: u32) -> bool {
    if super::get().is_none() {
        return false;
    }
    // SAFETY: a signal that is handled, to a thread of this very process.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGPROF) == 0 }
}

/// The kernel's number of this thread.
pub(super) fn thread() -> u32 {
    // SAFETY: a query without preconditions.
    unsafe { libc::gettid() as u32 }
}
