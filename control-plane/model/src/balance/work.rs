//! One plan in the making: the zone as it would be after what is proposed already, and what budgets are
//! left. Each partition is changed at most once in a plan.

use std::ops::Range;

use crate::{
    ids::{NodeId, millis},
    seeded::Seeded,
};

use super::{
    action::{BalanceAction, End, Goal, Hindrance, OBSTACLES_MAX, Obstacle, Rejected, Score, Tool},
    budget::{Budget, Copied, source},
    measure::{COUNTS, HEAT, Measure, Row, burden, millionths, minus, permille, plus},
    planner::Planner,
    policy::BalancePolicy,
    snapshot::{Departed, Departure, Memory, PROCESSOR, PartitionView, Running},
    tally::Safety,
};

/// The dimension of bytes per second, which running moves take as well.
const BYTES_PER_S: usize = 2;

pub(super) struct Work<'a> {
    pub planner: &'a Planner,
    pub policy: &'a BalancePolicy,
    /// What this plan knows of those before it.
    pub memory: &'a Memory,
    pub measure: Measure,
    pub rows: Vec<Row>,
    /// Each node's stress in heat.
    pub stress: Vec<f64>,
    pub budget: Budget,
    pub actions: Vec<BalanceAction>,
    pub obstacles: Vec<Obstacle>,
    pub evaluations: u64,
    /// Nothing was left to be done in this zone; what is found now has to be more than noise.
    pub is_at_rest: bool,
    safety: Safety,
    evaluations_max: u64,
    /// Which of equally good nodes comes first.
    rank: Vec<u32>,
    /// A bit for each partition that this plan changes.
    taken: Vec<u64>,
}

/// A change, weighed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub tool: Tool,
    pub index: u32,
    pub from: u32,
    pub to: u32,
    /// The column that it is for.
    pub column: usize,
    /// The stress of both nodes afterwards.
    pub from_after: f64,
    pub to_after: f64,
    /// By how much the source is relieved, or less if what comes makes the destination nearly as stressed.
    pub gain: f64,
    /// By how much the zone becomes less uneven, for what it costs.
    pub merit: f64,
}

impl<'a> Work<'a> {
    pub fn new(
        planner: &'a Planner,
        memory: &'a Memory,
        policy: &'a BalancePolicy,
        seed: u64,
        effort: u64,
    ) -> Self {
        let measure = Measure::of(planner, policy, memory.rest.as_ref());
        let nodes = planner.nodes.len();
        let rows: Vec<Row> = (0..nodes).map(|node| planner.row(node)).collect();
        let mut order: Vec<u32> = (0..nodes as u32).collect();
        Seeded::new(seed).shuffle(&mut order);
        let mut rank = vec![0; nodes];
        for (at, node) in order.iter().enumerate() {
            rank[*node as usize] = at as u32;
        }
        let stress = |node: usize| measure.stress(node as u32, &rows[node], HEAT).0;
        Self {
            stress: (0..nodes).map(stress).collect(),
            measure,
            rows,
            budget: Budget::new(planner, policy),
            actions: Vec::new(),
            obstacles: Vec::new(),
            evaluations: 0,
            is_at_rest: false,
            safety: Safety::of(planner),
            evaluations_max: effort,
            rank,
            taken: vec![0; planner.partitions.len().div_ceil(64)],
            memory,
            planner,
            policy,
        }
    }

    pub fn partition(&self, index: u32) -> &'a PartitionView {
        &self.planner.partitions[index as usize]
    }

    pub fn is_spent(&self) -> bool {
        self.evaluations >= self.evaluations_max
    }

    pub fn utilisation(&self, node: u32) -> f64 {
        self.measure.utilisation(node, &self.rows[node as usize])
    }

    pub fn overload(&self) -> f64 {
        f64::from(self.policy.overload_permille) / 1_000.0
    }

    pub fn is_overloaded(&self, node: u32) -> bool {
        self.utilisation(node) > self.overload()
    }

    /// Whether the partition is left alone until the next plan.
    pub fn is_taken(&self, index: u32) -> bool {
        let is_running = self.partition(index).running != Running::Nothing;
        is_running || self.taken[index as usize / 64] >> (index % 64) & 1 == 1
    }

    /// Whether it was changed a short while ago.
    pub fn rests(&self, partition: &PartitionView) -> bool {
        partition.cooldown_until > self.planner.time
    }

    /// Whether going to that node is a return: none if it is not, or how long ago it left, in milliseconds.
    pub fn return_after(&self, partition: &PartitionView, to: u32, what: Departed) -> Option<u64> {
        let departures = partition.departures.iter();
        let same = departures.filter(|departure| departure.from == to && departure.what == what);
        let ages = same.map(|departure| self.age_ms(departure));
        ages.min().filter(|age| *age < self.policy.reversal_window_ms)
    }

    pub fn age_ms(&self, departure: &Departure) -> u64 {
        millis(self.planner.time.since(departure.at))
    }

    /// Where a replica could go, as far as fault domains and the node's flags are concerned: to a node that
    /// takes replicas and holds none of the partition, on no fewer fault domains than before. Replicas that
    /// are gone do not count as before.
    pub fn may_place(&self, partition: &PartitionView, from: Option<u32>, to: u32) -> bool {
        let node = &self.planner.nodes[to as usize];
        if !node.may_receive || node.is_leaving || partition.is_on(to) {
            return false;
        }
        if partition.leader_node() == from && from.is_some() && !node.may_lead {
            return false;
        }
        let Some(from) = from else { return true };
        if self.planner.nodes[from as usize].is_gone {
            return true;
        }
        self.others_in(partition, from, to) == 0 || self.others_in(partition, from, from) > 0
    }

    /// Replicas but the one on `from` that are in the fault domain of `at` and not gone.
    pub fn others_in(&self, partition: &PartitionView, from: u32, at: u32) -> usize {
        let nodes = &self.planner.nodes;
        let domain = nodes[at as usize].fault_domain;
        let others = partition.replicas().iter().filter(|node| **node != from);
        let others = others.map(|node| &nodes[*node as usize]);
        others.filter(|node| !node.is_gone && node.fault_domain == domain).count()
    }

    /// Whether a node can bear a row, and so many more moves, without being overloaded.
    pub fn bears(&self, node: u32, row: &Row, moves: u32, max: f64) -> bool {
        let mut row = *row;
        let moves = f64::from(moves);
        row[BYTES_PER_S] += moves * self.policy.move_bytes_per_s as f64;
        row[PROCESSOR] += moves * self.policy.move_processor_us as f64;
        self.measure.utilisation(node, &row) <= max
    }

    /// Whether a source can bear one more move: an overloaded one can, for that is how it is relieved.
    pub fn can_send(&self, node: u32) -> bool {
        let moves = self.budget.moves_of(node) + 1;
        self.is_overloaded(node) || self.bears(node, &self.rows[node as usize], moves, 1.0)
    }

    /// The nodes that replicas may go to now, at most `max` of them, those with the least of a key first.
    pub fn least(&self, max: usize, key: impl Fn(u32) -> f64) -> Vec<u32> {
        let nodes = self.planner.nodes.iter().enumerate();
        let mut found: Vec<(f64, u32, u32)> = nodes
            .filter(|(_, node)| node.may_receive && !node.is_leaving)
            .map(|(index, _)| (key(index as u32), self.rank[index], index as u32))
            .collect();
        let order =
            |a: &(f64, u32, u32), b: &(f64, u32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if found.len() > max {
            found.select_nth_unstable_by(max, order);
            found.truncate(max);
        }
        found.sort_unstable_by(order);
        found.into_iter().map(|(_, _, node)| node).collect()
    }

    /// The better of two nodes, all else being equal, is the one with the least of this.
    pub fn rank(&self, node: u32) -> u32 {
        self.rank[node as usize]
    }

    /// Takes a proposal up: its effect counts from here on.
    pub fn propose(
        &mut self,
        goal: Goal,
        chosen: &Candidate,
        exchanged_with: Option<u32>,
        rejected: Option<&Candidate>,
    ) {
        let partition = self.partition(chosen.index);
        let (less, more) = changes(partition, chosen.tool, chosen.from);
        let columns = columns(goal);
        let stress = |work: &Self, node: u32| {
            work.measure.stress(node, &work.rows[node as usize], columns.clone()).0
        };
        let (from_before, to_before) = (stress(self, chosen.from), stress(self, chosen.to));
        self.set(chosen.from, minus(&self.rows[chosen.from as usize], &less));
        self.set(chosen.to, plus(&self.rows[chosen.to as usize], &more));
        let (from_after, to_after) = (stress(self, chosen.from), stress(self, chosen.to));
        self.taken[chosen.index as usize / 64] |= 1 << (chosen.index % 64);
        let bytes = self.spend(goal, chosen, partition);
        self.safety.count(self.planner, chosen, partition);
        let end = |index: u32, before: f64, after: f64| End {
            node: self.id(index),
            index,
            before_permille: permille(before),
            after_permille: permille(after),
        };
        let other = |other: &Candidate| Rejected {
            partition: self.partition(other.index).id,
            to: self.id(other.to),
            from_after_permille: permille(other.from_after),
            to_after_permille: permille(other.to_after),
        };
        self.actions.push(BalanceAction {
            goal,
            tool: chosen.tool,
            partition: partition.id,
            index: chosen.index,
            from: end(chosen.from, from_before, from_after),
            to: end(chosen.to, to_before, to_after),
            bytes,
            leader_heat: partition.leader_heat,
            column: chosen.column,
            gain_permille: permille(chosen.gain.max(0.0)),
            exchanged_with: exchanged_with.map(|index| self.partition(index).id),
            rejected: rejected.map(other),
        });
    }

    fn spend(&mut self, goal: Goal, chosen: &Candidate, partition: &PartitionView) -> u64 {
        match chosen.tool {
            Tool::MoveReplica | Tool::AddReplica => {
                let bytes = partition.copied_bytes();
                let source = source(self.planner, partition, Some(chosen.from));
                let source = source.unwrap_or(chosen.from);
                let copied = Copied { source, to: chosen.to, bytes };
                self.budget.spend_move(self.planner, copied, goal == Goal::Safety);
                bytes
            }
            Tool::TransferLeadership => {
                self.budget.spend_transfer();
                0
            }
            Tool::Split { .. } => {
                self.budget.spend_split();
                0
            }
            Tool::Throttle { .. } => 0,
        }
    }

    fn set(&mut self, node: u32, row: Row) {
        self.stress[node as usize] = self.measure.stress(node, &row, HEAT).0;
        self.rows[node as usize] = row;
    }

    /// Notes what is in the way of a goal.
    pub fn hinder(&mut self, goal: Goal, node: u32, partition: Option<u32>, hindrance: Hindrance) {
        if self.obstacles.len() < OBSTACLES_MAX {
            let partition = partition.map(|index| self.partition(index).id);
            self.obstacles.push(Obstacle { goal, node: self.id(node), partition, hindrance });
        }
    }

    /// Of the columns that a goal looks at, the one in which a node's share is the greatest.
    pub fn worst_column(&self, goal: Goal, node: u32) -> usize {
        self.measure.stress(node, &self.rows[node as usize], columns(goal)).1
    }

    fn id(&self, node: u32) -> NodeId {
        self.planner.nodes[node as usize].id
    }

    /// How far a node's share may be off, in its worst column, if reports of heat may as the policy says.
    pub fn noise_of(&self, node: u32) -> f64 {
        let part = f64::from(self.policy.noise_permille) / 1_000.0;
        let (_, column) = self.measure.stress(node, &self.rows[node as usize], HEAT);
        self.measure.noise(self.planner, node, column, part)
    }

    /// The most loaded node's share, as another policy measures it, in millionths.
    pub fn worst_share_ppm_by(&self, policy: &BalancePolicy) -> u64 {
        let measure = Measure::of(self.planner, policy, self.memory.rest.as_ref());
        let staying = (0..self.rows.len() as u32).zip(&self.rows).zip(&self.planner.nodes);
        let shares = staying
            .filter(|(_, node)| !node.is_leaving)
            .map(|((node, row), _)| measure.stress(node, row, HEAT).0);
        millionths(shares.fold(0.0, f64::max))
    }

    /// How good the zone is, proposals included.
    pub fn score(&self) -> Score {
        let (mut overload, mut worst, mut unevenness) = (0, 0.0_f64, 0.0);
        for node in 0..self.rows.len() as u32 {
            unevenness += self.measure.unevenness(node, &self.rows[node as usize], HEAT);
            if !self.planner.nodes[node as usize].is_leaving {
                overload += millionths((self.utilisation(node) - self.overload()).max(0.0));
                worst = worst.max(self.stress[node as usize]);
            }
        }
        Score {
            replicas_wanted: self.safety.replicas_wanted,
            leaders_misplaced: self.safety.leaders_misplaced,
            domains_shared: self.safety.domains_shared,
            overload_ppm: overload,
            worst_share_ppm: millionths(worst),
            unevenness_ppm: millionths(unevenness),
        }
    }
}

/// The columns that a goal looks at.
pub(super) fn columns(goal: Goal) -> Range<usize> {
    match goal {
        Goal::Safety | Goal::Overload | Goal::Balance => HEAT,
        Goal::Counts => COUNTS,
    }
}

/// What a change takes from one node, and what it brings to the other.
pub(super) fn changes(partition: &PartitionView, tool: Tool, from: u32) -> (Row, Row) {
    let leads = partition.leader_node() == Some(from);
    match tool {
        Tool::TransferLeadership => {
            let leader = burden(&partition.leader_heat, true);
            let change = minus(&leader, &burden(&partition.follower_heat, false));
            (change, change)
        }
        Tool::MoveReplica => {
            let heat = burden(partition.heat_on(from), leads);
            (heat, heat)
        }
        Tool::AddReplica => (Row::default(), burden(&partition.follower_heat, false)),
        Tool::Split { .. } | Tool::Throttle { .. } => (Row::default(), Row::default()),
    }
}
