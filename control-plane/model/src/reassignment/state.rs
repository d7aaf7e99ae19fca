//! The assignment that a search is at, with everything that makes a change cheap to weigh.
//!
//! A change touches two or three nodes, so its cost is found from their rows alone.
//!
//! **Invariant:** `load`, `free`, `node_cost`, `residents` and the groups' counts are what follows from
//! `node_of`; only [`State::put`] and [`State::take`] change them, together.

use super::{
    cost::{balance_cost, load_cost},
    groups::Groups,
    problem::{Assignment, NOWHERE, Problem},
};

#[derive(Clone)]
pub(super) struct State<'a> {
    pub problem: &'a Problem,
    node_of: Vec<u32>,
    load: Vec<i64>,
    /// Capacity less what is used while moves are under way.
    free: Vec<i64>,
    node_cost: Vec<i64>,
    cost: i64,
    pub groups: Groups,
    /// The replicas on each node, and the place of each replica in its node's list.
    residents: Vec<Vec<u32>>,
    place: Vec<u32>,
}

impl<'a> State<'a> {
    pub fn new(problem: &'a Problem, assignment: &Assignment) -> Self {
        let mut state = Self {
            problem,
            node_of: vec![NOWHERE; problem.replica_count()],
            load: vec![0; problem.capacity.len()],
            free: problem.capacity.clone(),
            node_cost: vec![0; problem.node_count()],
            cost: 0,
            groups: Groups::new(problem),
            residents: vec![Vec::new(); problem.node_count()],
            place: vec![0; problem.replica_count()],
        };
        for node in 0..problem.node_count() {
            state.node_cost[node] = state.node_cost_with(node, |_| 0);
            state.cost += state.node_cost[node];
        }
        for replica in 0..problem.replica_count() {
            if let Some(home) = problem.initial_node(replica) {
                state.hold(home, replica, -1);
            }
        }
        for (replica, node) in assignment.iter().enumerate() {
            if let Some(node) = node {
                state.put(replica, node);
            }
        }
        state
    }

    /// The total cost, kept up to date.
    pub fn cost(&self) -> i64 {
        self.cost
    }

    pub fn assignment(&self) -> Assignment {
        Assignment { nodes: self.node_of.clone() }
    }

    pub fn node_of(&self, replica: usize) -> Option<usize> {
        let node = self.node_of[replica];
        (node != NOWHERE).then_some(node as usize)
    }

    pub fn residents(&self, node: usize) -> &[u32] {
        &self.residents[node]
    }

    pub fn load_of(&self, node: usize) -> &[i64] {
        &self.load[self.problem.row(node)]
    }

    /// Whether a node is above its capacity in a resource.
    pub fn is_over(&self, node: usize) -> bool {
        let row = self.problem.row(node);
        self.load[row.clone()].iter().zip(&self.problem.capacity[row]).any(|(load, max)| load > max)
    }

    /// What a replica holds of transient resources at home for as long as it may be moving.
    fn hold(&mut self, home: usize, replica: usize, sign: i64) {
        let row = self.problem.row(home);
        let demand = self.problem.demand_of(replica);
        let each = self.free[row].iter_mut().zip(demand).zip(&self.problem.resources);
        for ((free, demand), resource) in each {
            if resource.transient {
                *free += sign * demand;
            }
        }
    }

    /// Takes a replica off its node.
    pub fn take(&mut self, replica: usize) {
        let Some(node) = self.node_of(replica) else { return };
        self.shift_load(replica, node, -1);
        self.node_of[replica] = NOWHERE;
        let place = self.place[replica] as usize;
        self.residents[node].swap_remove(place);
        if let Some(moved) = self.residents[node].get(place) {
            self.place[*moved as usize] = place as u32;
        }
        self.cost -= self.own_cost(replica, node);
        let before = self.groups.cost(self.problem);
        self.groups.leave(self.problem, replica, node);
        self.cost += self.groups.cost(self.problem) - before;
    }

    /// Puts a replica that is nowhere on a node.
    pub fn put(&mut self, replica: usize, node: usize) {
        self.shift_load(replica, node, 1);
        self.node_of[replica] = node as u32;
        self.place[replica] = self.residents[node].len() as u32;
        self.residents[node].push(replica as u32);
        self.cost += self.own_cost(replica, node);
        let before = self.groups.cost(self.problem);
        self.groups.enter(self.problem, replica, node);
        self.cost += self.groups.cost(self.problem) - before;
    }

    fn shift_load(&mut self, replica: usize, node: usize, sign: i64) {
        let row = self.problem.row(node);
        let demand = self.problem.demand_of(replica);
        for (load, demand) in self.load[row.clone()].iter_mut().zip(demand) {
            *load += sign * demand;
        }
        let is_home = self.problem.home[replica] as usize == node;
        let each = self.free[row].iter_mut().zip(demand).zip(&self.problem.resources);
        for ((free, demand), resource) in each {
            if !(is_home && resource.transient) {
                *free -= sign * demand;
            }
        }
        let cost = self.node_cost_with(node, |_| 0);
        self.cost += cost - self.node_cost[node];
        self.node_cost[node] = cost;
    }

    /// What a replica costs by being on a node, apart from the node's own cost.
    pub fn own_cost(&self, replica: usize, node: usize) -> i64 {
        let moved = self.problem.is_moved(replica, node);
        let move_cost = if moved { self.problem.move_cost[replica] } else { 0 };
        self.problem.distance_cost(replica, node) + move_cost
    }

    /// What a node would cost with so much more load.
    #[inline]
    fn node_cost_with(&self, node: usize, more: impl Fn(usize) -> i64) -> i64 {
        let load = &self.load[self.problem.row(node)];
        let with = |resource: usize| load[resource].wrapping_add(more(resource));
        load_cost(self.problem, node, with).wrapping_add(balance_cost(self.problem, node, with))
    }

    /// How a node's cost changes when a replica comes.
    #[inline]
    pub fn gain_of_arrival(&self, node: usize, replica: usize) -> i64 {
        let demand = self.problem.demand_of(replica);
        self.node_cost_with(node, |resource| demand[resource]) - self.node_cost[node]
    }

    /// How a node's cost changes when a replica leaves.
    #[inline]
    pub fn gain_of_departure(&self, node: usize, replica: usize) -> i64 {
        let demand = self.problem.demand_of(replica);
        self.node_cost_with(node, |resource| -demand[resource]) - self.node_cost[node]
    }

    /// How a node's cost changes when one replica comes and another leaves.
    #[inline]
    pub fn gain_of_exchange(&self, node: usize, comes: usize, leaves: usize) -> i64 {
        let (more, less) = (self.problem.demand_of(comes), self.problem.demand_of(leaves));
        self.node_cost_with(node, |resource| more[resource] - less[resource]) - self.node_cost[node]
    }

    /// Whether a replica has room on a node, while it moves and after. A resource of which it needs
    /// nothing does not matter, even where there is none left.
    #[inline]
    pub fn has_room(&self, node: usize, replica: usize) -> bool {
        let row = self.problem.row(node);
        let demand = self.problem.demand_of(replica);
        if self.problem.home[replica] as usize != node {
            let free = &self.free[row];
            return demand.iter().zip(free).all(|(demand, free)| *demand <= (*free).max(0));
        }
        self.fits(node, |resource| (demand[resource], !self.problem.resources[resource].transient))
    }

    /// Whether a replica has room on a node that another one leaves.
    #[inline]
    pub fn has_room_without(&self, node: usize, replica: usize, leaves: usize) -> bool {
        let (more, less) = (self.problem.demand_of(replica), self.problem.demand_of(leaves));
        let comes_home = self.problem.home[replica] as usize == node;
        let leaves_home = self.problem.home[leaves] as usize == node;
        if !comes_home && !leaves_home {
            let free = &self.free[self.problem.row(node)];
            let each = more.iter().zip(less).zip(free);
            return each.fold(true, |fits, ((more, less), free)| {
                fits & (more.wrapping_sub(*less) <= (*free).max(0))
            });
        }
        let row = self.problem.row(node);
        let (free, load) = (&self.free[row.clone()], &self.load[row.clone()]);
        let capacity = &self.problem.capacity[row];
        (0..more.len()).all(|resource| {
            let stays = self.problem.resources[resource].transient;
            let comes = if comes_home && stays { 0 } else { more[resource] };
            let goes = if leaves_home && stays { 0 } else { less[resource] };
            let change = more[resource] - less[resource];
            let after = load[resource] + change;
            comes - goes <= free[resource].max(0) && (change <= 0 || after <= capacity[resource])
        })
    }

    /// For a replica that comes home: what is transient is still held for it, so only the load counts.
    fn fits(&self, node: usize, need: impl Fn(usize) -> (i64, bool)) -> bool {
        let row = self.problem.row(node);
        let (free, load) = (&self.free[row.clone()], &self.load[row.clone()]);
        let capacity = &self.problem.capacity[row];
        (0..free.len()).all(|resource| {
            let (demand, is_new) = need(resource);
            let left = if is_new { free[resource] } else { capacity[resource] - load[resource] };
            demand <= left.max(0)
        })
    }
}
