//! What is not safe, counted while a plan is made.

use super::{
    action::Tool,
    planner::Planner,
    snapshot::{NodeView, PartitionView, shares_domain},
    work::Candidate,
};

/// The fields of [`super::Score`] that are about safety.
#[derive(Clone, Copy, Debug)]
pub(super) struct Safety {
    pub replicas_wanted: u64,
    pub leaders_misplaced: u64,
    pub domains_shared: u64,
}

impl Safety {
    pub fn of(planner: &Planner) -> Self {
        let missing = planner.short.iter().map(|index| {
            let partition = &planner.partitions[*index as usize];
            u64::from(partition.replicas_wanted.saturating_sub(partition.replica_count))
        });
        let mut safety = Self {
            replicas_wanted: missing.sum(),
            leaders_misplaced: 0,
            domains_shared: planner.crowded.len() as u64,
        };
        for (node, holding) in planner.nodes.iter().zip(&planner.holdings) {
            if node.is_leaving {
                safety.replicas_wanted += u64::from(holding.replicas);
            }
            if misplaces_leaders(node) {
                safety.leaders_misplaced += u64::from(holding.leaders);
            }
        }
        safety
    }

    /// Takes in what a proposal changes.
    pub fn count(&mut self, planner: &Planner, chosen: &Candidate, partition: &PartitionView) {
        let node = |index: u32| &planner.nodes[index as usize];
        let goes = match chosen.tool {
            Tool::TransferLeadership | Tool::MoveReplica => Some(chosen.from),
            Tool::AddReplica => None,
            Tool::Split { .. } | Tool::Throttle { .. } => return,
        };
        let leads = goes.is_some() && partition.leader_node() == goes;
        if leads && misplaces_leaders(node(chosen.from)) {
            self.leaders_misplaced = self.leaders_misplaced.saturating_sub(1);
        }
        if chosen.tool == Tool::TransferLeadership {
            return;
        }
        if goes.is_none_or(|from| node(from).is_leaving) {
            self.replicas_wanted = self.replicas_wanted.saturating_sub(1);
        }
        let stays = partition.replicas().iter().copied().filter(|node| Some(*node) != goes);
        let after: Vec<u32> = stays.chain([chosen.to]).collect();
        let shares = |replicas: &[u32]| u64::from(shares_domain(&planner.nodes, replicas));
        self.domains_shared =
            (self.domains_shared + shares(&after)).saturating_sub(shares(partition.replicas()));
    }
}

/// Leaderships there can be handed over, and should be.
pub(super) fn misplaces_leaders(node: &NodeView) -> bool {
    (!node.may_lead || node.is_leaving) && !node.is_gone
}
