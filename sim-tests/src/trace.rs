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

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::{self, Write as _},
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use crate::coverage;

/// What is traced: everything that a process logs for its operator and its developer, each message on
/// the simulated network, and openraft's own milestones.
const FILTER: &str = "warn,openraft=info,turmoil=trace,runtime=debug,control_plane=debug,\
                      index_node=debug,client=debug,sim_tests=debug,model=debug";

/// The target of turmoil's own events.
const NETWORK_TARGET: &str = "turmoil";

/// The level of coverage marks, which every process sends and only the simulation asks for.
const COVERAGE_DIRECTIVE: &str = "coverage=trace";

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
    marks: BTreeSet<String>,
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
            marks: BTreeSet::new(),
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
        let subscriber = tracing_subscriber::registry()
            .with(TraceLayer { trace: self.clone() })
            .with(EnvFilter::new(format!("{FILTER},{COVERAGE_DIRECTIVE}")));
        tracing::subscriber::set_global_default(subscriber)
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
        self.with(|state| state.marks.clone())
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

    fn push(&self, line: String, network: bool) {
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
                if state.recent.len() == RECENT_LINES {
                    state.recent.pop_front();
                }
                state.recent.push_back(line);
            }
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

/// The target of openraft's events.
const RAFT_TARGET: &str = "openraft";

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

/// The name of the host that a span runs on, kept with the span.
struct HostName(String);

#[derive(Default)]
struct HostNameVisitor(Option<String>);

impl Visit for HostNameVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

struct LineVisitor<'a> {
    line: &'a mut String,
    network: bool,
}

impl Visit for LineVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.line, " {value:?}"),
            // The payload of a network message: see the module's documentation.
            "protocol" if self.network => Ok(()),
            name => write!(self.line, " {name}={value:?}"),
        };
        written.expect("writing to a string does not fail");
    }
}

struct TraceLayer {
    trace: Trace,
}

impl<S> Layer<S> for TraceLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        if attributes.metadata().target() == NETWORK_TARGET
            || attributes.metadata().name() == "node"
        {
            let mut visitor = HostNameVisitor::default();
            attributes.record(&mut visitor);
            if let (Some(name), Some(span)) = (visitor.0, context.span(id)) {
                span.extensions_mut().insert(HostName(name));
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() == coverage::TARGET {
            let mark = coverage::mark_of(event);
            self.trace.with(|state| {
                if !state.marks.contains(&mark) {
                    state.marks.insert(mark);
                }
            });
            return;
        }
        let network = metadata.target() == NETWORK_TARGET;
        if network && metadata.fields().len() == 1 {
            // Not a message: turmoil counts its steps, a thousand each second.
            return;
        }
        let mut line = format!("{:>11.6} ", self.trace.time().as_secs_f64());
        let host = context.event_scope(event).and_then(|scope| {
            scope
                .from_root()
                .find_map(|span| span.extensions().get::<HostName>().map(|name| name.0.clone()))
        });
        write!(
            line,
            "{:<9} {:>5} {}:",
            host.as_deref().unwrap_or("-"),
            metadata.level(),
            metadata.target()
        )
        .expect("writing to a string does not fail");
        event.record(&mut LineVisitor { line: &mut line, network });
        if metadata.target().starts_with(RAFT_TARGET) {
            line = mask_moments(&line);
        }
        self.trace.push(line, network);
    }
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

    #[test]
    fn payloads_of_network_messages_are_left_out() {
        let trace = Trace::new(Print::Nothing);
        let subscriber = tracing_subscriber::registry().with(TraceLayer { trace: trace.clone() });
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "turmoil", protocol = "TCP [0x1]", "Send");
            tracing::trace!(target: "turmoil", "step 7");
        });
        let network = trace.digest();
        let other = Trace::new(Print::Nothing);
        let subscriber = tracing_subscriber::registry().with(TraceLayer { trace: other.clone() });
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "turmoil", protocol = "TCP [0x2]", "Send");
        });
        assert_eq!(network, other.digest());
        assert_eq!(network.1, 1);
        assert!(trace.recent().is_empty(), "a report shows what processes logged");
    }

    #[test]
    fn coverage_marks_are_no_part_of_the_trace() {
        let trace = Trace::new(Print::Nothing);
        let empty = trace.digest();
        let subscriber = tracing_subscriber::registry().with(TraceLayer { trace: trace.clone() });
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "coverage", mark = "a path");
            tracing::trace!(target: "coverage", mark = "an answer", variant = ?Some("this"));
        });
        assert_eq!(trace.digest(), empty);
        let marks: Vec<String> = trace.marks().into_iter().collect();
        assert_eq!(marks, ["a path", "an answer: Some"]);
    }
}
