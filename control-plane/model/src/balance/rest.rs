//! When there is nothing more to be had, and how long that stays true.
//!
//! Reports are never quite the same twice. A planner that looked at each of them afresh would always find something
//! that seems to gain a little, and a zone under a steady load would never come to rest. So evening out that has
//! come to its end leaves a note of the zone as it was, and begins again only in another one: a node stands out
//! further than it did, the load as a whole has changed, or the nodes have, and not for the moment of one report only.
//! Time alone changes nothing.

use serde::{Deserialize, Serialize};

use super::{
    measure::permille,
    policy::BalancePolicy,
    snapshot::{Amounts, DIMENSIONS, NodeView},
    work::Work,
};
use crate::ids::{NodeId, ZoneTime, millis};

/// A load that is off by more than this part of what it was, in thousandths, is another load. What requests cost
/// on a machine that others use as well goes up and down by a fifth; where that makes nodes uneven, they stand out.
const LOAD_CHANGE_PERMILLE: u64 = 300;

/// What is seen of one node among many over hours is off by more than usual: by so many times.
const NOISE_TIMES: f64 = 3.0;

/// The zone when nothing was left to be done for evenness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    pub since: ZoneTime,
    /// Each node's share, in its worst dimension, by id.
    pub shares_permille: Vec<(NodeId, u32)>,
    /// All load, and what the nodes that stay can bear.
    pub load: Amounts,
    pub capacity: Amounts,
    /// Nodes that may receive replicas, and leaderships.
    pub receiving_nodes: u32,
    pub leading_nodes: u32,
    /// Since when it has been another zone in every plan.
    pub disturbed_since: Option<ZoneTime>,
}

impl Rest {
    /// The zone as it is at the beginning of a plan.
    pub(super) fn of(work: &Work<'_>) -> Self {
        let planner = work.planner;
        let shares = planner.nodes.iter().zip(&work.stress);
        let mut shares: Vec<(NodeId, u32)> =
            shares.map(|(node, stress)| (node.id, permille(*stress))).collect();
        shares.sort_unstable();
        let mut rest = Self {
            since: planner.time,
            shares_permille: shares,
            load: [0; DIMENSIONS],
            capacity: [0; DIMENSIONS],
            receiving_nodes: 0,
            leading_nodes: 0,
            disturbed_since: None,
        };
        for (node, holding) in planner.nodes.iter().zip(&planner.holdings) {
            for (sum, load) in rest.load.iter_mut().zip(holding.load) {
                *sum = sum.saturating_add(load);
            }
            if !node.is_leaving {
                for (sum, capacity) in rest.capacity.iter_mut().zip(node.capacity) {
                    *sum = sum.saturating_add(capacity);
                }
                rest.receiving_nodes += u32::from(node.may_receive);
                rest.leading_nodes += u32::from(node.may_lead);
            }
        }
        rest
    }

    /// The rest as it goes on; none if it has been another zone for as long as the policy wants something to last.
    pub(super) fn kept(&self, now: &Self, work: &Work<'_>) -> Option<Self> {
        if self.holds(now, work) {
            return Some(Self { disturbed_since: None, ..self.clone() });
        }
        let since = self.disturbed_since.unwrap_or(now.since);
        let has_lasted = millis(now.since.since(since)) >= work.policy.act_after_ms;
        (!has_lasted).then(|| Self { disturbed_since: Some(since), ..self.clone() })
    }

    /// Whether a dimension that had too little load to matter still has about as much.
    pub(super) fn stays_idle(&self, dimension: usize, load: f64, policy: &BalancePolicy) -> bool {
        let (Some(was), Some(capacity)) = (self.load.get(dimension), self.capacity.get(dimension))
        else {
            return false;
        };
        let was_idle = *was < part(*capacity, policy.idle_permille.into());
        was_idle && load <= (*was + part(*was, LOAD_CHANGE_PERMILLE)) as f64
    }

    /// The greatest share.
    pub fn worst_share_permille(&self) -> u32 {
        self.shares_permille.iter().map(|(_, share)| *share).max().unwrap_or(0)
    }

    /// What a node's share was, or what is even enough if that is more.
    fn share_permille(&self, node: NodeId, policy: &BalancePolicy) -> u32 {
        let at = self.shares_permille.binary_search_by_key(&node, |(id, _)| *id);
        let known = at.ok().and_then(|at| self.shares_permille.get(at));
        known.map_or(0, |(_, share)| *share).max(policy.stop_at_permille)
    }

    /// Whether it is still the same zone under the same load, no node of which stands out further than it did by
    /// the width of the policy's band and by what noise may make of it.
    fn holds(&self, now: &Self, work: &Work<'_>) -> bool {
        let policy = work.policy;
        let band = policy.act_above_permille.saturating_sub(policy.stop_at_permille);
        let stands_out = |(index, node): (u32, &NodeView)| {
            let noise = permille(work.noise_of(index) * NOISE_TIMES);
            let share = permille(work.stress[index as usize]);
            let was = self.share_permille(node.id, policy);
            let may_be = was.saturating_add(band).saturating_add(noise);
            !node.is_leaving && share > may_be
        };
        let nodes = |rest: &Self| (rest.capacity, rest.receiving_nodes, rest.leading_nodes);
        nodes(self) == nodes(now)
            && !(0..).zip(&work.planner.nodes).any(stands_out)
            && (0..DIMENSIONS).all(|dimension| {
                let (was, is) = (self.load[dimension], now.load[dimension]);
                let idle = part(self.capacity[dimension], policy.idle_permille.into());
                let is_idle = was < idle && is < idle;
                is_idle || was.abs_diff(is) <= part(was, LOAD_CHANGE_PERMILLE)
            })
    }
}

/// So many thousandths of an amount.
fn part(amount: u64, permille: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(permille) / 1_000).unwrap_or(u64::MAX)
}
