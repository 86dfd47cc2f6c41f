//! Profiles as the report and the verdict need them: stacks of names.

use std::collections::HashMap;

use crate::debug::Profile;

/// Names that say how something was made, not who made it.
const PLUMBING: [&str; 16] = [
    "core::",
    "alloc::",
    "std::",
    "hashbrown::",
    "plimsoll_memory::",
    "plimsoll_engine::pools::",
    "tokio::",
    "hyper::",
    "hyper_util::",
    "bytes::",
    "http::",
    "futures_",
    "__",
    "_Unwind",
    "_start",
    "?",
];

/// A sample with names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stack<'a> {
    /// Functions, innermost first.
    pub(super) frames: Vec<&'a str>,
    /// As the profile says: samples, or objects, or leases.
    pub(super) count: i64,
    /// Bytes, or nanoseconds; the count where there is but one value.
    pub(super) value: i64,
    labels: Vec<(&'a str, &'a str, i64)>,
}

impl Stack<'_> {
    /// A label's string.
    pub(super) fn text(&self, key: &str) -> &str {
        self.labels
            .iter()
            .find(|label| label.0 == key)
            .map_or("", |label| label.1)
    }

    /// A label's number.
    pub(super) fn number(&self, key: &str) -> i64 {
        self.labels
            .iter()
            .find(|label| label.0 == key)
            .map_or(0, |label| label.2)
    }

    /// The function that wanted it: the innermost that is not plumbing.
    pub(super) fn place(&self) -> &str {
        let place = self.meant().next().or(self.frames.first().copied());
        let place = place.unwrap_or("an unknown place");
        place.split("::{{closure}}").next().unwrap_or(place)
    }

    /// Functions without plumbing, innermost first.
    pub(super) fn meant(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().copied().filter(|name| !is_plumbing(name))
    }
}

fn is_plumbing(name: &str) -> bool {
    let bare = name.trim_start_matches(['<', '&', '*']);
    PLUMBING.iter().any(|start| bare.starts_with(start)) || is_foreign(bare)
}

/// Functions of C have no path.
fn is_foreign(name: &str) -> bool {
    !name.contains("::")
}

/// The samples of a profile, with names.
pub(super) fn stacks(profile: &Profile) -> Vec<Stack<'_>> {
    let functions = profile
        .function
        .iter()
        .map(|function| (function.id, profile.string(function.name)));
    let functions: HashMap<u64, &str> = functions.collect();
    let places = profile.location.iter().map(|location| {
        let names = location
            .line
            .iter()
            .filter_map(|line| functions.get(&line.function_id).copied());
        (location.id, names.collect())
    });
    let places: HashMap<u64, Vec<&str>> = places.collect();
    let labels = |sample: &crate::debug::Sample| {
        let labels = sample.label.iter();
        labels
            .map(|label| (profile.string(label.key), profile.string(label.str), label.num))
            .collect()
    };
    let samples = profile.sample.iter();
    samples
        .map(|sample| Stack {
            frames: sample
                .location_id
                .iter()
                .filter_map(|id| places.get(id))
                .flatten()
                .copied()
                .collect(),
            count: sample.value.first().copied().unwrap_or(0),
            value: sample.value.last().copied().unwrap_or(0),
            labels: labels(sample),
        })
        .collect()
}

/// Sums by place, largest first.
pub(super) fn by_place<'a>(
    stacks: &'a [Stack<'a>],
    value: impl Fn(&Stack<'a>) -> i64,
) -> Vec<(&'a str, i64)> {
    let mut sums: HashMap<&str, i64> = HashMap::new();
    for stack in stacks {
        *sums.entry(stack.place()).or_default() += value(stack);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::{Function, Label, Line, Location, Sample};

    #[test]
    fn a_place_is_who_wanted_it() {
        let strings = [
            "",
            "bytes",
            "alloc::raw_vec::finish_grow",
            "<alloc::vec::Vec<T> as Clone>::clone",
            "shop::remember::{{closure}}",
            "main",
            "kind",
            "bodies",
        ];
        let function = |id: u64| Function {
            id,
            name: id as i64 + 1,
            ..Function::default()
        };
        let location = |id: u64, functions: &[u64]| Location {
            id,
            line: functions
                .iter()
                .map(|&function_id| Line { function_id, line: 0 })
                .collect(),
            ..Location::default()
        };
        let profile = Profile {
            string_table: strings.map(str::to_owned).into(),
            function: (1..=4).map(function).collect(),
            location: vec![location(1, &[1, 2]), location(2, &[3]), location(3, &[4])],
            sample: vec![Sample {
                location_id: vec![1, 2, 3],
                value: vec![2, 300],
                label: vec![Label {
                    key: 6,
                    str: 7,
                    ..Label::default()
                }],
            }],
            ..Profile::default()
        };
        let packed = Profile::unpack(&profile.packed().unwrap()).unwrap();
        assert_eq!(packed, profile);
        let all = stacks(&packed);
        assert_eq!((all[0].frames.len(), all[0].count, all[0].value), (4, 2, 300));
        assert_eq!(
            (all[0].place(), all[0].text("kind")),
            ("shop::remember", "bodies")
        );
        assert_eq!(by_place(&all, |stack| stack.value), [("shop::remember", 300)]);
    }
}
