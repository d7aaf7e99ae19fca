//! What comes of some changes, whoever has chosen them.

use crate::ids::NodeId;

use super::{
    action::{BalanceAction, Goal, Score, Tool},
    measure::{HEAT, LEADERS, REPLICAS, permille},
    planner::Planner,
    policy::{BalancePolicy, InvalidPolicy},
    work::{Candidate, Work},
};

/// A change, by the places of its partition and its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RehearsedStep {
    pub goal: Goal,
    pub tool: Tool,
    pub index: u32,
    pub from: u32,
    pub to: u32,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its share of the mean utilisation in its worst dimension, in thousandths.
    pub share_permille: u32,
    pub leaders: u32,
    pub replicas: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeOutlook {
    pub node: NodeId,
    pub before: Standing,
    pub after: Standing,
}

/// The zone before and after some changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// In their sequence; without what else was considered.
    pub actions: Vec<BalanceAction>,
    pub before: Score,
    pub after: Score,
    /// Of nodes that are not gone.
    pub nodes: Vec<NodeOutlook>,
}

impl Planner {
    /// What comes of the steps, one after the other, if the policy's measure is what counts. Steps of partitions or
    /// nodes that are not there are left out.
    pub fn rehearse(
        &self,
        policy: &BalancePolicy,
        steps: &[RehearsedStep],
    ) -> Result<Rehearsal, InvalidPolicy> {
        policy.check()?;
        let mut work = Work::new(self, &self.memory, policy, 0, 0);
        let before = work.score();
        let stood = standings(&work);
        let there = |step: &&RehearsedStep| {
            let node = |index: u32| (index as usize) < self.nodes.len();
            (step.index as usize) < self.partitions.len() && node(step.from) && node(step.to)
        };
        for step in steps.iter().filter(there) {
            let RehearsedStep { goal, tool, index, from, to } = *step;
            let chosen = Candidate {
                tool,
                index,
                from,
                to,
                column: work.worst_column(goal, from),
                from_after: 0.0,
                to_after: 0.0,
                gain: 0.0,
                merit: 0.0,
            };
            work.propose(goal, &chosen, None, None);
        }
        let after = work.score();
        let pairs = self.nodes.iter().zip(stood).zip(standings(&work));
        let nodes = pairs
            .filter(|((node, _), _)| !node.is_gone)
            .map(|((node, before), after)| NodeOutlook { node: node.id, before, after });
        Ok(Rehearsal { before, after, nodes: nodes.collect(), actions: work.actions })
    }
}

fn standings(work: &Work<'_>) -> Vec<Standing> {
    let rows = work.rows.iter().zip(0..);
    let standing = rows.map(|(row, node)| {
        let (stress, _) = work.measure.stress(node, row, HEAT);
        Standing {
            share_permille: permille(stress),
            leaders: whole(row[LEADERS]),
            replicas: whole(row[REPLICAS]),
        }
    });
    standing.collect()
}

/// A count that was summed up as a fraction.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(count: f64) -> u32 {
    (count + 0.5) as u32
}
