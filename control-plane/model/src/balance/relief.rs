//! Relieving nodes, the most loaded first: leaderships, then replicas, then splits; and exchanges where nothing of
//! that is left.
//!
//! A node gives one thing at a time until it is at the policy's stop. Among the changes that bring enough,
//! the one that makes the zone most even for what it costs is taken.

use std::ops::Range;

use super::{
    action::{BalanceAction, Goal, Hindrance, Tool},
    divide::divide,
    exchange::exchange,
    measure::{COLUMNS, HEAT, LEADERS, REPLICAS, burden},
    snapshot::PartitionView,
    weigh::{Best, Piece, Source},
    work::Work,
};

/// What is weighed for one change: so many leaderships or replicas, those that fit the excess best,
const PIECES_WEIGHED: usize = 48;
/// the largest of them larger than the excess,
const PIECES_LARGER: usize = 8;
/// or, while none has helped, so many;
const PIECES_SEEN: usize = 512;
/// and for each replica so many destinations
const DESTINATIONS_WEIGHED: usize = 8;
/// of the least loaded, all in all, and of the least loaded in the source's worst column.
const DESTINATIONS_SEEN: usize = 24;

/// Nodes that were raised above the stop by what came to them are relieved again, so many times.
const PASSES_MAX: usize = 8;

/// Relieves nodes. Returns whether a later plan has to go on.
///
/// Each count is a matter of its own: that leaders are uneven, as they are after each restart, is no reason to copy
/// replicas. Replicas come first, since leaderships can only be where these are.
pub(super) fn relieve(work: &mut Work<'_>, goal: Goal) -> bool {
    match goal {
        Goal::Safety | Goal::Overload | Goal::Balance => relieve_in(work, goal, HEAT),
        Goal::Counts => {
            let goes_on = relieve_in(work, goal, REPLICAS..REPLICAS + 1);
            relieve_in(work, goal, LEADERS..LEADERS + 1) || goes_on
        }
    }
}

/// Exchanges come last: what single changes do not bring to its end, or what waits, is for them first. They cost two
/// changes for the gain of one, and what they have moved does not go back for long.
fn relieve_in(work: &mut Work<'_>, goal: Goal, columns: Range<usize>) -> bool {
    let before = work.obstacles.clone();
    if relieve_with(work, goal, &columns, false) {
        return true;
    }
    let (without, actions) = (std::mem::replace(&mut work.obstacles, before), work.actions.len());
    let goes_on = relieve_with(work, goal, &columns, true);
    // Where nothing came of it, the first look knew more: it had not taken anything yet.
    if work.actions.len() == actions {
        work.obstacles = without;
    }
    goes_on
}

fn relieve_with(
    work: &mut Work<'_>,
    goal: Goal,
    columns: &Range<usize>,
    may_exchange: bool,
) -> bool {
    let (start, stop) = (start(work, goal), stop(work, goal));
    let before = work.actions.len();
    // What a node is left with is what it stays with in this plan.
    let mut is_stuck = vec![false; work.rows.len()];
    let mut is_waiting = false;
    for pass in 0..PASSES_MAX {
        let above = above(work, goal, columns, stop, &is_stuck);
        let worst = above.first().map_or(0.0, |(share, _)| *share);
        if above.is_empty() || (pass == 0 && worst <= start) {
            break;
        }
        for (_, node) in above {
            if work.is_spent() {
                return true;
            }
            match visit(work, goal, columns, node, stop, may_exchange) {
                Visit::Relieved => {}
                Visit::Stuck => is_stuck[node as usize] = true,
                Visit::Waiting => (is_stuck[node as usize], is_waiting) = (true, true),
            }
        }
    }
    // A throttle leaves everything where it is; the halves of a split are there to be spread.
    let goes_on = |action: &BalanceAction| !matches!(action.tool, Tool::Throttle { .. });
    is_waiting || work.actions[before..].iter().any(goes_on)
}

/// The nodes above a share in some columns, the most loaded first.
fn above(
    work: &Work<'_>,
    goal: Goal,
    columns: &Range<usize>,
    stop: f64,
    is_stuck: &[bool],
) -> Vec<(f64, u32)> {
    let mut found: Vec<(f64, u32)> = Vec::new();
    for (node, view) in work.planner.nodes.iter().enumerate() {
        let index = node as u32;
        let (stress, _) = work.measure.stress(index, &work.rows[node], columns.clone());
        let is_meant = goal != Goal::Overload || work.is_overloaded(index);
        if !view.is_leaving && !is_stuck[node] && is_meant && stress > stop {
            found.push((stress, index));
        }
    }
    found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found
}

/// The worst node's share from which on nodes are relieved.
fn start(work: &Work<'_>, goal: Goal) -> f64 {
    let policy = work.policy;
    let permille = match goal {
        Goal::Counts => policy.count_above_permille,
        Goal::Safety | Goal::Overload | Goal::Balance => {
            let is_settling = work.memory.is_settling;
            if is_settling { policy.stop_at_permille } else { policy.act_above_permille }
        }
    };
    f64::from(permille) / 1_000.0
}

fn stop(work: &Work<'_>, goal: Goal) -> f64 {
    match goal {
        Goal::Safety | Goal::Overload | Goal::Balance => {
            f64::from(work.policy.stop_at_permille) / 1_000.0
        }
        // Half of the way.
        Goal::Counts => 0.5 + f64::from(work.policy.count_above_permille) / 2_000.0,
    }
}

/// How a node is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    Relieved,
    Stuck,
    /// Something that waits could relieve it further.
    Waiting,
}

/// Relieves one node.
fn visit(
    work: &mut Work<'_>,
    goal: Goal,
    columns: &Range<usize>,
    node: u32,
    stop: f64,
    may_exchange: bool,
) -> Visit {
    // One list for each worst column that comes up.
    let mut pieces: [Option<Pieces>; COLUMNS] = Default::default();
    loop {
        let row = &work.rows[node as usize];
        let (stress, column) = work.measure.stress(node, row, columns.clone());
        if stress <= stop {
            return Visit::Relieved;
        }
        let source = Source { goal, node, columns: columns.clone(), stress, column, stop };
        let mut able = pieces[column].take().unwrap_or_else(|| Pieces::of(work, &source));
        let has_given = !work.is_spent() && able.give(work, &source, may_exchange);
        let (is_waiting, is_homeless) = (able.is_waiting, able.is_homeless());
        pieces[column] = Some(able);
        if has_given {
            continue;
        }
        let is_waiting = is_waiting || work.is_spent();
        let is_divided = goal != Goal::Counts && divide(work, &source);
        if !is_divided && goal != Goal::Counts {
            let hindrance = match (is_waiting, is_homeless) {
                (true, _) => Hindrance::Waiting,
                (false, true) => Hindrance::NoPlace,
                (false, false) => Hindrance::NothingGains,
            };
            work.hinder(goal, node, None, hindrance);
        }
        return if is_waiting { Visit::Waiting } else { Visit::Stuck };
    }
}

/// Whether something may be given away by a tool now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowance {
    Given,
    /// What it takes is used by what runs, or by this plan: it comes back.
    Spent,
    /// The policy allows none of it, or the node cannot bear it: that does not change by itself.
    None,
}

impl Allowance {
    fn of(work: &Work<'_>, node: u32, tool: Tool) -> Self {
        let (policy, budget) = (work.policy, &work.budget);
        if tool != Tool::MoveReplica {
            return match budget.may_transfer(1) {
                true => Self::Given,
                false if policy.transfers_max > 0 => Self::Spent,
                false => Self::None,
            };
        }
        let has_budget = budget.may_move(1) && budget.node_has(work.planner, policy, node, 1);
        if has_budget && work.can_send(node) {
            Self::Given
        } else if policy.allows_moves() && (!has_budget || budget.moves_of(node) > 0) {
            Self::Spent
        } else {
            Self::None
        }
    }
}

/// What a node could give, the largest in its worst column first.
struct Pieces {
    /// (share, partition): leaderships, and replicas.
    leaderships: Vec<(f64, u32)>,
    replicas: Vec<(f64, u32)>,
    /// How many of these there were at first.
    replicas_max: usize,
    /// Something was left out that runs, rests, or is beyond what is left of a budget.
    is_waiting: bool,
    /// Some other node could take some of it, whatever that would bring; or nobody has looked.
    has_place: bool,
    /// No leadership, or no replica, helps alone: that does not change in this visit.
    are_leaderships_tried: bool,
    are_replicas_tried: bool,
    are_exchanges_tried: bool,
}

impl Pieces {
    fn of(work: &mut Work<'_>, source: &Source) -> Self {
        let (node, column) = (source.node, source.column);
        let mut pieces = Self {
            leaderships: Vec::new(),
            replicas: Vec::new(),
            replicas_max: 0,
            is_waiting: false,
            has_place: false,
            are_leaderships_tried: false,
            are_replicas_tried: false,
            are_exchanges_tried: false,
        };
        let unit = work.measure.unit(node, column);
        let residents = &work.planner.residents[node as usize];
        work.evaluations += residents.len() as u64;
        for index in residents {
            let partition = work.partition(*index);
            let leads = partition.leader_node() == Some(node);
            if leads && is_pinned(work, partition) {
                continue;
            }
            if work.is_taken(*index) || (!source.is_released() && work.rests(partition)) {
                pieces.is_waiting = true;
                continue;
            }
            // In one column only: most pieces are never weighed.
            let (held, left) = (partition.heat_on(node), &partition.follower_heat);
            let amount = held.get(column).map_or(1, |amount| *amount);
            let kept = left.get(column).map_or(0, |amount| *amount);
            let counts_leaders_only = column == LEADERS && !leads;
            if leads && column != REPLICAS {
                let share = unit * amount as f64 - unit * kept as f64;
                if share > 0.0 {
                    pieces.leaderships.push((share, *index));
                }
            }
            if amount > 0 && !counts_leaders_only {
                pieces.replicas.push((unit * amount as f64, *index));
            }
        }
        pieces.replicas_max = pieces.replicas.len();
        for list in [&mut pieces.leaderships, &mut pieces.replicas] {
            list.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        pieces
    }

    /// Whether there is something to give, and nobody who could take any of it.
    fn is_homeless(&self) -> bool {
        let is_empty = self.leaderships.is_empty() && self.replicas.is_empty();
        !self.has_place && !is_empty
    }

    /// Gives one thing away, the cheapest way that helps.
    fn give(&mut self, work: &mut Work<'_>, source: &Source, may_exchange: bool) -> bool {
        for tool in [Tool::TransferLeadership, Tool::MoveReplica] {
            if self.give_one(work, source, tool) {
                return true;
            }
        }
        // They are for large pieces: a node with many small ones is within the band without.
        let is_large = self.replicas_max <= PIECES_SEEN;
        let is_in_band = source.stress <= f64::from(work.policy.act_above_permille) / 1_000.0;
        if !may_exchange || self.are_exchanges_tried || (is_in_band && !is_large) {
            return false;
        }
        let lists = [
            (Tool::TransferLeadership, self.leaderships.as_slice()),
            (Tool::MoveReplica, self.replicas.as_slice()),
        ];
        let has_exchanged = exchange(work, source, lists);
        // Each search is dear, and what it finds first is the best by far.
        self.are_exchanges_tried = !has_exchanged;
        has_exchanged
    }

    fn give_one(&mut self, work: &mut Work<'_>, source: &Source, tool: Tool) -> bool {
        let is_move = tool == Tool::MoveReplica;
        let (list, are_tried) = if is_move {
            (&self.replicas, &mut self.are_replicas_tried)
        } else {
            (&self.leaderships, &mut self.are_leaderships_tried)
        };
        if *are_tried || list.is_empty() {
            return false;
        }
        let allowance = Allowance::of(work, source.node, tool);
        if allowance != Allowance::Given {
            self.is_waiting |= allowance == Allowance::Spent;
            self.has_place = true;
            return false;
        }
        let mut destinations = if is_move { destinations(work, source) } else { Vec::new() };
        if self.is_waiting {
            destinations.retain(|node| work.budget.node_has(work.planner, work.policy, *node, 1));
        }
        let fitting = list.partition_point(|(share, _)| *share > source.stress - source.stop);
        // Those that fit and the next larger ones; then all that are smaller, then all that are larger.
        let start = fitting.saturating_sub(PIECES_LARGER);
        let sequence = (start..list.len()).chain((0..start).rev());
        let (mut best, mut weighed, mut in_vain) = (Best::none(), 0, 0);
        for place in sequence {
            let enough = if best.first.is_some() { PIECES_WEIGHED } else { PIECES_SEEN };
            if weighed >= enough || work.is_spent() {
                break;
            }
            let index = list[place].1;
            if work.is_taken(index) {
                continue;
            }
            let partition = work.partition(index);
            let piece = Piece::new(partition, index, tool, source.node);
            let all = if is_move { destinations.as_slice() } else { partition.replicas() };
            let mut seen = 0;
            for to in all {
                if seen == DESTINATIONS_WEIGHED {
                    break;
                }
                if !is_possible(work, source, partition, tool, *to) {
                    continue;
                }
                self.has_place = true;
                let is_affordable = is_affordable(work, partition, tool, *to);
                // That one would help there, were there a budget, is enough to know.
                if !is_affordable && (self.is_waiting || in_vain == PIECES_SEEN) {
                    continue;
                }
                let price = source.reversal_price(work, partition, tool, source.node, *to);
                let Some(price) = price else { continue };
                let found = source.weigh(work, &piece, None, *to, price);
                if !is_affordable {
                    in_vain += 1;
                    self.is_waiting |= found.is_some();
                    continue;
                }
                seen += 1;
                if let Some(found) = found {
                    best.take(work, found, ());
                }
            }
            weighed += usize::from(seen > 0);
        }
        let Some((chosen, ())) = best.first else {
            *are_tried = true;
            return false;
        };
        let second = best.second.map(|(second, ())| second);
        work.propose(source.goal, &chosen, None, second.as_ref());
        true
    }
}

/// Where replicas could go: some of the least loaded, and some of the least loaded in the worst column.
pub(super) fn destinations(work: &Work<'_>, source: &Source) -> Vec<u32> {
    let column = source.column;
    let in_column = |node: u32| work.measure.share(node, &work.rows[node as usize], column);
    let mut found = work.least(DESTINATIONS_SEEN, in_column);
    if HEAT.contains(&column) {
        for node in work.least(DESTINATIONS_SEEN, |node| work.stress[node as usize]) {
            if !found.contains(&node) {
                found.push(node);
            }
        }
    }
    found.retain(|node| *node != source.node);
    found
}

/// The least gain that a piece must bring there because of where it was; none if it may not go there.
pub(super) fn price(
    work: &Work<'_>,
    source: &Source,
    partition: &PartitionView,
    tool: Tool,
    to: u32,
) -> Option<f64> {
    if !is_possible(work, source, partition, tool, to) || !is_affordable(work, partition, tool, to)
    {
        return None;
    }
    source.reversal_price(work, partition, tool, source.node, to)
}

/// Whether a node could take a piece at all.
fn is_possible(
    work: &Work<'_>,
    source: &Source,
    partition: &PartitionView,
    tool: Tool,
    to: u32,
) -> bool {
    let target = &work.planner.nodes[to as usize];
    if tool == Tool::MoveReplica {
        let bytes = partition.copied_bytes();
        work.may_place(partition, Some(source.node), to)
            && work.budget.has_room(work.planner, work.policy, to, bytes)
    } else {
        to != source.node && target.may_lead && !target.is_leaving
    }
}

/// Whether what is left of budgets allows it to go there.
fn is_affordable(work: &Work<'_>, partition: &PartitionView, tool: Tool, to: u32) -> bool {
    tool != Tool::MoveReplica
        || (work.budget.node_has(work.planner, work.policy, to, 1)
            && work.budget.has_bytes(partition.copied_bytes()))
}

/// Whether one key is so much of the leader's heat that moving the partition would only move the trouble.
pub(super) fn is_pinned(work: &Work<'_>, partition: &PartitionView) -> bool {
    let policy = work.policy;
    if u32::from(partition.hottest_key_permille) < policy.hot_key_permille {
        return false;
    }
    let heat = burden(&partition.leader_heat, true);
    let (part, _) = work.measure.part_of_mean(&heat);
    part * f64::from(partition.hottest_key_permille) > f64::from(policy.hot_key_load_permille)
}
