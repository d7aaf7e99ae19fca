//! Each field of the policy: what it is called, what it is measured in, its bounds, and what it is for.

use super::{PolicyError, REPLACE_AFTER_MAX_MS, WholePolicy};
use crate::balance::WEIGHT_MAX;

/// What a value is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Milliseconds,
    /// Thousandths.
    Permille,
    /// Millionths.
    PartsPerMillion,
    Bytes,
    BytesPerSecond,
    /// Of processor time per second.
    MicrosecondsPerSecond,
    /// Against the other weights.
    Weight,
}

impl Unit {
    /// Empty for what is counted or weighed.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Count => "",
            Unit::Milliseconds => "ms",
            Unit::Permille => "‰",
            Unit::PartsPerMillion => "ppm",
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "bytes/s",
            Unit::MicrosecondsPerSecond => "µs/s",
            Unit::Weight => "",
        }
    }
}

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Replicas,
    Budgets,
    Remembered,
    BalanceWhen,
    BalanceBudgets,
    BalanceWorth,
    BalanceDamping,
    BalanceSplits,
}

impl Group {
    pub const ALL: [Group; 8] = [
        Group::Replicas,
        Group::Budgets,
        Group::Remembered,
        Group::BalanceWhen,
        Group::BalanceBudgets,
        Group::BalanceWorth,
        Group::BalanceDamping,
        Group::BalanceSplits,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Group::Replicas => "Replicas, and when they are made again",
            Group::Budgets => "Changes at the same time",
            Group::Remembered => "What is remembered, and for how long",
            Group::BalanceWhen => "Balance: when load is uneven, and when too much",
            Group::BalanceBudgets => "Balance: moves, transfers and splits at the same time",
            Group::BalanceWorth => "Balance: what a change has to be worth",
            Group::BalanceDamping => "Balance: rest for what was changed",
            Group::BalanceSplits => "Balance: splits and hot keys",
        }
    }
}

/// Between which values a field may be.
#[derive(Clone, Copy, Debug)]
enum Bounds {
    Range(u64, u64),
    /// Where [`crate::balance::BalancePolicy::bounds`] says so, since they depend on other fields.
    OfBalance,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As it is written; those of [`crate::balance::BalancePolicy`] behind `balance.`.
    pub name: &'static str,
    pub group: Group,
    pub unit: Unit,
    /// In a line.
    pub meaning: &'static str,
    bounds: Bounds,
    get: fn(&WholePolicy) -> u64,
    set: fn(&mut WholePolicy, u64),
}

impl Field {
    pub fn get(&self, policy: &WholePolicy) -> u64 {
        (self.get)(policy)
    }

    /// Whether it can be changed once the zone is made.
    pub fn is_fixed(&self) -> bool {
        self.name == "replication_factor"
    }

    /// Whether it belongs to the [`crate::balance::BalancePolicy`].
    pub fn is_of_balance(&self) -> bool {
        self.name.starts_with(BALANCE_PREFIX)
    }

    /// A value that does not fit becomes the greatest that does: [`Field::check`] is for the value itself.
    pub(super) fn set(&self, policy: &mut WholePolicy, value: u64) {
        (self.set)(policy, value);
    }

    /// The least and the greatest value, given the other fields.
    pub fn bounds(&self, policy: &WholePolicy) -> (u64, u64) {
        let of_balance = || {
            let name = self.name.strip_prefix(BALANCE_PREFIX)?;
            policy.balance.bounds().into_iter().find(|bounds| bounds.field == name)
        };
        match self.bounds {
            Bounds::Range(min, max) => (min, max),
            Bounds::OfBalance => of_balance().map_or((0, u64::MAX), |it| (it.min, it.max)),
        }
    }

    pub(super) fn check(&self, policy: &WholePolicy, found: u64) -> Result<(), PolicyError> {
        let (min, max) = self.bounds(policy);
        if (min..=max).contains(&found) {
            return Ok(());
        }
        let unit = self.unit.as_str();
        let space = if unit.is_empty() { "" } else { " " };
        let bounds = format!("{min} to {max}{space}{unit}");
        Err(PolicyError::Range { name: self.name, found, bounds })
    }
}

pub fn field_named(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

/// Before the names of the fields of [`crate::balance::BalancePolicy`].
const BALANCE_PREFIX: &str = "balance.";

/// The greatest value that fits, instead of one that does not.
fn fitting<T: TryFrom<u64>>(value: u64, greatest: T) -> T {
    T::try_from(value).unwrap_or(greatest)
}

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A field of [`super::Policy`].
macro_rules! zone {
    ($group:ident, $field:ident: $type:ty, $unit:ident, $min:expr, $max:expr, $meaning:literal) => {
        Field {
            name: stringify!($field),
            group: Group::$group,
            unit: Unit::$unit,
            meaning: $meaning,
            bounds: Bounds::Range($min, $max),
            get: |policy| u64::from(policy.zone.$field),
            set: |policy, value| policy.zone.$field = fitting(value, <$type>::MAX),
        }
    };
}

/// A field of [`crate::balance::BalancePolicy`].
macro_rules! balance {
    ($group:ident, $field:ident: $type:ty, $unit:ident, $meaning:literal) => {
        balance!($group, $field: $type, $unit, Bounds::OfBalance, $meaning)
    };
    ($group:ident, $field:ident: $type:ty, $unit:ident, $bounds:expr, $meaning:literal) => {
        Field {
            name: concat!("balance.", stringify!($field)),
            group: Group::$group,
            unit: Unit::$unit,
            meaning: $meaning,
            bounds: $bounds,
            get: |policy| u64::from(policy.balance.$field),
            set: |policy, value| policy.balance.$field = fitting(value, <$type>::MAX),
        }
    };
}

/// What one of the dimensions of load counts for.
macro_rules! weight {
    ($name:literal, $dimension:literal, $meaning:literal) => {
        Field {
            name: concat!("balance.", $name),
            group: Group::BalanceWhen,
            unit: Unit::Weight,
            meaning: $meaning,
            bounds: Bounds::Range(0, WEIGHT_MAX),
            get: |policy| u64::from(policy.balance.dimension_weights[$dimension]),
            set: |policy, value| {
                policy.balance.dimension_weights[$dimension] = fitting(value, u32::MAX);
            },
        }
    };
}

/// All fields, in the sequence in which they are shown.
#[rustfmt::skip] // A table: one entry for each.
pub const FIELDS: &[Field] = &[
    zone!(Replicas, replication_factor: u8, Count, 1, 5,
        "replicas of each partition; fixed when the zone is made"),
    zone!(Replicas, replace_after_ms: u64, Milliseconds, 1, REPLACE_AFTER_MAX_MS,
        "how long a node is down before its replicas are made again elsewhere"),
    zone!(Replicas, placement_settle_ms: u64, Milliseconds, 0, HOUR_MS,
        "how long no new node must have come before partitions are placed for the first time"),

    zone!(Budgets, changes_in_flight_zone_max: u32, Count, 1, 10_000,
        "replicas that are moved or made again at the same time, in the zone"),
    zone!(Budgets, changes_in_flight_node_max: u32, Count, 1, 10_000,
        "the same, onto or off one node"),
    zone!(Budgets, transfers_in_flight_max: u32, Count, 1, 10_000,
        "leaderships that are transferred at the same time"),
    zone!(Budgets, transfer_timeout_ms: u64, Milliseconds, SECOND_MS, HOUR_MS,
        "a transfer of leadership that has not happened after so long has failed"),

    zone!(Remembered, events_max: u64, Count, 1_000, 200_000,
        "entries of the ledger"),
    zone!(Remembered, events_age_max_ms: u64, Milliseconds, HOUR_MS, 366 * DAY_MS,
        "how long entries of the ledger are kept"),
    zone!(Remembered, ended_operations_max: u32, Count, 100, 100_000,
        "operations that have ended: so many of what was moved for its own sake, of the rest, and of what failed"),
    zone!(Remembered, idempotency_keys_max: u32, Count, 1_000, 200_000,
        "idempotency keys; a command with another one is refused while there are so many"),
    zone!(Remembered, idempotency_age_max_ms: u64, Milliseconds, 10 * MINUTE_MS, 30 * DAY_MS,
        "how long a command's outcome is known by its idempotency key"),

    balance!(BalanceWhen, act_above_permille: u32, Permille,
        "evening out begins when a node's share of the mean has been above this"),
    balance!(BalanceWhen, act_after_ms: u64, Milliseconds,
        "for so long, in every plan"),
    balance!(BalanceWhen, stop_at_permille: u32, Permille,
        "and goes on until no node's share is above this"),
    balance!(BalanceWhen, count_above_permille: u32, Permille,
        "numbers of leaders and replicas are evened out when a node's share is above this"),
    balance!(BalanceWhen, overload_permille: u32, Permille,
        "a node with more of its capacity in use than this is overloaded: no cooldown holds up its relief"),
    balance!(BalanceWhen, stored_max_permille: u32, Permille,
        "a node's disk is filled up to this part of its capacity"),
    balance!(BalanceWhen, idle_permille: u32, Permille,
        "a dimension of load does not matter while the nodes' mean use of it is below this and none is overloaded"),
    weight!("weight_reads", 0, "what reads/s count for where nodes state a capacity for them, which they do not yet"),
    weight!("weight_writes", 1, "what writes/s count for where nodes state a capacity for them, which they do not yet"),
    weight!("weight_bytes", 2, "what bytes/s count for where nodes state a capacity for them, which they do not yet"),
    weight!("weight_processor", 3, "what processor time counts for; 0: it is not evened out"),
    weight!("weight_stored_bytes", 4, "what stored bytes count for; 0: they are not evened out"),

    balance!(BalanceBudgets, moves_zone_max: u32, Count,
        "moves at the same time in the zone; 0: none at all"),
    balance!(BalanceBudgets, moves_node_max: u32, Count,
        "moves at the same time onto or off one node"),
    balance!(BalanceBudgets, moves_fault_domain_max: u32, Count,
        "moves at the same time with an end in one fault domain"),
    balance!(BalanceBudgets, transfers_max: u32, Count,
        "transfers of leadership in one plan; 0: none at all"),
    balance!(BalanceBudgets, splits_max: u32, Count,
        "splits in one plan; 0: none at all"),
    balance!(BalanceBudgets, plan_bytes_max: u64, Bytes, Bounds::Range(0, 1 << 60),
        "what one plan copies, or a single partition of any size"),

    balance!(BalanceWorth, gain_min_permille: u32, Permille,
        "a change relieves its source by so much of the mean, or by half of what it takes away"),
    balance!(BalanceWorth, noise_permille: u32, Permille,
        "reports of load may be off by so much: a change has to gain more than that makes of its node"),
    balance!(BalanceWorth, gain_per_bytes_permille: u32, Permille,
        "a move that copies some part of a mean node's bytes gains so much of that part"),
    balance!(BalanceWorth, move_overhead_ppm: u32, PartsPerMillion,
        "what a move costs beside its bytes, as a part of a mean node's bytes"),
    balance!(BalanceWorth, move_bytes_per_s: u64, BytesPerSecond,
        "what a running move is taken to copy, at both of its ends"),
    balance!(BalanceWorth, move_processor_us: u64, MicrosecondsPerSecond,
        "the processor time that a running move is taken to need, at both of its ends"),

    balance!(BalanceDamping, cooldown_ms: u64, Milliseconds,
        "how long a partition that was changed is left alone"),
    balance!(BalanceDamping, reversal_ban_ms: u64, Milliseconds,
        "so long after something has left a node, it does not go back"),
    balance!(BalanceDamping, reversal_ban_overload_ms: u64, Milliseconds,
        "so long while its node is overloaded"),
    balance!(BalanceDamping, reversal_window_ms: u64, Milliseconds,
        "so long after something has left a node, going back is dear"),
    balance!(BalanceDamping, reversal_gain_permille: u32, Permille,
        "going back within that time has to relieve its node by so much of the mean"),

    balance!(BalanceSplits, split_load_permille: u32, Permille,
        "a partition with more of a mean node's load than this may be split when moving does not help"),
    balance!(BalanceSplits, hot_key_permille: u32, Permille,
        "a key with so much of its partition's load"),
    balance!(BalanceSplits, hot_key_load_permille: u32, Permille,
        "and more of a mean node's load than this is what is hot: moving or splitting would not help"),
];
