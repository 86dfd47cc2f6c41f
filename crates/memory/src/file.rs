//! Small files, read whole.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The bytes of a file that has at most `bytes_max`: of a longer one nothing is read.
///
/// # Errors
/// Of the file, or [`ErrorKind::FileTooLarge`] with both numbers.
pub fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    check(length, bytes_max)?;
    let mut bytes = Vec::with_capacity(length as usize);
    // What grows meanwhile, or has no length (a pipe), is read no further than this.
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    check(bytes.len() as u64, bytes_max)?;
    Ok(bytes)
}

fn check(bytes: u64, bytes_max: usize) -> Result<()> {
    if bytes <= bytes_max as u64 {
        return Ok(());
    }
    let reason = format!("{bytes} bytes, at most {bytes_max} are read");
    Err(Error::new(ErrorKind::FileTooLarge, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_file_is_read_and_one_without_a_length_only_so_far() {
        let path = std::env::temp_dir().join(format!("plimsoll-memory-file-{}", std::process::id()));
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_file(&path, 5).unwrap(), b"12345");
        let error = read_file(&path, 4).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "5 bytes, at most 4 are read");
        let endless = read_file(Path::new("/dev/zero"), 4).unwrap_err();
        assert_eq!(endless.to_string(), "5 bytes, at most 4 are read");
    }
}
