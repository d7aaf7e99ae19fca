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
    planner::Planner,
    policy::BalancePolicy,
    snapshot::{Amounts, DIMENSIONS},
};
use crate::ids::{ZoneTime, millis};

/// A load that is off by more than this part of what it was, in thousandths, is another load.
const LOAD_CHANGE_PERMILLE: u64 = 100;

/// What is seen of one node among many over hours is off by more than usual: by so many times.
const NOISE_TIMES: f64 = 3.0;

/// The zone when nothing was left to be done for evenness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    pub since: ZoneTime,
    /// The most loaded node's share.
    pub worst_share_permille: u32,
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
    pub(super) fn of(planner: &Planner, worst_share_permille: u32) -> Self {
        let mut rest = Self {
            since: planner.time,
            worst_share_permille,
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
    ///
    /// `noise`: how far the worst share may be off.
    pub(super) fn kept(self, now: &Self, policy: &BalancePolicy, noise: f64) -> Option<Self> {
        if self.holds(now, policy, noise) {
            return Some(Self { disturbed_since: None, ..self });
        }
        let since = self.disturbed_since.unwrap_or(now.since);
        let has_lasted = millis(now.since.since(since)) >= policy.act_after_ms;
        (!has_lasted).then_some(Self { disturbed_since: Some(since), ..self })
    }

    /// Whether it is still the same zone under the same load, no node of which stands out further by the width of
    /// the policy's band and by what noise may make of it.
    fn holds(&self, now: &Self, policy: &BalancePolicy, noise: f64) -> bool {
        let band = policy.act_above_permille.saturating_sub(policy.stop_at_permille)
            + permille(noise * NOISE_TIMES);
        let nodes = |rest: &Self| (rest.capacity, rest.receiving_nodes, rest.leading_nodes);
        nodes(self) == nodes(now)
            && now.worst_share_permille <= self.worst_share_permille.saturating_add(band)
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
