//! The simulated world by itself. With a gRPC server of the production bootstrap as its only process: what
//! a peer sees of a kill, a power loss, a freeze, a cut and a held link. With processes that count: what a
//! process sees that is frozen, whose clock is wrong, or that ends in the middle of a call.

use std::{
    cell::RefCell, collections::BTreeSet, io::ErrorKind, ops::Range, rc::Rc, sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use runtime::{
    grpc::{self, ChannelOptions, Channels, ServerOptions},
    seams::Environment,
    store::{
        Batch, Family, Store, StoreError,
        simulated::{Side, SimulatedDisk},
        synced,
    },
};
use sim_tests::{
    gate::FrozenClock,
    seed::Seed,
    trace::{Print, Trace},
    world::{Boot, Crash, STEP, SeamCall, World, WorldOptions, program},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const ADDRESS: &str = "server:7000";

/// What the client saw of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    at: Duration,
    dial: Result<(), ErrorKind>,
    call: bool,
}

async fn serve(boot: Boot) -> anyhow::Result<()> {
    let listener = boot.environment.network.listen(ADDRESS).await?;
    let routes = Routes::default();
    let shutdown = CancellationToken::new();
    Ok(grpc::serve(listener, routes, &ServerOptions::default(), shutdown).await?)
}

/// Dials and calls again and again.
async fn watch(environment: Environment, seen: Rc<RefCell<Vec<Seen>>>) -> anyhow::Result<()> {
    let channels = Channels::new(&environment, ChannelOptions::default())?;
    loop {
        let limit = Duration::from_millis(200);
        let dial = environment.timeout(limit, environment.network.connect(ADDRESS)).await;
        let dial = match dial {
            None => Err(ErrorKind::TimedOut),
            Some(Err(error)) => Err(error.kind()),
            Some(Ok(_)) => Ok(()),
        };
        let mut health = HealthClient::new(channels.get(ADDRESS));
        let call = health.check(HealthCheckRequest::default());
        let call = matches!(environment.timeout(limit, call).await, Some(Ok(_)));
        let at = environment.now().since_origin();
        seen.borrow_mut().push(Seen { at, dial, call });
        let jittered = environment.jittered(Duration::from_millis(20));
        environment.sleep(jittered).await;
    }
}

/// A server that is in trouble from 1 s to 3 s, and what a client saw until 8 s.
fn observe(seed: u64, trouble: fn(&mut World), mend: fn(&mut World)) -> Vec<Seen> {
    let trace = Trace::new(Print::Nothing);
    let mut world = World::new(Seed(seed), &WorldOptions::default(), trace);
    world.add_process("server", SimulatedDisk::new(), program(serve));
    let seen = Rc::default();
    let seen_by_client = Rc::clone(&seen);
    world.add_driver("client", move |environment| watch(environment, seen_by_client).boxed_local());
    let run_until = |world: &mut World, seconds: u64| {
        while world.now() < Duration::from_secs(seconds) {
            world.step().expect("nothing fails in this world");
            assert_eq!(world.take_endings(), []);
        }
    };
    run_until(&mut world, 1);
    trouble(&mut world);
    run_until(&mut world, 3);
    mend(&mut world);
    run_until(&mut world, 8);
    seen.take()
}

/// What was seen well within the trouble, and what long after it.
fn within_and_after(seen: &[Seen]) -> (Vec<Seen>, Vec<Seen>) {
    let part = |from: u64, to: u64| -> Vec<Seen> {
        let range = Duration::from_millis(from)..Duration::from_millis(to);
        seen.iter().filter(|seen| range.contains(&seen.at)).cloned().collect()
    };
    let (before, within, after) = (part(200, 1_000), part(1_500, 3_000), part(7_500, 8_000));
    for part in [&before, &within, &after] {
        assert!(!part.is_empty(), "{seen:?}");
    }
    assert!(before.iter().all(|seen| seen.dial.is_ok() && seen.call), "before: {before:?}");
    (within, after)
}

fn assert_well(seen: &[Seen]) {
    assert!(seen.iter().all(|seen| seen.dial.is_ok() && seen.call), "{seen:?}");
}

#[test]
fn a_killed_process_refuses_connections() {
    let crash = |world: &mut World| world.crash("server", Crash::ProcessKilled);
    let (within, after) = within_and_after(&observe(1, crash, |world| world.restart("server")));
    assert!(
        within.iter().all(|seen| seen.dial == Err(ErrorKind::ConnectionRefused) && !seen.call),
        "{within:?}"
    );
    assert_well(&after);
}

#[test]
fn a_machine_without_power_says_nothing() {
    let crash = |world: &mut World| world.crash("server", Crash::PowerLost);
    let (within, after) = within_and_after(&observe(2, crash, |world| world.restart("server")));
    assert!(
        within.iter().all(|seen| seen.dial == Err(ErrorKind::TimedOut) && !seen.call),
        "{within:?}"
    );
    assert_well(&after);
}

#[test]
fn a_cut_link_is_not_taken_for_a_dead_process() {
    let cut = |world: &mut World| world.cut("server", "client");
    let (within, after) =
        within_and_after(&observe(3, cut, |world| world.heal("server", "client")));
    assert!(
        within.iter().all(|seen| seen.dial == Err(ErrorKind::TimedOut) && !seen.call),
        "{within:?}"
    );
    assert_well(&after);
}

#[test]
fn a_link_that_is_cut_one_way_carries_no_calls() {
    for (from, to) in [("server", "client"), ("client", "server")] {
        let seen = if from == "server" {
            observe(
                4,
                |world| world.cut_one_way("server", "client"),
                |world| {
                    world.heal("server", "client");
                },
            )
        } else {
            observe(
                4,
                |world| world.cut_one_way("client", "server"),
                |world| {
                    world.heal("server", "client");
                },
            )
        };
        let (within, after) = within_and_after(&seen);
        assert!(within.iter().all(|seen| !seen.call), "from {from} to {to}: {within:?}");
        assert_well(&after);
    }
}

#[test]
fn a_held_link_delivers_later() {
    let hold = |world: &mut World| world.hold("server", "client");
    let (within, after) =
        within_and_after(&observe(5, hold, |world| world.heal("server", "client")));
    assert!(within.iter().all(|seen| seen.dial.is_err() && !seen.call), "{within:?}");
    assert_well(&after);
}

#[test]
fn a_frozen_process_is_dialled_and_does_not_answer() {
    for clock in [FrozenClock::GoesOn, FrozenClock::StandsStill] {
        let freeze = match clock {
            FrozenClock::GoesOn => |world: &mut World| world.freeze("server", FrozenClock::GoesOn),
            FrozenClock::StandsStill => {
                |world: &mut World| world.freeze("server", FrozenClock::StandsStill)
            }
        };
        let (within, after) = within_and_after(&observe(8, freeze, |world| world.thaw("server")));
        assert!(within.iter().all(|seen| seen.dial == Ok(()) && !seen.call), "{within:?}");
        assert_well(&after);
    }
}

#[test]
fn a_frozen_process_can_be_killed() {
    let freeze_and_kill = |world: &mut World| {
        world.freeze("server", FrozenClock::GoesOn);
        world.crash("server", Crash::ProcessKilled);
    };
    let (within, after) =
        within_and_after(&observe(9, freeze_and_kill, |world| world.restart("server")));
    assert!(
        within.iter().all(|seen| seen.dial == Err(ErrorKind::ConnectionRefused) && !seen.call),
        "{within:?}"
    );
    assert_well(&after);
}

#[test]
fn a_muted_process_talks_only_to_whom_it_may() {
    let mute = |world: &mut World| world.mute("server", BTreeSet::new());
    let (within, after) = within_and_after(&observe(10, mute, |world| world.unmute("server")));
    assert!(within.iter().all(|seen| !seen.call), "{within:?}");
    assert_well(&after);
    let mute = |world: &mut World| world.mute("server", BTreeSet::from(["client".to_owned()]));
    let (within, _) = within_and_after(&observe(10, mute, |world| world.unmute("server")));
    assert_well(&within);
}

#[test]
fn a_slow_link_is_slow_until_it_heals() {
    let slow = |world: &mut World| world.slow_link("server", "client", Duration::from_secs(9));
    let (within, after) =
        within_and_after(&observe(11, slow, |world| world.heal("server", "client")));
    assert!(within.iter().any(|seen| !seen.call), "{within:?}");
    assert_well(&after);
}

/// When a process did something: by simulated time, and by its own clock.
type Ticks = Rc<RefCell<Vec<(Duration, Duration)>>>;

const TICK: Duration = Duration::from_millis(20);

/// Ticks by all the clocks that a process has.
async fn tick(boot: Boot, ticks: [Ticks; 3]) -> anyhow::Result<()> {
    let [by_seam, by_timer, by_raft] = ticks;
    let note = |ticks: &Ticks| {
        let own = boot.environment.now().since_origin();
        ticks.borrow_mut().push((turmoil::sim_elapsed().unwrap_or_default(), own));
    };
    let seam = async {
        loop {
            boot.environment.sleep(TICK).await;
            note(&by_seam);
        }
    };
    let timer = async {
        let mut interval = runtime::time::interval(TICK);
        loop {
            interval.tick().await;
            note(&by_timer);
        }
    };
    let raft = async {
        loop {
            <runtime::raft::RaftRuntime as openraft_rt::AsyncRuntime>::sleep(TICK).await;
            note(&by_raft);
        }
    };
    tokio::join!(seam, timer, raft);
    Ok(())
}

fn world_with_ticks(seed: u64, drift_max: u32) -> (World, [Ticks; 3]) {
    let options = WorldOptions { drift_max, ..WorldOptions::default() };
    let mut world = World::new(Seed(seed), &options, Trace::new(Print::Nothing));
    let ticks: [Ticks; 3] = Default::default();
    let noted = ticks.clone();
    let run = move |boot| tick(boot, noted.clone());
    world.add_process("ticker", SimulatedDisk::new(), program(run));
    (world, ticks)
}

fn run_until(world: &mut World, end: Duration) {
    while world.now() < end {
        world.step().expect("nothing fails in this world");
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_goes_on_in_a_frozen_process() {
    for (clock, jump) in [(FrozenClock::GoesOn, 2 * SECOND), (FrozenClock::StandsStill, TICK)] {
        let (mut world, ticks) = world_with_ticks(1, 0);
        run_until(&mut world, SECOND);
        world.freeze("ticker", clock);
        run_until(&mut world, 3 * SECOND);
        world.thaw("ticker");
        run_until(&mut world, 4 * SECOND);
        for ticks in ticks {
            let ticks = ticks.take();
            let frozen: Range<Duration> = SECOND..3 * SECOND;
            assert!(ticks.iter().all(|(at, _)| !frozen.contains(at)), "{clock:?}: {ticks:?}");
            let after = ticks.iter().position(|(at, _)| *at >= frozen.end).unwrap();
            let (before, own_before) = ticks[after - 1];
            let (_, own_after) = ticks[after];
            assert!(before >= frozen.start - 2 * TICK, "{clock:?}: {ticks:?}");
            let slept = own_after - own_before;
            assert!(slept >= TICK && slept >= jump && slept <= jump + 2 * TICK, "{slept:?}");
            assert!((30..=52).contains(&(ticks.len() - after)), "{clock:?}: {ticks:?}");
        }
    }
}

#[test]
fn clocks_drift_by_the_seed_and_all_clocks_of_a_process_alike() {
    let mut counts = BTreeSet::new();
    for seed in 0..8 {
        let (mut world, ticks) = world_with_ticks(seed, 500_000);
        run_until(&mut world, 4 * SECOND);
        let [seam, timer, raft] = ticks.map(|ticks| ticks.take().len());
        assert!(seam.abs_diff(raft) <= 1 && seam <= timer && timer <= seam * 11 / 10 + 2);
        assert!((90..310).contains(&seam), "{seam}");
        counts.insert(seam);
    }
    assert!(counts.len() > 2, "{counts:?}");
}

/// What a client heard over one connection.
async fn converse(environment: Environment, heard: Rc<RefCell<Vec<u8>>>) -> anyhow::Result<()> {
    environment.sleep(TICK).await;
    let mut connection = environment.network.connect(ADDRESS).await?;
    for number in 0..200_u8 {
        connection.write_u8(number).await?;
        environment.sleep(TICK).await;
    }
    loop {
        let number = connection.read_u8().await?;
        heard.borrow_mut().push(number);
    }
}

async fn echo(boot: Boot, connections: Rc<RefCell<u32>>) -> anyhow::Result<()> {
    let mut listener = boot.environment.network.listen(ADDRESS).await?;
    loop {
        let (mut connection, _) = listener.accept().await?;
        *connections.borrow_mut() += 1;
        while let Ok(number) = connection.read_u8().await {
            connection.write_u8(number).await?;
        }
    }
}

#[test]
fn connections_of_a_frozen_process_stay_and_lose_nothing() {
    let mut world = World::new(Seed(3), &WorldOptions::default(), Trace::new(Print::Nothing));
    let (heard, connections) = <(Rc<RefCell<Vec<u8>>>, Rc<RefCell<u32>>)>::default();
    let accepted = Rc::clone(&connections);
    let run = move |boot| echo(boot, Rc::clone(&accepted));
    world.add_process("server", SimulatedDisk::new(), program(run));
    let by_client = Rc::clone(&heard);
    world.add_driver("client", move |environment| converse(environment, by_client).boxed_local());
    run_until(&mut world, SECOND);
    world.freeze("server", FrozenClock::GoesOn);
    run_until(&mut world, 3 * SECOND);
    world.thaw("server");
    run_until(&mut world, 6 * SECOND);
    assert_eq!(heard.take(), (0..200).collect::<Vec<u8>>());
    assert_eq!(connections.take(), 1);
}

const FAMILY: Family = Family("numbers");

/// Writes and syncs one number after the other, and notes the synced ones.
async fn count(boot: Boot, acknowledged: Rc<RefCell<Vec<u8>>>) -> anyhow::Result<()> {
    let store = boot.disk.open(&[FAMILY], &boot.environment);
    for number in 1..=u8::MAX {
        // Nothing is written in the world's first step.
        boot.environment.sleep(2 * STEP).await;
        write(&store, number)?;
        synced(store.as_ref()).await?;
        acknowledged.borrow_mut().push(number);
    }
    Ok(())
}

fn write(store: &Arc<dyn Store>, number: u8) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(FAMILY, vec![number], vec![number; 3]);
    store.write(batch)
}

/// What was acknowledged and what is on the disk of a process that ended at a call.
fn end_at(seed: u64, side: Side, call: SeamCall, number: u64) -> (usize, usize) {
    let mut world = World::new(Seed(seed), &WorldOptions::default(), Trace::new(Print::Nothing));
    let acknowledged = Rc::default();
    let noted = Rc::clone(&acknowledged);
    let run = move |boot| count(boot, Rc::clone(&noted));
    world.add_process("counter", SimulatedDisk::new(), program(run));
    world.step().expect("nothing fails in this world");
    world.crash_at("counter", Crash::ProcessKilled, side, call, number);
    run_until(&mut world, SECOND);
    assert!(!world.is_running("counter"), "seed {seed}: it did not come to the call");
    let on_disk =
        |number: &u8| matches!(world.disk("counter").value(FAMILY, &[*number]), Ok(Some(_)));
    let acknowledged: Vec<u8> = acknowledged.take();
    (acknowledged.len(), (1..=u8::MAX).take_while(on_disk).count())
}

#[test]
fn a_process_ends_exactly_at_the_call() {
    let mut ends = BTreeSet::new();
    for seed in 0..20 {
        assert_eq!(end_at(seed, Side::Before, SeamCall::Write, 7), (6, 6), "seed {seed}");
        let (acknowledged, durable) = end_at(seed, Side::After, SeamCall::Write, 7);
        assert_eq!(acknowledged, 6, "seed {seed}");
        ends.insert(("write", durable));
        let (acknowledged, durable) = end_at(seed, Side::Before, SeamCall::Sync, 7);
        assert_eq!(acknowledged, 6, "seed {seed}");
        ends.insert(("sync", durable));
        assert_eq!(end_at(seed, Side::After, SeamCall::Sync, 7), (6, 7), "seed {seed}");
    }
    // What was written and not synced may survive.
    assert_eq!(ends, BTreeSet::from([("sync", 6), ("sync", 7), ("write", 6), ("write", 7)]));
}

#[test]
fn a_restart_before_the_call_takes_the_crash_back() {
    let mut world = World::new(Seed(1), &WorldOptions::default(), Trace::new(Print::Nothing));
    let run = |boot| count(boot, Rc::default());
    world.add_process("counter", SimulatedDisk::new(), program(run));
    world.step().expect("nothing fails in this world");
    world.crash_at("counter", Crash::PowerLost, Side::Before, SeamCall::Write, 50);
    run_until(&mut world, TICK);
    world.restart("counter");
    run_until(&mut world, SECOND);
    assert!(world.is_running("counter"));
}

#[test]
fn a_damaged_record_is_mended_and_a_wiped_disk_is_empty() {
    let mut world = World::new(Seed(1), &WorldOptions::default(), Trace::new(Print::Nothing));
    let run = |boot: Boot| async move {
        let store = boot.disk.open(&[FAMILY], &boot.environment);
        if boot.number == 0 {
            write(&store, 1)?;
            synced(store.as_ref()).await?;
        }
        std::future::pending().await
    };
    world.add_process("one", SimulatedDisk::new(), program(run));
    run_until(&mut world, TICK);
    let value = |world: &World| world.disk("one").value(FAMILY, &[1]).unwrap();
    assert_eq!(value(&world).as_deref(), Some(&[1; 3][..]));
    world.corrupt_disk("one");
    run_until(&mut world, 2 * TICK);
    assert!(world.is_running("one"));
    assert_ne!(value(&world).as_deref(), Some(&[1; 3][..]));
    world.mend_disk("one");
    run_until(&mut world, 3 * TICK);
    assert_eq!(value(&world).as_deref(), Some(&[1; 3][..]));
    world.wipe_disk("one");
    world.restart("one");
    run_until(&mut world, 4 * TICK);
    assert_eq!(value(&world), None);
}

#[test]
fn the_same_seed_sees_the_same() {
    let crash = |world: &mut World| world.crash("server", Crash::ProcessKilled);
    let restart = |world: &mut World| world.restart("server");
    assert_eq!(observe(6, crash, restart), observe(6, crash, restart));
    assert_ne!(observe(6, crash, restart), observe(7, crash, restart));
}
