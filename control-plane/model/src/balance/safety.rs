//! What restores safety: replicas that are missing, replicas off nodes that are to be left, leaderships off
//! nodes that may not lead, and fault domains that are not shared.

use super::{
    action::{Goal, Hindrance, Tool},
    budget::source,
    measure::{HEAT, minus, plus},
    tally::misplaces_leaders,
    work::{Candidate, Work, changes},
};

/// Destinations that are compared for a replica, of the least loaded that can take it.
const DESTINATIONS_WEIGHED: usize = 8;
/// So many of the least loaded are looked at before all are.
const DESTINATIONS_SEEN: usize = 64;

/// Proposes what safety needs, as far as there is budget for it.
pub(super) fn restore(work: &mut Work<'_>) {
    hand_over(work);
    // The fewer replicas are left, the more urgent.
    let mut wanted: Vec<(usize, u32, Option<u32>)> = Vec::new();
    let planner = work.planner;
    let alive = |index: u32| {
        let replicas = planner.partitions[index as usize].replicas().iter();
        replicas.filter(|node| !planner.nodes[**node as usize].is_gone).count()
    };
    wanted.extend(planner.short.iter().map(|index| (alive(*index), *index, None)));
    for (node, view) in planner.nodes.iter().enumerate().filter(|(_, view)| view.is_leaving) {
        // What can still be copied from the node itself is the least urgent.
        let urgency = |index: u32| if view.is_gone { alive(index) } else { usize::MAX };
        let residents = planner.residents[node].iter();
        wanted.extend(residents.map(|index| (urgency(*index), *index, Some(node as u32))));
    }
    wanted.sort_unstable();
    for (_, index, from) in wanted {
        if work.is_spent() || !work.budget.may_move(1) {
            break;
        }
        if !work.is_taken(index) {
            place(work, index, from, |_, _| true);
        }
    }
    for index in &planner.crowded {
        if work.is_spent() || !work.budget.may_move(1) {
            break;
        }
        spread(work, *index);
    }
}

/// Moves leaderships off nodes that may not lead, each to the least loaded of the other replicas.
fn hand_over(work: &mut Work<'_>) {
    let planner = work.planner;
    for (node, view) in planner.nodes.iter().enumerate() {
        // Whoever is gone cannot hand over: its groups elect.
        if !misplaces_leaders(view) {
            continue;
        }
        let from = node as u32;
        let mut led: Vec<u32> = (planner.residents[node].iter().copied())
            .filter(|index| planner.partitions[*index as usize].leader_node() == Some(from))
            .collect();
        led.sort_unstable();
        for index in led {
            if work.is_taken(index) || work.is_spent() || !work.budget.may_transfer(1) {
                continue;
            }
            let replicas = work.partition(index).replicas().iter().copied();
            let able = replicas.filter(|to| {
                let target = &planner.nodes[*to as usize];
                *to != from && target.may_lead && !target.is_leaving
            });
            let weighed: Vec<Candidate> =
                able.map(|to| weigh(work, Tool::TransferLeadership, index, from, to)).collect();
            take_best(work, weighed);
        }
    }
}

/// Moves one replica of a partition to a fault domain that has none of it.
fn spread(work: &mut Work<'_>, index: u32) {
    let partition = work.partition(index);
    if work.is_taken(index) {
        return;
    }
    // A follower rather than the leader, the last of them.
    let followers = partition.replicas().iter().rev();
    let mut followers = followers.filter(|node| partition.leader_node() != Some(**node));
    let Some(from) = followers.find(|node| work.others_in(partition, **node, **node) > 0).copied()
    else {
        return;
    };
    place(work, index, Some(from), |work, to| work.others_in(partition, from, to) == 0);
}

/// Places a replica, in place of the one on `from` or beside the others, on the best of the least loaded
/// nodes that can take it.
fn place(
    work: &mut Work<'_>,
    index: u32,
    from: Option<u32>,
    fits: impl Fn(&Work<'_>, u32) -> bool,
) {
    let (planner, policy, partition) = (work.planner, work.policy, work.partition(index));
    let Some(source) = source(planner, partition, from) else {
        let node = from.or(partition.replicas().first().copied()).unwrap_or(0);
        work.hinder(Goal::Safety, node, Some(index), Hindrance::NoPlace);
        return;
    };
    let tool = if from.is_some() { Tool::MoveReplica } else { Tool::AddReplica };
    let has_budget = |work: &Work<'_>, node: u32| work.budget.node_has(planner, policy, node, 1);
    let sends = has_budget(work, source) && work.can_send(source);
    let bytes = partition.copied_bytes();
    let is_possible = |work: &Work<'_>, to: u32| {
        work.may_place(partition, from, to)
            && work.budget.has_room(planner, policy, to, bytes)
            && fits(work, to)
    };
    let (_, more) = changes(partition, tool, from.unwrap_or(source));
    let mut is_placeable = false;
    let mut best = Vec::new();
    // Most find their place among the least loaded.
    for looked_at in [DESTINATIONS_SEEN, usize::MAX] {
        // A fault domain of its own comes before a node that bears it, and that before an even load.
        let mut classes: [Vec<u32>; 4] = Default::default();
        for to in work.least(looked_at, |node| work.stress[node as usize]) {
            if classes[0].len() == DESTINATIONS_WEIGHED {
                break;
            }
            if !is_possible(work, to) {
                continue;
            }
            is_placeable = true;
            if !sends || !has_budget(work, to) {
                continue;
            }
            let is_alone = work.others_in(partition, from.unwrap_or(u32::MAX), to) == 0;
            let row = plus(&work.rows[to as usize], &more);
            let is_borne = work.bears(to, &row, work.budget.moves_of(to) + 1, work.overload());
            let class = &mut classes[usize::from(!is_alone) * 2 + usize::from(!is_borne)];
            if class.len() < DESTINATIONS_WEIGHED {
                class.push(to);
            }
        }
        let is_found = !classes[0].is_empty();
        best = classes.into_iter().find(|class| !class.is_empty()).unwrap_or_default();
        if is_found || (is_placeable && !sends) {
            break;
        }
    }
    let weighed: Vec<Candidate> =
        best.into_iter().map(|to| weigh(work, tool, index, from.unwrap_or(source), to)).collect();
    if !take_best(work, weighed) {
        let hindrance = if is_placeable { Hindrance::Waiting } else { Hindrance::NoPlace };
        work.hinder(Goal::Safety, from.unwrap_or(source), Some(index), hindrance);
    }
}

/// Weighs a change for what it leaves on the node where something comes.
fn weigh(work: &Work<'_>, tool: Tool, index: u32, from: u32, to: u32) -> Candidate {
    let (less, more) = changes(work.partition(index), tool, from);
    let from_row = minus(&work.rows[from as usize], &less);
    let to_row = plus(&work.rows[to as usize], &more);
    let from_after = work.measure.stress(from, &from_row, HEAT).0;
    let to_after = work.measure.stress(to, &to_row, HEAT).0;
    let column = work.worst_column(Goal::Safety, from);
    Candidate { tool, index, from, to, column, from_after, to_after, gain: 0.0, merit: 0.0 }
}

fn take_best(work: &mut Work<'_>, mut weighed: Vec<Candidate>) -> bool {
    work.evaluations += weighed.len() as u64;
    weighed.sort_by(|a, b| {
        a.to_after.total_cmp(&b.to_after).then(work.rank(a.to).cmp(&work.rank(b.to)))
    });
    let Some(best) = weighed.first().copied() else { return false };
    work.propose(Goal::Safety, &best, None, weighed.get(1));
    true
}
