//! Where one partition is too large a piece: it is split, or, if one key is its heat, that key is named and,
//! under overload, slowed down.

use super::{
    action::{Hindrance, Tool},
    measure::burden,
    relief::is_pinned,
    snapshot::{PartitionView, STORED_BYTES},
    weigh::Source,
    work::{Candidate, Work},
};

/// Proposes a split or a throttle for what keeps a node above its share, or names it. Returns whether it
/// was one partition that does.
pub(super) fn divide(work: &mut Work<'_>, source: &Source) -> bool {
    // What only noise makes of a node is no reason to cut anything.
    let above = f64::from(work.policy.act_above_permille) / 1_000.0 + work.noise_of(source.node);
    if source.stress <= above {
        return false;
    }
    let large = f64::from(work.policy.split_load_permille) / 1_000.0;
    let part = |partition: &PartitionView| {
        let leads = partition.leader_node() == Some(source.node);
        work.measure.part_in(&burden(partition.heat_on(source.node), leads), source.column)
    };
    let residents = work.planner.residents[source.node as usize].iter();
    let parts = residents.map(|index| (part(work.partition(*index)), *index));
    let largest = parts.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    let Some((part, index)) = largest else { return false };
    let partition = work.partition(index);
    let leads = partition.leader_node() == Some(source.node);
    let is_hot_key = leads && source.column != STORED_BYTES && is_pinned(work, partition);
    if work.is_taken(index) || (part < large && !is_hot_key) {
        return false;
    }
    let tool = if is_hot_key {
        work.hinder(source.goal, source.node, Some(index), Hindrance::HotKey);
        if !work.is_overloaded(source.node) {
            return true;
        }
        Tool::Throttle { keep_permille: keep_permille(work, source, partition) }
    } else if partition.split_left_permille == 0 {
        work.hinder(source.goal, source.node, Some(index), Hindrance::Indivisible);
        return true;
    } else {
        let rests = work.rests(partition) && !source.is_released();
        if rests || !work.budget.may_split() {
            let is_allowed = work.policy.splits_max > 0;
            let hindrance = if is_allowed { Hindrance::Waiting } else { Hindrance::NothingGains };
            work.hinder(source.goal, source.node, Some(index), hindrance);
            return true;
        }
        Tool::Split { left_permille: partition.split_left_permille }
    };
    let chosen = Candidate {
        tool,
        index,
        from: source.node,
        to: source.node,
        column: source.column,
        from_after: source.stress,
        to_after: source.stress,
        gain: 0.0,
        merit: 0.0,
    };
    work.propose(source.goal, &chosen, None, None);
    true
}

/// How much of the hottest key's rate leaves the node just not overloaded; nothing if the rest alone
/// overloads it.
fn keep_permille(work: &Work<'_>, source: &Source, partition: &PartitionView) -> u16 {
    let heat = burden(&partition.leader_heat, true);
    let key = heat.map(|amount| amount * f64::from(partition.hottest_key_permille) / 1_000.0);
    let of_key = work.measure.utilisation(source.node, &key);
    let excess = work.utilisation(source.node) - work.overload();
    let keep = if of_key > 0.0 { (1.0 - excess / of_key).clamp(0.0, 1.0) } else { 1.0 };
    // Between 0 and 1,000.
    (keep * 1_000.0) as u16
}
