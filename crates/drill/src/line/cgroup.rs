//! A memory cgroup of our own, v1 or v2.
//!
//! The kernel is the judge: it charges every page, socket buffer and kernel object of the server to this group, and it kills for real when the
//! limit is passed. The two versions name things differently and v1 counts TCP buffers apart (and only once they have a limit), so both are
//! read into one [`Reading`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::RigError;
use super::leftovers::{own_name, sweep};

/// Where cgroups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Which interface the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// What the group holds at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Anonymous and shared memory: nothing gives it back but its owner (there is no swap to speak of).
    pub anon_bytes: u64,
    /// Slabs, page tables, stacks.
    pub kernel_bytes: u64,
    /// Socket buffers.
    pub sock_bytes: u64,
    /// Page cache, which the kernel takes back when it needs to.
    pub file_bytes: u64,
    /// Anonymous memory in huge pages.
    pub huge_bytes: u64,
}

impl Reading {
    /// What cannot be reclaimed: the figure that the line is drawn for.
    pub fn held_bytes(&self) -> u64 {
        self.anon_bytes + self.kernel_bytes + self.sock_bytes
    }
}

/// What the kernel counted since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Processes killed.
    pub kills: u64,
    /// Times that the limit was met; page cache meets it too, so it is no fault.
    pub limit_hits: u64,
    /// The most that was charged at once, page cache included.
    pub max_usage_bytes: u64,
}

/// A memory cgroup; dropping it removes it, once its processes are gone.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    version: Version,
}

impl Group {
    /// Makes a group beside ours, named after `what`, and puts its limit at `limit_bytes`.
    ///
    /// # Errors
    /// [`RigError::NoCgroup`] when this process may not, with what the kernel said.
    pub fn new(what: &str, limit_bytes: u64) -> Result<Group, RigError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounted = mounted(Path::new(MOUNT))?;
        sweep(&mounted.0, |path| fs::remove_dir(path));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Group::under(&mounted, &own_name(&format!("-{number}-{what}")), limit_bytes)
    }

    fn under(
        (parent, version): &(PathBuf, Version),
        name: &str,
        limit_bytes: u64,
    ) -> Result<Group, RigError> {
        let path = parent.join(name);
        let refused = |at: &Path, error: io::Error| RigError::NoCgroup {
            path: at.display().to_string(),
            reason: error.to_string(),
        };
        fs::create_dir(&path).map_err(|error| refused(&path, error))?;
        let group = Group {
            path,
            version: *version,
        };
        let set = |file: &str, value: &str| {
            let file = group.path.join(file);
            fs::write(&file, value).map_err(|error| refused(&file, error))
        };
        let limit = limit_bytes.to_string();
        match version {
            Version::V1 => {
                set("memory.limit_in_bytes", &limit)?;
                // Socket buffers are counted only where they have a limit. This one never binds: they are judged, not throttled.
                set("memory.kmem.tcp.limit_in_bytes", &(64 * limit_bytes).to_string())?;
                set("memory.swappiness", "0")?;
            }
            Version::V2 => {
                set("memory.max", &limit)?;
                set("memory.swap.max", "0").or_else(|error| {
                    match group.path.join("memory.swap.max").exists() {
                        true => Err(error),
                        false => Ok(()),
                    }
                })?;
            }
        }
        Ok(group)
    }

    /// The file that a process writes its number to in order to enter.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Which interface it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What it holds now.
    ///
    /// # Errors
    /// When the kernel's files cannot be read.
    pub fn reading(&self) -> io::Result<Reading> {
        let stat = fs::read_to_string(self.path.join("memory.stat"))?;
        let of = |name: &str| field(&stat, name).unwrap_or(0);
        Ok(match self.version {
            // v1's `cache` counts shared memory too, which is not reclaimable without swap.
            Version::V1 => Reading {
                anon_bytes: of("rss") + of("shmem"),
                kernel_bytes: self.number("memory.kmem.usage_in_bytes")?,
                sock_bytes: self.number("memory.kmem.tcp.usage_in_bytes")?,
                file_bytes: of("cache").saturating_sub(of("shmem")),
                huge_bytes: of("rss_huge"),
            },
            Version::V2 => Reading {
                anon_bytes: of("anon") + of("shmem"),
                kernel_bytes: of("kernel"),
                sock_bytes: of("sock"),
                file_bytes: of("file").saturating_sub(of("shmem")),
                huge_bytes: of("anon_thp"),
            },
        })
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// When the kernel's files cannot be read.
    pub fn counters(&self) -> io::Result<Counters> {
        let (events, hits, peak) = match self.version {
            Version::V1 => (
                fs::read_to_string(self.path.join("memory.oom_control"))?,
                self.number("memory.failcnt")?,
                self.number("memory.max_usage_in_bytes")?,
            ),
            Version::V2 => {
                let events = fs::read_to_string(self.path.join("memory.events"))?;
                let hits = field(&events, "max").unwrap_or(0);
                (events, hits, self.number("memory.peak")?)
            }
        };
        let kills = field(&events, "oom_kill");
        Ok(Counters {
            kills: kills.ok_or_else(|| io::Error::other("the kernel does not count its kills"))?,
            limit_hits: hits,
            max_usage_bytes: peak,
        })
    }

    fn number(&self, file: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.path.join(file))?;
        text.trim()
            .parse()
            .map_err(|_| io::Error::other(format!("{file} holds no number")))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails while a process is inside, which the caller has ended before; an empty group left behind holds nothing.
        let _ = fs::remove_dir(&self.path);
    }
}

/// The group that new ones are made in: for v1 the root of the memory hierarchy, for v2 the first on the way up from ours that
/// hands the memory controller to its children.
fn mounted(mount: &Path) -> Result<(PathBuf, Version), RigError> {
    let v1 = mount.join("memory");
    if v1.join("memory.limit_in_bytes").exists() || v1.join("cgroup.procs").exists() {
        return Ok((v1, Version::V1));
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or("");
    let hands_down = |group: &&Path| {
        let control = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
        control
            .split_whitespace()
            .any(|controller| controller == "memory")
    };
    let from = mount.join(own);
    let parent = from
        .ancestors()
        .take_while(|group| group.starts_with(mount))
        .find(hands_down);
    parent
        .map(|parent| (parent.to_owned(), Version::V2))
        .ok_or_else(|| RigError::NoCgroup {
            path: mount.display().to_string(),
            reason: "no group hands the memory controller to its children".to_owned(),
        })
}

/// The number behind `name` in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let root = std::env::temp_dir().join(format!("plimsoll-rig-{}-{name}", std::process::id()));
            for (file, text) in files {
                let file = root.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            Tree(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn group(tree: &Tree, version: Version) -> std::mem::ManuallyDrop<Group> {
        std::mem::ManuallyDrop::new(Group {
            path: tree.0.clone(),
            version,
        })
    }

    #[test]
    fn v2_is_read_from_its_own_files() {
        let tree = Tree::new(
            "v2",
            &[
                (
                    "memory.stat",
                    "anon 100\nfile 60\nkernel 30\nkernel_stack 9\nsock 4\nshmem 10\nanon_thp 2\n",
                ),
                ("memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n"),
                ("memory.peak", "500\n"),
            ],
        );
        let group = group(&tree, Version::V2);
        let reading = group.reading().unwrap();
        assert_eq!(
            (reading.held_bytes(), reading.file_bytes, reading.huge_bytes),
            (144, 50, 2)
        );
        let counters = group.counters().unwrap();
        assert_eq!(
            (counters.kills, counters.limit_hits, counters.max_usage_bytes),
            (1, 7, 500)
        );
    }

    #[test]
    fn v1_is_read_from_its_own_files() {
        let tree = Tree::new(
            "v1",
            &[
                (
                    "memory.stat",
                    "cache 60\nrss 100\nrss_huge 2\nshmem 10\ntotal_rss 999\n",
                ),
                ("memory.kmem.usage_in_bytes", "30\n"),
                ("memory.kmem.tcp.usage_in_bytes", "4\n"),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
                ),
                ("memory.failcnt", "7\n"),
                ("memory.max_usage_in_bytes", "500\n"),
            ],
        );
        let group = group(&tree, Version::V1);
        let reading = group.reading().unwrap();
        assert_eq!((reading.held_bytes(), reading.file_bytes), (144, 50));
        assert_eq!(group.counters().unwrap().kills, 3);
    }

    #[test]
    fn a_tree_that_cannot_be_written_is_named() {
        let tree = Tree::new("none", &[("empty", "")]);
        let error = mounted(&tree.0).unwrap_err().to_string();
        assert!(error.contains("no group hands the memory controller"), "{error}");
        let error = Group::under(&(tree.0.join("absent"), Version::V2), "x", 1).unwrap_err();
        assert!(error.to_string().contains("absent/x"), "{error}");
    }
}
