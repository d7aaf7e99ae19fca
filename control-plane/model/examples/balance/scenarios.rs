//! Skewed zones that others have published figures for. Where their set-up cannot be made again exactly, the
//! table says so.

use model::{
    balance::{
        Amounts, BalancePolicy, Memory, NodeView, PROCESSOR, PartitionView, STORED_BYTES, Snapshot,
    },
    ids::{NodeId, PartitionId, ZoneTime},
};

use crate::{
    bounds::{best_permille, least_bytes},
    world::World,
};

const RUN_MS: u64 = 30 * 60_000;
/// A zone in which nothing has changed for so long at the end is at rest.
const REST_MS: u64 = 5 * 60_000;
const REPLICAS: usize = 3;

struct Scenario {
    name: &'static str,
    /// Processors of each node.
    processors: Vec<u64>,
    /// For each partition: the first of its three nodes, and the processor time of its leader and of each
    /// of its followers, in microseconds per second.
    partitions: Vec<(usize, u64, u64)>,
    report_delay_ms: u64,
    noise_percent: usize,
    peer: &'static str,
}

/// Runs all of them for half an hour of their time.
pub fn run() {
    println!("max ÷ mean utilisation of processor time, after 30 min; 512 MiB each partition");
    println!(
        "{:<46} {:>6} {:>6} {:>6} {:>9} {:>8} {:>9} {:>6} {:>7} {:>9} {:>7}  elsewhere",
        "scenario",
        "before",
        "after",
        "best",
        "≤1.15 at",
        "rest at",
        "transfers",
        "moves",
        "GiB",
        "least GiB",
        "returns"
    );
    for scenario in scenarios() {
        let snapshot = scenario.snapshot();
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let least = least_bytes(&snapshot.nodes, &snapshot.partitions, 1_050);
        let mut world = World::new(snapshot, scenario.noise_percent, scenario.report_delay_ms);
        let before = world.worst_permille();
        world.run(&BalancePolicy::default(), RUN_MS, 1_150);
        let time = |is_reached: bool, at_ms: u64| {
            if is_reached { format!("{:.0} s", at_ms as f64 / 1e3) } else { "never".to_owned() }
        };
        let best = best_permille(&world.snapshot.nodes, &world.heat, REPLICAS as u64);
        println!(
            "{:<46} {:>6.3} {:>6.3} {:>6.3} {:>9} {:>8} {:>9} {:>6} {:>7.1} {:>9.1} {:>7}  {}",
            scenario.name,
            before as f64 / 1e3,
            world.worst_permille() as f64 / 1e3,
            best as f64 / 1e3,
            time(world.worst_permille() <= 1_150, world.last_above_ms),
            time(world.last_change_ms + REST_MS < RUN_MS, world.last_change_ms),
            world.transfers,
            world.moves,
            gib(world.bytes),
            gib(least),
            world.returns,
            scenario.peer,
        );
    }
    println!("(1) Heat and sizes are not published in full: this is one set-up that fits what is.");
}

fn scenarios() -> Vec<Scenario> {
    let hot_and_cold = || {
        let hot = (0..36).map(|index| (index % 3, 600_000, 60_000));
        hot.chain((0..72).map(|index| (index % 9, 20_000, 5_000))).collect::<Vec<_>>()
    };
    let spread = |index: usize| (index * 7 % 25, 20_000, 5_000);
    let on_three = |index: usize| (index % 3, 900_000, 30_000);
    vec![
        Scenario {
            name: "7 nodes, 7 ranges, all on three (1)",
            processors: vec![4; 7],
            partitions: vec![(0, 1_500_000, 0); 7],
            report_delay_ms: 0,
            noise_percent: 0,
            peer: "goal: ≤ 1.15 within 180 s",
        },
        Scenario {
            name: "3 nodes, 200 leaders on one",
            processors: vec![4; 3],
            partitions: vec![(0, 15_000, 3_000); 200],
            report_delay_ms: 0,
            noise_percent: 3,
            peer: "CockroachDB's simulator: 1.15 after 3.5 to 27 min",
        },
        Scenario {
            name: "9 nodes × 5 CPUs, 36 hot + 72 cold (1)",
            processors: vec![5; 9],
            partitions: hot_and_cold(),
            report_delay_ms: 0,
            noise_percent: 3,
            peer: "CockroachDB's simulator: 1.02 to 1.99",
        },
        Scenario {
            name: "25 nodes × 8 CPUs, 100 ranges, heat on three (1)",
            processors: vec![8; 25],
            partitions: (0..75).map(spread).chain((0..25).map(on_three)).collect(),
            report_delay_ms: 0,
            noise_percent: 3,
            peer: "CockroachDB's simulator: 1.50",
        },
        Scenario {
            name: "nodes of 8, 8 and 16 CPUs, 120 ranges (1)",
            processors: vec![8, 8, 16],
            partitions: (0..120).map(|index| (index % 3, 120_000, 6_000)).collect(),
            report_delay_ms: 0,
            noise_percent: 3,
            peer: "CockroachDB's simulator misses 1.10",
        },
        Scenario {
            name: "9 nodes as above, reports 20 s old (1)",
            processors: vec![5; 9],
            partitions: hot_and_cold(),
            report_delay_ms: 20_000,
            noise_percent: 3,
            peer: "CockroachDB's simulator: 3.50, and it thrashes",
        },
    ]
}

impl Scenario {
    fn snapshot(&self) -> Snapshot {
        let count = self.processors.len();
        let node = |(index, processors): (usize, &u64)| {
            let mut capacity: Amounts = [0; 5];
            capacity[PROCESSOR] = processors * 1_000_000;
            NodeView {
                id: NodeId(index as u64 + 1),
                fault_domain: index as u32,
                capacity,
                may_receive: true,
                may_lead: true,
                ..NodeView::default()
            }
        };
        let partition = |(index, (first, leader, follower)): (usize, &(usize, u64, u64))| {
            let mut view = PartitionView {
                id: PartitionId(index as u64 + 1),
                replica_count: REPLICAS as u8,
                replicas_wanted: REPLICAS as u8,
                ..PartitionView::default()
            };
            for replica in 0..REPLICAS {
                view.nodes[replica] = ((first + replica) % count) as u32;
            }
            view.leader_heat[PROCESSOR] = *leader;
            view.follower_heat[PROCESSOR] = *follower;
            view.leader_heat[STORED_BYTES] = 512 << 20;
            view.follower_heat[STORED_BYTES] = 512 << 20;
            view
        };
        Snapshot {
            time: ZoneTime(0),
            nodes: self.processors.iter().enumerate().map(node).collect(),
            partitions: self.partitions.iter().enumerate().map(partition).collect(),
            memory: Memory::default(),
        }
    }
}
