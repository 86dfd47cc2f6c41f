//! Builds a profile: stacks are collected first, then their addresses become places with names, each once.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::names::names;
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
/// The kernel's return from a signal stands between our handler and what it interrupted.
const HANDLER: &str = "on_signal";

/// A profile in the making.
pub(super) struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    /// The addresses of each of the profile's samples, innermost first.
    stacks: Vec<Box<[u64]>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    No,
    Yes,
    Handler,
}

impl Own {
    fn of(name: &str) -> Own {
        match OWN.iter().any(|part| name.contains(part)) {
            true if name.ends_with(HANDLER) => Own::Handler,
            true => Own::Yes,
            false => Own::No,
        }
    }
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
            stacks: Vec::new(),
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

    /// Adds a stack, innermost frame first; the frames of sampling itself are left out in the end.
    pub(super) fn sample(&mut self, frames: &[u64], values: Vec<i64>, marks: &[Mark<'_>]) {
        let label = marks.iter().map(|mark| self.label(mark)).collect();
        self.stacks.push(frames.into());
        self.profile.sample.push(Sample {
            location_id: Vec::new(),
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

    /// Gives every address of the stacks its place and every sample its places.
    fn name(&mut self) {
        let mut addresses: Vec<u64> = self
            .stacks
            .iter()
            .flatten()
            .copied()
            .filter(|&address| address > 0)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let names = names(&addresses).unwrap_or_else(|error| {
            self.remark(&format!("places have no names: {error}"));
            vec!["?".to_owned(); addresses.len()]
        });
        let owns: Vec<Own> = names.iter().map(|name| Own::of(name)).collect();
        let mut functions = HashMap::new();
        for (&address, name) in addresses.iter().zip(names) {
            let id = self.profile.location.len() as u64 + 1;
            let function_id = *functions
                .entry(name)
                .or_insert_with_key(|name| self.function(name));
            let line = vec![Line { function_id, line: 0 }];
            self.profile.location.push(Location { id, address, line });
        }
        for (sample, stack) in self.profile.sample.iter_mut().zip(&self.stacks) {
            let places: Vec<usize> = stack
                .iter()
                .filter_map(|address| addresses.binary_search(address).ok())
                .collect();
            let handler = places.iter().position(|&place| owns[place] == Own::Handler);
            let own = || {
                places
                    .iter()
                    .take_while(|&&place| owns[place] == Own::Yes)
                    .count()
            };
            let first = handler.map_or_else(own, |handler| handler + 2);
            sample.location_id = places.iter().skip(first).map(|&place| place as u64 + 1).collect();
        }
    }

    fn function(&mut self, name: &str) -> u64 {
        let id = self.profile.function.len() as u64 + 1;
        let text = self.string(name);
        self.profile.function.push(Function {
            id,
            name: text,
            system_name: text,
            filename: 0,
        });
        id
    }

    /// A remark for who reads it.
    pub(super) fn remark(&mut self, text: &str) {
        let index = self.string(text);
        self.profile.comment.push(index);
    }

    /// The profile, of the last `took`.
    pub(super) fn finish(mut self, took: Duration) -> Profile {
        self.name();
        let began = SystemTime::now() - took;
        let since = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.profile.time_nanos = since.as_nanos() as i64;
        self.profile.duration_nanos = took.as_nanos() as i64;
        self.profile
    }
}
