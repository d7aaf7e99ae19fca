//! What a change would bring, and whether that is enough for what it costs.

use std::ops::Range;

use super::{
    action::{Goal, Tool},
    measure::{HEAT, Row, minus, plus},
    snapshot::{DEPARTURES_MAX, Departed, PartitionView},
    work::{Candidate, Work, changes, columns},
};

/// A change has to relieve its nodes by this part of what it takes away, or by the policy's least gain.
const GAIN_PART: f64 = 0.5;
/// Noise counts for so many times as much in a zone at rest: one look among hundreds finds such a gain by chance.
const REST_NOISE: f64 = 4.0;
/// What has been realised of earlier gains makes the least gain at most so many times as great.
const CAUTION_MAX: f64 = 4.0;

/// A node that is to be relieved.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub goal: Goal,
    pub node: u32,
    /// What it is to be relieved in.
    pub columns: Range<usize>,
    /// Its share in the worst of these columns, and that column.
    pub stress: f64,
    pub column: usize,
    /// The share at which it is relieved.
    pub stop: f64,
}

/// Something that leaves one node for another: one half of an exchange, or all of a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub index: u32,
    pub tool: Tool,
    pub less: Row,
    pub more: Row,
}

impl Piece {
    pub fn new(partition: &PartitionView, index: u32, tool: Tool, from: u32) -> Self {
        let (less, more) = changes(partition, tool, from);
        Self { index, tool, less, more }
    }
}

impl Source {
    /// Damping is released: overload cannot wait.
    pub fn is_released(&self) -> bool {
        self.goal == Goal::Overload
    }

    /// Anything that helps will do: overload that was not tried to be relieved yet.
    fn is_urgent(&self, work: &Work<'_>) -> bool {
        self.is_released() && !work.is_at_rest
    }

    /// The least gain that going there must bring because of where the partition was; none if it is out of
    /// the question.
    pub fn reversal_price(
        &self,
        work: &Work<'_>,
        partition: &PartitionView,
        tool: Tool,
        from: u32,
        to: u32,
    ) -> Option<f64> {
        if partition.departures.is_empty() {
            return Some(0.0);
        }
        let policy = work.policy;
        let ban = if self.is_released() {
            policy.reversal_ban_overload_ms
        } else {
            policy.reversal_ban_ms
        };
        // Whoever has been to so many places may have forgotten one.
        let oldest = partition.departures.first();
        let is_full = partition.departures.len() == DEPARTURES_MAX;
        if is_full && oldest.is_some_and(|oldest| work.age_ms(oldest) < ban) {
            return None;
        }
        let leads = partition.leader_node() == Some(from);
        let replica = (tool == Tool::MoveReplica).then_some(Departed::Replica);
        let leadership = leads.then_some(Departed::Leadership);
        let ages = replica.into_iter().chain(leadership);
        let ages = ages.filter_map(|what| work.return_after(partition, to, what));
        match ages.min() {
            None => Some(0.0),
            Some(age) if age < ban => None,
            Some(_) => Some(f64::from(policy.reversal_gain_permille) / 1_000.0),
        }
    }

    /// Weighs that `away` goes to a node and, in an exchange, `back` comes from there; none if it does not
    /// bring enough, or is more than the node can bear. `price`: a least gain of its own.
    pub fn weigh(
        &self,
        work: &mut Work<'_>,
        away: &Piece,
        back: Option<&Piece>,
        to: u32,
        price: f64,
    ) -> Option<Candidate> {
        work.evaluations += 1;
        let columns = columns(self.goal);
        let (from_before, to_before) = (work.rows[self.node as usize], work.rows[to as usize]);
        let mut from_row = minus(&from_before, &away.less);
        let mut to_row = plus(&to_before, &away.more);
        if let Some(back) = back {
            from_row = plus(&from_row, &back.more);
            to_row = minus(&to_row, &back.less);
        }
        let measure = &work.measure;
        let from_after = measure.stress(self.node, &from_row, self.columns.clone()).0;
        let to_after = measure.stress(to, &to_row, columns.clone()).0;
        // What a node is stressed by anyway, and this does not add to, is nothing against it. The source has to be
        // looked at as well: what comes back is a load, too.
        let raised = |node: u32, before: &Row, after: &Row| {
            let raised = columns.clone().filter(|column| after[*column] > before[*column]);
            raised.map(|column| measure.share(node, after, column)).fold(0.0, f64::max)
        };
        let raised =
            raised(to, &to_before, &to_row).max(raised(self.node, &from_before, &from_row));
        let gain = self.stress - from_after.max(raised);
        let distance = self.stress - measure.share(to, &to_row, self.column);
        if gain <= 0.0 || distance < self.least_distance(work, to) {
            return None;
        }
        let pieces = || std::iter::once(away).chain(back);
        let bytes: u64 = pieces()
            .filter(|piece| piece.tool == Tool::MoveReplica)
            .map(|piece| work.partition(piece.index).copied_bytes())
            .sum();
        if gain < self.least_gain(work, self.stress - from_after, bytes).max(price) {
            return None;
        }
        let moves = pieces().filter(|piece| piece.tool == Tool::MoveReplica).count() as u32;
        if !self.is_borne(work, to, &to_row, moves) || !self.may_keep(work, &from_before, &from_row)
        {
            return None;
        }
        let uneven = |node: u32, row: &Row| measure.unevenness(node, row, columns.clone());
        let evened = uneven(self.node, &from_before) + uneven(to, &to_before)
            - uneven(self.node, &from_row)
            - uneven(to, &to_row);
        let over =
            |node: u32, row: &Row| (measure.utilisation(node, row) - work.overload()).max(0.0);
        let overload_before = over(self.node, &from_before) + over(to, &to_before);
        let overload_after = over(self.node, &from_row) + over(to, &to_row);
        if evened <= 0.0 || overload_after > overload_before {
            return None;
        }
        let overhead = f64::from(work.policy.move_overhead_ppm) / 1_000_000.0;
        let cost = overhead * f64::from(moves.max(1)) + measure.bytes_part(bytes);
        Some(Candidate {
            tool: away.tool,
            index: away.index,
            from: self.node,
            to,
            column: self.column,
            from_after,
            to_after,
            gain,
            merit: evened / cost,
        })
    }

    /// So much less loaded than its source was, the destination must still be afterwards. Otherwise nodes that are
    /// nearly even would change places with every report, small pieces first.
    fn least_distance(&self, work: &Work<'_>, to: u32) -> f64 {
        if self.is_urgent(work) {
            return 0.0;
        }
        let policy = work.policy;
        let noise = f64::from(policy.noise_permille) / 1_000.0;
        let of = |node: u32| work.measure.noise(work.planner, node, self.column, noise);
        (f64::from(policy.gain_min_permille) / 1_000.0).max(of(self.node) + of(to))
    }

    fn least_gain(&self, work: &Work<'_>, taken: f64, bytes: u64) -> f64 {
        let policy = work.policy;
        let mut least = f64::from(policy.gain_min_permille) / 1_000.0;
        let mut noise = f64::from(policy.noise_permille) / 1_000.0;
        if work.is_at_rest {
            // Whatever is as small as that was there when nothing more was found.
            noise *= REST_NOISE;
        } else {
            least = least.min(taken * GAIN_PART);
        }
        if self.is_urgent(work) {
            return least;
        }
        let noise = work.measure.noise(work.planner, self.node, self.column, noise);
        let least = least.max(noise);
        let realised = f64::from(work.memory.realised_gain_permille) / 1_000.0;
        let per_bytes = f64::from(policy.gain_per_bytes_permille) / 1_000.0;
        // Where little comes of what is promised, more must be promised.
        least / realised.clamp(1.0 / CAUTION_MAX, 1.0) + per_bytes * work.measure.bytes_part(bytes)
    }

    /// Whether the destination can bear what comes: it is not overloaded by it, or less than the source is.
    fn is_borne(&self, work: &Work<'_>, to: u32, row: &Row, moves: u32) -> bool {
        let max = work.overload().max(work.utilisation(self.node));
        let running = if moves > 0 { work.budget.moves_of(to) + moves } else { 0 };
        if !work.bears(to, row, running, max) {
            return false;
        }
        // Counts are evened out only where the heat allows it.
        let stop = f64::from(work.policy.stop_at_permille) / 1_000.0;
        self.goal != Goal::Counts || work.measure.stress(to, row, HEAT).0 <= stop
    }

    /// Whether the source may be left with that: for even counts it is not made hot by what comes back.
    fn may_keep(&self, work: &Work<'_>, before: &Row, after: &Row) -> bool {
        let heat = |row: &Row| work.measure.stress(self.node, row, HEAT).0;
        let stop = f64::from(work.policy.stop_at_permille) / 1_000.0;
        self.goal != Goal::Counts || heat(after) <= heat(before).max(stop)
    }
}

/// The best and the second best, whatever the sequence in which they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best<T> {
    pub first: Option<(Candidate, T)>,
    pub second: Option<(Candidate, T)>,
}

impl<T: Copy + Ord> Best<T> {
    pub fn none() -> Self {
        Self { first: None, second: None }
    }

    pub fn take(&mut self, work: &Work<'_>, found: Candidate, with: T) {
        let beats = |other: &Option<(Candidate, T)>| {
            other.is_none_or(|(other, other_with)| {
                let order = found.merit.total_cmp(&other.merit);
                let place = (found.index, work.rank(found.to), with);
                order.then((other.index, work.rank(other.to), other_with).cmp(&place)).is_gt()
            })
        };
        if beats(&self.first) {
            self.second = self.first.replace((found, with));
        } else if beats(&self.second) {
            self.second = Some((found, with));
        }
    }
}
