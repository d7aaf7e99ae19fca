//! The trace of a run: every log event with its simulated time and its host, as one hash and, for
//! people, as lines.
//!
//! Two runs of one seed have the same trace, byte for byte, or something in the zone depends on what
//! the seed does not decide. The trace therefore holds nothing that differs from run to run for good
//! reason: no wall-clock time (openraft shows moments as such; they are masked), and no payload of a
//! network message (hyper puts the date into headers).
//!
//! [Coverage marks](crate::coverage) come the same way as log events, and are kept apart: they are no
//! part of the lines and of the hash.

mod subscriber;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use subscriber::TraceSubscriber;

/// How many lines are kept for a report.
const RECENT_LINES: usize = 40;

/// Which lines are written to standard error as they happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Print {
    #[default]
    Nothing,
    /// What processes log.
    Processes,
    /// That, and each message on the network.
    Everything,
}

#[derive(Debug)]
struct State {
    hash: u64,
    lines: u64,
    recent: VecDeque<String>,
    /// And how often each was.
    marks: BTreeMap<String, u64>,
    /// For the next line, so that not each one has to be allocated.
    buffer: String,
    now: Duration,
    /// Whether `now` is to be believed and not the current host's clock.
    pinned: bool,
    print: Print,
}

/// A run's trace. Cheap to clone; all clones are one trace.
#[derive(Clone, Debug)]
pub struct Trace {
    state: Arc<Mutex<State>>,
}

impl Trace {
    pub fn new(print: Print) -> Self {
        let state = State {
            hash: FNV_OFFSET,
            lines: 0,
            recent: VecDeque::with_capacity(RECENT_LINES),
            marks: BTreeMap::new(),
            buffer: String::new(),
            now: Duration::ZERO,
            pinned: true,
            print,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Makes this trace the one of the whole process.
    ///
    /// # Errors
    /// If the process has a subscriber already.
    pub fn install(&self) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
        tracing::subscriber::set_global_default(TraceSubscriber::new(self.clone()))
    }

    /// The hash of everything until now (FNV-1a), and how many lines that was.
    pub fn digest(&self) -> (u64, u64) {
        self.with(|state| (state.hash, state.lines))
    }

    /// The last lines that processes logged, oldest first.
    pub fn recent(&self) -> Vec<String> {
        self.with(|state| state.recent.iter().cloned().collect())
    }

    /// The coverage marks that were reached until now.
    pub fn marks(&self) -> BTreeSet<String> {
        self.with(|state| state.marks.keys().cloned().collect())
    }

    /// How often a coverage mark was reached until now.
    pub fn times_reached(&self, mark: &str) -> u64 {
        self.with(|state| state.marks.get(mark).copied().unwrap_or_default())
    }

    /// To be called before the harness acts on the world between two steps: the time of all events
    /// until [`run_hosts`](Self::run_hosts). A host's own clock tells real time while it is torn down.
    pub(crate) fn between_steps(&self, now: Duration) {
        self.with(|state| {
            state.now = now;
            state.pinned = true;
        });
    }

    /// To be called before a step of the world: hosts' clocks tell the time.
    pub(crate) fn run_hosts(&self, now: Duration) {
        self.with(|state| {
            state.now = now;
            state.pinned = false;
        });
    }

    fn time(&self) -> Duration {
        let (now, pinned) = self.with(|state| (state.now, state.pinned));
        if pinned { now } else { turmoil::sim_elapsed().unwrap_or(now) }
    }

    fn reached(&self, mark: String) {
        self.with(|state| {
            *state.marks.entry(mark).or_default() += 1;
        });
    }

    /// An empty string for the next line.
    fn take_buffer(&self) -> String {
        self.with(|state| std::mem::take(&mut state.buffer))
    }

    fn push(&self, mut line: String, network: bool) {
        self.with(|state| {
            state.hash = fnv(fnv(state.hash, line.as_bytes()), b"\n");
            state.lines += 1;
            let print = match state.print {
                Print::Nothing => false,
                Print::Processes => !network,
                Print::Everything => true,
            };
            if print {
                // Nobody may be left to read it.
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            if !network {
                let oldest = if state.recent.len() == RECENT_LINES {
                    state.recent.pop_front()
                } else {
                    None
                };
                let kept = std::mem::replace(&mut line, oldest.unwrap_or_default());
                state.recent.push_back(kept);
            }
            line.clear();
            state.buffer = line;
        });
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The FNV-1a hash of some bytes: tells things apart that nobody forges.
pub fn hash_of(bytes: &[u8]) -> u64 {
    fnv(FNV_OFFSET, bytes)
}

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// The line with everything that looks like a moment of the real clock replaced: times of day as in
/// `06:12:26.398271`, and the seconds and nanoseconds of an `Instant`'s debug form.
fn mask_moments(line: &str) -> String {
    const SHAPE: &[u8] = b"00:00:00.";
    const INSTANT: [&str; 2] = ["tv_sec: ", "tv_nsec: "];
    let bytes = line.as_bytes();
    let digits_from =
        |at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut masked = String::with_capacity(line.len());
    // Up to here the line is in `masked`.
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let is_time = rest.len() > SHAPE.len()
            && SHAPE.iter().zip(rest).all(|(shape, byte)| match shape {
                b'0' => byte.is_ascii_digit(),
                shape => shape == byte,
            });
        let prefix = INSTANT.iter().find(|prefix| rest.starts_with(prefix.as_bytes()));
        let (kept, dropped) = match prefix {
            Some(prefix) => (prefix.len(), digits_from(at + prefix.len())),
            None if is_time => (0, SHAPE.len() + digits_from(at + SHAPE.len())),
            None => {
                at += 1;
                continue;
            }
        };
        masked.push_str(&line[copied..at + kept]);
        masked.push_str("<moment>");
        at += kept + dropped;
        copied = at;
    }
    masked.push_str(&line[copied..]);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_lines_and_of_their_sequence() {
        let digest = |lines: &[&str]| {
            let trace = Trace::new(Print::Nothing);
            for line in lines {
                trace.push((*line).to_owned(), false);
            }
            trace.digest()
        };
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["b", "a"]));
        assert_ne!(digest(&["ab"]), digest(&["a", "b"]));
    }

    #[test]
    fn moments_of_the_real_clock_are_masked() {
        let line = "candidate: {<T1-N7:->@06:12:26.398271, – Instant { tv_sec: 4314, tv_nsec: 5 }";
        let masked =
            "candidate: {<T1-N7:->@<moment>, – Instant { tv_sec: <moment>, tv_nsec: <moment> }";
        assert_eq!(mask_moments(line), masked);
        assert_eq!(mask_moments("lease: 6s, 12:34 of 10:20:30"), "lease: 6s, 12:34 of 10:20:30");
        assert_eq!(mask_moments("01:02:03."), "01:02:03.");
    }
}
