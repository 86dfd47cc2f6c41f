//! A process that writes logs in the server's group.

use std::fs;
use std::io::Result;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// How to start one.
#[derive(Clone, Debug)]
pub struct Logs {
    /// The executable.
    pub program: PathBuf,
    /// Arguments up to the number of bytes and the file.
    pub arguments: Vec<String>,
    /// Where it writes.
    pub file: PathBuf,
}

/// One that writes; dropping it ends it and removes the log.
pub struct Writer {
    child: Child,
    file: PathBuf,
}

impl Logs {
    /// Starts to write `bytes`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn write(&self, bytes: u64) -> Result<Writer> {
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(bytes.to_string())
            .arg(&self.file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Writer {
            child,
            file: self.file.clone(),
        })
    }
}

impl Writer {
    /// Whether it has not ended.
    pub fn is_writing(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written.
    pub fn written_bytes(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
    }
}
