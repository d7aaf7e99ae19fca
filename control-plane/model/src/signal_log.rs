//! The latest rounds of a detector, as they were: what it looked at and what it found. Judged again, they
//! give the same judgements, so that a suspicion can be explained, and a change of the detector be tried on
//! what has really happened.
//!
//! Bounded in rounds and bytes. A round that found nothing and after which the detector remembers what it did
//! before has no influence on any other; of those one per second is kept, to show that all was well.
//!
//! What it deliberately is not: a file. Whoever writes one takes [`SignalLog::entries`], one to a line.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    detector::{Detector, DetectorOptions, Judgement, Memory},
    signals::{NodeSignals, SignalRound},
};

/// Of what [`Entry`] says. Another one is not understood.
pub const FORMAT: u32 = 1;

/// The most rounds that are judged again at once.
pub const REPLAY_ROUNDS_MAX: usize = 1_000_000;

/// Rounds that are forgotten together: before each such row the detector's memory is kept, too.
const ROW_ROUNDS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalLogOptions {
    /// Rounds that are kept at most.
    pub rounds_max: usize,
    /// What they take at most, about.
    pub bytes_max: usize,
    /// How often a round is kept in which nothing happened.
    pub quiet_interval: Duration,
}

impl Default for SignalLogOptions {
    fn default() -> Self {
        Self { rounds_max: 10_000, bytes_max: 32 << 20, quiet_interval: Duration::from_secs(1) }
    }
}

/// The latest rounds of one detector.
#[derive(Clone, Debug)]
pub struct SignalLog {
    options: SignalLogOptions,
    detector: DetectorOptions,
    /// The oldest first; none is empty.
    rows: VecDeque<Row>,
    /// The detector's, after the last round.
    memory: Memory,
    kept_at: Option<Duration>,
    rounds: usize,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Row {
    /// The detector's, before the first of these rounds.
    memory: Memory,
    rounds: Vec<(SignalRound, Judgement)>,
    bytes: usize,
}

/// One line of a written log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The first one: where the detector was before the first round.
    Begin {
        format: u32,
        options: DetectorOptions,
        memory: Memory,
    },
    Round {
        round: SignalRound,
        judgement: Judgement,
    },
}

/// Why a log cannot be judged again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("the log does not begin with the detector's options and memory")]
    NoBeginning,
    #[error("the log begins a second time after the round at {at_us} µs")]
    SecondBeginning { at_us: u64 },
    #[error("the log has format {found}; this version understands format {FORMAT}")]
    UnknownFormat { found: u32 },
    #[error("the round at {at_us} µs follows one at {before_us} µs: rounds go forward in time")]
    OutOfOrder { at_us: u64, before_us: u64 },
    #[error("the nodes of the round at {at_us} µs are not in the order of their ids")]
    UnorderedNodes { at_us: u64 },
    #[error("the log has more than {REPLAY_ROUNDS_MAX} rounds")]
    TooManyRounds,
}

impl SignalLog {
    /// Of a detector that has not judged yet.
    pub fn new(options: SignalLogOptions, detector: &Detector) -> Self {
        Self {
            options,
            detector: *detector.options(),
            rows: VecDeque::new(),
            memory: detector.memory().clone(),
            kept_at: None,
            rounds: 0,
            bytes: 0,
        }
    }

    /// Takes in the detector's next round, what it found, and what the detector remembers now. Every round
    /// must be shown; which of them are worth keeping is decided here.
    pub fn record(&mut self, round: SignalRound, judgement: &Judgement, memory: &Memory) {
        let at = round.at();
        let is_due =
            self.kept_at.is_none_or(|kept| at.saturating_sub(kept) >= self.options.quiet_interval);
        let is_remembered = *memory != self.memory;
        if judgement.is_quiet() && !is_remembered && !is_due {
            return;
        }
        self.kept_at = Some(at);
        self.keep(round, judgement.clone());
        if is_remembered {
            self.memory.clone_from(memory);
        }
        while self.rounds > self.options.rounds_max || self.bytes > self.options.bytes_max {
            let Some(oldest) = self.rows.pop_front() else { break };
            self.rounds -= oldest.rounds.len();
            self.bytes -= oldest.bytes;
        }
    }

    fn keep(&mut self, round: SignalRound, judgement: Judgement) {
        let (rounds_max, bytes_max) = (self.options.rounds_max, self.options.bytes_max);
        // Small enough that most is left when the oldest row goes.
        let row_rounds = ROW_ROUNDS.min(rounds_max / 8).max(1);
        let is_full = |row: &Row| row.rounds.len() >= row_rounds || row.bytes >= bytes_max / 8;
        if self.rows.back().is_none_or(is_full) {
            let memory = self.memory.clone();
            let bytes = memory.bytes();
            self.rows.push_back(Row { memory, rounds: Vec::new(), bytes });
            self.bytes += bytes;
        }
        let bytes = bytes_of(&round, &judgement);
        if let Some(row) = self.rows.back_mut() {
            row.rounds.push((round, judgement));
            row.bytes += bytes;
            self.rounds += 1;
            self.bytes += bytes;
        }
    }

    /// Rounds that are kept.
    pub fn len(&self) -> usize {
        self.rounds
    }

    pub fn is_empty(&self) -> bool {
        self.rounds == 0
    }

    /// About what the rounds take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a written log consists of, line by line.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let memory = self.rows.front().map_or(&self.memory, |row| &row.memory).clone();
        let begin = Entry::Begin { format: FORMAT, options: self.detector, memory };
        let rounds = self.rows.iter().flat_map(|row| &row.rounds).cloned();
        std::iter::once(begin)
            .chain(rounds.map(|(round, judgement)| Entry::Round { round, judgement }))
    }
}

/// Judges the rounds of a log again: what a detector finds now, round by round.
///
/// # Errors
/// If this is no log: see [`ReplayError`].
pub fn replay(entries: impl IntoIterator<Item = Entry>) -> Result<Vec<Judgement>, ReplayError> {
    let mut entries = entries.into_iter();
    let Some(Entry::Begin { format, options, memory }) = entries.next() else {
        return Err(ReplayError::NoBeginning);
    };
    if format != FORMAT {
        return Err(ReplayError::UnknownFormat { found: format });
    }
    let mut detector = Detector::resumed(options, memory);
    let mut judgements = Vec::new();
    let mut before_us = 0;
    for entry in entries {
        let Entry::Round { round, judgement: _ } = entry else {
            return Err(ReplayError::SecondBeginning { at_us: before_us });
        };
        if judgements.len() == REPLAY_ROUNDS_MAX {
            return Err(ReplayError::TooManyRounds);
        }
        check(&round, before_us)?;
        before_us = round.at_us;
        judgements.push(detector.judge(&round));
    }
    Ok(judgements)
}

fn check(round: &SignalRound, before_us: u64) -> Result<(), ReplayError> {
    let at_us = round.at_us;
    if at_us < before_us {
        return Err(ReplayError::OutOfOrder { at_us, before_us });
    }
    if !round.nodes.is_sorted_by(|a, b| a.node < b.node) {
        return Err(ReplayError::UnorderedNodes { at_us });
    }
    Ok(())
}

/// About what a round takes.
fn bytes_of(round: &SignalRound, judgement: &Judgement) -> usize {
    let node = |node: &NodeSignals| {
        let ids = node.unreachable.len() + node.peers.as_ref().map_or(0, Vec::len);
        size_of::<NodeSignals>() + node.fault_domain.len() + 8 * ids
    };
    let nodes: usize = round.nodes.iter().map(node).sum();
    let conclusions = judgement.conclusions.iter();
    let conclusions: usize = conclusions.map(|conclusion| 64 + conclusion.evidence.len()).sum();
    let brake = judgement.brake.as_ref().map_or(0, |brake| brake.reason.len());
    size_of::<(SignalRound, Judgement)>() + nodes + conclusions + brake + 8 * judgement.probe.len()
}
