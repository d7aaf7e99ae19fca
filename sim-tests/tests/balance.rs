//! One case of the planner's benchmark on models, once more as a whole zone: members, index nodes and clients under
//! simulation have to take the course that the model takes, from the same zone under the same load.

#[path = "../../control-plane/model/examples/balance/world.rs"]
mod course;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use client::Client;
use futures_util::{FutureExt, future::join_all};
use model::{
    balance::{BalancePolicy, Memory, NodeView, PROCESSOR, PartitionView, Snapshot},
    ids::{NodeId, PartitionId, ZoneTime},
};
use runtime::seams::Environment;
use sim_tests::{
    board::{Board, Phase},
    seed::Seed,
    trace::{Print, Trace},
    workload::{self, WorkloadOptions},
    world::{World, WorldOptions},
    zone::{self, ZoneOptions},
};

const NODES: u32 = 3;
const PARTITIONS: u32 = 12;
/// Requests per second for each partition that the first node leads at first, and for each of the others: twice as much
/// comes to the first node as to a node on average, and two transfers make it exactly even.
const HOT_PER_SECOND: u64 = 24;
const COLD_PER_SECOND: u64 = 6;
const POLL_COST: Duration = Duration::from_millis(3);
/// An index node of the simulation has two cores.
const CAPACITY_US: u64 = 2_000_000;
const WATCHED_S: u64 = 120;
const GOAL_PERMILLE: u64 = 1_150;

/// By partition, the node that leads it, at so many milliseconds.
type Look = (u64, BTreeMap<u64, u64>);

/// What comes to the zone, and who leads.
#[derive(Default)]
struct Seen {
    /// Requests that were answered, by partition.
    answered: BTreeMap<u64, u64>,
    failed: u64,
    looks: Vec<Look>,
}

impl Seen {
    fn note(&mut self, partition: u64, is_ok: bool) {
        if is_ok {
            *self.answered.entry(partition).or_default() += 1;
        } else {
            self.failed += 1;
        }
    }
}

/// How a zone became even.
#[derive(Clone, Copy, Debug)]
struct Course {
    first_permille: u64,
    last_permille: u64,
    /// Since when its greatest utilisation against the mean has not been above the goal.
    even_after_ms: u64,
    transfers: u64,
    last_change_ms: u64,
}

fn leaders(client: &Client) -> Option<BTreeMap<u64, u64>> {
    let map = client.partition_map()?;
    let led = map.partitions.iter().map(|route| (route.partition_id, route.leader_node_id));
    Some(led.collect())
}

/// Asks for one key so many times per second.
async fn ask(
    environment: &Environment,
    client: &Client,
    key: bytes::Bytes,
    per_second: u64,
    seen: &RefCell<Seen>,
) {
    let partition = client.partition_of(&key).expect("the map covers all keys").0;
    let interval = Duration::from_nanos(1_000_000_000 / per_second);
    let mut next = environment.now();
    loop {
        let is_ok = client.get(key.clone()).await.is_ok();
        seen.borrow_mut().note(partition, is_ok);
        next = next + interval;
        environment.sleep(next.since(environment.now())).await;
    }
}

/// One client for each partition, which asks for its first key, and somebody who looks once a second.
async fn load(
    environment: Environment,
    members: Vec<String>,
    board: Board,
    seen: Rc<RefCell<Seen>>,
) -> anyhow::Result<()> {
    board.reached(Phase::Faults).await;
    let keys = workload::keys(2 * PARTITIONS);
    let client = Client::connect(&environment, &members, client::Options::default()).await?;
    let first = leaders(&client).expect("a map came with the connection");
    let hottest = first.values().min().copied();
    let started_at = environment.now();
    let asking = keys.into_iter().step_by(2).map(|key| {
        let partition = client.partition_of(&key).map(|id| id.0);
        let is_hot = partition.and_then(|id| first.get(&id).copied()) == hottest;
        let per_second = if is_hot { HOT_PER_SECOND } else { COLD_PER_SECOND };
        ask(&environment, &client, key, per_second, &seen)
    });
    let looking = async {
        loop {
            let at = environment.now().since(started_at).as_millis();
            let leaders = leaders(&client).expect("there is a map");
            seen.borrow_mut().looks.push((u64::try_from(at).expect("soon"), leaders));
            environment.sleep(Duration::from_secs(1)).await;
        }
    };
    futures_util::join!(join_all(asking), looking);
    Ok(())
}

/// The greatest load of a node against the mean, in thousandths.
fn worst_permille(leaders: &BTreeMap<u64, u64>, answered: &BTreeMap<u64, u64>) -> u64 {
    let mut loads: BTreeMap<u64, u64> = BTreeMap::new();
    for (partition, count) in answered {
        *loads.entry(leaders[partition]).or_default() += count;
    }
    let (most, sum) = (loads.values().max().copied().unwrap_or(0), loads.values().sum::<u64>());
    most * u64::from(NODES) * 1_000 / sum.max(1)
}

/// The whole zone, simulated.
fn simulated() -> (Course, Seen) {
    let options = ZoneOptions {
        members: 1,
        index_nodes: NODES,
        partitions: PARTITIONS,
        workload: WorkloadOptions { clients: 0, keys: 2 * PARTITIONS, ..Default::default() },
        poll_cost: Some(POLL_COST),
        commands: Some(Vec::new()),
        ..ZoneOptions::default()
    };
    let mut world = World::new(Seed(1), &WorldOptions::default(), Trace::new(Print::Nothing));
    let zone = zone::build(&mut world, Seed(1), &options);
    let (seen, board) = (Rc::<RefCell<Seen>>::default(), zone.board.clone());
    let members: Vec<String> =
        zone.cast.members.iter().map(|member| format!("{member}:{}", zone::MEMBER_PORT)).collect();
    let seen_by_load = Rc::clone(&seen);
    world.add_driver("load", move |environment| {
        load(environment, members, board, seen_by_load).boxed_local()
    });
    let step = |world: &mut World| {
        world.step().expect("no driver fails");
        assert_eq!(world.take_endings(), []);
        assert_eq!(zone.witness.problem(), None);
        assert_eq!(zone.board.first_problem(), None);
    };
    while !zone.board.is_available() {
        step(&mut world);
    }
    zone.board.enter(Phase::Faults);
    let until = world.now() + Duration::from_secs(WATCHED_S);
    while world.now() < until {
        step(&mut world);
    }
    let seen = seen.take();
    let mut course = Course {
        first_permille: 0,
        last_permille: 0,
        even_after_ms: 0,
        transfers: 0,
        last_change_ms: 0,
    };
    for (place, (at_ms, leaders)) in seen.looks.iter().enumerate() {
        // Between two terms nobody may be known to lead.
        let before = seen.looks[..place].last().map_or(leaders, |(_, before)| before);
        let changed = leaders.iter().filter(|(id, node)| before[id] != **node).count();
        if changed > 0 {
            course.transfers += u64::try_from(changed).expect("few");
            course.last_change_ms = *at_ms;
        }
        course.last_permille = worst_permille(leaders, &seen.answered);
        if place == 0 {
            course.first_permille = course.last_permille;
        }
        if course.last_permille > GOAL_PERMILLE {
            course.even_after_ms = *at_ms;
        }
    }
    (course, seen)
}

/// The model of the benchmark, with what the simulated zone began with and what came to it.
fn modelled(seen: &Seen) -> Course {
    let (_, leaders) = seen.looks.first().expect("it was looked at");
    let node = |number: u32| {
        let mut capacity = [0; 5];
        capacity[PROCESSOR] = CAPACITY_US;
        let id = NodeId(u64::from(number) + 1);
        NodeView {
            id,
            fault_domain: number,
            capacity,
            may_receive: true,
            may_lead: true,
            ..NodeView::default()
        }
    };
    let nodes: Vec<u64> = {
        let mut nodes: Vec<u64> = leaders.values().copied().collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    };
    let partition = |(id, leader): (&u64, &u64)| {
        let leader = nodes.iter().position(|node| node == leader).expect("it is one of them");
        let mut view = PartitionView {
            id: PartitionId(*id),
            replica_count: 3,
            replicas_wanted: 3,
            leader: u8::try_from(leader).expect("one of three"),
            ..PartitionView::default()
        };
        view.nodes[..3].copy_from_slice(&[0, 1, 2]);
        // Each request is polled twice.
        let cost_us = u64::try_from(2 * POLL_COST.as_micros()).expect("milliseconds");
        view.leader_heat[PROCESSOR] = seen.answered[id] * cost_us / WATCHED_S;
        view
    };
    let snapshot = Snapshot {
        time: ZoneTime(0),
        nodes: (0..NODES).map(node).collect(),
        partitions: leaders.iter().map(partition).collect(),
        memory: Memory::default(),
    };
    let mut world = course::World::new(snapshot, 5, 0);
    let first_permille = world.worst_permille();
    world.run(&BalancePolicy::DEFAULT, WATCHED_S * 1_000, GOAL_PERMILLE);
    assert_eq!((world.moves, world.bytes, world.returns), (0, 0, 0), "every node has a replica");
    Course {
        first_permille,
        last_permille: world.worst_permille(),
        even_after_ms: world.last_above_ms,
        transfers: world.transfers,
        last_change_ms: world.last_change_ms,
    }
}

#[test]
fn the_model_and_the_simulated_zone_take_the_same_course() {
    let (zone, seen) = simulated();
    let model = modelled(&seen);
    let both = format!("zone {zone:?}, model {model:?}");
    assert_eq!(seen.failed, 0, "{both}");
    assert_eq!(zone.first_permille, model.first_permille, "{both}");
    assert!(zone.first_permille > 1_900, "{both}");
    assert_eq!((zone.transfers, model.transfers), (2, 2), "{both}");
    for course in [&zone, &model] {
        assert!(course.last_permille <= 1_020, "{both}");
        // Not before the policy's half minute, nor long after it; and then nothing more.
        assert!((29_000..60_000).contains(&course.even_after_ms), "{both}");
        assert!(course.last_change_ms <= course.even_after_ms + 2_000, "{both}");
    }
    // Averages of load follow it with a half-life of 10 s, which the model leaves out.
    let apart = zone.even_after_ms.abs_diff(model.even_after_ms);
    assert!(apart <= 15_000, "{both}");
    println!("{both}");
}
