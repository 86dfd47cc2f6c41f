//! Lines that others drew: the cgroup's memory limit and the host's memory.
//!
//! `--memory-limit auto` means the smallest of them. A limit of a parent group binds as much as one's own, so all are read on the way up. A process in a container may see
//! its own group as the root of the mounted tree, while `/proc/self/cgroup` names it by its path outside: where that path does not exist inside,
//! the mounted root is the group.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::page_bytes;

/// Where the kernel's files are; tests point it elsewhere.
#[derive(Debug, Clone)]
struct Roots {
    proc: PathBuf,
    cgroup: PathBuf,
}

/// The smallest memory limit of the cgroups that this process is in, v2 (`memory.max`, and `memory.high`, above which the kernel slows a process down
/// until it hardly moves) or v1 (`memory.limit_in_bytes`); `None` when none is set below the host's memory.
pub fn cgroup_limit_bytes() -> Option<u64> {
    Roots::system().cgroup_limit_bytes()
}

/// Memory of the host (`MemTotal`); `None` where `/proc` is not mounted.
pub fn host_memory_bytes() -> Option<u64> {
    Roots::system().host_memory_bytes()
}

/// The line that binds this process: the smaller of [`cgroup_limit_bytes`] and [`host_memory_bytes`].
///
/// ```
/// assert!(plimsoll_memory::limits::memory_limit_bytes().unwrap() > 1 << 20);
/// ```
pub fn memory_limit_bytes() -> Option<u64> {
    [cgroup_limit_bytes(), host_memory_bytes()]
        .into_iter()
        .flatten()
        .min()
}

/// Bytes charged to this process's cgroup (`memory.current` or `memory.usage_in_bytes`), page cache included; `None` without one.
pub fn cgroup_usage_bytes() -> Option<u64> {
    Roots::system().cgroup_usage_bytes()
}

/// How much the processes of this cgroup (v2), else of the host, stood still for want of memory in the last 10 seconds, in percent
/// (`some avg10` of `memory.pressure`); `None` where the kernel does not measure it.
pub fn memory_pressure_percent() -> Option<f64> {
    Roots::system().memory_pressure_percent()
}

/// Under strict overcommit (`vm.overcommit_memory` = 2) the bytes that this process may still commit: what the host has left less what the kernel keeps for
/// administrators and for other processes (`vm.admin_reserve_kbytes`, and `vm.user_reserve_kbytes` or a 32nd of this process's address space, whichever is less).
/// `None` where the kernel promises more than it has.
pub fn commit_left_bytes() -> Option<u64> {
    Roots::system().commit_left_bytes()
}

impl Roots {
    fn system() -> Self {
        Roots {
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
        }
    }

    fn cgroup_limit_bytes(&self) -> Option<u64> {
        let host = self.host_memory_bytes().unwrap_or(u64::MAX);
        // v1 writes "no limit" as the largest number of whole pages.
        let limits = self
            .hierarchies()
            .into_iter()
            .filter_map(|hierarchy| hierarchy.limit_bytes());
        limits.filter(|limit| *limit <= host).min()
    }

    fn cgroup_usage_bytes(&self) -> Option<u64> {
        self.hierarchies()
            .into_iter()
            .find_map(|hierarchy| read_bytes(&hierarchy.groups().next()?.join(hierarchy.usage)))
    }

    fn host_memory_bytes(&self) -> Option<u64> {
        self.meminfo_bytes("MemTotal:")
    }

    fn meminfo_bytes(&self, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.proc.join("meminfo")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    }

    fn commit_left_bytes(&self) -> Option<u64> {
        let mode = fs::read_to_string(self.proc.join("sys/vm/overcommit_memory")).ok()?;
        if mode.trim() != "2" {
            return None;
        }
        let promised = self.meminfo_bytes("Committed_AS:")?;
        let left = self.meminfo_bytes("CommitLimit:")?.saturating_sub(promised);
        Some(left.saturating_sub(self.commit_kept_bytes()))
    }

    /// What the kernel's `__vm_enough_memory` leaves out of the limit for a process without `CAP_SYS_ADMIN`.
    fn commit_kept_bytes(&self) -> u64 {
        let kibibytes = |name| {
            read_bytes(&self.proc.join(name))
                .unwrap_or(0)
                .saturating_mul(1024)
        };
        let pages = fs::read_to_string(self.proc.join("self/statm")).unwrap_or_default();
        let pages: u64 = pages
            .split(' ')
            .next()
            .and_then(|pages| pages.parse().ok())
            .unwrap_or(0);
        let own_share = pages.saturating_mul(page_bytes() as u64) / 32;
        kibibytes("sys/vm/admin_reserve_kbytes") + kibibytes("sys/vm/user_reserve_kbytes").min(own_share)
    }

    fn memory_pressure_percent(&self) -> Option<f64> {
        let own = self
            .hierarchies()
            .into_iter()
            .find_map(|hierarchy| fs::read_to_string(hierarchy.own.join("memory.pressure")).ok());
        let text = own.or_else(|| fs::read_to_string(self.proc.join("pressure/memory")).ok())?;
        let some = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
        some.split(' ').next()?.parse().ok()
    }

    /// The hierarchies that may limit memory, from the lines `id:controllers:path` of `/proc/self/cgroup`.
    fn hierarchies(&self) -> Vec<Hierarchy> {
        let text = fs::read_to_string(self.proc.join("self/cgroup")).unwrap_or_default();
        text.lines().filter_map(|line| self.hierarchy(line)).collect()
    }

    fn hierarchy(&self, line: &str) -> Option<Hierarchy> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.is_empty() {
            // v2 alone is mounted at the root, beside v1 under `unified`.
            let unified = self.cgroup.join("unified");
            let root = if unified.is_dir() {
                unified
            } else {
                self.cgroup.clone()
            };
            let limits = &["memory.max", "memory.high"];
            Some(Hierarchy::new(root, path, limits, "memory.current"))
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let root = self.cgroup.join("memory");
            Some(Hierarchy::new(
                root,
                path,
                &["memory.limit_in_bytes"],
                "memory.usage_in_bytes",
            ))
        } else {
            None
        }
    }
}

/// A tree of groups, and the process's own among them.
struct Hierarchy {
    root: PathBuf,
    own: PathBuf,
    limits: &'static [&'static str],
    usage: &'static str,
}

impl Hierarchy {
    fn new(root: PathBuf, path: &str, limits: &'static [&'static str], usage: &'static str) -> Self {
        let inside = root.join(path);
        // A path with `..` leads out of the mounted tree: the group is above its root.
        let reachable = inside.is_dir() && !path.split('/').any(|part| part == "..");
        let own = if reachable { inside } else { root.clone() };
        Hierarchy {
            root,
            own,
            limits,
            usage,
        }
    }

    /// The smallest limit on the way up.
    fn limit_bytes(&self) -> Option<u64> {
        let of = |group: &Path| {
            self.limits
                .iter()
                .filter_map(|limit| read_bytes(&group.join(limit)))
                .min()
        };
        self.groups().filter_map(of).min()
    }

    /// The process's group and those above it, up to the mounted root.
    fn groups(&self) -> impl Iterator<Item = &Path> {
        self.own
            .ancestors()
            .take_while(|group| group.starts_with(&self.root))
    }
}

/// A file that holds one number of bytes; `None` when it is missing or says `max`.
fn read_bytes(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up `/proc` and cgroup tree, removed with the value.
    struct Tree {
        path: PathBuf,
    }

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("plimsoll-limits-{}-{name}", std::process::id());
            let tree = Tree {
                path: std::env::temp_dir().join(name),
            };
            for (file, contents) in files {
                let file = tree.path.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, contents).unwrap();
            }
            tree
        }

        fn roots(&self) -> Roots {
            Roots {
                proc: self.path.join("proc"),
                cgroup: self.path.join("cgroup"),
            }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.path).unwrap();
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16000 kB\nMemFree: 1 kB\n");

    #[test]
    fn v2_takes_the_smallest_limit_on_the_way_up() {
        let tree = Tree::new(
            "v2",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/slice/service\n"),
                ("cgroup/slice/service/memory.max", "9000000\n"),
                ("cgroup/slice/service/memory.current", "77\n"),
                ("cgroup/slice/memory.max", "5000000\n"),
                ("cgroup/memory.max", "max\n"),
            ],
        );
        let roots = tree.roots();
        assert_eq!(
            (roots.cgroup_limit_bytes(), roots.cgroup_usage_bytes()),
            (Some(5_000_000), Some(77))
        );
        assert_eq!(roots.host_memory_bytes(), Some(16_384_000));
    }

    #[test]
    fn v2_in_a_container_reads_the_mounted_root() {
        let tree = Tree::new(
            "container",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/../elsewhere\n"),
                ("cgroup/memory.max", "123456\n"),
            ],
        );
        assert_eq!(tree.roots().cgroup_limit_bytes(), Some(123_456));
    }

    #[test]
    fn v1_reads_the_memory_controller_and_knows_its_no_limit() {
        let tree = Tree::new(
            "v1",
            &[
                MEMINFO,
                (
                    "proc/self/cgroup",
                    "5:cpu,cpuacct:/a\n4:memory:/docker/b:c\n0::/\n",
                ),
                ("cgroup/memory/docker/b:c/memory.limit_in_bytes", "2000000\n"),
                ("cgroup/memory/docker/b:c/memory.usage_in_bytes", "99\n"),
                ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );
        let roots = tree.roots();
        assert_eq!(
            (roots.cgroup_limit_bytes(), roots.cgroup_usage_bytes()),
            (Some(2_000_000), Some(99))
        );
        fs::remove_file(tree.path.join("cgroup/memory/docker/b:c/memory.limit_in_bytes")).unwrap();
        assert_eq!(roots.cgroup_limit_bytes(), None);
    }

    #[test]
    fn memory_high_binds_and_pressure_is_read() {
        let tree = Tree::new(
            "high",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/service\n"),
                ("cgroup/service/memory.max", "9000000\n"),
                ("cgroup/service/memory.high", "8000000\n"),
                (
                    "cgroup/service/memory.pressure",
                    "some avg10=1.25 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=1\n",
                ),
            ],
        );
        let roots = tree.roots();
        assert_eq!(roots.cgroup_limit_bytes(), Some(8_000_000));
        assert_eq!(roots.memory_pressure_percent(), Some(1.25));
    }

    #[test]
    fn strict_overcommit_says_what_is_left() {
        let meminfo = "MemTotal: 16000 kB\nCommitLimit: 9000 kB\nCommitted_AS: 4000 kB\n";
        let files = [
            ("proc/meminfo", meminfo),
            ("proc/sys/vm/overcommit_memory", "2\n"),
            ("proc/sys/vm/admin_reserve_kbytes", "100\n"),
            ("proc/sys/vm/user_reserve_kbytes", "200\n"),
            ("proc/self/statm", "3200 1 1 1 0 1 0\n"),
        ];
        let tree = Tree::new("strict", &files);
        let own_share = 100 * page_bytes() as u64;
        let kept = 100 * 1024 + own_share.min(200 * 1024);
        assert_eq!(tree.roots().commit_left_bytes(), Some(5000 * 1024 - kept));
        fs::write(tree.path.join("proc/sys/vm/overcommit_memory"), "0\n").unwrap();
        assert_eq!(tree.roots().commit_left_bytes(), None);
    }

    #[test]
    fn nothing_mounted_is_none() {
        let tree = Tree::new("none", &[("empty", "")]);
        let roots = tree.roots();
        assert_eq!(
            (roots.cgroup_limit_bytes(), roots.host_memory_bytes()),
            (None, None)
        );
    }
}
