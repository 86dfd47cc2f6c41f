//! Sizes as people write them.

use std::str::FromStr;

use plimsoll_memory::limits;

/// `--memory-limit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(usize),
    /// A share of what `auto` gives.
    Share(f64),
    /// The cgroup's limit, else the host's memory.
    Auto,
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("auto") {
            return Ok(MemoryLimit::Auto);
        }
        if let Some(percent) = text.strip_suffix('%') {
            let share = percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0);
            let share = share.filter(|share| *share > 0.0 && *share <= 1.0);
            return share
                .map(MemoryLimit::Share)
                .ok_or_else(|| "expected a share above 0% and up to 100%".to_owned());
        }
        parse_bytes(text).map(MemoryLimit::Bytes)
    }
}

/// `1500000`, `64KiB`, `512MiB`, `2GB`, `1.5G`.
pub(super) fn parse_bytes(text: &str) -> Result<usize, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err("expected bytes, as 1500000, 512MiB or 2GB, a share, as 80%, or auto".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number of bytes".to_owned())?;
    Ok((number * factor as f64) as usize)
}

impl MemoryLimit {
    /// The line in bytes; `None` when the system does not tell what it has.
    pub fn bytes(self) -> Option<usize> {
        let system =
            || limits::memory_limit_bytes().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        match self {
            MemoryLimit::Bytes(bytes) => Some(bytes),
            MemoryLimit::Share(share) => system().map(|bytes| (bytes as f64 * share) as usize),
            MemoryLimit::Auto => system(),
        }
    }
}

/// A size for people to read.
pub(super) fn shown(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        let bytes = |text: &str| text.parse::<MemoryLimit>();
        assert_eq!(bytes("1500000"), Ok(MemoryLimit::Bytes(1_500_000)));
        assert_eq!(bytes("512MiB"), Ok(MemoryLimit::Bytes(512 << 20)));
        assert_eq!(bytes("1.5g"), Ok(MemoryLimit::Bytes(3 << 29)));
        assert_eq!(bytes("2 GB"), Ok(MemoryLimit::Bytes(2_000_000_000)));
        assert_eq!(bytes("80%"), Ok(MemoryLimit::Share(0.8)));
        assert_eq!(bytes("AUTO"), Ok(MemoryLimit::Auto));
        for wrong in ["", "x", "12 parsecs", "0%", "101%", "1.2.3"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_in_their_unit() {
        assert_eq!(
            [shown(12), shown(1536), shown(3 << 30)],
            ["12 B", "1.5 KiB", "3.0 GiB"]
        );
    }
}
