//! What one trial has shown: a line of the state file, an entry of the JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{fault::Fault, noise::MachineNoise};

/// What one trial has shown. Times are from the moment of the fault, on this program's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    pub fault: Fault,
    /// Counted from 1.
    pub trial: u32,
    /// When the fault happened, by this machine's clock: milliseconds since 1970, as in the logs.
    pub wall_time_ms: u64,
    /// Until this program was told by the ledger that the node is suspected or down; or, where the control
    /// plane's leader was lost, until another member answered as the leader.
    pub noticed_ms: Option<f64>,
    /// Until this program was told by the ledger that another replica leads; or, where the
    /// control plane's leader was lost, that its successor has committed and decides.
    pub decided_ms: Option<f64>,
    /// How long the planned fault itself took.
    pub carried_out_ms: Option<f64>,
    /// Each partition whose leader was hit, until it acknowledged a write that began after the fault.
    pub again: Vec<Again>,
    pub completed: u64,
    pub failed: u64,
    pub unknown: u64,
    /// Requests that were due and could not be made, since too many were waiting.
    pub shed: u64,
    /// The longest time that one request took, from when it was due, among those that completed.
    pub longest_wait_ms: f64,
    /// The longest time in which one partition completed no read, or no write, although one was waiting.
    pub longest_pause_ms: f64,
    pub acknowledged_writes: u64,
    /// Acknowledged writes that were not there afterwards, or could not be read; and other violations.
    pub lost: u64,
    /// The first few of them in words.
    pub lost_examples: Vec<String>,
    pub errors: Vec<ErrorCount>,
    /// What the ledger said meanwhile.
    pub events: Vec<EventLine>,
    /// What the machine did to everybody meanwhile.
    pub machine: MachineNoise,
    /// All of it, from preparation to verification.
    pub took_seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Again {
    pub partition_id: u64,
    pub again_ms: f64,
    /// It did not within that time, and was not waited for any longer.
    pub gave_up: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorCount {
    pub message: String,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    pub after_ms: f64,
    pub kind: String,
    /// 0: it is about no partition.
    #[serde(default)]
    pub partition_id: u64,
    /// 0: it is about no node.
    #[serde(default)]
    pub node_id: u64,
    pub message: String,
    pub reason: String,
}

impl TrialRecord {
    pub fn first_again_ms(&self) -> Option<f64> {
        self.again.iter().map(|again| again.again_ms).reduce(f64::min)
    }

    fn count(&self, kind: &str) -> u64 {
        self.events.iter().filter(|event| event.kind == kind).count() as u64
    }

    /// How often a node was called down.
    pub fn called_down(&self) -> u64 {
        self.count("node-down")
    }

    /// How often a node was suspected.
    pub fn suspected(&self) -> u64 {
        self.count("node-suspect")
    }

    /// How often that partition's leader changed whose leader changed most.
    pub fn leader_changes_max(&self) -> u64 {
        let changes = self.events.iter().filter(|event| event.kind == "leader-changed");
        let mut of: BTreeMap<u64, u64> = BTreeMap::new();
        for event in changes {
            *of.entry(event.partition_id).or_default() += 1;
        }
        of.into_values().max().unwrap_or(0)
    }

    pub fn last_again_ms(&self) -> Option<f64> {
        self.again.iter().map(|again| again.again_ms).reduce(f64::max)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A trial in which the partitions took so long.
    pub fn record(fault: Fault, trial: u32, again_ms: &[f64]) -> TrialRecord {
        let again = again_ms.iter().zip(1..);
        TrialRecord {
            fault,
            trial,
            wall_time_ms: 1_700_000_000_000,
            noticed_ms: None,
            decided_ms: None,
            carried_out_ms: None,
            again: again
                .map(|(again_ms, partition_id)| Again {
                    partition_id,
                    again_ms: *again_ms,
                    gave_up: false,
                })
                .collect(),
            completed: 1_000,
            failed: 0,
            unknown: 0,
            shed: 0,
            longest_wait_ms: 12.5,
            longest_pause_ms: 11.0,
            acknowledged_writes: 500,
            lost: 0,
            lost_examples: Vec::new(),
            errors: Vec::new(),
            events: Vec::new(),
            machine: MachineNoise::default(),
            took_seconds: 8.0,
        }
    }

    #[test]
    fn what_happened_to_nodes_and_leaders_is_counted() {
        let event = |kind: &str, partition_id| EventLine {
            after_ms: 1.0,
            kind: kind.to_owned(),
            partition_id,
            node_id: 0,
            message: String::new(),
            reason: String::new(),
        };
        let mut trial = record(Fault::Saturate, 1, &[]);
        assert_eq!((trial.called_down(), trial.leader_changes_max()), (0, 0));
        trial.events = vec![
            event("node-suspect", 0),
            event("leader-changed", 3),
            event("leader-changed", 4),
            event("node-down", 0),
            event("leader-changed", 4),
        ];
        assert_eq!((trial.called_down(), trial.suspected(), trial.leader_changes_max()), (1, 1, 2));
    }

    #[test]
    fn first_and_last_are_those_of_the_partitions() {
        let trial = record(Fault::KillIndexNode, 1, &[40.0, 90.0, 60.0]);
        assert_eq!((trial.first_again_ms(), trial.last_again_ms()), (Some(40.0), Some(90.0)));
        assert_eq!(record(Fault::Drain, 1, &[]).last_again_ms(), None);
    }
}
