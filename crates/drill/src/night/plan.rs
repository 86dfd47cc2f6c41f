//! What happens in the night, from a seed: pure, so that the same seed is the same night.
//!
//! Everything the causes send is listed here with its time before anything is sent, and it is sent at that time whether or not earlier requests were
//! answered: a consumer of a stream does not wait for the service behind it. The sizes follow from the line, so that a night is as hard at 128 MiB as
//! at 512 MiB.

use std::fmt;
use std::time::Duration;

use crate::rng::Rng;

/// Bytes of text that the scan offers, as a share of the line: the cold partition is as large as the memory.
const SCAN_PERCENT_OF_LINE: u64 = 100;
/// A long document has at least so many bytes, and at most what one request may carry.
const LONG_BYTES_MIN: usize = 32 * 1024;
/// Room in a body for what stands around the text.
const BODY_OVERHEAD_BYTES: usize = 1024;
/// Bytes of the short documents.
const SHORT_BYTES: (usize, usize) = (120, 1500);
/// The scan offers its documents over this share of the incident.
const SCAN_SHARE: f64 = 0.6;
/// Requests of the burst, over this share of the incident.
const BURST: (usize, f64) = (300, 0.2);
/// Reviews in a request of the burst.
const BURST_TEXTS: usize = 8;
/// Bytes of the log that is rotated, as a share of the line.
const LOG_PERCENT_OF_LINE: u64 = 25;
/// Sessions, and texts that each of them comes back to.
pub const SESSIONS: usize = 16;
/// Texts that a session comes back to.
pub const HOT_TEXTS: usize = 24;
/// Of a hundred requests, those for a text that its session has seen.
const HOT_PERCENT: usize = 70;

/// What goes wrong at 3 a.m.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The log is renamed, opened anew, and the old one compressed, in the same cgroup.
    Rotation,
    /// All texts of all sessions, and a catalogue beside them, are put into the cache.
    WarmUp,
    /// The cold partition is read from end to end.
    Scan,
    /// Many clients come at once.
    Burst,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 4] = [Cause::Rotation, Cause::WarmUp, Cause::Scan, Cause::Burst];

    /// What the command line calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Rotation => "rotation",
            Cause::WarmUp => "warm-up",
            Cause::Scan => "scan",
            Cause::Burst => "burst",
        }
    }
}

/// Some of them, at the same second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes(u8);

impl Causes {
    /// All of them.
    pub const ALL: Causes = Causes(0b1111);

    /// These.
    pub fn of(causes: &[Cause]) -> Causes {
        Causes(causes.iter().fold(0, |all, cause| all | 1 << *cause as u8))
    }

    /// Whether `cause` is among them.
    pub fn has(self, cause: Cause) -> bool {
        self.0 >> cause as u8 & 1 == 1
    }

    /// Each alone, each pair, all together.
    pub fn combinations() -> Vec<Causes> {
        let some = |count| (1..16).map(Causes).filter(move |all| all.0.count_ones() == count);
        some(1).chain(some(2)).chain([Causes::ALL]).collect()
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Causes::ALL {
            return f.pad("all together");
        }
        let names = Cause::ALL.into_iter().filter(|cause| self.has(*cause));
        f.pad(&names.map(Cause::name).collect::<Vec<_>>().join("+"))
    }
}

/// The compressed clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Steady traffic before 3 a.m., and again once it has recovered.
    pub calm: Duration,
    /// From 3 a.m. until the causes end.
    pub incident: Duration,
    /// How long recovery is waited for.
    pub patience: Duration,
    /// Silence at the end.
    pub settle: Duration,
}

impl Clock {
    /// A night whose calm lasts so long.
    pub fn new(calm: Duration) -> Clock {
        Clock {
            calm,
            incident: 2 * calm,
            patience: Duration::from_secs(60),
            settle: Duration::from_secs(5).min(calm),
        }
    }
}

/// A request of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document {
    /// After 3 a.m.
    pub at: Duration,
    /// Bytes of its text.
    pub bytes: usize,
    /// What its text is made from.
    pub seed: u64,
}

/// A request of the burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// After 3 a.m.
    pub at: Duration,
    /// What its reviews are made from.
    pub seed: u64,
    /// How many.
    pub texts: usize,
}

/// The night.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// When.
    pub clock: Clock,
    /// The scan.
    pub documents: Vec<Document>,
    /// The burst.
    pub calls: Vec<Call>,
    /// The log that is rotated.
    pub log_bytes: u64,
    seed: u64,
}

impl Plan {
    /// The night of `seed` at a line of `line_bytes`, where a body may have `body_bytes_max`.
    pub fn new(seed: u64, clock: Clock, line_bytes: u64, body_bytes_max: usize) -> Plan {
        let mut rng = Rng::new(seed);
        let incident = clock.incident.as_secs_f64();
        let longest = body_bytes_max
            .saturating_sub(BODY_OVERHEAD_BYTES)
            .max(SHORT_BYTES.1);
        let long = (LONG_BYTES_MIN.min(longest / 2), longest);
        let mut documents = Vec::new();
        let mut left = line_bytes * SCAN_PERCENT_OF_LINE / 100;
        while left > 0 {
            let (least, most) = if rng.percent(50) { long } else { SHORT_BYTES };
            let bytes = between(&mut rng, least, most);
            left = left.saturating_sub(bytes as u64);
            let (at, seed) = (Duration::ZERO, rng.next());
            documents.push(Document { at, bytes, seed });
        }
        let step = incident * SCAN_SHARE / documents.len() as f64;
        for (index, document) in documents.iter_mut().enumerate() {
            document.at = Duration::from_secs_f64(index as f64 * step);
        }
        let calls = (0..BURST.0).map(|_| Call {
            at: Duration::from_secs_f64(unit(&mut rng) * incident * BURST.1),
            seed: rng.next(),
            texts: BURST_TEXTS,
        });
        let mut calls: Vec<Call> = calls.collect();
        calls.sort_by_key(|call| call.at);
        Plan {
            clock,
            documents,
            calls,
            log_bytes: line_bytes / 100 * LOG_PERCENT_OF_LINE,
            seed: rng.next(),
        }
    }

    /// Bytes of text that the scan offers.
    pub fn scan_bytes(&self) -> usize {
        self.documents.iter().map(|document| document.bytes).sum()
    }

    /// The steady traffic: the same requests whatever else happens.
    pub fn steady(&self) -> Steady {
        Steady(Rng::new(self.seed))
    }
}

/// A request of the steady traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ask {
    /// After the one before, in mean gaps.
    pub gap: f64,
    /// Whose.
    pub session: usize,
    /// For what.
    pub text: Text,
}

/// A text of the steady traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The session's own, by number: it has been asked for before.
    Hot(usize),
    /// One that comes once, by number.
    Fresh(u64),
}

/// The steady traffic, without end: requests come as a Poisson process does.
#[derive(Clone, Debug)]
pub struct Steady(Rng);

impl Iterator for Steady {
    type Item = Ask;

    fn next(&mut self) -> Option<Ask> {
        let rng = &mut self.0;
        let gap = -(1.0 - unit(rng)).ln();
        let session = rng.below(SESSIONS);
        let text = match rng.percent(HOT_PERCENT) {
            // The first come up most.
            true => Text::Hot(rng.below(HOT_TEXTS) * rng.below(HOT_TEXTS) / HOT_TEXTS),
            false => Text::Fresh(rng.next()),
        };
        Some(Ask { gap, session, text })
    }
}

/// Uniform in `[0, 1)`.
fn unit(rng: &mut Rng) -> f64 {
    (rng.next() >> 11) as f64 / (1u64 << 53) as f64
}

/// Uniform in the logarithm: every order of magnitude as often.
fn between(rng: &mut Rng, least: usize, most: usize) -> usize {
    let (least, most) = (least as f64, most as f64);
    (least * (most / least).powf(unit(rng))) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn night(seed: u64) -> Plan {
        Plan::new(seed, Clock::new(Duration::from_secs(5)), 128 * MIB, 500_000)
    }

    #[test]
    fn a_seed_is_a_night() {
        assert_eq!(night(7), night(7));
        assert_ne!(night(7).documents, night(8).documents);
        let traffic = |seed| night(seed).steady().take(100).collect::<Vec<_>>();
        assert_eq!(traffic(7), traffic(7));
        assert_ne!(traffic(7), traffic(8));
    }

    #[test]
    fn the_scan_offers_the_line_once_in_bodies_that_may_come_in() {
        for (line, body) in [(128 * MIB, 500_000), (512 * MIB, 2_000_000), (64 * MIB, 16_384)] {
            let plan = Plan::new(3, Clock::new(Duration::from_secs(5)), line, body);
            let share = plan.scan_bytes() as f64 / line as f64;
            assert!((1.0..1.1).contains(&share), "{share}");
            assert!(plan.documents.iter().all(|document| document.bytes < body));
            assert!(plan.documents.iter().all(|document| document.bytes >= 120));
            assert!(plan.documents.is_sorted_by_key(|document| document.at));
            assert!(
                plan.documents
                    .iter()
                    .all(|document| document.at < plan.clock.incident)
            );
            assert!(plan.calls.iter().all(|call| call.at < plan.clock.incident));
        }
    }

    #[test]
    fn steady_traffic_keeps_its_rate_and_its_share_of_known_texts() {
        let asks: Vec<Ask> = night(1).steady().take(20_000).collect();
        let mean = asks.iter().map(|ask| ask.gap).sum::<f64>() / 20_000.0;
        assert!((0.97..1.03).contains(&mean), "{mean}");
        let hot = asks.iter().filter(|ask| matches!(ask.text, Text::Hot(_))).count();
        assert!((13_600..14_400).contains(&hot), "{hot}");
        assert!(asks.iter().all(|ask| ask.session < SESSIONS));
    }

    #[test]
    fn each_alone_each_pair_and_all() {
        let all = Causes::combinations();
        assert_eq!(all.len(), 4 + 6 + 1);
        let names: Vec<String> = all.iter().map(Causes::to_string).collect();
        assert_eq!(names[0], "rotation");
        assert!(names.contains(&"warm-up+scan".to_owned()), "{names:?}");
        assert_eq!(names[10], "all together");
        assert!(all[10].has(Cause::Burst) && !Causes::of(&[Cause::Scan]).has(Cause::Burst));
    }
}
