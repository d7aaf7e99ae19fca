//! How eagerly a zone is balanced. Version 1.

use serde::{Deserialize, Serialize};

use super::snapshot::DIMENSIONS;

/// The version of the policy's form.
pub const POLICY_VERSION: u32 = 1;

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Shares are in thousandths. A node's share is its utilisation against the zone's mean: 1,050 is 5 % above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BalancePolicy {
    /// [`POLICY_VERSION`].
    pub version: u32,
    /// Evening out begins when a node's share has been above this
    pub act_above_permille: u32,
    /// in every plan for so long, which noise seldom is,
    pub act_after_ms: u64,
    /// and goes on until no node's share is above this: the distance keeps noise from starting it again.
    pub stop_at_permille: u32,
    /// Above this utilisation, in any dimension but stored bytes, a node is overloaded: cooldowns and most
    /// of the prices no longer hold anything back. Nothing is moved to where it would cause that.
    pub overload_permille: u32,
    /// Below this mean utilisation a dimension does not matter, unless a node is overloaded in it.
    pub idle_permille: u32,
    /// What each dimension counts for when changes are compared; 0: it is not evened out at all.
    pub dimension_weights: [u32; DIMENSIONS],
    /// How long a changed partition should be left alone. The planner only reads `cooldown_until`; whoever
    /// makes snapshots adds this to the time of a change.
    pub cooldown_ms: u64,
    /// So long after it has left a node, nothing goes back there,
    pub reversal_ban_ms: u64,
    /// and so long while its node is overloaded.
    pub reversal_ban_overload_ms: u64,
    /// After the ban, and so long after the departure, going back is dear: it
    pub reversal_window_ms: u64,
    /// has to relieve its node by so much of the mean.
    pub reversal_gain_permille: u32,
    /// A change has to relieve its source by so much of the mean, or by half of what
    /// it takes away, whichever is less: pieces may be small.
    pub gain_min_permille: u32,
    /// Reports of heat may be off by so much. A change has to gain more than that makes of its node's share,
    /// which is the less, the more pieces the node has.
    pub noise_permille: u32,
    /// A move that copies this part of a mean node's bytes has to gain so many thousandths of that part: a
    /// large and cold partition is not moved for its little heat.
    pub gain_per_bytes_permille: u32,
    /// What a move costs beside its bytes when moves are compared, as a part of a mean node's bytes, in
    /// millionths.
    pub move_overhead_ppm: u32,
    /// What a running move takes at both ends: bytes/s, and microseconds of processor time per second.
    pub move_bytes_per_s: u64,
    pub move_processor_us: u64,
    /// Numbers of leaders, and of replicas, are evened out when a node's share is above this.
    pub count_above_permille: u32,
    /// Moves at the same time: in the zone, at one node, with an end in one fault domain.
    pub moves_zone_max: u32,
    pub moves_node_max: u32,
    pub moves_fault_domain_max: u32,
    /// Transfers in one plan, and splits.
    pub transfers_max: u32,
    pub splits_max: u32,
    /// Bytes that one plan moves, or a single partition of any size; what safety needs is not bounded by it.
    pub plan_bytes_max: u64,
    /// A node is filled up to this share of its bytes.
    pub stored_max_permille: u32,
    /// A partition with more of a mean node's load than this, in any dimension, may be split when moving
    /// does not help.
    pub split_load_permille: u32,
    /// A key with so much of its partition's heat, and with more of a mean node's load than the next field
    /// says, is what makes the node hot: the partition is not moved for it, nor split.
    pub hot_key_permille: u32,
    pub hot_key_load_permille: u32,
}

impl BalancePolicy {
    pub const DEFAULT: Self = Self {
        version: POLICY_VERSION,
        act_above_permille: 1_050,
        act_after_ms: 30_000,
        stop_at_permille: 1_020,
        overload_permille: 950,
        idle_permille: 20,
        dimension_weights: [1; DIMENSIONS],
        cooldown_ms: 30_000,
        reversal_ban_ms: HOUR_MS,
        reversal_ban_overload_ms: 10 * MINUTE_MS,
        reversal_window_ms: 24 * HOUR_MS,
        reversal_gain_permille: 100,
        gain_min_permille: 20,
        noise_permille: 20,
        gain_per_bytes_permille: 50,
        move_overhead_ppm: 1_000,
        move_bytes_per_s: 64 << 20,
        move_processor_us: 50_000,
        count_above_permille: 1_500,
        moves_zone_max: 16,
        moves_node_max: 4,
        moves_fault_domain_max: 8,
        transfers_max: 64,
        splits_max: 4,
        plan_bytes_max: 64 << 30,
        stored_max_permille: 900,
        split_load_permille: 250,
        hot_key_permille: 500,
        hot_key_load_permille: 100,
    };

    /// Whether it leaves no budget for anything that is done for load.
    pub fn is_off(&self) -> bool {
        !self.allows_moves() && self.transfers_max == 0 && self.splits_max == 0
    }

    /// Whether it leaves any budget for moving replicas.
    pub fn allows_moves(&self) -> bool {
        let moves = [self.moves_zone_max, self.moves_node_max, self.moves_fault_domain_max];
        !moves.contains(&0)
    }
}

impl Default for BalancePolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    #[error("version is {found}: it must be {POLICY_VERSION}")]
    Version { found: u32 },
    #[error("{field} is {found}: it must be {min} to {max}")]
    Range { field: &'static str, found: u64, min: u64, max: u64 },
}

/// A field's value, and what it may be given the other fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub field: &'static str,
    pub found: u64,
    pub min: u64,
    pub max: u64,
}

/// The most that a dimension counts for.
pub const WEIGHT_MAX: u64 = 1_000;

impl BalancePolicy {
    /// Checks that the policy can be followed.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        if self.version != POLICY_VERSION {
            return Err(InvalidPolicy::Version { found: self.version });
        }
        let weights = self.dimension_weights.iter().map(|weight| Bounds {
            field: "dimension_weights",
            found: u64::from(*weight),
            min: 0,
            max: WEIGHT_MAX,
        });
        for Bounds { field, found, min, max } in self.bounds().into_iter().chain(weights) {
            if !(min..=max).contains(&found) {
                return Err(InvalidPolicy::Range { field, found, min, max });
            }
        }
        Ok(())
    }

    /// All fields that are bounded, but for the weights of dimensions.
    pub fn bounds(&self) -> [Bounds; 26] {
        const MOVES_MAX: u64 = 1_000_000;
        const YEAR_MS: u64 = 366 * 24 * HOUR_MS;
        let act = u64::from(self.act_above_permille);
        let gain = u64::from(self.gain_min_permille);
        [
            ("act_above_permille", act, 1_001, 10_000),
            ("act_after_ms", self.act_after_ms, 0, YEAR_MS),
            ("stop_at_permille", u64::from(self.stop_at_permille), 1_000, act),
            ("overload_permille", u64::from(self.overload_permille), 100, 1_000),
            ("idle_permille", u64::from(self.idle_permille), 1, 1_000),
            ("cooldown_ms", self.cooldown_ms, 0, YEAR_MS),
            ("reversal_window_ms", self.reversal_window_ms, 0, YEAR_MS),
            ("reversal_ban_ms", self.reversal_ban_ms, 0, self.reversal_window_ms),
            ("reversal_ban_overload_ms", self.reversal_ban_overload_ms, 0, self.reversal_ban_ms),
            ("gain_min_permille", gain, 1, 1_000),
            ("noise_permille", u64::from(self.noise_permille), 0, 1_000),
            ("reversal_gain_permille", u64::from(self.reversal_gain_permille), gain, 10_000),
            ("gain_per_bytes_permille", u64::from(self.gain_per_bytes_permille), 0, 100_000),
            ("move_overhead_ppm", u64::from(self.move_overhead_ppm), 1, 1_000_000),
            ("move_bytes_per_s", self.move_bytes_per_s, 0, 1 << 40),
            ("move_processor_us", self.move_processor_us, 0, 1 << 40),
            ("count_above_permille", u64::from(self.count_above_permille), 1_001, 100_000),
            ("moves_zone_max", u64::from(self.moves_zone_max), 0, MOVES_MAX),
            ("moves_node_max", u64::from(self.moves_node_max), 0, MOVES_MAX),
            ("moves_fault_domain_max", u64::from(self.moves_fault_domain_max), 0, MOVES_MAX),
            ("transfers_max", u64::from(self.transfers_max), 0, MOVES_MAX),
            ("splits_max", u64::from(self.splits_max), 0, MOVES_MAX),
            ("stored_max_permille", u64::from(self.stored_max_permille), 1, 1_000),
            ("split_load_permille", u64::from(self.split_load_permille), 1, 1_000_000),
            ("hot_key_permille", u64::from(self.hot_key_permille), 1, 1_000),
            ("hot_key_load_permille", u64::from(self.hot_key_load_permille), 1, 1_000_000),
        ]
        .map(|(field, found, min, max)| Bounds { field, found, min, max })
    }
}
