//! Planning by the shadow policy, from the same picture as by the zone's own, and holding both against each other.
//!
//! Nothing of the shadow's plans is carried out, so the next picture is again the one that the zone's policy has made:
//! what is compared is one plan at a time, not two histories. The same proposal in the next plan is the same one, and
//! is counted once. What a partition rests after a change is in the picture already, by the zone's policy.

use std::collections::BTreeSet;

use crate::{
    balance::{BalanceAction, BalancePlan, BalancePolicy, Goal, Memory, Tool},
    ids::{NodeId, PartitionId, Revision, ZoneTime},
    policy::ShadowPolicy,
};

/// What one policy has proposed, and where that would have led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proposed {
    pub transfers: u64,
    pub moves: u64,
    pub splits: u64,
    /// That the moves copy.
    pub bytes: u64,
    /// The most loaded node's share of the mean in thousandths with a plan done: the greatest of all plans, the sum
    /// over all, and the latest.
    pub worst_share_permille_max: u64,
    pub worst_share_permille_sum: u64,
    pub worst_share_permille: u64,
}

/// The shadow policy's plans against those of the zone's own, since this leader began to plan by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Which shadow policy.
    pub set_by: Revision,
    /// When the first plan was made, and the latest: in zone time.
    pub began_at: ZoneTime,
    pub planned_at: ZoneTime,
    pub plans: u64,
    /// Plans by the shadow policy that would leave a lower worst share than those by the zone's own, the same in
    /// thousandths, and a higher one. Both are measured as the zone's policy does.
    pub better: u64,
    pub equal: u64,
    pub worse: u64,
    pub active: Proposed,
    pub shadow: Proposed,
}

/// A proposal, as it is known again in the next plan.
type Known = (PartitionId, Tool, NodeId);

/// What is planned in the shadow.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    policy: ShadowPolicy,
    pub memory: Memory,
    active_known: BTreeSet<Known>,
    shadow_known: BTreeSet<Known>,
    comparison: Option<Comparison>,
}

impl Shadow {
    pub fn new(policy: ShadowPolicy) -> Self {
        Self {
            policy,
            memory: Memory::default(),
            active_known: BTreeSet::new(),
            shadow_known: BTreeSet::new(),
            comparison: None,
        }
    }

    pub fn is_of(&self, policy: &ShadowPolicy) -> bool {
        self.policy.set_by == policy.set_by
    }

    pub fn policy(&self) -> &BalancePolicy {
        &self.policy.balance
    }

    pub fn comparison(&self) -> Option<&Comparison> {
        self.comparison.as_ref()
    }

    /// Counts two plans from one picture. `worst_share_ppm`: of the shadow's plan, as the zone's policy measures it.
    pub fn compare(
        &mut self,
        at: ZoneTime,
        active: &BalancePlan,
        shadow: &BalancePlan,
        worst_share_ppm: u64,
    ) {
        self.memory = shadow.memory.clone();
        let comparison = self.comparison.get_or_insert(Comparison {
            set_by: self.policy.set_by,
            began_at: at,
            planned_at: at,
            plans: 0,
            better: 0,
            equal: 0,
            worse: 0,
            active: Proposed::default(),
            shadow: Proposed::default(),
        });
        let permille = |ppm: u64| ppm.saturating_add(500) / 1_000;
        let (by_active, by_shadow) =
            (permille(active.after.worst_share_ppm), permille(worst_share_ppm));
        comparison.planned_at = at;
        comparison.plans += 1;
        comparison.better += u64::from(by_shadow < by_active);
        comparison.equal += u64::from(by_shadow == by_active);
        comparison.worse += u64::from(by_shadow > by_active);
        comparison.active.count(active, by_active, &mut self.active_known);
        comparison.shadow.count(shadow, by_shadow, &mut self.shadow_known);
    }
}

impl Proposed {
    fn count(&mut self, plan: &BalancePlan, worst_permille: u64, known: &mut BTreeSet<Known>) {
        // What safety needs is done by others, whatever the policy of balance.
        let meant = || plan.actions.iter().filter(|action| action.goal != Goal::Safety);
        for action in meant().filter(|action| !known.contains(&name(action))) {
            match action.tool {
                Tool::TransferLeadership => self.transfers += 1,
                Tool::MoveReplica => {
                    self.moves += 1;
                    self.bytes = self.bytes.saturating_add(action.bytes);
                }
                Tool::Split { .. } => self.splits += 1,
                Tool::AddReplica | Tool::Throttle { .. } => {}
            }
        }
        *known = meant().map(name).collect();
        self.worst_share_permille_max = self.worst_share_permille_max.max(worst_permille);
        self.worst_share_permille_sum =
            self.worst_share_permille_sum.saturating_add(worst_permille);
        self.worst_share_permille = worst_permille;
    }
}

fn name(action: &BalanceAction) -> Known {
    let tool = match action.tool {
        // Where it is split, and how much is slowed down, changes with every report.
        Tool::Split { .. } => Tool::Split { left_permille: 0 },
        Tool::Throttle { .. } => Tool::Throttle { keep_permille: 0 },
        tool @ (Tool::TransferLeadership | Tool::MoveReplica | Tool::AddReplica) => tool,
    };
    (action.partition, tool, action.to.node)
}
