//! Solving in rounds, in parallel lanes.
//!
//! A round divides the nodes among the lanes, and the groups as well; a lane changes only replicas of its
//! groups, between its nodes. So lanes break no rule together that each of them keeps, and what they have
//! found is put together in their sequence, not in that of their finishing. The next round divides anew. A
//! problem that is too small to be divided is searched by each lane alone, and the best goes on.
//!
//! The time a search may take is its caller's affair: it stops after any round. The rounds alone decide
//! what comes out.

use crate::seeded::{Seeded, log_two, power_of_two};

use super::{
    cost::{Cost, LowerBound},
    problem::{Assignment, NOWHERE, Problem},
    repair::mend,
    search::{Seen, Territory, anneal},
    state::State,
    violations::Violations,
};

/// Below so many nodes for each lane the nodes are not divided.
const NODES_PER_LANE_MIN: usize = 32;
/// Evaluations of one lane in one round: this, and so many for each replica of the problem.
const EVALUATIONS_BASE: u64 = 20_000;
const EVALUATIONS_PER_REPLICA: u64 = 4;
/// The first rounds only descend. They do not depend on how many rounds are planned, so a caller may
/// measure them before it says so.
pub const DESCENT_ROUNDS: u32 = 4;
/// The last part of the planned rounds only descends, one in so many.
const QUENCH_PART: u32 = 16;
/// The first temperature is a part of what a change that makes it dearer does so by, on average: one in
/// this many over the evaluations that are planned for each replica. A long search begins hot and roams;
/// a short one has to stay near what it has.
const HEAT_PER_EVALUATION: u64 = 10_000;
const HEAT_PART_MIN: u64 = 1;
const HEAT_PART_MAX: u64 = 256;
/// The last temperature is this part of the first.
const COOLING: u64 = 512;
/// More lanes than this bring nothing.
pub const LANES_MAX: usize = 256;

/// How much a search may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    pub rounds: u32,
    /// How many threads search at the same time. Other numbers give other results.
    pub lanes: usize,
}

/// What a search has found, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    pub assignment: Assignment,
    pub before: Cost,
    pub after: Cost,
    pub bound: LowerBound,
    pub violations_before: Violations,
    pub violations_after: Violations,
    /// The rounds that were done, and how many were planned: with the seed and the number of lanes, they
    /// give this solution again.
    pub rounds: u32,
    pub planned_rounds: u32,
    pub evaluations: u64,
}

/// Searches for the cheapest assignment. The same problem, seed and effort give the same solution, on every
/// machine.
///
/// If the replicas break no rule where they are, nor does the solution, and it is never dearer. If they do,
/// breaking fewer rules comes before cost.
pub fn solve(problem: &Problem, seed: u64, effort: Effort) -> Solution {
    let mut solver = Solver::new(problem, seed, effort.lanes);
    solver.plan_rounds(effort.rounds);
    for _ in 0..effort.rounds {
        solver.round();
    }
    solver.solution()
}

/// A search that goes on round by round.
pub struct Solver<'a> {
    problem: &'a Problem,
    seed: u64,
    lanes: usize,
    state: State<'a>,
    best: Best,
    is_broken: bool,
    round: u32,
    planned_rounds: u32,
    dearer_mean: i64,
    evaluations: u64,
}

#[derive(Clone, Debug)]
struct Best {
    violations: Violations,
    cost: i64,
    assignment: Assignment,
}

impl<'a> Solver<'a> {
    /// `lanes`: 1 to [`LANES_MAX`]; other numbers are taken as the nearest of these.
    pub fn new(problem: &'a Problem, seed: u64, lanes: usize) -> Self {
        let initial = problem.initial();
        let state = State::new(problem, &initial);
        let violations = Violations::of(problem, &initial);
        Self {
            problem,
            seed,
            lanes: lanes.clamp(1, LANES_MAX),
            is_broken: !violations.is_none(),
            best: Best { violations, cost: state.cost(), assignment: initial },
            state,
            round: 0,
            planned_rounds: DESCENT_ROUNDS,
            dearer_mean: 0,
            evaluations: 0,
        }
    }

    /// Says how many rounds there will be about, so that the search cools down in time. It counts only
    /// until [`DESCENT_ROUNDS`] are done.
    pub fn plan_rounds(&mut self, rounds: u32) {
        if self.round <= DESCENT_ROUNDS {
            self.planned_rounds = rounds.max(DESCENT_ROUNDS);
        }
    }

    pub fn rounds(&self) -> u32 {
        self.round
    }

    /// The cost of the best assignment so far.
    pub fn best_cost(&self) -> i64 {
        self.best.cost
    }

    /// Changes that were weighed so far.
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// Whether no assignment is cheaper than the best so far, and it breaks no rule.
    pub fn is_at_bound(&self) -> bool {
        self.best.violations.is_none() && self.best.cost <= LowerBound::of(self.problem).total()
    }

    /// One round of the search.
    pub fn round(&mut self) {
        let mut seeded = Seeded::stream(self.seed, u64::from(self.round));
        if self.is_broken {
            self.evaluations += mend(&mut self.state, &mut seeded);
        }
        if self.round == self.quench_start() {
            self.state = State::new(self.problem, &self.best.assignment);
        }
        let temperature = self.temperature();
        let is_divided = self.problem.node_count() >= NODES_PER_LANE_MIN * self.lanes;
        let territories =
            if is_divided { self.divide(&mut seeded) } else { vec![self.whole(); self.lanes] };
        let evaluations = self.evaluations_per_round();
        let seeds: Vec<u64> = territories.iter().map(|_| seeded.next()).collect();
        let found = run_lanes(&self.state, &territories, &seeds, temperature, evaluations);
        self.gather(found, &territories, is_divided);
        self.round += 1;
    }

    /// The best assignment so far, with all that is to be said about it.
    pub fn solution(&self) -> Solution {
        let initial = self.problem.initial();
        Solution {
            before: Cost::of(self.problem, &initial),
            after: Cost::of(self.problem, &self.best.assignment),
            bound: LowerBound::of(self.problem),
            violations_before: Violations::of(self.problem, &initial),
            violations_after: Violations::of(self.problem, &self.best.assignment),
            assignment: self.best.assignment.clone(),
            rounds: self.round,
            planned_rounds: self.planned_rounds,
            evaluations: self.evaluations,
        }
    }

    /// Of one lane.
    fn evaluations_per_round(&self) -> u64 {
        let replicas = self.problem.replica_count() as u64;
        EVALUATIONS_BASE + EVALUATIONS_PER_REPLICA * replicas / self.lanes as u64
    }

    fn quench_start(&self) -> u32 {
        (self.planned_rounds - self.planned_rounds / QUENCH_PART).max(DESCENT_ROUNDS)
    }

    /// Falls by equal factors from the first temperature.
    fn temperature(&self) -> i64 {
        let (start, end) = (DESCENT_ROUNDS, self.quench_start());
        if !(start..end).contains(&self.round) {
            return 0;
        }
        let all = self.evaluations_per_round() * self.lanes as u64 * u64::from(end - start);
        let for_each = (all / self.problem.replica_count().max(1) as u64).max(1);
        let part = (HEAT_PER_EVALUATION / for_each).clamp(HEAT_PART_MIN, HEAT_PART_MAX);
        let (first, cooling) = (self.dearer_mean.unsigned_abs() / part + 1, COOLING);
        let (done, all) = (u64::from(self.round - start), u64::from(end - start));
        let fallen = log_two(cooling) * done / all;
        i64::try_from(power_of_two(log_two(first).saturating_sub(fallen))).unwrap_or(i64::MAX)
    }

    fn whole(&self) -> Territory {
        let nodes = (0..self.problem.node_count() as u32).collect();
        let placed = |replica: &u32| self.state.node_of(*replica as usize).is_some();
        let replicas = (0..self.problem.replica_count() as u32).filter(placed).collect();
        Territory { nodes, replicas }
    }

    /// Divides nodes and groups among the lanes at random.
    fn divide(&self, seeded: &mut Seeded) -> Vec<Territory> {
        let mut nodes: Vec<u32> = (0..self.problem.node_count() as u32).collect();
        seeded.shuffle(&mut nodes);
        let mut lane_of = vec![0; nodes.len()];
        let mut territories = vec![Territory::default(); self.lanes];
        for (index, node) in nodes.iter().enumerate() {
            lane_of[*node as usize] = index % self.lanes;
            territories[index % self.lanes].nodes.push(*node);
        }
        let lanes = self.lanes;
        let groups: Vec<usize> =
            (0..self.problem.group_count()).map(|_| seeded.below(lanes)).collect();
        for replica in 0..self.problem.replica_count() {
            let Some(node) = self.state.node_of(replica) else { continue };
            let lane = lane_of[node];
            if groups[self.problem.group[replica] as usize] == lane {
                territories[lane].replicas.push(replica as u32);
            }
        }
        territories
    }

    /// Puts together what the lanes have found.
    fn gather(&mut self, found: Vec<(State<'a>, Seen)>, territories: &[Territory], divided: bool) {
        let mut seen = Seen::default();
        for (_, lane) in &found {
            seen.evaluations += lane.evaluations;
            seen.dearer_sum += lane.dearer_sum;
            seen.dearer_count += lane.dearer_count;
        }
        self.evaluations += seen.evaluations;
        if self.round < DESCENT_ROUNDS && seen.dearer_count > 0 {
            let mean = seen.dearer_sum / i128::from(seen.dearer_count);
            self.dearer_mean = i64::try_from(mean).unwrap_or(i64::MAX / 4);
        }
        if found.len() == 1 || !divided {
            // The first of the cheapest.
            let best = found.into_iter().map(|(state, _)| state).min_by_key(State::cost);
            self.state = best.expect("there is at least one lane: `new` sees to it");
        } else {
            let mut assignment = self.state.assignment();
            for ((state, _), territory) in found.iter().zip(territories) {
                for replica in &territory.replicas {
                    let node = state.node_of(*replica as usize).map_or(NOWHERE, |node| node as u32);
                    assignment.nodes[*replica as usize] = node;
                }
            }
            self.state = State::new(self.problem, &assignment);
        }
        self.keep_best();
    }

    fn keep_best(&mut self) {
        let mut violations = Violations::default();
        if self.is_broken {
            violations = Violations::of(self.problem, &self.state.assignment());
            self.is_broken = !violations.is_none();
        }
        let found = (violations.count(), self.state.cost());
        if found < (self.best.violations.count(), self.best.cost) {
            let (cost, assignment) = (self.state.cost(), self.state.assignment());
            self.best = Best { violations, cost, assignment };
        }
    }
}

/// Searches in all lanes at once; the results are in the sequence of the lanes.
fn run_lanes<'a>(
    state: &State<'a>,
    territories: &[Territory],
    seeds: &[u64],
    temperature: i64,
    evaluations: u64,
) -> Vec<(State<'a>, Seen)> {
    let run = |territory: &Territory, seed: u64| {
        let mut own = state.clone();
        let mut seeded = Seeded::new(seed);
        let seen = anneal(&mut own, territory, &mut seeded, temperature, evaluations);
        (own, seen)
    };
    if let ([territory], [seed]) = (territories, seeds) {
        return vec![run(territory, *seed)];
    }
    std::thread::scope(|scope| {
        let lanes: Vec<_> = territories
            .iter()
            .zip(seeds)
            .map(|(territory, seed)| scope.spawn(|| run(territory, *seed)))
            .collect();
        lanes
            .into_iter()
            .map(|lane| match lane.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}
