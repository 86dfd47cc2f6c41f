//! Cores for the server and cores for its attackers.
//!
//! Where both share the same cores, every request that is sent takes from the server what it is then found to lack, and ten times the load takes ten times
//! as much. Clients of a real server bring their own cores, so where its rate is judged they get one here, and the server keeps the rest.

use std::thread::available_parallelism;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Who runs where.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    all: CpuSet,
    server: CpuSet,
    clients: CpuSet,
}

/// The calling thread, and what it starts, on its side of the split; back on all cores when this is dropped.
#[derive(Debug)]
pub struct Confined {
    all: CpuSet,
}

impl Split {
    /// The last of this process's cores for the clients, the others for the server; `None` where there is only one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> std::io::Result<Option<Split>> {
        if available_parallelism()?.get() < 2 {
            return Ok(None);
        }
        let all = sched_getaffinity(None)?;
        let (mut server, mut clients) = (all, CpuSet::new());
        if let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|&core| all.is_set(core)) {
            server.unset(last);
            clients.set(last);
        }
        Ok(Some(Split { all, server, clients }))
    }

    /// Goes to the server's side.
    ///
    /// # Errors
    /// The kernel's.
    pub fn as_server(&self) -> std::io::Result<Confined> {
        self.confine(&self.server)
    }

    /// Goes to the clients' side.
    ///
    /// # Errors
    /// The kernel's.
    pub fn as_client(&self) -> std::io::Result<Confined> {
        self.confine(&self.clients)
    }

    fn confine(&self, cores: &CpuSet) -> std::io::Result<Confined> {
        sched_setaffinity(None, cores)?;
        Ok(Confined { all: self.all })
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // It could run there a moment ago.
        let _ = sched_setaffinity(None, &self.all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_share_no_core_and_a_thread_comes_back() {
        let before = sched_getaffinity(None).unwrap();
        let Some(split) = Split::new().unwrap() else {
            assert_eq!(before.count(), 1);
            return;
        };
        let on = |confined: std::io::Result<Confined>| {
            let confined = confined.unwrap();
            let cores = sched_getaffinity(None).unwrap();
            drop(confined);
            cores
        };
        let (server, clients) = (on(split.as_server()), on(split.as_client()));
        assert_eq!(
            (server.count() + clients.count(), clients.count()),
            (before.count(), 1)
        );
        assert!((0..CpuSet::MAX_CPU).all(|core| !(server.is_set(core) && clients.is_set(core))));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
