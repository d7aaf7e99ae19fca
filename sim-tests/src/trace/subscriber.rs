//! Where log events arrive: what of them is wanted, on which host they happened, and how they become lines.
//!
//! Written for one thread and one kind of span, since a run has a thousand steps a second, each with a span
//! for each host: a general registry of spans would take a tenth of the simulation's time.

use std::{
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};
use tracing_subscriber::filter::Targets;

use super::{Trace, mask_moments};
use crate::coverage;

/// What is traced, by the beginning of the target: everything that a process logs for its operator and
/// its developer, each message on the simulated network, and openraft's own milestones. Coverage marks come
/// the same way.
const WANTED: [(&str, Level); 9] = [
    ("openraft", Level::INFO),
    (NETWORK_TARGET, Level::TRACE),
    ("runtime", Level::DEBUG),
    ("control_plane", Level::DEBUG),
    ("index_node", Level::DEBUG),
    ("client", Level::DEBUG),
    ("sim_tests", Level::DEBUG),
    ("model", Level::DEBUG),
    (coverage::TARGET, Level::TRACE),
];

/// Of all other targets.
const OTHERS: Level = Level::WARN;

/// The target of turmoil's own events.
const NETWORK_TARGET: &str = "turmoil";

/// The target of openraft's events.
const RAFT_TARGET: &str = "openraft";

/// The name of the span in which turmoil runs a host, and the field with the host's name.
const HOST_SPAN: &str = "node";
const HOST_FIELD: &str = "name";

/// The id of every span that is not a host's. Those have the numbers from 1 on.
const OTHER_SPAN: u64 = u64::MAX;

/// The hosts that were seen, and the one that runs now.
#[derive(Default)]
struct Hosts {
    names: Vec<String>,
    current: Option<usize>,
}

pub(super) struct TraceSubscriber {
    trace: Trace,
    wanted: Targets,
    hosts: Mutex<Hosts>,
}

impl TraceSubscriber {
    pub(super) fn new(trace: Trace) -> Self {
        let wanted = Targets::new().with_default(OTHERS).with_targets(WANTED);
        Self { trace, wanted, hosts: Mutex::default() }
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self, metadata: &Metadata<'_>) -> bool {
        self.wanted.would_enable(metadata.target(), metadata.level())
    }

    fn write_line(&self, line: &mut String, event: &Event<'_>, network: bool) {
        let metadata = event.metadata();
        let now = self.trace.time();
        let hosts = self.hosts();
        let host = hosts.current.map_or("-", |current| hosts.names[current].as_str());
        write!(
            line,
            "{:>4}.{:06} {host:<9} {:>5} {}:",
            now.as_secs(),
            now.subsec_micros(),
            metadata.level(),
            metadata.target()
        )
        .expect("writing to a string does not fail");
        drop(hosts);
        event.record(&mut LineVisitor { line, network });
    }
}

impl Subscriber for TraceSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_wanted(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.is_wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        if attributes.metadata().name() != HOST_SPAN {
            return span::Id::from_u64(OTHER_SPAN);
        }
        let mut visitor = HostVisitor { hosts: self.hosts(), found: None };
        attributes.record(&mut visitor);
        let number = visitor.found.and_then(|found| u64::try_from(found + 1).ok());
        span::Id::from_u64(number.unwrap_or(OTHER_SPAN))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if metadata.target() == coverage::TARGET {
            self.trace.reached(coverage::mark_of(event));
            return;
        }
        let network = metadata.target() == NETWORK_TARGET;
        if network && metadata.fields().len() == 1 {
            // Not a message: turmoil counts its steps.
            return;
        }
        let mut line = self.trace.take_buffer();
        self.write_line(&mut line, event, network);
        if metadata.target().starts_with(RAFT_TARGET) {
            line = mask_moments(&line);
        }
        self.trace.push(line, network);
    }

    fn enter(&self, span: &span::Id) {
        if span.into_u64() != OTHER_SPAN {
            self.hosts().current = usize::try_from(span.into_u64() - 1).ok();
        }
    }

    fn exit(&self, span: &span::Id) {
        if span.into_u64() != OTHER_SPAN {
            self.hosts().current = None;
        }
    }
}

/// Finds the host that a span is of.
struct HostVisitor<'a> {
    hosts: MutexGuard<'a, Hosts>,
    found: Option<usize>,
}

impl Visit for HostVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != HOST_FIELD {
            return;
        }
        let names = &mut self.hosts.names;
        let known = names.iter().position(|name| name == value);
        self.found = known.or_else(|| {
            names.push(value.to_owned());
            Some(names.len() - 1)
        });
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Writes an event's fields.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Print;

    fn trace(act: impl FnOnce()) -> Trace {
        let trace = Trace::new(Print::Nothing);
        tracing::subscriber::with_default(TraceSubscriber::new(trace.clone()), act);
        trace
    }

    #[test]
    fn payloads_of_network_messages_are_left_out() {
        let network = trace(|| {
            tracing::info!(target: "turmoil", protocol = "TCP [0x1]", "Send");
            tracing::trace!(target: "turmoil", "step 7");
        });
        let other = trace(|| tracing::info!(target: "turmoil", protocol = "TCP [0x2]", "Send"));
        assert_eq!(network.digest(), other.digest());
        assert_eq!(network.digest().1, 1);
        assert!(network.recent().is_empty(), "a report shows what processes logged");
    }

    #[test]
    fn a_line_names_the_host_that_runs() {
        let trace = trace(|| {
            for name in ["node-1", "node-2", "node-1"] {
                let _host = tracing::info_span!(target: "turmoil::sim", "node", name).entered();
                tracing::info!(target: "index_node", "here");
                let _inner = tracing::info_span!(target: "index_node", "inner").entered();
                tracing::info!(target: "index_node", "and there");
            }
            tracing::info!(target: "sim_tests", "between");
            tracing::info!(target: "h2", "unwanted");
            tracing::warn!(target: "h2", "wanted");
        });
        let hosts: Vec<String> = trace
            .recent()
            .iter()
            .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
            .collect();
        let twice = |host: &str| [host.to_owned(), host.to_owned()];
        let expected = [twice("node-1"), twice("node-2"), twice("node-1"), twice("-")].concat();
        assert_eq!(hosts, expected);
    }

    #[test]
    fn coverage_marks_are_no_part_of_the_trace() {
        let trace = trace(|| {
            tracing::trace!(target: "coverage", mark = "a path");
            tracing::trace!(target: "coverage", mark = "an answer", variant = ?Some("this"));
        });
        assert_eq!(trace.digest(), Trace::new(Print::Nothing).digest());
        let marks: Vec<String> = trace.marks().into_iter().collect();
        assert_eq!(marks, ["a path", "an answer: Some"]);
    }
}
