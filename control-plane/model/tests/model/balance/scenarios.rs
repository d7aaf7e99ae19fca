//! Zones in which one thing is to be seen.

use model::{
    balance::{
        BalancePlan, BalancePolicy, Departed, Departure, EFFORT_DEFAULT, Goal, Hindrance, Memory,
        NodeView, PROCESSOR, Running, STORED_BYTES, Tool, plan,
    },
    ids::{NodeId, PartitionId, ZoneTime},
    seeded::Seeded,
};

use super::{
    checker::{check_rules, load, worst},
    properties::{settle, step},
    zone::{Layout, Zone},
};

const EVEN: Layout =
    Layout { nodes: 9, domains: 9, partitions: 270, replicas: 3, sizes: 1, load_percent: 50 };

fn policy() -> BalancePolicy {
    BalancePolicy::default()
}

fn settled(layout: Layout, seed: u64) -> Zone {
    let mut zone = layout.skewed(seed);
    assert!(settle(&mut zone, &policy(), 400) < 400);
    zone
}

#[test]
fn zones_become_even_in_every_dimension_on_nodes_of_any_size() {
    for (sizes, seed) in [(1, 1), (1, 2), (2, 3), (3, 4)] {
        let layout = Layout { sizes, ..EVEN };
        assert!(worst(&layout.skewed(seed).snapshot, &policy()) > 1.5);
        let zone = settled(layout, seed);
        let after = worst(&zone.snapshot, &policy());
        assert!(after <= 1.05, "{after} with {sizes} sizes");
        assert!(zone.returns.is_empty());
    }
}

#[test]
fn leaderships_are_tried_before_replicas() {
    // One node leads everything, and every node has a replica of everything.
    let layout = Layout { nodes: 3, domains: 3, partitions: 200, replicas: 3, ..EVEN };
    let mut zone = layout.skewed(1);
    for view in &mut zone.snapshot.partitions {
        view.nodes[..3].copy_from_slice(&[0, 1, 2]);
    }
    assert!(settle(&mut zone, &policy(), 100) < 100);
    assert!(worst(&zone.snapshot, &policy()) <= 1.05);
    assert!(zone.transfers > 50);
    assert_eq!(zone.moves, 0);
}

#[test]
fn an_even_zone_is_left_alone() {
    let mut zone = settled(EVEN, 1);
    let before = zone.snapshot.partitions.clone();
    let made = step(&mut zone, &policy());
    assert!(made.actions.is_empty() && made.obstacles.is_empty(), "{made:?}");
    assert_eq!(before, zone.snapshot.partitions);
}

#[test]
fn each_count_is_evened_out_for_its_own_sake() {
    let layout = Layout { nodes: 5, domains: 5, partitions: 10, ..EVEN };
    let mut zone = layout.spread(0);
    for view in &mut zone.snapshot.partitions {
        (view.leader_heat, view.follower_heat) = Default::default();
        // The first node has what the second led: four leaderships of ten, and eight replicas of thirty.
        if view.leader_node() == Some(1) {
            view.nodes[0] = 0;
        }
    }
    let made = plan(zone.snapshot.clone(), &policy(), 1, EFFORT_DEFAULT).unwrap();
    let seen = |made: &BalancePlan| -> Vec<(Tool, &'static str)> {
        made.actions.iter().map(|it| (it.tool, it.column_name())).collect()
    };
    assert_eq!(seen(&made), [(Tool::TransferLeadership, "leaderships"); 2]);
    // With a node more, the numbers of replicas are too far apart, too.
    let new = NodeView { id: NodeId(6), fault_domain: 5, ..zone.snapshot.nodes[0].clone() };
    zone.snapshot.nodes.push(new);
    let made = plan(zone.snapshot, &policy(), 1, EFFORT_DEFAULT).unwrap();
    assert_eq!(seen(&made)[0], (Tool::MoveReplica, "replicas"));
}

#[test]
fn even_counts_are_not_had_by_making_a_node_hot() {
    // The first node has half of the replicas, and could give one to the second only if it took over the one hot
    // partition, which the second leads.
    let layout = Layout { nodes: 5, domains: 5, partitions: 4, replicas: 2, ..EVEN };
    let mut zone = layout.spread(0);
    for node in &mut zone.snapshot.nodes[2..] {
        node.may_receive = false;
    }
    for (view, other) in zone.snapshot.partitions.iter_mut().zip([2, 1, 3, 4]) {
        (view.nodes[0], view.nodes[1], view.leader) = (0, other, 1);
        (view.leader_heat, view.follower_heat) = Default::default();
        view.leader_heat[PROCESSOR] = if other == 1 { 2_000_000 } else { 10_000 };
    }
    let made = plan(zone.snapshot.clone(), &policy(), 1, EFFORT_DEFAULT).unwrap();
    assert!(made.actions.is_empty(), "{:#?}", made.actions);
    // Without the heat it is what is done.
    zone.snapshot.partitions[1].leader_heat[PROCESSOR] = 10_000;
    let made = plan(zone.snapshot, &policy(), 1, EFFORT_DEFAULT).unwrap();
    let moved: Vec<_> =
        made.actions.iter().map(|it| (it.tool, it.from.index, it.to.index)).collect();
    assert!(moved.contains(&(Tool::MoveReplica, 0, 1)), "{moved:?}");
}

#[test]
fn noise_moves_nothing_in_a_zone_that_is_even() {
    let mut zone = settled(Layout { partitions: 540, ..EVEN }, 1);
    let mut seeded = Seeded::new(1);
    let before = zone.snapshot.partitions.iter().map(|view| view.nodes).collect::<Vec<_>>();
    for _ in 0..200 {
        zone.disturb(&mut seeded, 3);
        let made = step(&mut zone, &policy());
        assert!(made.actions.is_empty(), "{}", made.actions[0].reason());
    }
    let after = zone.snapshot.partitions.iter().map(|view| view.nodes);
    assert!(before.into_iter().eq(after));
}

#[test]
fn evening_out_that_has_begun_goes_on_until_the_stop() {
    let mut zone = settled(EVEN, 1);
    // Between the stop and the start of the band.
    let first = zone.snapshot.partitions.iter().position(|view| view.leader_node() == Some(0));
    let share = |zone: &Zone| worst(&zone.snapshot, &policy());
    let place = first.unwrap();
    while share(&zone) < 1.03 {
        zone.snapshot.partitions[place].leader_heat[0] += 100;
    }
    assert!(share(&zone) < 1.05);
    let made = step(&mut zone, &policy());
    assert!(made.actions.is_empty(), "{made:#?}");
    (zone.snapshot.memory.is_settling, zone.snapshot.memory.rest) = (true, None);
    assert!(!step(&mut zone, &policy()).actions.is_empty());
    assert!(settle(&mut zone, &policy(), 50) < 50);
    assert!(!zone.snapshot.memory.is_settling);
    assert!(share(&zone) <= 1.02, "{}", share(&zone));
}

#[test]
fn a_node_that_is_to_be_left_is_emptied() {
    let mut zone = Layout { domains: 3, ..EVEN }.spread(4);
    let node = &mut zone.snapshot.nodes[1];
    (node.is_leaving, node.may_receive, node.may_lead) = (true, false, false);
    let made = plan(zone.snapshot.clone(), &policy(), 1, EFFORT_DEFAULT).unwrap();
    assert_eq!(
        (made.actions[0].goal, made.actions[0].tool),
        (Goal::Safety, Tool::TransferLeadership)
    );
    assert!(made.actions[0].reason().contains("node 2 is to be left"));
    assert!(settle(&mut zone, &policy(), 400) < 400);
    assert!(zone.snapshot.partitions.iter().all(|view| !view.is_on(1)));
    assert!(zone.snapshot.partitions.iter().all(|view| zone.domains(view) == 3));
}

#[test]
fn what_a_lost_node_held_is_made_again_the_partition_with_the_fewest_replicas_first() {
    let mut zone = EVEN.spread(4);
    let node = &mut zone.snapshot.nodes[1];
    (node.is_leaving, node.is_gone, node.may_receive, node.may_lead) = (true, true, false, false);
    for view in zone.snapshot.partitions.iter_mut().filter(|view| view.is_on(1)) {
        // The others have elected somebody.
        if view.leader_node() == Some(1) {
            view.leader = (view.leader + 1) % 3;
        }
    }
    let weak = zone.snapshot.partitions.iter().rposition(|view| view.is_on(1)).unwrap();
    let view = &mut zone.snapshot.partitions[weak];
    let gone = view.replicas().iter().position(|node| *node == 1).unwrap();
    let other = (0..3).find(|place| *place != gone).unwrap();
    view.nodes = [1, view.nodes[other], 0, 0, 0, 0, 0];
    (view.replica_count, view.leader) = (2, 1);
    let made = step(&mut zone, &policy());
    assert_eq!(made.actions[0].index as usize, weak);
    assert!(made.actions.iter().all(|action| action.goal <= Goal::Overload));
    assert!(settle(&mut zone, &policy(), 400) < 400);
    assert!(zone.snapshot.partitions.iter().all(|view| !view.is_on(1) && view.replica_count == 3));
}

#[test]
fn replicas_in_one_fault_domain_are_spread() {
    let mut zone = Layout { domains: 3, ..EVEN }.spread(4);
    for view in zone.snapshot.partitions.iter_mut().take(20) {
        view.nodes[..3].copy_from_slice(&[0, 3, 6]);
    }
    assert!(settle(&mut zone, &policy(), 400) < 400);
    assert!(zone.snapshot.partitions.iter().all(|view| zone.domains(view) == 3));
}

#[test]
fn a_replica_without_a_place_is_an_obstacle() {
    let mut zone = Layout { nodes: 3, domains: 3, ..EVEN }.spread(1);
    let node = &mut zone.snapshot.nodes[0];
    (node.is_leaving, node.may_receive) = (true, false);
    let made = step(&mut zone, &policy());
    let stuck = made.obstacles.iter().find(|obstacle| obstacle.goal == Goal::Safety).unwrap();
    assert_eq!(stuck.hindrance, Hindrance::NoPlace);
    assert!(made.actions.iter().all(|action| action.tool != Tool::MoveReplica));
}

/// One partition with so much processor time that its node is overloaded.
#[test]
fn load_that_no_other_node_can_take_has_no_place() {
    let mut zone = Layout { nodes: 4, domains: 4, partitions: 80, replicas: 1, ..EVEN }.spread(0);
    for view in &mut zone.snapshot.partitions {
        (view.nodes[0], view.leader_heat[PROCESSOR]) = (0, 30_000);
    }
    let bytes = zone.snapshot.nodes[0].capacity[STORED_BYTES];
    for node in &mut zone.snapshot.nodes[1..] {
        node.capacity[STORED_BYTES] = 1;
    }
    let made = plan(zone.snapshot.clone(), &policy(), 1, EFFORT_DEFAULT).unwrap();
    assert!(made.actions.is_empty() && !made.obstacles.is_empty(), "{made:#?}");
    assert!(made.obstacles.iter().all(|it| it.hindrance == Hindrance::NoPlace), "{made:#?}");
    zone.snapshot.nodes[1].capacity[STORED_BYTES] = bytes;
    let made = plan(zone.snapshot, &policy(), 1, EFFORT_DEFAULT).unwrap();
    assert!(!made.actions.is_empty());
    assert!(made.obstacles.iter().all(|it| it.hindrance != Hindrance::NoPlace), "{made:#?}");
}

/// Five nodes, the first of which has all load: eighty partitions of one replica each, too little for overload.
fn lopsided() -> Zone {
    let layout =
        Layout { nodes: 5, domains: 5, partitions: 80, replicas: 1, load_percent: 5, ..EVEN };
    let mut zone = layout.spread(0);
    for view in &mut zone.snapshot.partitions {
        (view.nodes[0], view.leader_heat[PROCESSOR]) = (0, 20_000);
    }
    zone
}

/// What a plan says is in the way, and what it remembers.
fn hindrances(zone: &Zone, policy: &BalancePolicy) -> (Vec<Hindrance>, Memory) {
    let made = plan(zone.snapshot.clone(), policy, 1, EFFORT_DEFAULT).unwrap();
    check_rules(&zone.snapshot, policy, &made);
    (made.obstacles.iter().map(|it| it.hindrance).collect(), made.memory)
}

#[test]
fn what_budgets_hold_back_waits_and_has_a_place_all_the_same() {
    let mut zone = lopsided();
    let policy = BalancePolicy { moves_node_max: 1, ..policy() };
    // Something is on its way to or from every node that could take any of it.
    for (place, (from, to)) in [(0, (1, 2)), (1, (3, 4))] {
        zone.snapshot.partitions[place].nodes[0] = to;
        zone.snapshot.partitions[place].running = Running::Move { from, to };
    }
    let (found, memory) = hindrances(&zone, &policy);
    assert_eq!(found, [Hindrance::Waiting]);
    assert!(memory.is_settling && memory.rest.is_none(), "{memory:?}");
    for view in &mut zone.snapshot.partitions {
        view.running = Running::Nothing;
    }
    assert!(!plan(zone.snapshot, &policy, 1, EFFORT_DEFAULT).unwrap().actions.is_empty());
    // The bytes of a plan are used up by its first move.
    let policy = BalancePolicy { plan_bytes_max: 1, ..self::policy() };
    assert_eq!(hindrances(&lopsided(), &policy).0, [Hindrance::Waiting]);
}

#[test]
fn what_nothing_will_allow_is_not_waited_for_and_is_no_want_of_a_place() {
    let mut zone = lopsided();
    // What a move takes of the network is more than the node has.
    zone.snapshot.nodes[0].capacity[2] = 60 << 20;
    for view in &mut zone.snapshot.partitions {
        view.leader_heat[2] = 0;
    }
    for (zone, policy) in
        [(zone, policy()), (lopsided(), BalancePolicy { moves_zone_max: 0, ..policy() })]
    {
        let (found, memory) = hindrances(&zone, &policy);
        assert_eq!(found, [Hindrance::NothingGains]);
        assert!(!memory.is_settling && memory.rest.is_some(), "{memory:?}");
    }
}

/// One node of sixty has all load there is, and more than it can bear: on average that is next to nothing.
#[test]
fn overload_is_relieved_however_idle_the_zone_is_on_average() {
    let layout = Layout { nodes: 60, domains: 60, partitions: 600, load_percent: 0, ..EVEN };
    let mut zone = layout.spread(1);
    assert!(settle(&mut zone, &policy(), 400) < 400);
    let rest = zone.snapshot.memory.rest.clone().expect("stored bytes are even");
    let mut led = 0;
    for view in zone.snapshot.partitions.iter_mut().filter(|it| it.leader_node() == Some(0)) {
        view.leader_heat[PROCESSOR] = 550_000;
        led += 1;
    }
    let full = zone.snapshot.nodes[0].capacity[PROCESSOR];
    let all = led * 550_000;
    let idle = 60 * full * u64::from(policy().idle_permille) / 1_000;
    assert!(all > full && all < idle, "{all} of {full} at once, of {idle} in all");
    let made = step(&mut zone, &policy());
    assert!(made.actions.iter().any(|action| action.goal == Goal::Overload), "{made:#?}");
    assert!(made.actions.iter().all(|action| action.goal == Goal::Overload));
    for _ in 0..10 {
        step(&mut zone, &policy());
    }
    let load = load(&zone.snapshot, 0, PROCESSOR);
    assert!(load < 0.95 * full as f64, "{load} of {full}");
    let (transfers, moves) = (zone.transfers, zone.moves);
    for _ in 0..100 {
        step(&mut zone, &policy());
    }
    assert_eq!((zone.transfers, zone.moves), (transfers, moves), "then it is left alone");
    assert!(zone.snapshot.memory.rest.is_some_and(|it| it.since > rest.since));
}

fn with_hot_partition(zone: &mut Zone, edit: impl Fn(&mut model::balance::PartitionView)) -> usize {
    let place = 7;
    let view = &mut zone.snapshot.partitions[place];
    view.leader_heat[PROCESSOR] = 5_000_000;
    edit(view);
    place
}

#[test]
fn one_hot_key_is_slowed_down_and_not_moved() {
    let mut zone = settled(EVEN, 5);
    let place = with_hot_partition(&mut zone, |view| {
        (view.hottest_key_permille, view.split_left_permille) = (900, 500);
    });
    // There is even a node to itself for it.
    let empty = NodeView { id: NodeId(10), fault_domain: 9, ..zone.snapshot.nodes[0].clone() };
    zone.snapshot.nodes.push(empty);
    let before = zone.snapshot.partitions[place].clone();
    let made = step(&mut zone, &policy());
    let of_it: Vec<_> =
        made.actions.iter().filter(|action| action.index as usize == place).collect();
    assert_eq!(of_it.len(), 1);
    let Tool::Throttle { keep_permille } = of_it[0].tool else { panic!("{of_it:?}") };
    assert!(keep_permille < 900, "{keep_permille}");
    assert!(of_it[0].reason().contains("is slowed down to"));
    let names = made.obstacles.iter().filter(|found| found.hindrance == Hindrance::HotKey);
    assert_eq!(
        names.map(|found| found.partition).collect::<Vec<_>>(),
        [Some(zone.snapshot.partitions[place].id)]
    );
    settle(&mut zone, &policy(), 100);
    let after = &zone.snapshot.partitions[place];
    assert_eq!((after.replicas(), after.leader), (before.replicas(), before.leader));
    assert_eq!(zone.splits, 0);
}

#[test]
fn a_hot_key_that_overloads_nothing_is_named() {
    let mut zone = settled(Layout { load_percent: 5, ..EVEN }, 5);
    let place = with_hot_partition(&mut zone, |view| {
        (view.hottest_key_permille, view.leader_heat[PROCESSOR]) = (900, 1_500_000);
    });
    let mut named = None;
    for _ in 0..50 {
        let made = step(&mut zone, &policy());
        assert!(made.actions.iter().all(|action| !matches!(action.tool, Tool::Throttle { .. })));
        let mut obstacles = made.obstacles.into_iter();
        named = named.or(obstacles.find(|found| found.hindrance == Hindrance::HotKey));
    }
    let named = named.unwrap();
    assert_eq!(named.partition, Some(PartitionId(place as u64 + 1)));
}

#[test]
fn a_partition_that_is_too_hot_for_any_node_is_split() {
    let mut zone = settled(EVEN, 5);
    let place = with_hot_partition(&mut zone, |view| view.split_left_permille = 480);
    // A smaller remedy may come first.
    let split = (0..5).find_map(|_| {
        let made = step(&mut zone, &policy());
        made.actions.into_iter().find(|action| matches!(action.tool, Tool::Split { .. }))
    });
    let split = split.unwrap();
    assert_eq!((split.index as usize, split.tool), (place, Tool::Split { left_permille: 480 }));
    assert_eq!(zone.splits, 1);
    // Without a known point it is named instead.
    let made = step(&mut zone, &policy());
    assert!(made.obstacles.iter().any(|found| found.hindrance == Hindrance::Indivisible
        && found.partition == Some(PartitionId(place as u64 + 1))));
}

#[test]
fn a_split_that_the_policy_does_not_allow_is_not_waited_for() {
    for (splits_max, expected) in [(0, Some(Hindrance::NothingGains)), (1, None)] {
        let mut zone = settled(EVEN, 5);
        let place = with_hot_partition(&mut zone, |view| view.split_left_permille = 480);
        let policy = BalancePolicy { splits_max, ..policy() };
        // The load has to last, and what can be moved goes first.
        let made: Vec<_> = (0..6).map(|_| step(&mut zone, &policy)).collect();
        let id = Some(PartitionId(place as u64 + 1));
        let obstacles = made.iter().flat_map(|plan| &plan.obstacles);
        let of_it = obstacles.filter(|it| it.partition == id).map(|it| it.hindrance).next();
        let splits = made.iter().flat_map(|plan| &plan.actions);
        let splits = splits.filter(|action| matches!(action.tool, Tool::Split { .. })).count();
        assert_eq!(splits, splits_max as usize);
        assert_eq!(of_it.filter(|_| splits == 0), expected, "{splits_max} splits");
    }
}

#[test]
fn what_may_be_only_noise_is_not_split() {
    for (noise_permille, splits) in [(0, true), (1_000, false)] {
        let mut zone = settled(EVEN, 5);
        let place = with_hot_partition(&mut zone, |view| view.split_left_permille = 480);
        zone.snapshot.partitions[place].noise_permille = noise_permille;
        let made = (0..5).flat_map(|_| step(&mut zone, &policy()).actions);
        let divides = made.filter(|action| matches!(action.tool, Tool::Split { .. })).count() > 0;
        assert_eq!(divides, splits, "off by {noise_permille} ‰");
    }
}

#[test]
fn cooldowns_hold_unless_a_node_is_overloaded() {
    for (load_percent, rests) in [(10, true), (60, false)] {
        let mut zone = Layout { load_percent, ..EVEN }.skewed(6);
        for view in &mut zone.snapshot.partitions {
            view.cooldown_until = ZoneTime(u64::MAX);
        }
        let made = step(&mut zone, &policy());
        assert_eq!(made.actions.is_empty(), rests, "at {load_percent} %");
        assert!(made.actions.iter().all(|action| action.goal == Goal::Overload));
        assert!(made.memory.is_settling);
    }
}

#[test]
fn going_back_is_banned_and_then_dear() {
    let layout = Layout { nodes: 2, domains: 2, partitions: 2, replicas: 1, ..EVEN };
    let hour = 60 * 60 * 1000;
    let moves = |gain_permille: u64, age_ms: u64| {
        let mut zone = layout.spread(1);
        zone.snapshot.nodes.iter_mut().for_each(|node| node.capacity = [0, 0, 0, 4_000_000, 0]);
        let at = ZoneTime(zone.snapshot.time.get() - age_ms);
        let what = [Departed::Replica, Departed::Leadership];
        for (view, permille) in zone.snapshot.partitions.iter_mut().zip([gain_permille, 1_000]) {
            view.nodes[0] = 0;
            view.leader_heat = [0, 0, 0, permille * 1_000, 0];
            what.iter().for_each(|what| view.depart(Departure { from: 1, at, what: *what }));
        }
        let policy = BalancePolicy { count_above_permille: 100_000, ..policy() };
        plan(zone.snapshot, &policy, 1, EFFORT_DEFAULT).unwrap().actions.len()
    };
    assert_eq!(moves(300, hour / 2), 0);
    assert_eq!(moves(300, 2 * hour), 1);
    assert_eq!(moves(40, 2 * hour), 0, "not for as little as that");
    assert_eq!(moves(60, 25 * hour), 1);
}

#[test]
fn large_cold_partitions_are_not_moved_for_their_little_heat() {
    let mut zone = Layout { load_percent: 10, ..EVEN }.skewed(3);
    for view in &mut zone.snapshot.partitions {
        // Everybody has everything but a little of one.
        view.leader_heat[STORED_BYTES] = 1 << 34;
        view.follower_heat[STORED_BYTES] = 1 << 34;
    }
    let dear = BalancePolicy { gain_per_bytes_permille: 100_000, ..policy() };
    let made = step(&mut zone, &dear);
    assert!(made.actions.iter().all(|action| action.tool != Tool::MoveReplica));
}

#[test]
fn running_changes_count_as_done_and_hold_budgets() {
    let mut zone = EVEN.skewed(3);
    let policy = BalancePolicy { moves_zone_max: 5, ..policy() };
    let mut left = 5;
    for place in 0..3 {
        let view = &mut zone.snapshot.partitions[place];
        view.running = Running::Move { from: view.nodes[0], to: 8 };
        view.nodes[0] = 8;
        left -= 1;
        let made = plan(zone.snapshot.clone(), &policy, 1, EFFORT_DEFAULT).unwrap();
        check_rules(&zone.snapshot, &policy, &made);
        let moves = made.actions.iter().filter(|action| action.tool == Tool::MoveReplica);
        assert!(moves.count() <= left);
    }
}

#[test]
fn what_earlier_plans_did_not_realise_makes_plans_more_careful() {
    let memory = Memory::default();
    assert_eq!(memory.clone().judged(0, 0), memory);
    assert_eq!(memory.clone().judged(100, 100).realised_gain_permille, 1_000);
    let poor = (0..40).fold(memory.clone(), |memory, _| memory.judged(100, 10));
    assert!((100..150).contains(&poor.realised_gain_permille), "{poor:?}");
    let count = |memory: Memory| {
        let mut zone = Layout { load_percent: 10, ..EVEN }.skewed(2);
        zone.snapshot.memory = memory;
        let policy = BalancePolicy { gain_min_permille: 60, ..policy() };
        settle(&mut zone, &policy, 100);
        zone.moves + zone.transfers
    };
    let (bold, careful) = (count(memory), count(poor));
    assert!(careful < bold, "{careful} {bold}");
}

#[test]
fn each_action_says_why() {
    let mut zone = EVEN.skewed(2);
    let made = step(&mut zone, &policy());
    assert!(made.after < made.before);
    for action in &made.actions {
        assert!(action.gain_permille > 0);
        assert!(action.from.after_permille < action.from.before_permille);
        let reason = action.reason();
        assert!(reason.contains("‰ of the mean") && reason.len() < 500, "{reason}");
    }
    assert!(made.actions.iter().any(|action| action.rejected.is_some()));
}
