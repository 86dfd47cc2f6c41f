use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;

/// What a bad user of the protocol might do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    KeepsResource,
    PanicsInReset,
}

/// A limit that has no business changing, but could.
struct Limit(AtomicU32);

impl Hash for Limit {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.load(Ordering::Relaxed).hash(hasher);
    }
}

struct Work {
    count: u32,
    resource: Option<Arc<()>>,
    fault: Fault,
}

impl Reusable for Work {
    type Frozen = Limit;

    fn clear_transient(&mut self, _: &Limit) {
        assert_ne!(self.fault, Fault::PanicsInReset, "the reset fails");
        if self.fault != Fault::KeepsResource {
            self.resource = None;
        }
    }

    fn restore(&mut self, limit: &Limit) {
        self.count = limit.0.load(Ordering::Relaxed);
        self.fault = Fault::None;
    }

    fn holds_resource(&self) -> bool {
        self.resource.is_some()
    }
}

fn pool(objects: usize) -> ObjectPool<Work> {
    ObjectPool::new(objects, |_| {
        (
            Limit(AtomicU32::new(7)),
            Work {
                count: 7,
                resource: None,
                fault: Fault::None,
            },
        )
    })
}

#[test]
fn a_returned_object_is_as_new_and_holds_nothing() {
    let (pool, resource) = (pool(1), Arc::new(()));
    let mut work = pool.take().unwrap();
    assert!(pool.take().is_none());
    work.count = 99;
    work.resource = Some(resource.clone());
    drop(work);
    assert_eq!(Arc::strong_count(&resource), 1);
    assert_eq!(pool.take().unwrap().count, 7);
    assert_eq!(
        pool.stats(),
        ObjectPoolStats {
            objects: 1,
            ..Default::default()
        }
    );
}

#[test]
fn stale_and_foreign_stamps_are_caught() {
    let (pool, other) = (pool(1), pool(1));
    let first = pool.take().unwrap().stamp();
    let work = pool.take().unwrap();
    assert_eq!(
        pool.check(first),
        Err(StampError::Stale {
            generation: 0,
            current: 1
        })
    );
    assert_eq!(pool.check(work.stamp()), Ok(()));
    assert_eq!(other.check(work.stamp()), Err(StampError::Foreign));
}

#[test]
fn a_forged_return_is_refused() {
    let pool = pool(1);
    let mut work = pool.take().unwrap();
    work.object.as_mut().unwrap().stamp.generation += 1;
    drop(work);
    let expected = ObjectPoolStats {
        objects: 1,
        taken: 1,
        refused: 1,
        ..Default::default()
    };
    assert_eq!(pool.stats(), expected);
    assert!(pool.take().is_none());
}

#[test]
fn an_unfit_object_is_dropped_and_built_anew() {
    type Spoil = fn(&mut Pooled<Work>);
    let spoil: [(&str, Spoil); 4] = [
        ("poisoned", |work| work.poison()),
        ("resource", |work| {
            work.resource = Some(Arc::new(()));
            work.fault = Fault::KeepsResource;
        }),
        ("panic in use", |_| panic!("in use")),
        ("panic in reset", |work| work.fault = Fault::PanicsInReset),
    ];
    for (name, spoil) in spoil {
        let pool = pool(1);
        let mut work = pool.take().unwrap();
        let stamp = work.stamp();
        work.count = 99;
        let _ = catch_unwind(AssertUnwindSafe(move || spoil(&mut work)));
        assert!(pool.check(stamp).is_err(), "{name}");
        assert_eq!((pool.stats().taken, pool.stats().discarded), (0, 1), "{name}");
        let fresh = pool.take().unwrap();
        assert_eq!((fresh.count, pool.stats().rebuilt), (7, 1), "{name}");
    }
}

#[test]
#[cfg(debug_assertions)]
fn changed_frozen_fields_keep_an_object_out() {
    let pool = pool(1);
    let work = pool.take().unwrap();
    work.frozen().0.store(8, Ordering::Relaxed);
    drop(work);
    assert_eq!((pool.stats().discarded, pool.take().unwrap().count), (1, 7));
}

#[test]
fn a_panic_while_building_anew_loses_no_object() {
    let builds = AtomicU32::new(0);
    let pool = ObjectPool::new(1, move |_| {
        assert_ne!(
            builds.fetch_add(1, Ordering::Relaxed),
            1,
            "the second build fails"
        );
        (
            Limit(AtomicU32::new(7)),
            Work {
                count: 7,
                resource: None,
                fault: Fault::None,
            },
        )
    });
    pool.take().unwrap().poison();
    assert!(catch_unwind(AssertUnwindSafe(|| pool.take())).is_err());
    assert_eq!(pool.stats().taken, 0);
    assert!(pool.take().is_some());
}
