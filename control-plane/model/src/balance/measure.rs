//! How loaded nodes are, compared with the mean.
//!
//! A node's share in a column is its utilisation (load ÷ capacity) divided by the zone's (all load ÷ all
//! capacity of the nodes that stay); its stress is its greatest share. Only sums, products and quotients
//! are used, which give the same on every machine.

use std::ops::Range;

use super::{
    planner::Planner,
    policy::BalancePolicy,
    rest::Rest,
    snapshot::{Amounts, DIMENSIONS, STORED_BYTES},
};

/// Columns that are weighed: the dimensions, then leaders, then replicas.
pub(super) const COLUMNS: usize = DIMENSIONS + 2;
pub(super) const LEADERS: usize = DIMENSIONS;
pub(super) const REPLICAS: usize = DIMENSIONS + 1;
/// The columns that are heat, and those that are counts.
pub(super) const HEAT: Range<usize> = 0..DIMENSIONS;
pub(super) const COUNTS: Range<usize> = LEADERS..COLUMNS;

/// An amount for each column; negative where something is taken away.
pub(super) type Row = [f64; COLUMNS];

/// What everyone is measured by in one plan. It does not change while the plan is made.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    /// For each node and column, the share of one unit of load; 0 where it does not matter.
    units: Vec<Row>,
    /// For each node and dimension, the utilisation of one unit of load; 0 where nothing limits it.
    fill: Vec<[f64; DIMENSIONS]>,
    weights: Row,
    /// The load of one node if all that stay had the same; 0 where it does not matter.
    mean_loads: Row,
    mean_bytes: f64,
}

impl Measure {
    /// `rest`: where evening out has come to its end; what was no load to speak of then begins to be one only when it
    /// is another load. Otherwise one that is nearly enough to matter would matter now and then.
    pub fn of(planner: &Planner, policy: &BalancePolicy, rest: Option<&Rest>) -> Self {
        let sizes = sizes(planner);
        let (mut load, mut capacity): (Row, Row) = ([0.0; COLUMNS], [0.0; COLUMNS]);
        let mut staying = 0.0;
        for (index, node) in planner.nodes.iter().enumerate() {
            load = plus(&load, &planner.row(index));
            if !node.is_leaving {
                capacity = plus(&capacity, &sizes[index]);
                staying += 1.0;
            }
        }
        let (mut weights, mut mean): (Row, Row) = ([0.0; COLUMNS], [0.0; COLUMNS]);
        for column in 0..COLUMNS {
            if capacity[column] <= 0.0 || load[column] <= 0.0 {
                continue;
            }
            mean[column] = load[column] / capacity[column];
            let idle = f64::from(policy.idle_permille);
            let stays_idle =
                || rest.is_some_and(|rest| rest.stays_idle(column, load[column], policy));
            // One node may have too much of what is next to nothing on average.
            let is_idle = HEAT.contains(&column)
                && (mean[column] * 1_000.0 < idle || stays_idle())
                && !planner.is_overloaded_in(column, policy);
            if !is_idle {
                let weight = policy.dimension_weights.get(column).copied().unwrap_or(1);
                // Over all load: so columns count the same, whatever they are measured in.
                weights[column] = f64::from(weight) / load[column];
            }
        }
        let units = sizes.iter().map(|size| -> Row {
            std::array::from_fn(|column| {
                let matters = weights[column] > 0.0 && size[column] > 0.0;
                if matters { 1.0 / (size[column] * mean[column]) } else { 0.0 }
            })
        });
        let fill = sizes.iter().map(|size| -> [f64; DIMENSIONS] {
            std::array::from_fn(|at| if size[at] > 0.0 { 1.0 / size[at] } else { 0.0 })
        });
        Self {
            units: units.collect(),
            fill: fill.collect(),
            mean_loads: std::array::from_fn(|column| {
                if weights[column] > 0.0 { load[column] / staying } else { 0.0 }
            }),
            mean_bytes: if staying > 0.0 { load[STORED_BYTES] / staying } else { 0.0 },
            weights,
        }
    }

    /// The greatest share of a node among some columns, and its column.
    pub fn stress(&self, node: u32, row: &Row, columns: Range<usize>) -> (f64, usize) {
        let start = columns.start;
        let units = &self.units[node as usize];
        columns.fold((0.0, start), |(worst, at), column| {
            let share = row[column] * units[column];
            if share > worst { (share, column) } else { (worst, at) }
        })
    }

    /// The share of one unit of load; 0 where it does not matter.
    pub fn unit(&self, node: u32, column: usize) -> f64 {
        self.units[node as usize][column]
    }

    /// A node's share in one column.
    pub fn share(&self, node: u32, row: &Row, column: usize) -> f64 {
        row[column] * self.units[node as usize][column]
    }

    /// How far a node's share in a dimension may be off if each piece's heat may by a part of it, and they
    /// are off independently. Counts are not.
    pub fn noise(&self, planner: &Planner, node: u32, column: usize, part: f64) -> f64 {
        let holding = &planner.holdings[node as usize];
        let (Some(squares), Some(own)) =
            (holding.squares.get(column), holding.own_squares.get(column))
        else {
            return 0.0;
        };
        let variance = *squares as f64 * part * part + *own as f64;
        variance.sqrt() * self.units[node as usize][column]
    }

    /// How uneven a node is: the squares of its shares, each by the node's part of the zone. Its sum over
    /// nodes is least when all shares are the same.
    pub fn unevenness(&self, node: u32, row: &Row, columns: Range<usize>) -> f64 {
        let units = &self.units[node as usize];
        columns.fold(0.0, |sum, column| {
            sum + self.weights[column] * row[column] * row[column] * units[column]
        })
    }

    /// The greatest utilisation of a node; bytes aside, for those have a bound of their own.
    pub fn utilisation(&self, node: u32, row: &Row) -> f64 {
        let fill = &self.fill[node as usize];
        (0..STORED_BYTES).map(|column| row[column] * fill[column]).fold(0.0, f64::max)
    }

    /// The greatest part of a mean node's load that a row is, stored bytes aside, and its column.
    pub fn part_of_mean(&self, row: &Row) -> (f64, usize) {
        let parts = (0..STORED_BYTES).map(|column| (self.part_in(row, column), column));
        parts.fold((0.0, 0), |best, found| if found.0 > best.0 { found } else { best })
    }

    /// The part of a mean node's load that a row is in one column.
    pub fn part_in(&self, row: &Row, column: usize) -> f64 {
        let mean = self.mean_loads[column];
        if mean > 0.0 { row[column] / mean } else { 0.0 }
    }

    /// The part of a mean node's bytes that so many bytes are.
    pub fn bytes_part(&self, bytes: u64) -> f64 {
        if self.mean_bytes > 0.0 { bytes as f64 / self.mean_bytes } else { 0.0 }
    }
}

/// How much of each column a node should have, in proportion.
fn sizes(planner: &Planner) -> Vec<Row> {
    let largest = |dimension: usize| {
        let all = planner.nodes.iter().map(|node| node.capacity[dimension]);
        all.max().unwrap_or(0).max(1) as f64
    };
    let greatest: [f64; DIMENSIONS] = std::array::from_fn(largest);
    let size = |node: &super::snapshot::NodeView| -> Row {
        let mut size: Row = [0.0; COLUMNS];
        // A node counts for as many partitions as its scarcest capacity says.
        let mut scarcest = 1.0_f64;
        for (dimension, capacity) in node.capacity.iter().enumerate() {
            size[dimension] = *capacity as f64;
            if *capacity > 0 {
                scarcest = scarcest.min(size[dimension] / greatest[dimension]);
            }
        }
        size[LEADERS] = if node.may_lead { scarcest } else { 0.0 };
        size[REPLICAS] = scarcest;
        size
    };
    planner.nodes.iter().map(size).collect()
}

impl Planner {
    /// Whether a node that stays is overloaded in a dimension; stored bytes have a bound of their own.
    pub(super) fn is_overloaded_in(&self, dimension: usize, policy: &BalancePolicy) -> bool {
        let overload = f64::from(policy.overload_permille) / 1_000.0;
        let is_overloaded = |node: usize| {
            let capacity = self.nodes[node].capacity[dimension];
            let fill = if capacity > 0 { 1.0 / capacity as f64 } else { 0.0 };
            self.holdings[node].load[dimension] as f64 * fill > overload
        };
        let mut staying = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_leaving);
        dimension < STORED_BYTES && staying.any(is_overloaded)
    }

    /// A node's load and counts as a row.
    pub(super) fn row(&self, node: usize) -> Row {
        let holding = &self.holdings[node];
        let mut row = amounts(&holding.load);
        row[LEADERS] = f64::from(holding.leaders);
        row[REPLICAS] = f64::from(holding.replicas);
        row
    }
}

/// What a replica brings to its node.
pub(super) fn burden(heat: &Amounts, leads: bool) -> Row {
    let mut row = amounts(heat);
    row[LEADERS] = if leads { 1.0 } else { 0.0 };
    row[REPLICAS] = 1.0;
    row
}

fn amounts(heat: &Amounts) -> Row {
    let mut row = [0.0; COLUMNS];
    for (column, amount) in row.iter_mut().zip(heat) {
        *column = *amount as f64;
    }
    row
}

pub(super) fn plus(row: &Row, change: &Row) -> Row {
    std::array::from_fn(|column| row[column] + change[column])
}

pub(super) fn minus(row: &Row, change: &Row) -> Row {
    std::array::from_fn(|column| row[column] - change[column])
}

/// In thousandths, to the nearest.
pub(super) fn permille(share: f64) -> u32 {
    // Saturates: a share is never negative by more than a rounding error.
    (share * 1_000.0 + 0.5) as u32
}

/// In millionths, to the nearest.
pub(super) fn millionths(share: f64) -> u64 {
    (share * 1_000_000.0 + 0.5) as u64
}
