//! What clients asked and what they were told, in the sequence in which it happened.
//!
//! A run is one thread, so events have a true sequence: an operation that ended before another one
//! began has a smaller stamp, whatever the two clients' clocks say. Simulated time is kept for people.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

/// A value that is written at most once in a run, so that a read names the write that it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u64);

/// A position in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Rises by one with each event of the run.
    pub sequence: u64,
    /// Simulated time since the start.
    pub at: Duration,
}

/// When a write may take effect at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Absent,
    VersionEquals(u64),
}

/// What a client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Put { value: ValueId, condition: Option<Condition> },
    Delete { condition: Option<Condition> },
    Get,
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A put took effect.
    Written { version: u64 },
    /// A delete took effect.
    Deleted { version: u64, existed: bool },
    /// A write had no effect, because the key has another version (0: is absent).
    ConditionFailed { current_version: u64 },
    /// A get found this.
    Found { value: ValueId, version: u64 },
    /// A get found nothing.
    Missing,
    /// The client was told that nothing was done.
    Refused { reason: String },
    /// The client was told nothing, or that nobody knows.
    Unknown,
}

/// One operation of one client on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: u32,
    pub key: Bytes,
    pub call: Call,
    pub invoked: Stamp,
    /// None: the client never heard again, which is an unknown outcome.
    pub completed: Option<Stamp>,
    pub outcome: Outcome,
}

/// Names an operation while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationToken(usize);

#[derive(Debug, Default)]
struct State {
    events: u64,
    operations: Vec<Operation>,
}

/// Records a run. Cheap to clone; all clones record into one history.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
}

impl Recorder {
    pub fn new() -> Self {
        Self::default()
    }

    /// To be called just before the client sends its first attempt.
    pub fn invoke(&self, client: u32, key: Bytes, call: Call, at: Duration) -> OperationToken {
        self.with(|state| {
            let invoked = state.stamp(at);
            let outcome = Outcome::Unknown;
            state.operations.push(Operation {
                client,
                key,
                call,
                invoked,
                completed: None,
                outcome,
            });
            OperationToken(state.operations.len() - 1)
        })
    }

    /// To be called just after the client was answered, or gave up.
    pub fn complete(&self, token: OperationToken, outcome: Outcome, at: Duration) {
        self.with(|state| {
            let completed = state.stamp(at);
            let operation = &mut state.operations[token.0];
            assert!(operation.completed.is_none(), "an operation ends once: {operation}");
            operation.completed = Some(completed);
            operation.outcome = outcome;
        });
    }

    /// Everything until now, by invocation.
    pub fn operations(&self) -> Vec<Operation> {
        self.with(|state| state.operations.clone())
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn stamp(&mut self, at: Duration) -> Stamp {
        self.events += 1;
        Stamp { sequence: self.events, at }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Absent => write!(formatter, "if absent"),
            Condition::VersionEquals(version) => write!(formatter, "if version is {version}"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = match self {
            Call::Put { value, condition } => {
                write!(formatter, "put value {}", value.0)?;
                condition
            }
            Call::Delete { condition } => {
                write!(formatter, "delete")?;
                condition
            }
            Call::Get => return write!(formatter, "get"),
        };
        condition.as_ref().map_or(Ok(()), |condition| write!(formatter, " {condition}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Written { version } => write!(formatter, "written as version {version}"),
            Outcome::Deleted { version, existed: true } => {
                write!(formatter, "deleted by version {version}")
            }
            Outcome::Deleted { version, existed: false } => {
                write!(formatter, "absent already, deleted by version {version}")
            }
            Outcome::ConditionFailed { current_version: 0 } => {
                write!(formatter, "condition failed, the key is absent")
            }
            Outcome::ConditionFailed { current_version } => {
                write!(formatter, "condition failed, the version is {current_version}")
            }
            Outcome::Found { value, version } => {
                write!(formatter, "value {} of version {version}", value.0)
            }
            Outcome::Missing => write!(formatter, "absent"),
            Outcome::Refused { reason } => write!(formatter, "refused: {reason}"),
            Outcome::Unknown => write!(formatter, "unknown"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>11.3?} – ", self.invoked.at)?;
        match self.completed {
            Some(completed) => write!(formatter, "{:>11.3?}", completed.at)?,
            None => write!(formatter, "{:>11}", "never")?,
        }
        write!(
            formatter,
            "  client {} {} {}: {}",
            self.client,
            String::from_utf8_lossy(&self.key),
            self.call,
            self.outcome
        )
    }
}
