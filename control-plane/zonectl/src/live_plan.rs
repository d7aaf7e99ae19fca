//! What people see of a plan for the live zone.

use std::fmt::Write;

use comfy_table::{Cell, Table};

use crate::{
    forms::{AppliedForm, LivePlanForm, PlanChange, PlanStepForm, RebalanceForm},
    heat::obstacle_in_words,
    tables::{number, table},
    text::{count, show_bytes},
};

/// Steps that are listed one by one; `-o json` has all.
const STEPS_LISTED_MAX: usize = 50;
const OBSTACLES_SHOWN: usize = 5;

/// `plan`.
pub fn plan(plan: &LivePlanForm) -> String {
    let mut text = body(plan);
    if !plan.steps.is_empty() {
        text.push_str(
            "\n\nNothing is begun. To do exactly this: `zonectl plan -o json > plan.json`, look at it, and \
             `zonectl apply plan.json`.",
        );
    }
    text
}

/// `apply`.
pub fn applied(applied: &AppliedForm) -> String {
    let operations = match applied.operation_ids.as_slice() {
        [] => return "There was nothing to do: the plan has no steps.".to_owned(),
        [one] => format!("operation {one}"),
        [first, .., last] => format!("operations {first} to {last}"),
    };
    let steps = count(applied.operation_ids.len() as u64, "step", "steps");
    format!("Accepted: {steps}, {operations}. Follow them with `zonectl operation list`.")
}

/// `rebalance`.
pub fn rebalance(done: &RebalanceForm) -> String {
    let mut text = body(&done.plan);
    if !done.plan.steps.is_empty() {
        let said = if done.dry_run {
            "Nothing is begun: this is what would be done.".to_owned()
        } else {
            let applied = AppliedForm {
                zone_id: done.plan.zone_id.clone(),
                operation_ids: done.operation_ids.clone(),
            };
            self::applied(&applied)
        };
        let _ = write!(text, "\n\n{said}");
    }
    text.push_str(&empty_nodes(done));
    text
}

fn body(plan: &LivePlanForm) -> String {
    let mut text = headline(plan);
    if !plan.steps.is_empty() {
        let _ = write!(text, "\n{}\n\n{}", steps(plan), nodes(plan));
        if plan.steps.len() > STEPS_LISTED_MAX {
            let more = plan.steps.len() - STEPS_LISTED_MAX;
            let _ = write!(text, "\n{more} more steps: `-o json` has them all.");
        }
    }
    for why in &plan.held_back {
        let _ = write!(text, "\nHeld back: {why}.");
    }
    if plan.left_out > 0 {
        let changes = count(plan.left_out.into(), "change", "changes");
        let _ = write!(
            text,
            "\n{changes} more would help and do not fit now: plan again when what runs has ended."
        );
    }
    for obstacle in plan.obstacles.iter().take(OBSTACLES_SHOWN) {
        let name = plan.name_of(obstacle.node_id);
        let said = obstacle_in_words(&name, obstacle.partition_id, &obstacle.hindrance);
        let _ = write!(text, "\n{said}");
    }
    if plan.obstacles.len() > OBSTACLES_SHOWN {
        let more = plan.obstacles.len() - OBSTACLES_SHOWN;
        let _ = write!(text, "\n{more} more obstacles: `-o json` has them all.");
    }
    text
}

/// What it would bring.
fn headline(plan: &LivePlanForm) -> String {
    let transfers = plan.steps_of(PlanChange::TransferLeader).count() as u64;
    let moves = plan.steps_of(PlanChange::MoveReplica).count() as u64;
    let (before, after) = (plan.worst_share_before, plan.worst_share_after);
    if plan.steps.is_empty() {
        let why = if plan.by_load {
            format!(
                "the most loaded node is at {before:.2} times the mean, and no change is worth it"
            )
        } else {
            "there is no load to go by, and numbers of leaderships and replicas are even enough"
                .to_owned()
        };
        return format!("There is nothing to do: {why}.");
    }
    let mut what = Vec::new();
    if transfers > 0 {
        what.push(count(transfers, "transfer", "transfers"));
    }
    if moves > 0 {
        let bytes = plan.steps_of(PlanChange::MoveReplica).map(|step| step.effect.bytes).sum();
        what.push(format!("{} ({})", count(moves, "move", "moves"), show_bytes(bytes)));
    }
    let what = what.join(", ");
    if plan.by_load {
        return format!(
            "{what}: the most loaded node goes from {before:.2} to {after:.2} times the mean."
        );
    }
    let most = |leaders: &dyn Fn(usize) -> u32| {
        (0..plan.nodes.len()).map(leaders).max().unwrap_or_default()
    };
    format!(
        "{what}: there is no load to go by; the most leaderships of a node go from {} to {}.",
        most(&|at| plan.nodes[at].leaders_before),
        most(&|at| plan.nodes[at].leaders_after),
    )
}

fn steps(plan: &LivePlanForm) -> Table {
    let header = ["step", "what", "from", "to", "from's share", "to's share", "why"];
    let mut table = table(&header);
    for (step, at) in plan.steps.iter().take(STEPS_LISTED_MAX).zip(1_u32..) {
        let effect = &step.effect;
        table.add_row([
            number(at),
            Cell::new(what(step)),
            Cell::new(plan.name_of(step.from_node_id)),
            Cell::new(plan.name_of(step.to_node_id)),
            course(effect.from_before, effect.from_after),
            course(effect.to_before, effect.to_after),
            Cell::new(&step.reason),
        ]);
    }
    table
}

fn what(step: &PlanStepForm) -> String {
    let partition = step.partition_id;
    match step.change {
        PlanChange::TransferLeader => format!("leadership of partition {partition}"),
        PlanChange::MoveReplica => {
            format!("replica of partition {partition}, {}", show_bytes(step.effect.bytes))
        }
    }
}

fn course(before: f64, after: f64) -> Cell {
    number(format!("{before:.2} → {after:.2}"))
}

fn nodes(plan: &LivePlanForm) -> Table {
    let mut table = table(&["node", "share of load", "leaders", "replicas"]);
    let counts = |before: u32, after: u32| number(format!("{before} → {after}"));
    for node in &plan.nodes {
        table.add_row([
            Cell::new(&node.name),
            course(node.share_before, node.share_after),
            counts(node.leaders_before, node.leaders_after),
            counts(node.replicas_before, node.replicas_after),
        ]);
    }
    table
}

fn empty_nodes(done: &RebalanceForm) -> String {
    let is_left = |id: &&u64| {
        let outlook = done.plan.nodes.iter().find(|node| node.node_id == **id);
        outlook.is_none_or(|node| node.replicas_after == 0)
    };
    let empty: Vec<String> =
        done.empty_nodes.iter().filter(is_left).map(|id| done.plan.name_of(*id)).collect();
    match empty.as_slice() {
        [] => String::new(),
        [one] => format!(
            "\n{one} holds no replicas, so it can lead nothing. `zonectl partition move` gives it some."
        ),
        [more @ .., last] => format!(
            "\n{} and {last} hold no replicas, so they can lead nothing. `zonectl partition move` gives \
             them some.",
            more.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    fn outlook(node_id: u64, leaders: (u32, u32), replicas: (u32, u32)) -> v1::NodeOutlook {
        v1::NodeOutlook {
            node_id,
            name: format!("node-{node_id}"),
            share_before: 1.0,
            share_after: 1.0,
            leaders_before: leaders.0,
            leaders_after: leaders.1,
            replicas_before: replicas.0,
            replicas_after: replicas.1,
        }
    }

    fn sent() -> v1::BalancePlan {
        let transfer = v1::PlannedTransfer { from_node_id: 1, to_node_id: 2 };
        let moved = v1::PlannedMove { replica_id: 3, from_node_id: 1, to_node_id: 3 };
        let step = |partition_id, change, bytes| v1::PlanStep {
            partition_id,
            change: Some(change),
            reason: "why".into(),
            effect: Some(v1::PlanEffect {
                from_before: 1.62,
                from_after: 1.3,
                to_before: 0.5,
                to_after: 0.82,
                bytes,
                ..v1::PlanEffect::default()
            }),
            ..v1::PlanStep::default()
        };
        v1::BalancePlan {
            by_load: true,
            worst_share_before: 1.62,
            worst_share_after: 1.04,
            steps: vec![
                step(7, v1::plan_step::Change::Transfer(transfer), 0),
                step(8, v1::plan_step::Change::Move(moved), 3 << 29),
            ],
            nodes: vec![outlook(1, (3, 2), (3, 2)), outlook(2, (0, 1), (3, 3))],
            left_out: 1,
            held_back: vec!["the brake is engaged".into()],
            ..v1::BalancePlan::default()
        }
    }

    fn form(plan: v1::BalancePlan) -> LivePlanForm {
        LivePlanForm::try_from(plan).unwrap()
    }

    #[test]
    fn the_first_line_says_what_the_plan_would_bring() {
        let text = plan(&form(sent()));
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(
            first,
            "1 transfer, 1 move (1.5 GiB): the most loaded node goes from 1.62 to 1.04 times the mean."
        );
        for part in [
            "leadership of partition 7",
            "replica of partition 8, 1.5 GiB",
            "1.62 → 1.30",
            "0.50 → 0.82",
            "3 → 2",
            "Held back: the brake is engaged.",
            "1 change more would help",
            "zonectl apply plan.json",
        ] {
            assert!(rest.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn an_even_zone_needs_no_plan() {
        let even = v1::BalancePlan { steps: Vec::new(), left_out: 0, ..sent() };
        let said = plan(&form(v1::BalancePlan { held_back: Vec::new(), ..even.clone() }));
        assert_eq!(
            said,
            "There is nothing to do: the most loaded node is at 1.62 times the mean, and no change is worth it."
        );
        let idle = v1::BalancePlan { by_load: false, ..even };
        assert!(headline(&form(idle)).contains("no load to go by"));
        let counts = v1::BalancePlan { by_load: false, ..sent() };
        let said = headline(&form(counts));
        assert!(said.ends_with("the most leaderships of a node go from 3 to 2."), "{said}");
    }

    #[test]
    fn a_rebalance_says_what_it_has_begun_and_who_can_lead_nothing() {
        let node = |id: u64, replicas| v1::NodeSummary {
            id,
            name: format!("node-{id}"),
            replicas,
            state: v1::NodeState::Up.into(),
            administrative_state: v1::AdministrativeState::Active.into(),
            ..v1::NodeSummary::default()
        };
        let nodes = vec![outlook(2, (0, 0), (0, 0)), outlook(3, (0, 0), (0, 1))];
        let plan = form(v1::BalancePlan { nodes, ..sent() });
        let nodes = [node(1, 3), node(2, 0), node(3, 0)];
        let text = rebalance(&RebalanceForm::new(false, plan.clone(), vec![4, 5], &nodes));
        assert!(text.contains("Accepted: 2 steps, operations 4 to 5."), "{text}");
        assert!(text.contains("\nnode-2 holds no replicas"), "{text}");
        let text = rebalance(&RebalanceForm::new(true, plan, Vec::new(), &nodes));
        assert!(text.contains("Nothing is begun: this is what would be done."), "{text}");
        let json =
            serde_json::to_value(RebalanceForm::new(true, form(sent()), vec![], &[])).unwrap();
        assert_eq!(json["transfers"][0]["partition_id"], 7);
        assert_eq!(json["moves"][0]["bytes"], 3_u64 << 29);
        assert_eq!(json["counts"][0]["after"], 2);
        assert_eq!(json["plan"]["steps"][1]["change"], "move-replica");
    }
}
