//! A kernel that refuses pages: an error that names both numbers, nothing lost, and the same lease succeeds once there is memory again.
//! A binary of its own, as the limit is the whole process's.

use plimsoll_memory::{Clear, CommitCap, CommitError, LeaseError, Pool, PoolConfig, Reservation};

fn set_data_limit(soft: libc::rlim_t) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writing and reading.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_DATA, &mut limit), 0);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_DATA, &limit), 0);
    }
}

#[test]
fn a_refused_commit_is_an_error_and_leaves_no_trace() {
    let bytes = 1 << 28;
    let config = PoolConfig {
        name: "large",
        len_max: bytes,
        bytes_max: bytes,
        slots_max: usize::MAX,
        clear: Clear::Never,
    };
    let reservation = Reservation::new(Pool::<u8>::reserve_bytes(&config)).unwrap();
    let cap = CommitCap::new(bytes);
    let pool = Pool::<u8>::new(&reservation, &cap, config).unwrap();

    set_data_limit(bytes as libc::rlim_t / 2);
    let error = pool.lease(bytes).unwrap_err();
    set_data_limit(libc::RLIM_INFINITY);

    let refused = CommitError {
        requested_bytes: bytes,
        errno: libc::ENOMEM,
    };
    assert_eq!(
        error,
        LeaseError::Commit {
            pool: "large",
            error: refused
        }
    );
    assert_eq!(error.to_string().split(':').next(), Some("pool large"));
    assert_eq!((cap.committed_bytes(), reservation.committed_bytes()), (0, 0));
    assert_eq!(pool.stats(), Default::default());
    assert_eq!(pool.lease(bytes).unwrap().len(), bytes);
}
