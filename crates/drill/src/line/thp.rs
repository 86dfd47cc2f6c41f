//! Transparent huge pages: a setting of the host that can turn one touched byte into 2 MiB, so the line is tested under each.

use std::fs;

use super::RigError;

const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// The host's setting, changed for a drill; the old one returns when this is dropped.
#[derive(Debug)]
pub struct HugePages {
    before: String,
}

impl HugePages {
    /// Puts the host at `setting`: always, madvise or never.
    ///
    /// # Errors
    /// Where this process may not.
    pub fn set(setting: &str) -> Result<HugePages, RigError> {
        let before = current()?;
        fs::write(FILE, setting).map_err(|error| RigError::HugePages(error.to_string()))?;
        Ok(HugePages { before })
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // It could be written a moment ago.
        let _ = fs::write(FILE, &self.before);
    }
}

/// The host's setting now.
///
/// # Errors
/// Where the kernel has none.
pub fn current() -> Result<String, RigError> {
    let text = fs::read_to_string(FILE).map_err(|error| RigError::HugePages(error.to_string()))?;
    chosen(&text)
        .map(str::to_owned)
        .ok_or_else(|| RigError::HugePages(format!("no choice in {text:?}")))
}

fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_choice_is_in_brackets() {
        assert_eq!(super::chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(super::chosen(""), None);
    }
}
