//! What the latest plan found, for people.

use crate::{
    balance::{BalancePlan, BalancePolicy, Goal, Obstacle},
    ids::ZoneTime,
};

use super::proposals::Proposals;

/// What the balancer thinks of the zone. Shares are in thousandths of the mean utilisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceReport {
    pub planned_at: ZoneTime,
    /// The most loaded node's, in its worst dimension; 0: no dimension has load enough to matter.
    pub worst_share_permille: u32,
    /// The same with all done that was proposed.
    pub planned_share_permille: u32,
    /// The policy leaves no budget for anything.
    pub is_off: bool,
    /// Evening out goes on.
    pub is_settling: bool,
    /// It has come to its end, and the zone is none other since.
    pub is_at_rest: bool,
    /// Since when the worst share has been above the policy's band.
    pub above_since: Option<ZoneTime>,
    pub transfers: usize,
    pub moves: usize,
    pub splits: usize,
    /// Proposals that had to wait.
    pub left_out: usize,
    /// What is in the way of the goals; what safety needs is told elsewhere.
    pub obstacles: Vec<Obstacle>,
    /// What earlier plans gained of what they promised, in thousandths.
    pub realised_gain_permille: u32,
    pub evaluations: u64,
}

impl BalanceReport {
    pub(super) fn of(
        plan: &BalancePlan,
        proposals: &Proposals,
        planned_at: ZoneTime,
        policy: &BalancePolicy,
    ) -> Self {
        let permille =
            |ppm: u64| u32::try_from(ppm.saturating_add(500) / 1_000).unwrap_or(u32::MAX);
        let obstacles = plan.obstacles.iter().filter(|obstacle| obstacle.goal != Goal::Safety);
        Self {
            planned_at,
            worst_share_permille: permille(plan.before.worst_share_ppm),
            planned_share_permille: permille(plan.after.worst_share_ppm),
            is_off: policy.is_off(),
            is_settling: plan.memory.is_settling,
            is_at_rest: plan
                .memory
                .rest
                .as_ref()
                .is_some_and(|rest| rest.disturbed_since.is_none()),
            above_since: plan.memory.above_since,
            transfers: proposals.transfers.len(),
            moves: proposals.changes.len(),
            splits: proposals.splits.len(),
            left_out: proposals.left_out,
            obstacles: obstacles.copied().collect(),
            realised_gain_permille: plan.memory.realised_gain_permille,
            evaluations: plan.evaluations,
        }
    }

    /// While a zone is at rest nothing is looked for: what was in the way before still is.
    pub(super) fn after(self, before: Option<&Self>) -> Self {
        match before {
            Some(before) if self.is_at_rest && self.obstacles.is_empty() => {
                Self { obstacles: before.obstacles.clone(), ..self }
            }
            Some(_) | None => self,
        }
    }
}
