//! Rounds of chaos after those that Databricks published for Dicer: nodes come and go, the load is anything,
//! and in half of the rounds one key has half of it. Slices have one copy, and are not cut anew.

use model::{
    balance::{
        Amounts, BalancePolicy, Departed, Departure, EFFORT_DEFAULT, Memory, NodeView, PROCESSOR,
        PartitionView, Snapshot, Tool, plan,
    },
    ids::{NodeId, PartitionId, ZoneTime},
    seeded::Seeded,
};

const ROUNDS: usize = 1_000;
const NODES: usize = 8;
const SLICES: usize = 128;
const CAPACITY: u64 = 1_000_000;
/// Plans in one round at most.
const PLANS_MAX: usize = 40;
const ROUND_MS: u64 = 600_000;

/// What came of some rounds.
#[derive(Default)]
struct Found {
    unevenness: Vec<f64>,
    /// How much of that is above the least that the largest slice allows.
    avoidable: Vec<f64>,
}

pub fn run() {
    let mut seeded = Seeded::new(1);
    let policy = BalancePolicy {
        reversal_ban_ms: ROUND_MS / 2,
        reversal_ban_overload_ms: ROUND_MS / 2,
        reversal_window_ms: ROUND_MS / 2,
        act_after_ms: 0,
        cooldown_ms: 0,
        idle_permille: 1,
        noise_permille: 0,
        // What is measured against is the mean, or all of a node's capacity if that is more.
        act_above_permille: 1_010,
        stop_at_permille: 1_005,
        gain_min_permille: 5,
        reversal_gain_permille: 5,
        moves_zone_max: 1_000,
        moves_node_max: 1_000,
        moves_fault_domain_max: 1_000,
        move_processor_us: 0,
        ..BalancePolicy::default()
    };
    let mut partitions: Vec<PartitionView> = (0..SLICES).map(slice).collect();
    let (mut plain, mut hot, mut moved, mut forced) = (Found::default(), Found::default(), 0, 0);
    for round in 0..ROUNDS {
        let up = 6 + seeded.below(3);
        let mut order: Vec<usize> = (0..NODES).collect();
        seeded.shuffle(&mut order);
        let is_up = |node: usize| order[..up].contains(&node);
        let nodes: Vec<NodeView> = (0..NODES).map(|index| node(index, is_up(index))).collect();
        let capacity = up as u64 * CAPACITY;
        let total = seeded.below((capacity + capacity / 5) as usize) as u64;
        let has_hot_key = round % 2 == 1;
        draw_heat(&mut partitions, total, has_hot_key, &mut seeded);
        forced += partitions.iter().filter(|view| !is_up(view.nodes[0] as usize)).count();
        moved += settle(&nodes, &mut partitions, &policy, round as u64 * ROUND_MS);
        let found = if has_hot_key { &mut hot } else { &mut plain };
        let (unevenness, least) = unevenness(&nodes, &partitions, up);
        found.unevenness.push(unevenness);
        found.avoidable.push(unevenness - least);
    }
    println!("{ROUNDS} rounds of chaos: (max − mean) ÷ max(capacity, mean)");
    report("no hot key", &mut plain.unevenness, "Dicer's bounds: 2, 3, 4 and 35 %");
    report("one key with half of the load", &mut hot.unevenness, "bound by the key itself");
    report("  of it above the least possible", &mut hot.avoidable, "bound: 0 %");
    let all = (ROUNDS * SLICES) as f64;
    println!(
        "  {:<34} {:.1} % of the slices in a round; {:.1} % were on nodes that had gone",
        "moved",
        moved as f64 * 100.0 / all,
        forced as f64 * 100.0 / all,
    );
}

fn report(name: &str, found: &mut [f64], elsewhere: &str) {
    found.sort_by(f64::total_cmp);
    let at = |percent: usize| found[(found.len() * percent / 100).min(found.len() - 1)] * 100.0;
    println!(
        "  {name:<34} p50 {:>6.2} %  p90 {:>6.2} %  p95 {:>6.2} %  p99 {:>6.2} %   ({elsewhere})",
        at(50),
        at(90),
        at(95),
        at(99)
    );
}

fn slice(index: usize) -> PartitionView {
    let mut view = PartitionView {
        id: PartitionId(index as u64 + 1),
        replica_count: 1,
        replicas_wanted: 1,
        ..PartitionView::default()
    };
    view.nodes[0] = (index % NODES) as u32;
    view
}

fn node(index: usize, is_up: bool) -> NodeView {
    let mut capacity: Amounts = [0; 5];
    capacity[PROCESSOR] = CAPACITY;
    NodeView {
        id: NodeId(index as u64 + 1),
        fault_domain: index as u32,
        capacity,
        may_receive: is_up,
        may_lead: is_up,
        is_leaving: !is_up,
        is_gone: false,
    }
}

/// Densities of one to four, and half of the load for one slice's one key.
fn draw_heat(partitions: &mut [PartitionView], total: u64, hot_key: bool, seeded: &mut Seeded) {
    let densities: Vec<u64> =
        partitions.iter().map(|_| 1_000 + seeded.below(3_001) as u64).collect();
    let sum: u64 = densities.iter().sum();
    let (common, special) = if hot_key { (total / 2, total / 2) } else { (total, 0) };
    for (view, density) in partitions.iter_mut().zip(densities) {
        view.leader_heat[PROCESSOR] = common * density / sum;
        view.hottest_key_permille = 0;
    }
    if hot_key {
        let hot = seeded.below(partitions.len());
        partitions[hot].leader_heat[PROCESSOR] += special;
        partitions[hot].hottest_key_permille = 950;
    }
}

/// Plans and carries out until nothing more is planned; returns the moves.
fn settle(
    nodes: &[NodeView],
    partitions: &mut [PartitionView],
    policy: &BalancePolicy,
    start_ms: u64,
) -> usize {
    let (mut moves, mut memory) = (0, Memory::default());
    for step in 0..PLANS_MAX {
        let time = ZoneTime(start_ms + ROUND_MS + step as u64);
        let snapshot = Snapshot {
            time,
            nodes: nodes.to_vec(),
            partitions: partitions.to_vec(),
            memory: memory.clone(),
        };
        let plan = plan(snapshot, policy, 1, EFFORT_DEFAULT).expect("all of it is sound");
        memory = plan.memory;
        let mut carried_out = 0;
        for action in plan.actions.iter().filter(|action| action.tool == Tool::MoveReplica) {
            let view = &mut partitions[action.index as usize];
            let from = view.nodes[0];
            view.nodes[0] = action.to.index;
            for what in [Departed::Replica, Departed::Leadership] {
                view.depart(Departure { from, at: time, what });
            }
            carried_out += 1;
        }
        moves += carried_out;
        if carried_out == 0 {
            break;
        }
    }
    moves
}

/// How far the most loaded node is above the mean, and how far the largest slice alone is.
fn unevenness(nodes: &[NodeView], partitions: &[PartitionView], up: usize) -> (f64, f64) {
    let mut loads = vec![0_u64; nodes.len()];
    for view in partitions {
        loads[view.nodes[0] as usize] += view.leader_heat[PROCESSOR];
    }
    let mean = loads.iter().sum::<u64>() as f64 / up as f64;
    let above = |load: u64| (load as f64 - mean).max(0.0) / mean.max(CAPACITY as f64);
    let largest = partitions.iter().map(|view| view.leader_heat[PROCESSOR]).max().unwrap_or(0);
    (above(loads.iter().max().copied().unwrap_or(0)), above(largest))
}
