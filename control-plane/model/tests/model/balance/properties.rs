//! What holds for every zone.

use model::{
    balance::{
        BalancePlan, BalancePolicy, Change, EFFORT_DEFAULT, Goal, Planner, Score, Tool, plan,
    },
    seeded::Seeded,
};
use proptest::prelude::*;

use super::{
    checker::{assert_same_score, check_rules, score, worst},
    zone::{Layout, Zone},
};

fn layouts() -> impl Strategy<Value = Layout> {
    (3..12_usize, 1..4_usize, 15..40_usize, 1..4_usize, 1..3_usize, 10..70_u64).prop_map(
        |(nodes, domains, each, replicas, sizes, load_percent)| Layout {
            nodes,
            domains: (replicas * domains).min(nodes),
            partitions: nodes * each / replicas,
            replicas,
            sizes,
            load_percent,
        },
    )
}

/// Plans, checks the plan, and carries it out.
pub fn step(zone: &mut Zone, policy: &BalancePolicy) -> BalancePlan {
    let snapshot = zone.snapshot.clone();
    let made = plan(snapshot.clone(), policy, 1, EFFORT_DEFAULT).unwrap();
    check_rules(&snapshot, policy, &made);
    assert_same_score(made.before, score(&snapshot, policy, &snapshot));
    zone.carry_out(&made, policy);
    let divides = |tool: Tool| matches!(tool, Tool::Split { .. } | Tool::Throttle { .. });
    // A new replica is new load, and changes what everybody is measured by.
    let adds = |tool: Tool| tool == Tool::AddReplica || divides(tool);
    if !made.actions.iter().any(|action| adds(action.tool)) {
        assert_same_score(made.after, score(&zone.snapshot, policy, &snapshot));
    }
    zone.pass();
    made
}

/// Plans and carries out until nothing more moves, or so many rounds are over. Returns the rounds.
pub fn settle(zone: &mut Zone, policy: &BalancePolicy, rounds_max: u32) -> u32 {
    for round in 0..rounds_max {
        let made = step(zone, policy);
        if made.actions.iter().all(|action| matches!(action.tool, Tool::Throttle { .. }))
            && !made.memory.is_settling
        {
            return round;
        }
    }
    rounds_max
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_skewed_zone_becomes_even_and_then_rests(layout in layouts(), seed: u64) {
        let policy = BalancePolicy::default();
        let mut zone = layout.skewed(seed);
        let before = score(&zone.snapshot, &policy, &zone.snapshot);
        prop_assert!(settle(&mut zone, &policy, 600) < 600, "it does not settle");
        prop_assert!(zone.returns.is_empty(), "{:?}", zone.returns);
        let after = score(&zone.snapshot, &policy, &zone.snapshot);
        prop_assert!(after <= before, "{before:?} became {after:?}");
    }

    #[test]
    fn under_noise_a_zone_comes_to_rest_and_then_nothing_moves(layout in layouts(), seed: u64) {
        let policy = BalancePolicy::default();
        let mut zone = layout.skewed(seed);
        let mut seeded = Seeded::new(seed);
        let changes = |zone: &Zone| zone.transfers + zone.moves;
        let (mut rounds, mut still) = (0, 0);
        while still < 30 {
            let before = changes(&zone);
            zone.disturb(&mut seeded, 3);
            step(&mut zone, &policy);
            still = if changes(&zone) == before { still + 1 } else { 0 };
            rounds += 1;
            prop_assert!(rounds < 800, "it does not come to rest");
        }
        let settled = changes(&zone);
        let mut is_relieved = false;
        // Longer than going back is banned.
        for round in 0..400 {
            // Every third report is one that has not come: the heat is as it was.
            if round % 3 > 0 {
                zone.disturb(&mut seeded, 3);
            }
            let made = step(&mut zone, &policy);
            is_relieved |= made.actions.iter().any(|action| action.goal == Goal::Overload);
        }
        let later = changes(&zone) - settled;
        // Damping does not hold an overloaded node's relief back for ever: a ban may have ended.
        let max = if is_relieved { layout.nodes } else { 0 };
        prop_assert!(later <= max, "{later} changes after {rounds} rounds until it rested");
        if is_relieved {
            return Ok(());
        }
        prop_assert!(zone.returns.is_empty(), "{:?}", zone.returns);
    }

    #[test]
    fn plans_keep_every_rule(layout in layouts(), seed: u64, edits in 0..40_usize) {
        let mut zone = layout.skewed(seed);
        let mut seeded = Seeded::new(seed);
        let policy = BalancePolicy {
            moves_zone_max: 6,
            moves_node_max: 2,
            moves_fault_domain_max: 3,
            transfers_max: 5,
            plan_bytes_max: 1 << 38,
            stored_max_permille: 400,
            ..BalancePolicy::default()
        };
        for _ in 0..edits {
            let node = seeded.below(layout.nodes);
            let view = &mut zone.snapshot.nodes[node];
            match seeded.below(4) {
                0 => (view.is_leaving, view.may_lead, view.may_receive) = (true, false, false),
                1 => view.may_receive = seeded.below(2) == 0,
                2 => view.may_lead = seeded.below(2) == 0,
                _ => {
                    let place = seeded.below(layout.partitions);
                    let view = &mut zone.snapshot.partitions[place];
                    if view.replica_count > 1 {
                        view.replica_count -= 1;
                        view.leader = 0;
                    }
                }
            }
        }
        if seeded.below(3) == 0 {
            let view = &mut zone.snapshot.nodes[0];
            (view.is_leaving, view.is_gone, view.may_lead, view.may_receive) =
                (true, true, false, false);
        }
        for _ in 0..8 {
            let made = step(&mut zone, &policy);
            let evens_counts = made.actions.iter().any(|action| action.goal == Goal::Counts);
            let heat = |score: Score| (score.worst_share_ppm, score.unevenness_ppm);
            let (mut before, mut after) = (made.before, made.after);
            if evens_counts {
                // Heat may become less even by it, within the band.
                let stop = u64::from(policy.stop_at_permille) * 1_000;
                prop_assert!(heat(after).0 <= heat(before).0.max(stop + 1_000), "{before:?} {after:?}");
                for score in [&mut before, &mut after] {
                    (score.worst_share_ppm, score.unevenness_ppm) = (0, 0);
                }
            }
            prop_assert!(after <= before, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_planner_that_is_told_of_changes_plans_like_a_fresh_one(layout in layouts(), seed: u64) {
        let policy = BalancePolicy::default();
        let mut zone = layout.skewed(seed);
        let mut seeded = Seeded::new(seed);
        let mut planner = Planner::new(zone.snapshot.clone()).unwrap();
        for round in 0..12 {
            let made = planner.plan(&policy, seed, EFFORT_DEFAULT).unwrap();
            let fresh = plan(zone.snapshot.clone(), &policy, seed, EFFORT_DEFAULT).unwrap();
            prop_assert_eq!(&made, &fresh);
            let mut changes = zone.carry_out(&made, &policy);
            changes.push(zone.pass());
            let place = seeded.below(layout.nodes);
            let node = &mut zone.snapshot.nodes[place];
            if round % 3 == 1 {
                node.may_lead = !node.may_lead;
                node.fault_domain = (node.fault_domain + 1) % layout.domains as u32;
            }
            changes.push(Change::Node { index: place as u32, node: node.clone() });
            for change in changes {
                planner.apply(change).unwrap();
            }
        }
    }

    #[test]
    fn effort_bounds_a_plan_and_never_breaks_it(layout in layouts(), seed: u64, effort in 0..5_000_u64) {
        let zone = layout.skewed(seed);
        let policy = BalancePolicy::default();
        let made = plan(zone.snapshot.clone(), &policy, seed, effort).unwrap();
        check_rules(&zone.snapshot, &policy, &made);
        // One step more than was allowed: a look at all residents of a few nodes.
        let step = 20 * (layout.partitions as u64 * layout.replicas as u64 + 100);
        prop_assert!(made.evaluations <= effort + step, "{} of {effort}", made.evaluations);
        prop_assert!(worst(&zone.snapshot, &policy) > 0.0);
    }
}
