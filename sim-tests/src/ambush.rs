//! Lies in wait for an operation: whoever leads the control plane ends in the middle of it.
//!
//! A schedule made before the run cannot know when a drain or a takeover is under way, nor who leads then.
//! So an ambush waits until it sees one begun, and from then on counts the leader's writes to its store:
//! the operation's own steps, mostly. It strikes once.

use std::{fmt, str::FromStr};

use runtime::store::simulated::Side;

use crate::{
    trace::Trace,
    witness::Witness,
    world::{Crash, SeamCall, World},
};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperationKind {
    Takeover,
    Repair,
    Move,
    Transfer,
    Split,
    Drain,
}

impl OperationKind {
    pub const ALL: [Self; 6] =
        [Self::Takeover, Self::Repair, Self::Move, Self::Transfer, Self::Split, Self::Drain];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::Repair => "repair",
            Self::Move => "move",
            Self::Transfer => "transfer",
            Self::Split => "split",
            Self::Drain => "drain",
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for OperationKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// Who waits, for what, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambush {
    pub operation: OperationKind,
    pub crash: Crash,
    /// Whether the write has its effect.
    pub side: Side,
    /// Of the leader's writes since the operation was seen; the first is 1.
    pub write: u64,
}

/// A takeover is in no committed state before it has ended: it is seen by what the leader asks.
const TAKEOVER_MARKS: [&str; 2] = ["take-over asked: Collect", "take-over asked: TakeOver"];

/// All ambushes of a run.
#[derive(Debug, Default)]
pub struct Ambushes {
    /// With the number of takeovers' calls at its beginning.
    waiting: Vec<(Ambush, u64)>,
    /// The members that are to end, or have.
    struck: Vec<String>,
}

fn takeover_calls(trace: &Trace) -> u64 {
    TAKEOVER_MARKS.iter().map(|mark| trace.times_reached(mark)).sum()
}

impl Ambushes {
    pub fn lay(&mut self, ambush: Ambush, trace: &Trace) {
        self.waiting.push((ambush, takeover_calls(trace)));
    }

    /// To be called between two steps: strikes where an operation is under way.
    pub fn look(&mut self, world: &mut World, witness: &Witness, trace: &Trace) {
        if self.waiting.is_empty() {
            return;
        }
        let Some(leader) = witness.leading_member() else { return };
        if !world.is_running(&leader) {
            return;
        }
        let calls = takeover_calls(trace);
        let is_under_way = |(ambush, before): &(Ambush, u64)| match ambush.operation {
            OperationKind::Takeover => calls > *before,
            kind => witness.is_under_way(kind),
        };
        let Some(found) = self.waiting.iter().position(is_under_way) else { return };
        let (Ambush { operation, crash, side, write }, _) = self.waiting.remove(found);
        tracing::info!(%operation, leader, "an operation is under way, and its leader is to end");
        crate::coverage::reached(match operation {
            OperationKind::Takeover => "the leader is to end in the middle of: takeover",
            OperationKind::Repair => "the leader is to end in the middle of: repair",
            OperationKind::Move => "the leader is to end in the middle of: move",
            OperationKind::Transfer => "the leader is to end in the middle of: transfer",
            OperationKind::Split => "the leader is to end in the middle of: split",
            OperationKind::Drain => "the leader is to end in the middle of: drain",
        });
        world.crash_at(&leader, crash, side, SeamCall::Write, write);
        self.struck.push(leader);
    }

    /// No ambush waits any more, and who fell into one starts again.
    pub fn lift(&mut self, world: &mut World) {
        self.waiting.clear();
        for member in std::mem::take(&mut self.struck) {
            world.restart(&member);
        }
    }
}
