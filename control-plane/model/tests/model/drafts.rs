//! What an operator is shown can be applied as it is, or is refused with what has changed.

use std::collections::BTreeMap;

use model::{
    Action, Applied, Category, Command, NodeId, Outcome, PartitionId, Refusal, ReplicaId, Revision,
    WallTime, ZoneState,
    apply::{CHANGES_NAMED_MAX, REASON_BYTES_MAX, STEPS_MAX},
    balance::{Goal, Score},
    balancer::{Balancer, Draft, NotReady, Sight},
    command::{PlannedChange, PlannedStep},
    operation::{OperationKind, OperationState, Origin},
};
use proptest::prelude::*;

use crate::world::{ToyLoad, World};

const EFFORT: u64 = 100_000;

fn draft(world: &World) -> Draft {
    let World { state, view, heat, now, .. } = world;
    let sight = Sight { state, view, heat, now: *now };
    world.balancer.draft(&sight, 1, EFFORT).expect("the balancer has looked at everything")
}

#[test]
fn what_only_a_split_would_relieve_is_named() {
    let mut world = uneven(&[800_000, 20_000, 20_000, 20_000, 20_000, 20_000], &["a", "b", "c"]);
    assert_eq!(draft(&world).held_back, [""; 0], "no point is known to split it at");
    world.divisible = true;
    world.run(50);
    let draft = draft(&world);
    let [why] = draft.held_back.as_slice() else { panic!("{draft:?}") };
    assert!(why.starts_with("partition 1 is too large a piece"), "{why}");
    assert!(why.contains("`zonectl partition split 1 --by load`"), "{why}");
}

fn steps(draft: &Draft) -> Vec<PlannedStep> {
    draft.steps.iter().map(|it| it.step.clone()).collect()
}

/// What becomes of a plan, in a copy of the zone.
fn tried(world: &World, steps: &[PlannedStep]) -> (ZoneState, Outcome) {
    let mut state = world.state.clone();
    let time = state.zone_time();
    let action = Action::ApplyPlan { steps: steps.to_vec() };
    let revision = Revision(world.revision + 1);
    let outcome = state.apply(revision, &Command::new(time, WallTime(0), action));
    (state, outcome)
}

#[track_caller]
fn refused(world: &World, steps: &[PlannedStep]) -> Refusal {
    let (state, outcome) = tried(world, steps);
    let refusal = outcome.expect_err("it must be refused");
    assert_eq!(state.operations().len(), world.state.operations().len(), "nothing is begun");
    for (id, partition) in world.state.partitions().iter() {
        assert_eq!(state.partition(*id), Some(partition), "nothing is changed");
    }
    refusal
}

fn request(request_cpu_us: u64) -> ToyLoad {
    ToyLoad { request_cpu_us, apply_cpu_us: request_cpu_us / 10 }
}

/// A zone whose load has only just become uneven: the balancer does not act on it yet.
fn uneven(loads: &[u64], domains: &[&str]) -> World {
    let mut world = World::new(u8::try_from(loads.len()).expect("few"), 3, domains);
    world.settle(600);
    let ids: Vec<PartitionId> = world.state.partitions().iter().map(|(id, _)| *id).collect();
    for (id, load) in ids.into_iter().zip(loads) {
        world.loads.insert(id, request(*load));
    }
    // Averages follow in some seconds; evening out would begin only after half a minute.
    world.run(100);
    world
}

/// All load on what one node leads.
fn hot_node() -> World {
    let mut world = uneven(&[0; 12], &["a", "b", "c"]);
    for id in world.state.partitions_led_by(NodeId(1)).collect::<Vec<_>>() {
        world.loads.insert(id, request(200_000));
    }
    world.run(100);
    world
}

/// A plan whose second step would have made up for its first one, and cannot be taken any more.
#[test]
fn what_is_left_of_a_plan_does_not_make_the_zone_worse() {
    let mut world = hot_node();
    let World { state, view, heat, now, .. } = &world;
    let sight = Sight { state, view, heat, now: *now };
    let asked = world.balancer.request_draft(&sight, 1, EFFORT).expect("it has looked");
    let mut plan = world.balancer.plan_draft(&asked);
    let whole = world.balancer.finish_draft(&sight, &asked, &plan);
    assert!(whole.steps.len() >= 2 && whole.left_out == 0, "{whole:?}");
    let (hot, cold) = (NodeId(1), NodeId(2));
    let led = state.partitions_led_by(cold).next().expect("it leads four");
    let gone = state.partitions_led_by(cold).last().expect("it leads four");
    for (action, id, from, to) in [(0, led, cold, hot), (1, gone, hot, cold)] {
        let action = &mut plan.actions[action];
        (action.partition, action.from.node, action.to.node) = (id, from, to);
    }
    plan.actions.truncate(2);
    world.loads.insert(led, request(200_000));
    world.run(100);
    let World { state, view, heat, now, .. } = &world;
    let sight = Sight { state, view, heat, now: *now };
    let left = world.balancer.finish_draft(&sight, &asked, &plan);
    assert_eq!((steps(&left), left.left_out), (vec![], 2));
    assert_eq!(left.before, left.after);
}

#[test]
fn a_draft_does_now_what_the_balancer_would_do_in_half_a_minute() {
    let mut world = hot_node();
    let before: Vec<_> = world.state.operations().iter().map(|(id, _)| *id).collect();
    let report = world.balancer.report().cloned();
    let draft = draft(&world);
    assert!(draft.is_by_load && draft.held_back.is_empty() && draft.left_out == 0, "{draft:?}");
    assert!(draft.after.worst_share_ppm < draft.before.worst_share_ppm, "{draft:?}");
    assert_eq!(world.balancer.report().cloned(), report, "nothing of it is remembered");
    let outcome = world.apply(Action::ApplyPlan { steps: steps(&draft) });
    let Ok(Applied::Operations(operations)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(operations.len(), draft.steps.len());
    for (id, planned) in operations.iter().zip(&draft.steps) {
        assert!(!before.contains(id));
        let operation = world.state.operation(*id).expect("it has begun");
        assert_eq!(operation.origin, Origin::Operator);
        assert_eq!(operation.partition(), Some(planned.step.partition));
        assert_eq!(operation.reason, planned.step.reason);
        assert!(operation.reason.contains("‰ of the mean"), "{}", operation.reason);
        let (_, bears) = operation.reason.split_once("; its leader bears ").expect("its heat");
        assert!(bears.ends_with(" cores") && !bears.contains("0.000 cores"), "{bears}");
    }
    world.run(50);
    let promised: BTreeMap<NodeId, u32> =
        draft.nodes.iter().map(|it| (it.node, it.after.leaders)).collect();
    assert_eq!(world.leaders(), promised, "what was shown is what was done");
    // And it stays: neither the balancer nor another draft takes it back.
    world.run(1_200);
    assert_eq!(world.leaders(), promised);
    assert_eq!(steps(&self::draft(&world)), []);
}

#[test]
fn without_load_numbers_of_leaders_are_made_even() {
    let mut world = World::new(9, 3, &["a", "b", "c"]);
    world.settle(600);
    for id in world.state.partitions_led_by(NodeId(3)).collect::<Vec<_>>() {
        let group = world.groups.get_mut(&id).expect("it is there");
        let on_first = group.replicas.iter().find(|(_, toy)| toy.node == NodeId(1));
        group.leader = on_first.map(|(replica, _)| *replica);
        group.term += 1;
    }
    // Before the zone does it by itself: it waits until leaders are at rest.
    world.run(2);
    assert_eq!(world.leaders().into_values().collect::<Vec<_>>(), [6, 3]);
    let draft = draft(&world);
    assert!(!draft.is_by_load);
    let leaders: Vec<u32> = draft.nodes.iter().map(|it| it.after.leaders).collect();
    assert_eq!(leaders, [3, 3, 3], "{draft:?}");
    assert_eq!(draft.steps.len(), 3);
    assert!(draft.steps.iter().all(|it| it.column == "leaderships" && it.to.node == NodeId(3)));
    let outcome = world.apply(Action::ApplyPlan { steps: steps(&draft) });
    assert!(matches!(outcome, Ok(Applied::Operations(ids)) if ids.len() == 3));
    world.run(20);
    assert_eq!(world.leaders().into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn a_new_leader_drafts_nothing_before_it_has_looked() {
    let world = hot_node();
    let World { state, view, heat, now, .. } = &world;
    let sight = Sight { state, view, heat, now: *now };
    assert_eq!(Balancer::default().draft(&sight, 1, EFFORT), Err(NotReady));
}

#[test]
fn budgets_bound_a_draft_and_refuse_a_plan() {
    let world = uneven(&[0; 24], &["a", "b", "c", "d"]);
    let node = |number| NodeId(number);
    let mut steps = Vec::new();
    for (id, partition) in world.state.partitions().iter() {
        let leader = partition.leader.expect("led").node;
        let other = partition.targets.iter().find(|it| it.node != leader).expect("three").node;
        steps.push(PlannedStep {
            partition: *id,
            targets: partition.targets.iter().map(|target| target.id).collect(),
            leader,
            change: PlannedChange::TransferLeader { from: leader, to: other },
            reason: String::new(),
            exchanged_with: None,
        });
    }
    let refusal = refused(&world, &steps);
    assert_eq!(refusal.category(), Category::ResourceExhausted);
    assert!(refusal.to_string().contains("24 transfers of leadership"), "{refusal}");
    assert!(tried(&world, &steps[..16]).1.is_ok());
    // More moves onto one node than it takes at a time.
    let moves: Vec<PlannedStep> = steps
        .iter()
        .filter_map(|step| {
            let partition = world.state.partition(step.partition)?;
            let source = partition.targets.iter().find(|it| it.node != step.leader)?;
            let to = (1..=4).map(node).find(|to| partition.target_on(*to).is_none())?;
            let change = PlannedChange::MoveReplica { replica: source.id, from: source.node, to };
            (to == node(4)).then(|| PlannedStep { change, ..step.clone() })
        })
        .collect();
    assert!(moves.len() > 4, "{moves:?}");
    let refusal = refused(&world, &moves);
    assert!(refusal.to_string().contains("to or from node"), "{refusal}");
    assert!(tried(&world, &moves[..1]).1.is_ok());
}

#[test]
fn under_the_brake_a_draft_says_so_and_a_plan_is_refused() {
    let mut world = uneven(&[50_000; 12], &["a", "b", "c", "d", "e", "f"]);
    let drafted = steps(&draft(&world));
    for number in [4, 5, 6] {
        world.kill(NodeId(number));
    }
    world.run(50);
    assert!(world.state.brake().is_some());
    let held_back = draft(&world).held_back;
    assert!(held_back.iter().any(|why| why.contains("brake")), "{held_back:?}");
    assert!(matches!(refused(&world, &drafted), Refusal::Braked { .. }));
}

#[test]
fn a_plan_that_was_refused_may_fit_later_and_one_that_was_taken_counts_once() {
    let mut world = hot_node();
    let plan = steps(&draft(&world));
    let (operation, partition) = {
        let step = &plan[0];
        let to = step.change.to();
        let action = Action::TransferLeader { partition: step.partition, to };
        let Ok(Applied::Operation(id)) = world.apply(action) else { panic!("it can be done") };
        (id, step.partition)
    };
    let keyed = |world: &mut World, steps: &[PlannedStep]| {
        world.revision += 1;
        let time = world.state.zone_time();
        let action = Action::ApplyPlan { steps: steps.to_vec() };
        let command = Command::new(time, WallTime(0), action).of_request("plan", 7);
        world.state.apply(Revision(world.revision), &command)
    };
    let refusal = keyed(&mut world, &plan).expect_err("another change is under way");
    let Refusal::PlanChanged { changed, more: 0 } = &refusal else { panic!("{refusal:?}") };
    assert_eq!(changed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [partition]);
    world.apply(Action::CancelOperation { operation }).expect("it has not led yet");
    let first = keyed(&mut world, &plan);
    assert!(matches!(&first, Ok(Applied::Operations(ids)) if ids.len() == plan.len()), "{first:?}");
    let operations = world.state.operations().len();
    assert_eq!(keyed(&mut world, &plan), first);
    assert_eq!(world.state.operations().len(), operations);
}

#[test]
fn a_refusal_names_so_many_partitions_and_counts_the_others() {
    let world = uneven(&[0; 24], &["a", "b", "c"]);
    let unknown = |id: u64| PlannedStep {
        partition: PartitionId(1_000 + id),
        targets: vec![ReplicaId(1)],
        leader: NodeId(1),
        change: PlannedChange::TransferLeader { from: NodeId(1), to: NodeId(2) },
        reason: String::new(),
        exchanged_with: None,
    };
    let steps: Vec<PlannedStep> = (0..30).map(unknown).collect();
    let refusal = refused(&world, &steps);
    assert_eq!(refusal.category(), Category::FailedPrecondition);
    let Refusal::PlanChanged { changed, more } = &refusal else { panic!("{refusal:?}") };
    assert_eq!((changed.len(), *more), (CHANGES_NAMED_MAX, 14));
    let said = refusal.to_string();
    assert!(said.contains("partition 1015: it does not exist; and 14 more: plan again"), "{said}");
}

#[test]
fn garbage_is_refused_with_what_would_be_right() {
    let world = hot_node();
    let good = steps(&draft(&world)).remove(0);
    let partition = good.partition;
    let (leader, targets) = (good.leader, good.targets.clone());
    let other = PartitionId(if partition.get() == 1 { 2 } else { 1 });
    let with = |change: &dyn Fn(&mut PlannedStep)| {
        let mut step = good.clone();
        change(&mut step);
        vec![step]
    };
    let cases: Vec<(Vec<PlannedStep>, &str)> = vec![
        (vec![good.clone(), good.clone()], "is in it twice: give each one step"),
        (vec![good.clone(); STEPS_MAX + 1], "at most 1000"),
        (with(&|it| it.targets.clear()), "1 to 7 target replicas"),
        (with(&|it| it.targets.reverse()), "rising"),
        (with(&|it| it.targets = (1..9).map(ReplicaId).collect()), "1 to 7 target replicas"),
        (with(&|it| it.reason = "x".repeat(REASON_BYTES_MAX + 1)), "at most 1024"),
        (with(&|it| it.reason = "a\u{1b}[31m".into()), "plain text"),
        (with(&|it| it.exchanged_with = Some(partition)), "another partition"),
        (with(&|it| it.exchanged_with = Some(other)), "give both, or neither"),
        (
            with(&|it| {
                it.change = PlannedChange::TransferLeader { from: leader, to: leader };
            }),
            "give two nodes",
        ),
        (with(&|it| it.leader = NodeId(leader.get() + 1)), "give one node"),
        (
            with(&|it| {
                let (replica, from, to) = (ReplicaId(999), leader, NodeId(9));
                it.change = PlannedChange::MoveReplica { replica, from, to };
            }),
            "give one of them",
        ),
    ];
    for (steps, said) in cases {
        let refusal = refused(&world, &steps);
        assert_eq!(refusal.category(), Category::InvalidArgument, "{refusal}");
        assert!(refusal.to_string().contains(said), "{said}: {refusal}");
    }
    // Well-formed, but of no zone like this one.
    for (steps, said) in [
        (with(&|it| it.partition = PartitionId(99)), "it does not exist"),
        (
            with(&|it| {
                it.change = PlannedChange::TransferLeader { from: leader, to: NodeId(77) };
            }),
            "node 77",
        ),
        (
            with(&|it| {
                let (replica, to) = (targets[0], NodeId(77));
                it.change = PlannedChange::MoveReplica { replica, from: NodeId(66), to };
            }),
            "is not on node 66",
        ),
    ] {
        let refusal = refused(&world, &steps);
        assert!(refusal.to_string().contains(said), "{said}: {refusal}");
    }
    assert_eq!(tried(&world, &[]).1, Ok(Applied::Operations(Vec::new())));
}

/// Something that can happen to a partition between a plan and its application.
#[derive(Clone, Copy, Debug)]
enum Event {
    Transfer,
    Move,
}

/// Makes it happen as an operator would; whether it could.
fn happen(world: &mut World, event: Event, step: &PlannedStep) -> bool {
    let id = step.partition;
    let partition = world.state.partition(id).expect("planned for").clone();
    let action = match event {
        Event::Transfer => {
            let other = partition.targets.iter().find(|it| it.node != step.leader);
            Action::TransferLeader { partition: id, to: other.expect("three").node }
        }
        Event::Move => {
            let spare = world.nodes.keys().find(|node| partition.target_on(**node).is_none());
            let Some(to) = spare.copied() else { return false };
            Action::MoveReplica { partition: id, from: partition.targets[0].node, to }
        }
    };
    world.apply(action).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the load: the draft applies whole to the zone that it was made for, brings what it says, and keeps
    /// to the rules of all changes.
    #[test]
    fn a_draft_applies_whole(
        nodes in 3_usize..7,
        loads in proptest::collection::vec(0_u64..300_000, 3..30),
        joined in any::<bool>(),
    ) {
        let mut world = uneven(&loads, &["a", "b", "c", "d", "e", "f"][..nodes]);
        if joined {
            let node = world.add_node("g");
            world.run(30);
            prop_assert!(world.view.is_connected(node));
        }
        let draft = draft(&world);
        prop_assert_eq!(&self::draft(&world), &draft, "the same again");
        // Also where budgets have only a part of it there.
        if draft.steps.iter().all(|it| it.goal != Goal::Counts) {
            // A thousandth of the mean is nothing.
            let worst = draft.after.worst_share_ppm.saturating_sub(1_000);
            let after = Score { worst_share_ppm: worst, ..draft.after };
            prop_assert!(after <= draft.before, "{:?} {:?}", draft.before, draft.after);
        }
        let plan = steps(&draft);
        let (state, outcome) = tried(&world, &plan);
        let Ok(Applied::Operations(operations)) = outcome else { panic!("{outcome:?}") };
        prop_assert_eq!(operations.len(), plan.len());
        state.check().expect("G4");
        for (id, step) in operations.iter().zip(&plan) {
            let operation = state.operation(*id).expect("begun");
            let moves = matches!(operation.kind, OperationKind::MoveReplica(_));
            prop_assert_eq!(moves, matches!(step.change, PlannedChange::MoveReplica { .. }));
            prop_assert_eq!(operation.to_node(), Some(step.change.to()));
        }
        // Carried out, it is not taken back.
        let applied = world.apply(Action::ApplyPlan { steps: plan.clone() });
        let Ok(Applied::Operations(operations)) = applied else { panic!("{applied:?}") };
        world.run(600);
        for (id, step) in operations.iter().zip(&plan) {
            let operation = world.state.operation(*id).expect("remembered");
            prop_assert_eq!(operation.state, OperationState::Succeeded);
            let partition = world.state.partition(step.partition).expect("there");
            if let PlannedChange::MoveReplica { from, .. } = step.change {
                prop_assert!(partition.target_on(from).is_none());
            }
        }
    }

    /// Whatever happens to any partition of a plan: the plan is refused whole, and names that partition.
    #[test]
    fn a_change_of_any_partition_refuses_the_whole_and_is_named(
        loads in proptest::collection::vec(0_u64..300_000, 6..30),
        which in any::<prop::sample::Index>(),
        event in prop_oneof![Just(Event::Transfer), Just(Event::Move)],
        has_ended in any::<bool>(),
    ) {
        let mut world = uneven(&loads, &["a", "b", "c", "d", "e"]);
        let plan = steps(&draft(&world));
        prop_assume!(!plan.is_empty());
        let step = plan[which.index(plan.len())].clone();
        prop_assume!(happen(&mut world, event, &step));
        if has_ended {
            world.run(50);
        }
        // Even numbers may have brought it back.
        let partition = world.state.partition(step.partition).expect("there");
        let is_same = partition.targets.iter().map(|it| it.id).eq(step.targets.iter().copied())
            && partition.leader.map(|it| it.node) == Some(step.leader)
            && partition.change.is_none();
        prop_assume!(!is_same);
        let refusal = refused(&world, &plan);
        let Refusal::PlanChanged { changed, .. } = &refusal else { panic!("{refusal:?}") };
        let named = changed.iter().find(|(id, _)| *id == step.partition);
        prop_assert!(named.is_some(), "{refusal}");
        prop_assert!(changed.iter().all(|(id, _)| plan.iter().any(|it| it.partition == *id)));
    }
}
