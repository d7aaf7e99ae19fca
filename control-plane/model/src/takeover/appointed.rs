//! Leaders that were appointed and have not been confirmed yet.
//!
//! An answer to an order says that a replica leads before that replica's report does, and before the
//! record of the takeover is committed. In between, everything else still shows the loss.

use std::time::Duration;

use crate::{
    ids::{PartitionId, Term},
    observation::ZoneView,
    partition::Replica,
    state::ZoneState,
};

/// A replica that has said that it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appointed {
    pub replica: Replica,
    pub term: Term,
    pub at: Duration,
}

impl Appointed {
    /// Whether it is still to be waited for: its node is there, nothing newer is known of the group, and
    /// it has not taken too long. Once it is confirmed, there is nothing to wait for.
    pub fn holds(
        &self,
        state: &ZoneState,
        view: &ZoneView,
        id: PartitionId,
        now: Duration,
        grace: Duration,
    ) -> bool {
        let is_up = state.node(self.replica.node).is_some_and(|node| node.is_up());
        let waited = now.saturating_sub(self.at);
        let confirmed = view.leader(id).is_some_and(|leader| leader.term >= self.term);
        let committed = state.partition(id).and_then(|partition| partition.leader);
        let newer = committed.is_some_and(|leader| leader.term > self.term)
            || view.replicas(id).any(|(_, view)| view.report.term > self.term);
        is_up && waited < grace && !confirmed && !newer
    }
}
