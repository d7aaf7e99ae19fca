//! The shadow policy: planned with, never acted on, and held against the zone's own.

use model::{
    Action, Applied, Category, NodeId, ZoneState,
    operation::Origin,
    policy::{PolicyValues, WholePolicy},
};

use crate::world::{ToyLoad, World};

const MINUTE: u32 = 600;

/// A policy of balance with these fields otherwise.
fn balance(changes: &[(&str, u64)]) -> PolicyValues {
    let mut values = WholePolicy::default_for(3).values();
    values.retain(|name, _| name.starts_with("balance."));
    values.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), *value)));
    values
}

fn shadow(balance: Option<PolicyValues>, reason: &str) -> Action {
    Action::SetShadowPolicy { balance, reason: reason.into() }
}

/// A zone at rest whose policy moves nothing, unless it is to.
fn zone(acts: bool) -> World {
    let mut world = World::new(12, 3, &["a", "b", "c"]);
    world.settle(600);
    if !acts {
        let mut values = world.state.whole_policy().expect("there is a zone").values();
        for field in ["balance.transfers_max", "balance.moves_zone_max", "balance.splits_max"] {
            values.insert(field.into(), 0);
        }
        let reason = "nothing shall move".into();
        let action = Action::SetPolicy { expected_version: 1, values, reason };
        world.apply(action).expect("possible");
    }
    world
}

/// The first node's partitions get much load.
fn heat_up(world: &mut World) {
    for partition in world.state.partitions_led_by(NodeId(1)).collect::<Vec<_>>() {
        let load = ToyLoad { request_cpu_us: 200_000, apply_cpu_us: 0 };
        world.loads.insert(partition, load);
    }
}

fn moved(world: &World) -> usize {
    let operations = world.state.operations().iter().map(|(_, operation)| operation);
    operations.filter(|operation| operation.origin == Origin::Heat).count()
}

fn told(state: &ZoneState, kind: &str) -> Vec<(String, String)> {
    let events = state.events().iter().map(|(_, event)| event);
    let events = events.filter(|event| event.kind.as_str() == kind);
    events.map(|event| (event.message.clone(), event.reason.clone())).collect()
}

#[test]
fn what_it_would_do_is_counted_and_not_done() {
    let mut world = zone(false);
    world.apply(shadow(Some(balance(&[])), "what if it acted")).expect("possible");
    heat_up(&mut world);
    world.run(3 * MINUTE);
    assert_eq!(moved(&world), 0);
    assert!(world.balancer.report().expect("it has planned").is_off);
    let comparison = world.balancer.comparison().expect("there were plans");
    assert!(comparison.plans > 60, "{comparison:?}");
    assert_eq!(comparison.plans, comparison.better + comparison.equal + comparison.worse);
    assert!(comparison.better > 30 && comparison.worse == 0, "{comparison:?}");
    // The same two transfers in every plan, once.
    assert_eq!((comparison.shadow.transfers, comparison.shadow.moves), (2, 0), "{comparison:?}");
    assert_eq!((comparison.active.transfers, comparison.active.bytes), (0, 0), "{comparison:?}");
    let (active, shadow) = (comparison.active, comparison.shadow);
    assert!(shadow.worst_share_permille < active.worst_share_permille, "{comparison:?}");
    assert!(active.worst_share_permille_max >= active.worst_share_permille);
    assert!(shadow.worst_share_permille_sum < active.worst_share_permille_sum, "{comparison:?}");
}

#[test]
fn the_same_policy_is_neither_better_nor_worse() {
    let mut world = zone(true);
    world.apply(shadow(Some(balance(&[])), "is it fair")).expect("possible");
    heat_up(&mut world);
    world.run(3 * MINUTE);
    assert_eq!(moved(&world), 2);
    assert!(!world.balancer.report().expect("it has planned").is_off);
    let comparison = world.balancer.comparison().expect("there were plans");
    assert_eq!(comparison.equal, comparison.plans, "{comparison:?}");
    assert_eq!(comparison.active.transfers, comparison.shadow.transfers, "{comparison:?}");
}

/// It counts for nothing in a policy that ignores a dimension that the dimension is uneven: the zone's own policy
/// measures both.
#[test]
fn a_policy_that_looks_away_is_no_better() {
    let mut world = zone(true);
    let blind = balance(&[("balance.weight_processor", 0), ("balance.act_above_permille", 9_000)]);
    world.apply(shadow(Some(blind), "who needs processors")).expect("possible");
    heat_up(&mut world);
    world.run(3 * MINUTE);
    let comparison = world.balancer.comparison().expect("there were plans");
    assert_eq!(comparison.better, 0, "{comparison:?}");
    assert!(comparison.worse > 0 && comparison.shadow.transfers == 0, "{comparison:?}");
}

#[test]
fn the_comparison_begins_anew_with_another_shadow_and_another_leader() {
    let mut world = zone(false);
    world.apply(shadow(Some(balance(&[])), "first")).expect("possible");
    heat_up(&mut world);
    world.run(MINUTE);
    let first = *world.balancer.comparison().expect("there were plans");
    let calmer = balance(&[("balance.act_above_permille", 1_200)]);
    world.apply(shadow(Some(calmer), "second")).expect("possible");
    world.run(MINUTE / 2);
    let second = *world.balancer.comparison().expect("there were plans");
    assert!(second.plans < first.plans && second.began_at > first.planned_at, "{second:?}");
    let loaded = ZoneState::from_records(world.state.records()).expect("its own records");
    assert_eq!(loaded.shadow_policy(), world.state.shadow_policy());
    world.change_control_plane_leader();
    assert!(world.balancer.comparison().is_none());
    world.run(MINUTE);
    let third = world.balancer.comparison().expect("the next leader plans, too");
    assert!(third.began_at >= second.planned_at && third.set_by == second.set_by, "{third:?}");

    world.apply(shadow(None, "enough")).expect("possible");
    world.run(MINUTE / 10);
    assert!(world.balancer.comparison().is_none() && world.state.shadow_policy().is_none());
    assert_eq!(world.apply(shadow(None, "enough")), Ok(Applied::Done), "as was asked");
    let second = (
        "a shadow policy is planned with: balance.act_above_permille 1050 → 1200, \
         balance.moves_zone_max 0 → 16, balance.transfers_max 0 → 64, balance.splits_max 0 → 4"
            .to_owned(),
        "second".to_owned(),
    );
    assert_eq!(told(&world.state, "shadow-policy-set")[1], second);
    assert_eq!(told(&world.state, "shadow-policy-cleared").len(), 1);
}

#[test]
fn what_is_no_policy_of_balance_is_refused() {
    let mut world = zone(true);
    let before: Vec<_> = world.state.records().filter(|(key, _)| key[0] != 1).collect();
    let mut missing = balance(&[]);
    missing.remove("balance.idle_permille");
    for (balance, reason, words) in [
        (Some(missing), "why", "balance.idle_permille is missing"),
        (Some(balance(&[("balance.splits_max", u64::MAX)])), "why", "balance.splits_max is 184"),
        (Some(balance(&[("replace_after_ms", 5)])), "why", "\"replace_after_ms\" is none of its"),
        (Some(balance(&[("balance.frobs", 5)])), "why", "\"balance.frobs\" is none of its fields"),
        (Some(balance(&[])), "", "256 bytes"),
        (None, " ", "256 bytes"),
    ] {
        let refusal = world.apply(shadow(balance, reason)).expect_err(words);
        assert_eq!(refusal.category(), Category::InvalidArgument);
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    let after: Vec<_> = world.state.records().filter(|(key, _)| key[0] != 1).collect();
    assert_eq!(before, after);
    assert!(World::empty().apply(shadow(None, "why")).is_err(), "there is no zone");
}
