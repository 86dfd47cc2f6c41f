//! Builds a profile: addresses become places with names, each once.

use std::collections::HashMap;
use std::ffi::c_void;
use std::time::{Duration, SystemTime};

use super::pprof::{Function, Label, Line, Location, Profile, Sample, ValueType};

/// Frames of sampling itself, on top of the stack that was meant.
const OWN: [&str; 7] = [
    "plimsoll_memory::profile::",
    "plimsoll_memory::alloc::",
    "backtrace::",
    "__rust_alloc",
    "__rust_realloc",
    "__rust_no_alloc_shim",
    "__rdl_",
];
/// Where they are from, for builds that know the file but only the end of a name.
const OWN_FILES: [&str; 3] = ["memory/src/profile/", "memory/src/alloc.rs", "/backtrace-"];
/// The kernel's return from a signal stands between our handler and what it interrupted.
const HANDLER: &str = "on_signal";

/// A profile in the making.
pub(super) struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    /// By name and file.
    functions: HashMap<(String, String), u64>,
    /// By address: the place, and whether it is sampling's own.
    places: HashMap<u64, (u64, Own)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    No,
    Yes,
    Handler,
}

/// A label of a sample.
pub(super) enum Mark<'a> {
    /// A string.
    Text(&'static str, &'a str),
    /// A number with its unit.
    Number(&'static str, i64, &'static str),
}

impl Builder {
    /// A profile whose samples have these values.
    pub(super) fn new(values: &[(&str, &str)], period: (&str, &str, i64)) -> Builder {
        let mut builder = Builder {
            profile: Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            places: HashMap::new(),
        };
        builder.string("");
        let types = values.iter().map(|(name, unit)| builder.value_type(name, unit));
        builder.profile.sample_type = types.collect();
        builder.profile.period_type = Some(builder.value_type(period.0, period.1));
        builder.profile.period = period.2;
        builder
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType {
            r#type: self.string(name),
            unit: self.string(unit),
        }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(&index) = self.strings.get(text) {
            return index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    /// Adds a stack, innermost frame first, without the frames of sampling itself.
    pub(super) fn sample(&mut self, frames: &[u64], values: Vec<i64>, marks: &[Mark<'_>]) {
        let places: Vec<_> = frames.iter().map(|&address| self.place(address)).collect();
        let handler = places.iter().position(|(_, own)| *own == Own::Handler);
        let own = || places.iter().take_while(|(_, own)| *own == Own::Yes).count();
        let first = handler.map_or_else(own, |handler| handler + 2);
        let location_id = places.iter().skip(first).map(|(id, _)| *id).collect();
        let label = marks.iter().map(|mark| self.label(mark)).collect();
        self.profile.sample.push(Sample {
            location_id,
            value: values,
            label,
        });
    }

    fn label(&mut self, mark: &Mark<'_>) -> Label {
        match *mark {
            Mark::Text(key, text) => Label {
                key: self.string(key),
                str: self.string(text),
                ..Label::default()
            },
            Mark::Number(key, num, unit) => Label {
                key: self.string(key),
                num,
                num_unit: self.string(unit),
                ..Label::default()
            },
        }
    }

    fn place(&mut self, address: u64) -> (u64, Own) {
        if let Some(&place) = self.places.get(&address) {
            return place;
        }
        let (mut line, mut own) = (Vec::new(), Own::No);
        backtrace::resolve(address as *mut c_void, |symbol| {
            let name = symbol
                .name()
                .map_or_else(|| "?".to_owned(), |name| format!("{name:#}"));
            let file = symbol.filename().map(|file| file.display().to_string());
            let file = file.unwrap_or_default();
            let is_own = OWN.iter().any(|part| name.contains(part))
                || OWN_FILES.iter().any(|part| file.contains(part));
            if is_own && name.ends_with(HANDLER) {
                own = Own::Handler;
            } else if is_own {
                // What was inlined at the same place is not sampling's.
                own = if own == Own::No { Own::Yes } else { own };
                return;
            }
            line.push(Line {
                function_id: self.function(name, file),
                line: symbol.lineno().map_or(0, i64::from),
            });
        });
        if own == Own::Yes && !line.is_empty() {
            own = Own::No;
        }
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, address, line });
        self.places.insert(address, (id, own));
        (id, own)
    }

    fn function(&mut self, name: String, file: String) -> u64 {
        let key = (name, file);
        if let Some(&id) = self.functions.get(&key) {
            return id;
        }
        let id = self.profile.function.len() as u64 + 1;
        let (text, filename) = (self.string(&key.0), self.string(&key.1));
        self.profile.function.push(Function {
            id,
            name: text,
            system_name: text,
            filename,
        });
        self.functions.insert(key, id);
        id
    }

    /// A remark for who reads it.
    pub(super) fn remark(&mut self, text: &str) {
        let index = self.string(text);
        self.profile.comment.push(index);
    }

    /// The profile, of the last `took`. What naming had read of the executable is let go.
    pub(super) fn finish(mut self, took: Duration) -> Profile {
        let began = SystemTime::now() - took;
        let since = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.profile.time_nanos = since.as_nanos() as i64;
        self.profile.duration_nanos = took.as_nanos() as i64;
        backtrace::clear_symbol_cache();
        self.profile
    }
}
