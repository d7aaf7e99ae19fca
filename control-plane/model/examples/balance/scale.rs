//! How long plans take, from a thousand partitions to a million, three replicas each.

use std::time::Instant;

use model::{
    balance::{
        Amounts, BalancePlan, BalancePolicy, Change, EFFORT_DEFAULT, Memory, NodeView,
        PartitionView, Planner, Snapshot,
    },
    ids::{NodeId, PartitionId, ZoneTime},
    seeded::{FRACTION_BITS, Seeded},
};

const DOMAINS: usize = 50;

pub fn run() {
    println!(
        "goals at 1,000,000 × 3 on 1,000 nodes: a full plan ≤ 2,000 ms, after a node's loss ≤ 200 ms"
    );
    println!(
        "{:>10} {:>6} {:>10} {:>11} {:>8} {:>11} {:>12} {:>9} {:>12} {:>10}",
        "partitions",
        "nodes",
        "taking in",
        "full plan",
        "actions",
        "max ÷ mean",
        "nothing new",
        "node lost",
        "its actions",
        "resident"
    );
    // Nothing holds the full plan back but its effort.
    let unbounded = BalancePolicy {
        act_after_ms: 0,
        moves_zone_max: 1_000_000,
        moves_node_max: 1_000_000,
        moves_fault_domain_max: 1_000_000,
        transfers_max: 1_000_000,
        plan_bytes_max: u64::MAX,
        move_bytes_per_s: 0,
        move_processor_us: 0,
        ..BalancePolicy::default()
    };
    for count in [1_000, 10_000, 100_000, 1_000_000] {
        let snapshot = drawn(count, (count / 1_000).max(10));
        let nodes = snapshot.nodes.len();
        let (mut planner, taking_in) = timed(|| Planner::new(snapshot).expect("it is well formed"));
        let run = |planner: &Planner| -> BalancePlan {
            planner.plan(&unbounded, 1, EFFORT_DEFAULT).expect("the policy is sound")
        };
        let (plan, full) = timed(|| run(&planner));
        let resident = resident_mib();
        carry_out(&mut planner, &plan);
        let (_, again) = timed(|| run(&planner));
        let lost = NodeView {
            is_leaving: true,
            is_gone: true,
            may_lead: false,
            may_receive: false,
            ..node(0)
        };
        let (repair, after_loss) = timed(|| {
            planner.apply(Change::Node { index: 0, node: lost }).expect("it is well formed");
            run(&planner)
        });
        println!(
            "{count:>10} {nodes:>6} {taking_in:>7.0} ms {full:>8.0} ms {:>8} {:>11} {again:>9.1} ms {after_loss:>6.1} ms {:>12} {resident:>6} MiB",
            plan.actions.len(),
            format!(
                "{:.2}→{:.3}",
                plan.before.worst_share_ppm as f64 / 1e6,
                plan.after.worst_share_ppm as f64 / 1e6
            ),
            repair.actions.len(),
        );
    }
}

fn node(index: usize) -> NodeView {
    let capacity: Amounts = [100_000, 50_000, 2 << 30, 16_000_000, 8 << 40];
    NodeView {
        id: NodeId(index as u64 + 1),
        fault_domain: (index % DOMAINS) as u32,
        capacity,
        may_receive: true,
        may_lead: true,
        ..NodeView::default()
    }
}

/// Placed at random, with a long tail of heat, so that nodes differ by what chance does.
fn drawn(count: usize, nodes: usize) -> Snapshot {
    let mut seeded = Seeded::new(1);
    let each = nodes as u64 * 1_000_000 / count as u64;
    let partitions = (0..count).map(|index| {
        let share = (seeded.exponential() * each) >> FRACTION_BITS;
        let share = if seeded.below(1_000) == 0 { share * 20 } else { share };
        let of = |amount: u64| amount * share / 1_000_000;
        let follower: Amounts = [0, of(5_000), of(50 << 20), of(800_000), of(1 << 40)];
        let leader: Amounts = [of(30_000), of(5_000), of(200 << 20), of(4_000_000), of(1 << 40)];
        let mut view = PartitionView {
            id: PartitionId(index as u64 + 1),
            replica_count: 3,
            replicas_wanted: 3,
            leader_heat: leader,
            follower_heat: follower,
            ..PartitionView::default()
        };
        // Three distinct fault domains, if there are so many.
        let first = seeded.below(nodes);
        let step = 1 + seeded.below(nodes.min(DOMAINS) / 3);
        for replica in 0..3 {
            view.nodes[replica] = ((first + replica * step) % nodes) as u32;
        }
        view
    });
    Snapshot {
        time: ZoneTime(1_000_000),
        partitions: partitions.collect(),
        nodes: (0..nodes).map(node).collect(),
        memory: Memory::default(),
    }
}

fn carry_out(planner: &mut Planner, plan: &BalancePlan) {
    for action in &plan.actions {
        let mut partition = planner.partitions()[action.index as usize].clone();
        let place = |node: u32| partition.replicas().iter().position(|other| *other == node);
        match (place(action.from.index), place(action.to.index)) {
            (Some(_), Some(to)) => partition.leader = to as u8,
            (Some(from), None) => partition.nodes[from] = action.to.index,
            (None, _) => continue,
        }
        let change = Change::Partition { index: action.index, partition };
        planner.apply(change).expect("it is well formed");
    }
    planner.apply(Change::Memory { memory: plan.memory.clone() }).expect("it is well formed");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed().as_secs_f64() * 1e3)
}

/// Memory of this process.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
