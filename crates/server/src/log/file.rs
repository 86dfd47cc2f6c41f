//! A log file that stays below its size, leaves few dirty pages and survives a full disk.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise, fdatasync};

/// After so many bytes they are written to the disk and their pages given back: page cache counts in the memory of the process's group.
pub const DIRTY_BYTES_MAX: usize = 512 * 1024;

/// A file that is put aside as `NAME.1` when it is full; `NAME.1` becomes `NAME.2`, and so on.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    kept: u32,
    dirty_bytes: usize,
}

/// How a rotation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotated {
    /// The old file stands aside.
    Aside,
    /// Somebody had moved it; a new one was opened.
    Reopened,
    /// It could not be moved, so it was emptied.
    Emptied,
}

impl LogFile {
    /// Opens or creates the file; it never holds more than `bytes_max` (or one batch of lines, if that is more), and `kept` older ones stay.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub fn open(path: &Path, bytes_max: u64, kept: u32) -> io::Result<LogFile> {
        let mut log = LogFile {
            path: path.to_owned(),
            file: None,
            bytes: 0,
            bytes_max,
            kept,
            dirty_bytes: 0,
        };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Whether so much more belongs into the next file.
    pub(super) fn is_full(&self, more_bytes: usize) -> bool {
        self.bytes > 0 && self.bytes + more_bytes as u64 > self.bytes_max
    }

    /// Appends whole lines. What the disk does not take whole is cut off again, so that no line is torn.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write_all(lines) {
            // Where even this fails, the torn line is the last of what was written.
            let _ = file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        self.dirty_bytes += lines.len();
        if self.dirty_bytes >= DIRTY_BYTES_MAX {
            self.sync();
        }
        Ok(())
    }

    /// Writes what is dirty to the disk and gives its pages back.
    pub(super) fn sync(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.dirty_bytes > 0) else {
            return;
        };
        self.dirty_bytes = 0;
        // Neither can lose a line that was not lost already; a device without pages has none to give back.
        let _ = fdatasync(file);
        let _ = fadvise(file, 0, None, Advice::DontNeed);
    }

    /// Puts the file aside and begins a new one; where somebody else has moved it, only begins a new one.
    pub(super) fn rotate(&mut self) -> io::Result<Rotated> {
        self.sync();
        let rotated = match self.is_moved() {
            true => Rotated::Reopened,
            false if self.put_aside().is_ok() => Rotated::Aside,
            false => {
                self.file.as_ref().map_or(Ok(()), |file| file.set_len(0))?;
                Rotated::Emptied
            }
        };
        self.file = None;
        self.reopen()?;
        Ok(rotated)
    }

    fn is_moved(&self) -> bool {
        let ours = self.file.as_ref().and_then(|file| file.metadata().ok());
        let there = self.path.metadata().ok();
        let id = |file: std::fs::Metadata| (file.dev(), file.ino());
        ours.map(id) != there.map(id)
    }

    fn put_aside(&self) -> io::Result<()> {
        if self.kept == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        for number in (1..self.kept).rev() {
            match rename(self.aside(number), self.aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        rename(&self.path, self.aside(1))
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, read_to_string, remove_dir_all};

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("plimsoll-log-{name}-{}", std::process::id()));
            create_dir(&path).unwrap();
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = remove_dir_all(&self.0);
        }
    }

    #[test]
    fn old_files_move_on_and_the_oldest_goes() {
        let directory = Directory::new("moves");
        let path = directory.0.join("log");
        let mut log = LogFile::open(&path, 8, 2).unwrap();
        for line in [b"one one\n", b"two two\n", b"three 3\n", b"four 44\n"] {
            if log.is_full(line.len()) {
                assert_eq!(log.rotate().unwrap(), Rotated::Aside);
            }
            log.append(line).unwrap();
        }
        let read = |name: &str| read_to_string(directory.0.join(name)).ok();
        assert_eq!(read("log").as_deref(), Some("four 44\n"));
        assert_eq!(read("log.1").as_deref(), Some("three 3\n"));
        assert_eq!(read("log.2").as_deref(), Some("two two\n"));
        assert_eq!(read("log.3"), None);
    }

    #[test]
    fn a_file_that_was_moved_is_begun_again() {
        let directory = Directory::new("moved");
        let path = directory.0.join("log");
        let mut log = LogFile::open(&path, 1 << 20, 3).unwrap();
        log.append(b"before\n").unwrap();
        rename(&path, directory.0.join("elsewhere")).unwrap();
        assert_eq!(log.rotate().unwrap(), Rotated::Reopened);
        log.append(b"after\n").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "after\n");
        assert_eq!(log.rotate().unwrap(), Rotated::Aside);
        assert_eq!(read_to_string(directory.0.join("log.1")).unwrap(), "after\n");
    }

    #[test]
    fn nothing_is_kept_where_nothing_shall_be() {
        let directory = Directory::new("none");
        let path = directory.0.join("log");
        let mut log = LogFile::open(&path, 8, 0).unwrap();
        log.append(b"one one\n").unwrap();
        assert_eq!(log.rotate().unwrap(), Rotated::Emptied);
        log.append(b"two\n").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_full_disk_is_an_error_each_time() {
        let mut log = LogFile::open(Path::new("/dev/full"), 1 << 20, 1).unwrap();
        for _ in 0..3 {
            let error = log.append(b"a line\n").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
