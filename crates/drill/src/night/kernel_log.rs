//! What the kernel wrote about kills: who died, and of what.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

const LOG: &str = "/dev/kmsg";
/// A record is never longer.
const RECORD_BYTES_MAX: usize = 8192;

/// The kernel's log from a moment on.
pub struct KernelLog(Option<File>);

impl KernelLog {
    /// From now on. Where it may not be read, it stays empty: the counters of the group say the number in any case.
    pub fn from_now() -> KernelLog {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(LOG);
        let at_end = opened.and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        KernelLog(at_end.ok())
    }

    /// The lines about kills in memory cgroups since then.
    pub fn kills(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(file) = &mut self.0 else { return lines };
        let mut record = [0; RECORD_BYTES_MAX];
        loop {
            match file.read(&mut record) {
                Ok(0) => return lines,
                Ok(count) => lines.extend(kill(&String::from_utf8_lossy(&record[..count]))),
                // Records were overwritten before they were read; the next ones are there.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => return lines,
            }
        }
    }
}

/// The words of a record that tells of a kill in a group, up to the details of the address space.
fn kill(record: &str) -> Option<String> {
    let (_, words) = record.split_once(';')?;
    let line = words.lines().next()?;
    line.starts_with("Memory cgroup out of memory")
        .then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kills_in_groups_are_kept() {
        let record = "3,1300,99,-;Memory cgroup out of memory: Killed process 77 (plimsoll) total-vm:9kB, anon-rss:5kB\n SUBSYSTEM=x\n";
        assert_eq!(
            kill(record).unwrap(),
            "Memory cgroup out of memory: Killed process 77 (plimsoll) total-vm:9kB, anon-rss:5kB"
        );
        assert_eq!(
            kill("6,1,1,-;tokio-rt-worker invoked oom-killer: gfp_mask=0\n"),
            None
        );
        assert_eq!(kill("no record"), None);
    }
}
