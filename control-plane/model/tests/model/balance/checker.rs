//! What plans are checked with: the goals and the rules written down once more, as plainly as can be.
//!
//! It shares nothing with the planner but the forms, and takes its time.

use std::collections::{BTreeMap, BTreeSet};

use model::balance::{
    BalancePlan, BalancePolicy, DIMENSIONS, Goal, PartitionView, Running, STORED_BYTES, Score,
    Snapshot, Tool,
};

/// The load of a node in one dimension, from the partitions.
pub fn load(snapshot: &Snapshot, node: usize, dimension: usize) -> f64 {
    let mut sum = 0;
    for view in &snapshot.partitions {
        for (replica, at) in view.replicas().iter().enumerate() {
            if *at as usize == node {
                let leads = replica == usize::from(view.leader);
                let heat = if leads { &view.leader_heat } else { &view.follower_heat };
                sum += heat[dimension];
            }
        }
    }
    sum as f64
}

/// Whether a dimension is one to go by: it has load on average, more than when the zone came to rest without any, or
/// some node has too much of it.
fn matters(snapshot: &Snapshot, policy: &BalancePolicy, dimension: usize) -> bool {
    let capacity = |node: usize| snapshot.nodes[node].capacity[dimension] as f64;
    let nodes = 0..snapshot.nodes.len();
    let staying: Vec<usize> =
        nodes.clone().filter(|node| !snapshot.nodes[*node].is_leaving).collect();
    let whole: f64 = staying.iter().map(|node| capacity(*node)).sum();
    let all: f64 = nodes.map(|node| load(snapshot, node, dimension)).sum();
    let idle = f64::from(policy.idle_permille) / 1_000.0;
    // What was idle when the zone came to rest stays so until it is another load.
    let stays_idle = snapshot.memory.rest.as_ref().is_some_and(|rest| {
        let (was, of) = (rest.load[dimension] as f64, rest.capacity[dimension] as f64);
        was < (of * idle).floor() && all <= was + (was * 0.3).floor()
    });
    // Whatever the average is.
    let overload = f64::from(policy.overload_permille) / 1_000.0;
    let mut limited = staying.iter().filter(|node| capacity(**node) > 0.0);
    let is_overloaded = dimension != STORED_BYTES
        && limited.any(|node| load(snapshot, *node, dimension) / capacity(*node) > overload);
    let is_busy = all / whole >= idle && !stays_idle;
    let counts = whole > 0.0 && all > 0.0 && policy.dimension_weights[dimension] > 0;
    counts && (is_busy || is_overloaded)
}

/// Every node's share of the mean utilisation, for each dimension; none for one that does not matter in `by`.
fn shares(snapshot: &Snapshot, policy: &BalancePolicy, by: &Snapshot) -> Vec<Option<Vec<f64>>> {
    let nodes = 0..snapshot.nodes.len();
    let of_dimension = |dimension: usize| {
        let loads: Vec<f64> = nodes.clone().map(|node| load(snapshot, node, dimension)).collect();
        let capacity = |node: usize| snapshot.nodes[node].capacity[dimension] as f64;
        let staying = nodes.clone().filter(|node| !snapshot.nodes[*node].is_leaving);
        let mean = loads.iter().sum::<f64>() / staying.map(capacity).sum::<f64>();
        let share = |node: usize| {
            if capacity(node) > 0.0 { loads[node] / capacity(node) / mean } else { 0.0 }
        };
        matters(by, policy, dimension).then(|| nodes.clone().map(share).collect())
    };
    (0..DIMENSIONS).map(of_dimension).collect()
}

/// The most loaded staying node's share.
pub fn worst(snapshot: &Snapshot, policy: &BalancePolicy) -> f64 {
    worst_by(snapshot, policy, snapshot)
}

fn worst_by(snapshot: &Snapshot, policy: &BalancePolicy, by: &Snapshot) -> f64 {
    let shares = shares(snapshot, policy, by);
    let shares = shares.iter().flatten().flat_map(|shares| shares.iter().enumerate());
    let staying = shares.filter(|(node, _)| !snapshot.nodes[*node].is_leaving);
    staying.map(|(_, share)| *share).fold(0.0, f64::max)
}

fn domains(snapshot: &Snapshot, replicas: &[u32]) -> usize {
    let domain = |node: &u32| snapshot.nodes[*node as usize].fault_domain;
    replicas.iter().map(domain).collect::<BTreeSet<_>>().len()
}

/// `by`: what the snapshot was when it was decided which dimensions matter: before the plan.
pub fn score(snapshot: &Snapshot, policy: &BalancePolicy, by: &Snapshot) -> Score {
    let (mut replicas_wanted, mut leaders_misplaced, mut domains_shared) = (0, 0, 0);
    for view in &snapshot.partitions {
        replicas_wanted += u64::from(view.replicas_wanted.saturating_sub(view.replica_count));
        let leaves = |node: &&u32| snapshot.nodes[**node as usize].is_leaving;
        replicas_wanted += view.replicas().iter().filter(leaves).count() as u64;
        let leader = view.leader_node().map(|node| &snapshot.nodes[node as usize]);
        let is_misplaced =
            leader.is_some_and(|node| !node.is_gone && (node.is_leaving || !node.may_lead));
        leaders_misplaced += u64::from(is_misplaced);
        let alive: Vec<u32> = (view.replicas().iter().copied())
            .filter(|node| !snapshot.nodes[*node as usize].is_gone)
            .collect();
        domains_shared += u64::from(domains(snapshot, &alive) < alive.len());
    }
    let mut overload = 0.0;
    for (node, view) in snapshot.nodes.iter().enumerate().filter(|(_, view)| !view.is_leaving) {
        let limited = (0..STORED_BYTES).filter(|dimension| view.capacity[*dimension] > 0);
        let used = limited.map(|at| load(snapshot, node, at) / view.capacity[at] as f64);
        let excess = used.fold(0.0, f64::max) - f64::from(policy.overload_permille) / 1e3;
        overload += excess.max(0.0);
    }
    // Each dimension's mean square share, every node counting by its part of the zone's capacity.
    let mut unevenness = 0.0;
    for (dimension, shares) in shares(snapshot, policy, by).iter().enumerate() {
        let capacity = |node: usize| snapshot.nodes[node].capacity[dimension] as f64;
        let staying = (0..snapshot.nodes.len()).filter(|node| !snapshot.nodes[*node].is_leaving);
        let whole: f64 = staying.map(capacity).sum();
        for (node, share) in shares.iter().flatten().enumerate() {
            let weight = f64::from(policy.dimension_weights[dimension]);
            unevenness += weight * share * share * capacity(node) / whole;
        }
    }
    Score {
        replicas_wanted,
        leaders_misplaced,
        domains_shared,
        overload_ppm: (overload * 1e6).round() as u64,
        worst_share_ppm: (worst_by(snapshot, policy, by) * 1e6).round() as u64,
        unevenness_ppm: (unevenness * 1e6).round() as u64,
    }
}

/// Checks that two scores are the same but for rounding.
pub fn assert_same_score(found: Score, expected: Score) {
    let safety =
        |score: Score| (score.replicas_wanted, score.leaders_misplaced, score.domains_shared);
    assert_eq!(safety(found), safety(expected));
    // One rounding for each node.
    assert!(found.overload_ppm.abs_diff(expected.overload_ppm) <= 100, "{found:?} {expected:?}");
    assert!(
        found.worst_share_ppm.abs_diff(expected.worst_share_ppm) <= 1,
        "{found:?} {expected:?}"
    );
    assert!(found.unevenness_ppm.abs_diff(expected.unevenness_ppm) <= 1, "{found:?} {expected:?}");
}

/// Checks every rule that a plan has to keep, against the snapshot that it was made from.
pub fn check_rules(snapshot: &Snapshot, policy: &BalancePolicy, plan: &BalancePlan) {
    let domain = |node: u32| snapshot.nodes[node as usize].fault_domain;
    let (mut at_node, mut at_domain) = (BTreeMap::new(), BTreeMap::new());
    let (mut zone, mut bytes, mut transfers, mut splits) = (0, 0, 0, 0);
    let mut arriving: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut changed, mut first) = (BTreeSet::new(), None);
    let mut count = |source: u32, to: u32| {
        zone += 1;
        for node in [source, to] {
            *at_node.entry(node).or_insert(0_u32) += 1;
        }
        for domain in BTreeSet::from([domain(source), domain(to)]) {
            *at_domain.entry(domain).or_insert(0_u32) += 1;
        }
    };
    let mut held: Vec<u64> =
        (0..snapshot.nodes.len()).map(|node| load(snapshot, node, STORED_BYTES) as u64).collect();
    for view in &snapshot.partitions {
        if let Running::Move { from, to } = view.running {
            count(from, to);
            if !view.is_on(from) {
                held[from as usize] += view.copied_bytes();
            }
        }
    }
    for action in &plan.actions {
        let view = &snapshot.partitions[action.index as usize];
        let (from, to) = (action.from.index, action.to.index);
        assert_eq!(view.id, action.partition);
        assert_eq!(view.running, Running::Nothing, "{}", action.reason());
        assert!(changed.insert(action.index), "twice: {}", action.reason());
        let is_urgent = matches!(action.goal, Goal::Safety | Goal::Overload);
        assert!(is_urgent || view.cooldown_until <= snapshot.time, "{}", action.reason());
        let target = &snapshot.nodes[to as usize];
        match action.tool {
            Tool::TransferLeadership => {
                assert!(target.may_lead && !target.is_leaving && view.is_on(to));
                transfers += 1;
            }
            Tool::MoveReplica | Tool::AddReplica => {
                let is_move = action.tool == Tool::MoveReplica;
                check_place(snapshot, view, is_move.then_some(from), to);
                assert!(!(is_move && view.leader_node() == Some(from)) || target.may_lead);
                let alive = |node: &u32| !snapshot.nodes[*node as usize].is_gone;
                let from_leader = view.leader_node().filter(alive);
                let other = view.replicas().iter().copied().find(alive);
                let source = if alive(&from) { from } else { from_leader.or(other).unwrap() };
                count(source, to);
                *arriving.entry(to).or_default() += view.copied_bytes();
                if action.goal != Goal::Safety {
                    bytes += view.copied_bytes();
                    first.get_or_insert(view.copied_bytes());
                }
            }
            Tool::Split { .. } => splits += 1,
            Tool::Throttle { .. } => {}
        }
    }
    assert!(zone <= policy.moves_zone_max, "{zone} moves");
    assert!(at_node.values().all(|moves| *moves <= policy.moves_node_max), "{at_node:?}");
    assert!(
        at_domain.values().all(|moves| *moves <= policy.moves_fault_domain_max),
        "{at_domain:?}"
    );
    // The first may be of any size.
    assert!(bytes - first.unwrap_or(0) <= policy.plan_bytes_max, "{bytes} bytes");
    assert!(transfers <= policy.transfers_max && splits <= policy.splits_max);
    // Nothing that leaves has left while the rest arrives.
    for (node, bytes) in arriving {
        let capacity = snapshot.nodes[node as usize].capacity[STORED_BYTES];
        let max = capacity as u128 * u128::from(policy.stored_max_permille) / 1_000;
        assert!(capacity == 0 || u128::from(held[node as usize] + bytes) <= max, "node {node}");
    }
}

fn check_place(snapshot: &Snapshot, view: &PartitionView, from: Option<u32>, to: u32) {
    let target = &snapshot.nodes[to as usize];
    assert!(target.may_receive && !target.is_leaving && !view.is_on(to));
    let mut after: Vec<u32> =
        view.replicas().iter().copied().filter(|node| Some(*node) != from).collect();
    after.push(to);
    let is_alive = |node: &u32| !snapshot.nodes[*node as usize].is_gone;
    let before: Vec<u32> = view.replicas().iter().copied().filter(is_alive).collect();
    after.retain(is_alive);
    assert!(domains(snapshot, &after) >= domains(snapshot, &before), "fault domains are lost");
}
