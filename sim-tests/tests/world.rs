//! The simulated world by itself, with a gRPC server of the production bootstrap as its only process:
//! what a peer sees of a kill, a power loss, a cut and a held link.

use std::{cell::RefCell, io::ErrorKind, rc::Rc, time::Duration};

use futures_util::FutureExt;
use runtime::{
    grpc::{self, ChannelOptions, Channels, ServerOptions},
    seams::Environment,
    store::simulated::SimulatedDisk,
};
use sim_tests::{
    seed::Seed,
    trace::{Print, Trace},
    world::{Boot, Crash, World, WorldOptions, program},
};
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
fn the_same_seed_sees_the_same() {
    let crash = |world: &mut World| world.crash("server", Crash::ProcessKilled);
    let restart = |world: &mut World| world.restart("server");
    assert_eq!(observe(6, crash, restart), observe(6, crash, restart));
    assert_ne!(observe(6, crash, restart), observe(7, crash, restart));
}
