//! Where replicas go: of new partitions, and in place of others.
//!
//! Always on distinct nodes; on distinct fault domains where there are enough; then where the fewest
//! replicas are. Every choice says why, and names the best alternative that it rejected.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    apply::ChangesInFlight,
    command::PlacementProposal,
    ids::{NodeId, PartitionId, ReplicaId},
    node::Node,
    observation::ZoneView,
    partition::Partition,
    state::ZoneState,
};

/// The most partitions that are placed at once.
const PLACED_AT_ONCE_MAX: usize = 2_000;
/// Equally good candidates that are compared for the company that they keep.
const COMPARED_MAX: usize = 64;

/// What nodes carry, choices of the present plan included.
#[derive(Clone, Debug)]
pub struct Loads {
    replicas: BTreeMap<NodeId, u32>,
    preferred: BTreeMap<NodeId, u32>,
    in_flight: ChangesInFlight,
    /// Bytes that choices of this plan will bring.
    reserved_bytes: BTreeMap<NodeId, u64>,
}

impl Loads {
    pub fn of(state: &ZoneState) -> Self {
        Self {
            replicas: state.target_counts(),
            preferred: state.preferred_counts().clone(),
            in_flight: state.changes_in_flight(),
            reserved_bytes: BTreeMap::new(),
        }
    }

    fn replicas(&self, node: NodeId) -> u32 {
        self.replicas.get(&node).copied().unwrap_or(0)
    }

    fn in_flight(&self, node: NodeId) -> u32 {
        self.in_flight.nodes.get(&node).copied().unwrap_or(0)
    }

    /// Counts a change that is being planned.
    pub fn reserve(&mut self, from: Option<NodeId>, to: Option<NodeId>, bytes: u64) {
        self.in_flight.zone += 1;
        for node in from.into_iter().chain(to) {
            *self.in_flight.nodes.entry(node).or_default() += 1;
        }
        if let Some(to) = to {
            *self.replicas.entry(to).or_default() += 1;
            *self.reserved_bytes.entry(to).or_default() += bytes;
        }
        if let Some(from) = from {
            let count = self.replicas.entry(from).or_default();
            *count = count.saturating_sub(1);
        }
    }

    /// Whether one more change fits the zone's budget.
    pub fn zone_has_budget(&self, state: &ZoneState) -> bool {
        state.policy().is_some_and(|policy| self.in_flight.zone < policy.changes_in_flight_zone_max)
    }

    /// Whether one more change fits the node's budget.
    pub fn node_has_budget(&self, state: &ZoneState, node: NodeId) -> bool {
        state
            .policy()
            .is_some_and(|policy| self.in_flight(node) < policy.changes_in_flight_node_max)
    }
}

/// First placements of partitions that have none, once the zone's nodes have had time to come.
pub fn place(state: &ZoneState, view: &ZoneView) -> Vec<PlacementProposal> {
    let Some(policy) = state.policy() else { return Vec::new() };
    let factor = usize::from(policy.replication_factor);
    let candidates: Vec<(NodeId, &Node)> = state
        .nodes()
        .iter()
        .filter(|(id, node)| {
            node.is_eligible() && view.is_connected(**id) && !view.is_disk_low(**id)
        })
        .map(|(id, node)| (*id, node))
        .collect();
    let latest = state.nodes().iter().map(|(_, node)| node.registered_at).max();
    let settled = latest.is_some_and(|latest| {
        crate::ids::millis(state.zone_time().since(latest)) >= policy.placement_settle_ms
    });
    if state.unplaced().is_empty() || candidates.len() < factor || !settled {
        return Vec::new();
    }
    let mut loads = Loads::of(state);
    let mut company = Company::of(state);
    let mut candidates = Candidates::new(candidates, &loads);
    state
        .unplaced()
        .iter()
        .take(PLACED_AT_ONCE_MAX)
        .map(|partition| place_one(*partition, factor, &mut candidates, &mut loads, &mut company))
        .collect()
}

/// Nodes that can take replicas, those with the fewest first.
struct Candidates<'a> {
    nodes: BTreeMap<NodeId, &'a Node>,
    by_replicas: BTreeSet<(u32, NodeId)>,
}

/// Where a candidate for a new partition stands: the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    /// Chosen nodes in the same fault domain.
    neighbours: usize,
    replicas: u32,
    /// Partitions shared with the nodes that are chosen already.
    shared: u32,
    node: NodeId,
}

impl<'a> Candidates<'a> {
    fn new(nodes: Vec<(NodeId, &'a Node)>, loads: &Loads) -> Self {
        let by_replicas = nodes.iter().map(|(id, _)| (loads.replicas(*id), *id)).collect();
        Self { nodes: nodes.into_iter().collect(), by_replicas }
    }

    fn fault_domain(&self, node: NodeId) -> &str {
        self.nodes.get(&node).map_or("", |node| node.fault_domain.as_str())
    }

    /// The best one that is not among the chosen.
    fn best(&self, chosen: &[NodeId], company: &Company) -> Option<Standing> {
        let mut best: Option<Standing> = None;
        let mut compared = 0;
        for (replicas, node) in &self.by_replicas {
            if chosen.contains(node) {
                continue;
            }
            let domain = self.fault_domain(*node);
            let neighbours =
                chosen.iter().filter(|other| self.fault_domain(**other) == domain).count();
            if let Some(best) = best
                && (compared == COMPARED_MAX || (best.neighbours == 0 && *replicas > best.replicas))
            {
                break;
            }
            if neighbours == 0 {
                compared += 1;
            }
            let shared = company.shared(*node, chosen);
            let standing = Standing { neighbours, replicas: *replicas, shared, node: *node };
            if best.is_none_or(|best| standing < best) {
                best = Some(standing);
            }
        }
        best
    }

    fn describe(&self, standing: &Standing) -> String {
        let Standing { replicas, node, .. } = standing;
        format!("node {node} in {} with {replicas} replicas", self.fault_domain(*node))
    }

    /// The node has got one more replica.
    fn add(&mut self, node: NodeId, replicas: u32) {
        self.by_replicas.remove(&(replicas, node));
        self.by_replicas.insert((replicas + 1, node));
    }
}

/// How often two nodes hold the same partition: so that what a lost node led is spread over many.
struct Company {
    /// Nodes are numbered, so that a pair of them is a place in a table.
    numbers: BTreeMap<NodeId, usize>,
    shared: Vec<u32>,
    /// The first is to lead, the second follows.
    follows: Vec<u32>,
}

impl Company {
    fn of(state: &ZoneState) -> Self {
        let ids = state.nodes().iter().map(|(id, _)| *id);
        let numbers: BTreeMap<NodeId, usize> = ids.zip(0..).collect();
        let pairs = numbers.len() * numbers.len();
        let mut company = Self { numbers, shared: vec![0; pairs], follows: vec![0; pairs] };
        for (_, partition) in state.partitions().iter().filter(|(_, known)| known.is_placed()) {
            let nodes: Vec<_> = partition.targets.iter().map(|target| target.node).collect();
            let preferred =
                partition.preferred_leader.and_then(|preferred| partition.target(preferred));
            company.add(&nodes, preferred.map(|target| target.node));
        }
        company
    }

    fn place(&self, a: NodeId, b: NodeId) -> Option<usize> {
        Some(self.numbers.get(&a)? * self.numbers.len() + self.numbers.get(&b)?)
    }

    fn add(&mut self, nodes: &[NodeId], leader: Option<NodeId>) {
        for a in nodes {
            for b in nodes.iter().filter(|b| *b != a) {
                let Some(place) = self.place(*a, *b) else { continue };
                self.shared[place] += 1;
                if leader == Some(*a) {
                    self.follows[place] += 1;
                }
            }
        }
    }

    /// How often the node shares a partition with those.
    fn shared(&self, node: NodeId, others: &[NodeId]) -> u32 {
        others.iter().filter_map(|other| self.place(node, *other)).map(|at| self.shared[at]).sum()
    }

    /// How often those follow the node.
    fn follows(&self, node: NodeId, others: &[NodeId]) -> u32 {
        others.iter().filter_map(|other| self.place(node, *other)).map(|at| self.follows[at]).sum()
    }
}

fn place_one(
    partition: PartitionId,
    factor: usize,
    candidates: &mut Candidates<'_>,
    loads: &mut Loads,
    company: &mut Company,
) -> PlacementProposal {
    let mut nodes: Vec<NodeId> = Vec::with_capacity(factor);
    let mut standings = Vec::with_capacity(factor);
    while let Some(best) = candidates.best(&nodes, company).filter(|_| nodes.len() < factor) {
        nodes.push(best.node);
        standings.push(best);
    }
    let rejected = match candidates.best(&nodes, company) {
        Some(runner_up) => format!("rejected: {}", candidates.describe(&runner_up)),
        None => "no other node could be chosen".to_owned(),
    };
    let described: Vec<_> =
        standings.iter().map(|standing| candidates.describe(standing)).collect();
    let preferred_of = |id: &NodeId| loads.preferred.get(id).copied().unwrap_or(0);
    let preferred_leader = nodes
        .iter()
        .copied()
        .min_by_key(|id| (preferred_of(id), company.follows(*id, &nodes), *id))
        .unwrap_or_default();
    let leads = preferred_of(&preferred_leader);
    company.add(&nodes, Some(preferred_leader));
    for standing in &standings {
        candidates.add(standing.node, standing.replicas);
        *loads.replicas.entry(standing.node).or_default() += 1;
    }
    *loads.preferred.entry(preferred_leader).or_default() += 1;
    let reason = format!(
        "distinct fault domains, then fewest replicas: {}; {rejected}; node {preferred_leader} was to \
         lead the fewest partitions ({leads})",
        described.join(", ")
    );
    PlacementProposal { partition, nodes, preferred_leader, reason }
}

/// A node that was chosen for a replica, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub node: NodeId,
    pub reason: String,
}

/// Why no node can take a replica now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    #[error("no node can take a replica of partition {partition}: {}", why.join("; "))]
    Nobody { partition: PartitionId, why: Vec<String> },
    #[error("node {node} is the best for a replica of partition {partition}, and waits for budget")]
    Wait { partition: PartitionId, node: NodeId },
}

/// Where a candidate stands: the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Another replica of the partition stays in its fault domain.
    shares_domain: bool,
    /// No replica of the partition votes there already, against the intention.
    is_new: bool,
    replicas: u32,
    in_flight: u32,
    node: NodeId,
}

/// Chooses the node for a replica of the partition that is to replace `replaced`, or to be added.
pub fn choose(
    state: &ZoneState,
    view: &ZoneView,
    loads: &Loads,
    id: PartitionId,
    partition: &Partition,
    replaced: Option<ReplicaId>,
) -> Result<Choice, NoChoice> {
    let bytes = view.stored_bytes_of(id);
    let domains: BTreeSet<&str> = partition
        .targets
        .iter()
        .filter(|target| Some(target.id) != replaced)
        .filter_map(|target| state.node(target.node))
        .map(|node| node.fault_domain.as_str())
        .collect();
    let (mut ranked, mut excluded) = (Vec::new(), Vec::new());
    for (node, record) in state.nodes().iter() {
        match why_not(view, loads, partition, *node, record, bytes) {
            Some(why) => excluded.push(format!("node {node}: {why}")),
            None => ranked.push(Rank {
                shares_domain: domains.contains(record.fault_domain.as_str()),
                is_new: partition.forsaken_voter_on(*node).is_none(),
                replicas: loads.replicas(*node),
                in_flight: loads.in_flight(*node),
                node: *node,
            }),
        }
    }
    ranked.sort_unstable();
    let Some(first) = ranked.first() else {
        return Err(NoChoice::Nobody { partition: id, why: excluded });
    };
    // A node in a shared fault domain is not taken merely because a better one is busy now.
    let fitting = ranked
        .iter()
        .filter(|rank| rank.shares_domain == first.shares_domain)
        .find(|rank| loads.node_has_budget(state, rank.node));
    let Some(best) = fitting else {
        return Err(NoChoice::Wait { partition: id, node: first.node });
    };
    let describe = |rank: &Rank| {
        let shares = if rank.shares_domain { "shares a fault domain, " } else { "" };
        format!("{shares}{} replicas, {} changes under way", rank.replicas, rank.in_flight)
    };
    let rejected = match ranked.iter().find(|rank| rank.node != best.node) {
        Some(rank) => format!("rejected: node {} ({})", rank.node, describe(rank)),
        None if excluded.is_empty() => "no other node is left".to_owned(),
        None => format!("no other node could be chosen ({})", excluded.join("; ")),
    };
    let reason = format!("node {} ({}); {rejected}", best.node, describe(best));
    Ok(Choice { node: best.node, reason })
}

/// Why a node cannot take a replica of the partition; none if it can.
fn why_not(
    view: &ZoneView,
    loads: &Loads,
    partition: &Partition,
    node: NodeId,
    record: &Node,
    bytes: u64,
) -> Option<String> {
    if partition.is_on(node) && partition.forsaken_voter_on(node).is_none() {
        return Some("it holds a replica already".into());
    }
    if let Some(why) = record.why_not_eligible() {
        return Some(why);
    }
    if !view.is_connected(node) {
        return Some("it has no session".into());
    }
    let reserved = loads.reserved_bytes.get(&node).copied().unwrap_or(0);
    why_no_room(view, node, record, bytes.saturating_add(reserved))
}

/// Why so many bytes have no room on a node; none if they have.
pub fn why_no_room(view: &ZoneView, node: NodeId, record: &Node, bytes: u64) -> Option<String> {
    if view.is_disk_low(node) {
        return Some("its disk is below its reserve".into());
    }
    let (used, capacity) = (view.stored_bytes_on(node), record.capacity.stored_bytes);
    (used.saturating_add(bytes) > capacity)
        .then(|| format!("no room: {used} of {capacity} bytes are used, and {bytes} come"))
}
