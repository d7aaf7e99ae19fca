//! The zone's policy: what it is at first, and how an operator changes it.

use model::{
    Action, Applied, Category, Command, NodeId, Outcome, PartitionId, Refusal, Revision, WallTime,
    ZoneState, ZoneTime,
    balance::BalancePolicy,
    operation::Origin,
    policy::{FIELDS, PolicyError, PolicyValues, WholePolicy, field_named},
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::world::{ToyLoad, World};

fn zone() -> World {
    World::new(2, 3, &["a", "b", "c", "d"])
}

fn values(state: &ZoneState) -> PolicyValues {
    state.whole_policy().expect("there is a zone").values()
}

fn with(state: &ZoneState, changes: &[(&str, u64)]) -> PolicyValues {
    let mut values = values(state);
    values.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), *value)));
    values
}

fn set_policy(expected_version: u64, values: PolicyValues, reason: &str) -> Action {
    Action::SetPolicy { expected_version, values, reason: reason.into() }
}

/// Sets these fields, at the version that is there.
fn set(world: &mut World, changes: &[(&str, u64)]) -> Outcome {
    let values = with(&world.state, changes);
    world.apply(set_policy(world.state.policy_version(), values, "the test says so"))
}

/// All records but that of the zone itself, which knows the last command.
fn records(state: &ZoneState) -> Vec<(Vec<u8>, Vec<u8>)> {
    state.records().filter(|(key, _)| key[0] != 1).collect()
}

#[track_caller]
fn refused(world: &mut World, action: Action, category: Category, words: &str) {
    let (before, policy) = (records(&world.state), world.state.policy().cloned());
    let refusal = world.apply(action).expect_err("it cannot be");
    assert_eq!(refusal.category(), category, "{refusal}");
    assert!(refusal.to_string().contains(words), "{refusal}");
    assert_eq!((records(&world.state), world.state.policy().cloned()), (before, policy));
}

fn changes_in_ledger(state: &ZoneState) -> Vec<(String, String)> {
    let events = state.events().iter().map(|(_, event)| event);
    let events = events.filter(|event| event.kind.as_str() == "policy-changed");
    events.map(|event| (event.message.clone(), event.reason.clone())).collect()
}

#[test]
fn every_field_is_described_once_and_defaults_are_possible() {
    for (place, field) in FIELDS.iter().enumerate() {
        assert!(FIELDS[..place].iter().all(|other| other.name != field.name), "{}", field.name);
        assert!(field.meaning.len() > 10 && !field.meaning.ends_with('.'), "{}", field.name);
    }
    let default = WholePolicy::default_for(3);
    assert_eq!(WholePolicy::from_values(&default.values()), Ok(default.clone()));
    // No field of the balance policy is left out: each can be told from its default.
    let mut other = default.values();
    for (name, value) in &mut other {
        let (min, _) = field_named(name).expect("described").bounds(&default);
        *value = if *value > min { *value - 1 } else { *value + 1 };
    }
    let BalancePolicy {
        version: _,
        act_above_permille,
        act_after_ms,
        stop_at_permille,
        overload_permille,
        idle_permille,
        dimension_weights,
        cooldown_ms,
        reversal_ban_ms,
        reversal_ban_overload_ms,
        reversal_window_ms,
        reversal_gain_permille,
        gain_min_permille,
        noise_permille,
        gain_per_bytes_permille,
        move_overhead_ppm,
        move_bytes_per_s,
        move_processor_us,
        count_above_permille,
        moves_zone_max,
        moves_node_max,
        moves_fault_domain_max,
        transfers_max,
        splits_max,
        plan_bytes_max,
        stored_max_permille,
        split_load_permille,
        hot_key_permille,
        hot_key_load_permille,
    } = WholePolicy::from_values(&other).expect("within the bounds").balance;
    let mut found: Vec<u64> = [
        act_above_permille,
        stop_at_permille,
        overload_permille,
        idle_permille,
        reversal_gain_permille,
        gain_min_permille,
        noise_permille,
        gain_per_bytes_permille,
        move_overhead_ppm,
        count_above_permille,
        moves_zone_max,
        moves_node_max,
        moves_fault_domain_max,
        transfers_max,
        splits_max,
        stored_max_permille,
        split_load_permille,
        hot_key_permille,
        hot_key_load_permille,
    ]
    .into_iter()
    .chain(dimension_weights)
    .map(u64::from)
    .collect();
    found.extend([
        act_after_ms,
        cooldown_ms,
        reversal_ban_ms,
        reversal_ban_overload_ms,
        reversal_window_ms,
        move_bytes_per_s,
        move_processor_us,
        plan_bytes_max,
    ]);
    let of_balance = other.iter().filter(|(name, _)| name.starts_with("balance."));
    let mut given: Vec<u64> = of_balance.map(|(_, value)| *value).collect();
    found.sort_unstable();
    given.sort_unstable();
    assert_eq!(found, given);
}

#[test]
fn a_new_zone_has_the_defaults_as_version_1() {
    let empty = ZoneState::default();
    assert_eq!((empty.policy_version(), empty.whole_policy()), (0, None));
    assert_eq!(empty.balance_policy(), &BalancePolicy::default());
    let world = zone();
    assert_eq!(world.state.policy_version(), 1);
    assert_eq!(world.state.balance_policy(), &BalancePolicy::default());
}

#[test]
fn a_change_takes_effect_at_once_and_is_in_the_ledger() {
    let mut world = zone();
    world.settle(400);
    let outcome = set(&mut world, &[("changes_in_flight_zone_max", 1), ("balance.splits_max", 0)]);
    assert_eq!(outcome, Ok(Applied::PolicySet { version: 2 }));
    assert_eq!(world.state.policy_version(), 2);
    assert_eq!(world.state.balance_policy().splits_max, 0);
    let message =
        "the policy is version 2: changes_in_flight_zone_max 16 → 1, balance.splits_max 4 → 0";
    let told = (message.to_owned(), "the test says so".to_owned());
    assert_eq!(changes_in_ledger(&world.state), [told]);

    let movement = |world: &World, id: u64| {
        let partition = world.state.partition(PartitionId(id)).expect("there");
        let to = world.nodes.keys().copied().find(|node| !partition.is_on(*node));
        let (from, to) = (partition.targets[0].node, to.expect("four nodes"));
        Action::MoveReplica { partition: PartitionId(id), from, to }
    };
    let (first, second) = (movement(&world, 1), movement(&world, 2));
    world.apply(first).expect("one is possible");
    let refusal = world.apply(second.clone()).expect_err("two are too many");
    assert!(matches!(refusal, Refusal::OverBudget { max: 1, .. }), "{refusal}");
    set(&mut world, &[("changes_in_flight_zone_max", 2)]).expect("possible");
    world.apply(second).expect("two are possible now");
}

#[test]
fn the_balancer_follows_it() {
    const MINUTE: u32 = 600;
    let mut world = World::new(12, 3, &["a", "b", "c"]);
    world.settle(600);
    for partition in world.state.partitions_led_by(NodeId(1)).collect::<Vec<_>>() {
        let load = ToyLoad { request_cpu_us: 200_000, apply_cpu_us: 0 };
        world.loads.insert(partition, load);
    }
    let moved = |world: &World| {
        let operations = world.state.operations().iter().map(|(_, operation)| operation);
        operations.filter(|operation| operation.origin == Origin::Heat).count()
    };
    let budgets = |transfers, moves| {
        [("balance.transfers_max", transfers), ("balance.moves_zone_max", moves)]
    };
    set(&mut world, &budgets(0, 0)).expect("possible");
    world.run(3 * MINUTE);
    assert_eq!(moved(&world), 0, "nothing may be moved");
    set(&mut world, &budgets(64, 16)).expect("possible");
    world.run(2 * MINUTE);
    assert_eq!(moved(&world), 2);
}

/// The next leader of the control plane knows of a rest only by what is replicated.
#[test]
fn another_policy_of_balance_ends_the_rest_wherever_it_is_remembered() {
    let mut world = World::new(12, 3, &["a", "b", "c"]);
    world.settle(600);
    for partition in world.state.partitions_led_by(NodeId(1)).collect::<Vec<_>>() {
        let load = ToyLoad { request_cpu_us: 200_000, apply_cpu_us: 0 };
        world.loads.insert(partition, load);
    }
    world.run(1_800);
    let rests = |world: &World| world.state.balance_memory().is_some_and(|it| it.rest.is_some());
    assert!(rests(&world));
    set(&mut world, &[("events_max", 2_000)]).expect("possible");
    assert!(rests(&world), "that is not about balance");
    set(&mut world, &[("balance.gain_min_permille", 10)]).expect("possible");
    assert!(!rests(&world));
}

#[test]
fn a_smaller_ledger_is_shortened_at_once() {
    let mut world = zone();
    for number in 0..1_500_u64 {
        let reason = format!("change {number}");
        let values = with(&world.state, &[("replace_after_ms", 1_000 + number)]);
        let action = set_policy(world.state.policy_version(), values, &reason);
        world.apply(action).expect("possible");
    }
    assert!(world.state.events().len() > 1_500);
    set(&mut world, &[("events_max", 1_000)]).expect("possible");
    assert_eq!(world.state.events().len(), 1_000);
}

#[test]
fn what_is_no_policy_is_refused() {
    use Category::{FailedPrecondition, InvalidArgument};
    let mut world = zone();
    for field in FIELDS.iter().filter(|field| !field.is_fixed()) {
        let whole = world.state.whole_policy().expect("there is a zone");
        let (min, max) = field.bounds(&whole);
        for wrong in [min.checked_sub(1), Some(max + 1), Some(u64::MAX)].into_iter().flatten() {
            let action = set_policy(1, with(&world.state, &[(field.name, wrong)]), "why");
            let words = format!("{} is {wrong}: it must be {min} to ", field.name);
            refused(&mut world, action, InvalidArgument, &words);
        }
    }
    let mut missing = values(&world.state);
    missing.remove("balance.idle_permille");
    let words = "balance.idle_permille is missing";
    refused(&mut world, set_policy(1, missing, "why"), InvalidArgument, words);
    let unknown = with(&world.state, &[("balance.frobs_max", 3)]);
    let words = "no field \"balance.frobs_max\"";
    refused(&mut world, set_policy(1, unknown, "why"), InvalidArgument, words);
    for reason in ["", " ", "a\nb", &"x".repeat(257)] {
        let action = set_policy(1, values(&world.state), reason);
        refused(&mut world, action, InvalidArgument, "256 bytes");
    }
    let fixed = with(&world.state, &[("replication_factor", 5)]);
    let words = "replication_factor is 3 and cannot become 5";
    refused(&mut world, set_policy(1, fixed, "why"), FailedPrecondition, words);
    // Fields that depend on each other: the one that is wrong is named.
    let crossed = with(&world.state, &[("balance.act_above_permille", 1_010)]);
    let words = "balance.stop_at_permille is 1020: it must be 1000 to 1010 ‰";
    refused(&mut world, set_policy(1, crossed, "why"), InvalidArgument, words);
    let early = World::empty().apply(set_policy(0, PolicyValues::new(), "why"));
    assert_eq!(early, Err(Refusal::NotInitialized));
}

#[test]
fn whoever_did_not_see_the_latest_version_is_refused() {
    let mut world = zone();
    let stale = with(&world.state, &[("replace_after_ms", 9_000)]);
    set(&mut world, &[("replace_after_ms", 8_000)]).expect("possible");
    for version in [0, 1, 3, u64::MAX] {
        let action = set_policy(version, stale.clone(), "why");
        let words = format!("the policy is version 2, not {version}");
        refused(&mut world, action, Category::FailedPrecondition, &words);
    }
    assert_eq!(world.state.policy().expect("there").replace_after_ms, 8_000);
}

#[test]
fn the_same_policy_again_changes_nothing() {
    let mut world = zone();
    let before = records(&world.state);
    assert_eq!(set(&mut world, &[]), Ok(Applied::PolicySet { version: 1 }));
    assert_eq!(records(&world.state), before);
}

#[test]
fn the_same_key_sets_once() {
    let mut world = zone();
    let values = with(&world.state, &[("replace_after_ms", 8_000)]);
    let action = set_policy(1, values, "why");
    for revision in [1_000_000, 1_000_001] {
        let time = world.state.zone_time();
        let command = Command::new(time, WallTime(0), action.clone()).of_request("k", 7);
        let outcome = world.state.apply(Revision(revision), &command);
        assert_eq!(outcome, Ok(Applied::PolicySet { version: 2 }));
    }
    assert_eq!(world.state.policy_version(), 2);
    assert_eq!(changes_in_ledger(&world.state).len(), 1);
}

#[test]
fn fewer_keys_than_are_in_use_are_refused() {
    let mut world = zone();
    for number in 0..1_200 {
        let time = ZoneTime(world.state.zone_time().get());
        let command = Command::new(time, WallTime(0), Action::Tick);
        let command = command.of_request(format!("key-{number}"), 0);
        world.state.apply(Revision(1_000_000 + number), &command).expect("nothing against it");
    }
    let fewer = with(&world.state, &[("idempotency_keys_max", 1_001)]);
    let words = "idempotency_keys_max is 1001, and 1200 are in use";
    refused(&mut world, set_policy(1, fewer, "why"), Category::FailedPrecondition, words);
    set(&mut world, &[("idempotency_keys_max", 1_202)]).expect("there is room");
}

#[test]
fn a_zone_from_before_has_the_defaults_and_can_be_changed() {
    const POLICY: u8 = 9;
    let world = zone();
    let old = world.state.records().filter(|(key, _)| key[0] != POLICY);
    let mut state = ZoneState::from_records(old).expect("its own records");
    assert_eq!(state.policy_version(), 1);
    assert_eq!(state.balance_policy(), &BalancePolicy::default());
    assert_eq!(state.whole_policy(), world.state.whole_policy());
    let values = with(&state, &[("balance.splits_max", 1)]);
    let command = Command::new(ZoneTime(1), WallTime(0), set_policy(1, values, "why"));
    let outcome = state.apply(Revision(1_000_000), &command);
    assert_eq!(outcome, Ok(Applied::PolicySet { version: 2 }));
    let loaded = ZoneState::from_records(state.records()).expect("its own records");
    assert_eq!(loaded.whole_policy(), state.whole_policy());
    assert_eq!(loaded.balance_policy().splits_max, 1);
}

#[test]
fn a_zone_is_not_made_with_an_impossible_policy() {
    let mut world = World::empty();
    let outcome = world.apply(Action::InitializeZone {
        zone_id: crate::world::zone_id(),
        split_keys: Vec::new(),
        replication_factor: 3,
        replace_after_ms: u64::MAX,
    });
    let refusal = outcome.expect_err("nobody waits so long");
    assert_eq!(refusal.category(), Category::InvalidArgument);
    assert!(
        refusal.to_string().starts_with("replace_after_ms is 18446744073709551615"),
        "{refusal}"
    );
    assert!(!world.state.is_initialized());
}

/// What somebody asks for: some fields, and whether it is of the version that is there.
fn request() -> impl Strategy<Value = (Vec<(&'static str, u64)>, i8, &'static str)> {
    let name = select(FIELDS.iter().map(|field| field.name).collect::<Vec<_>>());
    let value = prop_oneof![0..2_000_u64, 2_000..1_000_000_u64, any::<u64>()];
    let version = prop_oneof![6 => Just(0_i8), 1 => Just(-1), 1 => Just(1)];
    let reason = prop_oneof![8 => Just("why"), 1 => Just("")];
    (vec((name, value), 0..3), version, reason)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn versions_rise_by_one_and_what_is_refused_changes_nothing(
        requests in vec(request(), 1..25),
    ) {
        let mut world = zone();
        let (mut version, mut expected) = (1_u64, values(&world.state));
        for (changes, off, reason) in requests {
            let asked = with(&world.state, &changes);
            let given = version.checked_add_signed(i64::from(off)).expect("small");
            let before = records(&world.state);
            let possible = off == 0
                && reason == "why"
                && asked["replication_factor"] == 3
                && WholePolicy::from_values(&asked).is_ok();
            let outcome = world.apply(set_policy(given, asked.clone(), reason));
            if possible {
                version += u64::from(asked != expected);
                expected = asked;
                prop_assert_eq!(outcome, Ok(Applied::PolicySet { version }));
            } else {
                prop_assert!(outcome.is_err());
                prop_assert_eq!(records(&world.state), before);
            }
            prop_assert_eq!(world.state.policy_version(), version);
            prop_assert_eq!(&values(&world.state), &expected);
            let told = changes_in_ledger(&world.state).len();
            prop_assert_eq!(told as u64, version - 1);
            let loaded = ZoneState::from_records(world.state.records()).expect("its own records");
            prop_assert_eq!(loaded.whole_policy(), world.state.whole_policy());
            prop_assert_eq!(loaded.policy_version(), version);
        }
        prop_assert_eq!(world.state.nodes().len(), 4);
        prop_assert!(world.state.node(NodeId(1)).is_some());
    }

    #[test]
    fn any_values_are_a_policy_or_an_error_that_names_a_field(
        given in proptest::collection::btree_map("[a-z._]{1,12}", any::<u64>(), 0..3),
        changes in vec((0..FIELDS.len(), any::<u64>()), 0..4),
    ) {
        let mut values = WholePolicy::default_for(3).values();
        let known = given.is_empty();
        values.extend(given);
        for (place, value) in changes {
            values.insert(FIELDS[place].name.to_owned(), value);
        }
        match WholePolicy::from_values(&values) {
            Ok(policy) => prop_assert_eq!(policy.values(), values),
            Err(PolicyError::Unknown { name }) => prop_assert!(!known && values.contains_key(&name)),
            Err(error) => {
                prop_assert!(FIELDS.iter().any(|field| error.to_string().starts_with(field.name)));
            }
        }
    }
}
