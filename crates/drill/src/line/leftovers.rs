//! What a drill puts on the machine carries its process' number, so that the next one can clear away what a drill left that was killed: groups, and
//! copies of the executable. Its servers need none of this, they end with it.

use std::fs;
use std::io;
use std::path::Path;

/// What all names begin with; the number of the process follows.
const PREFIX: &str = "plimsoll-drill-";

/// A name of this process' own.
pub(super) fn own_name(what: &str) -> String {
    format!("{PREFIX}{}{what}", std::process::id())
}

/// Has `remove` take away what lies in `parent` and belonged to drills that are over.
pub(super) fn sweep(parent: &Path, remove: impl Fn(&Path) -> io::Result<()>) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_str().and_then(process).is_some_and(is_over) {
            // Somebody else's, or still in use: it is no hindrance.
            let _ = remove(&entry.path());
        }
    }
}

fn process(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.split('-').next()?.parse().ok()
}

fn is_over(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_drill_left_is_removed_and_nothing_else() {
        let parent = std::env::temp_dir().join(own_name("-sweep"));
        let others = ["plimsoll", "plimsoll-drill-x", "plimsoll-drill-4294967295x"];
        let dead = ["plimsoll-drill-4294967295", "plimsoll-drill-4294967295-3"];
        for name in others.iter().chain(&dead).copied().chain([&*own_name("")]) {
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        sweep(&parent, |path| fs::remove_dir(path));
        for (name, stays) in others
            .map(|name| (name, true))
            .into_iter()
            .chain(dead.map(|name| (name, false)))
        {
            assert_eq!(parent.join(name).exists(), stays, "{name}");
        }
        assert!(parent.join(own_name("")).exists());
        fs::remove_dir_all(parent).unwrap();
    }
}
