//! The brake: engaged when so many are lost at once, or the judge ran so late, that the fault may well be the
//! control plane's own.

use std::collections::{BTreeMap, BTreeSet};

use planted::{Bug, is_planted};

use super::Detector;
use crate::{command::BrakeChange, ids::NodeId, node::NodeState, signals::SignalRound};

impl Detector {
    /// The brake, if it changes.
    pub(super) fn brake(
        &mut self,
        round: &SignalRound,
        states: &BTreeMap<NodeId, NodeState>,
        late: bool,
    ) -> Option<BrakeChange> {
        if is_planted(Bug::BrakeRemoved) {
            return None;
        }
        let now = round.at();
        let cause = if late {
            Some(format!(
                "the judge ran late: {} ms from one round to the next, and {} ms are the limit",
                round.since_last().as_millis(),
                self.options.round_max.as_millis()
            ))
        } else {
            too_many_lost(round, states)
        };
        if let Some(reason) = cause {
            self.memory.cause = Some((now, reason));
        }
        let engaged = round.is_brake_engaged;
        if engaged && self.memory.cause.is_none() {
            // A new leader did not see the cause: it holds the brake as if it had just gone.
            self.memory.cause = Some((now, String::new()));
        }
        let (seen_at, reason) = self.memory.cause.as_ref()?;
        let gone_for = now.saturating_sub(*seen_at);
        if gone_for < self.options.brake_hold {
            return (!engaged).then(|| BrakeChange { engaged: true, reason: reason.clone() });
        }
        if !engaged {
            self.memory.cause = None;
            return None;
        }
        // The cause is kept until the release is committed.
        let reason = format!("its cause has been gone for {} ms", gone_for.as_millis());
        Some(BrakeChange { engaged: false, reason })
    }
}

/// Why the brake must be engaged for what is lost; none if it need not. Nodes that an operator wants
/// empty do not count: their loss has been spoken for.
fn too_many_lost(round: &SignalRound, states: &BTreeMap<NodeId, NodeState>) -> Option<String> {
    let (mut lost, mut total) = (BTreeSet::new(), 0_usize);
    let mut domains: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for node in round.nodes.iter().filter(|node| node.is_active) {
        total += 1;
        let domain = domains.entry(node.fault_domain.as_str()).or_default();
        domain.1 += 1;
        if states.get(&node.node).is_some_and(|state| !state.is_up()) {
            lost.insert(node.node);
            domain.0 += 1;
        }
    }
    if lost.len() < 2 {
        return None;
    }
    let nodes: Vec<_> = lost.iter().map(ToString::to_string).collect();
    let nodes = nodes.join(", ");
    if lost.len() * 3 > total {
        return Some(format!(
            "nodes {nodes} are suspect or down: {} of {total}, more than a third",
            lost.len()
        ));
    }
    // A domain of one node is no domain to lose: the third counts for it.
    let (domain, (_, size)) = domains.iter().find(|(_, (lost, size))| *size > 1 && lost == size)?;
    Some(format!("nodes {nodes} are suspect or down: all {size} of fault domain {domain:?}"))
}
