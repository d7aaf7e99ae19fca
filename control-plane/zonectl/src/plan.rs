//! What `zonectl plan` shows.

use std::{fmt::Write, time::Duration};

use comfy_table::Cell;

use crate::{
    forms::{PlaceForm, PlanForm},
    tables::{number, table},
    text::{count, shorten, show_duration},
};

/// Moves that are listed one by one; `-o json` has all.
const MOVES_LISTED_MAX: usize = 20;
/// Columns that a name may take.
const NAME_WIDTH_MAX: usize = 40;

/// An answer for people: whether it is any good, what it costs, what it moves, and how to get it again.
pub fn text(plan: &PlanForm) -> String {
    let mut text = headline(plan);
    let _ = writeln!(
        text,
        "\n\n{}, {} in {}, {}. Rules broken before: {}; after: {}.",
        count(plan.nodes as u64, "node", "nodes"),
        count(plan.replicas as u64, "replica", "replicas"),
        count(plan.groups as u64, "group", "groups"),
        count(plan.resources.len() as u64, "resource", "resources"),
        plan.violations_before.brief(),
        plan.violations_after.brief(),
    );
    let _ = writeln!(text, "\n{}", costs(plan));
    if !plan.broken_after.is_empty() {
        let _ = writeln!(text, "\nStill broken, the first places:");
        for place in &plan.broken_after {
            let _ = writeln!(text, "  {place}");
        }
    }
    let moved: Vec<&PlaceForm> =
        plan.assignment.iter().filter(|place| place.from != place.node).collect();
    if !plan.broken_after.is_empty() && !moved.is_empty() {
        let _ = writeln!(text, "\nMoves:");
    }
    for place in moved.iter().take(MOVES_LISTED_MAX) {
        let name = |name: &Option<String>| match name {
            Some(name) => shorten(name, NAME_WIDTH_MAX),
            None => "nowhere".to_owned(),
        };
        let replica = shorten(&place.replica, NAME_WIDTH_MAX);
        let _ = writeln!(text, "  {replica}: {} → {}", name(&place.from), name(&place.node));
    }
    if moved.len() > MOVES_LISTED_MAX {
        let more = moved.len() - MOVES_LISTED_MAX;
        let _ = writeln!(text, "  and {more} more: `-o json` names them all");
    }
    let search = &plan.search;
    let _ = write!(
        text,
        "\n{} of {} planned, {} changes weighed in {}. The same again:\n  zonectl plan --problem {} \
         --rounds {} --planned-rounds {} --lanes {} --seed {}",
        count(search.rounds.into(), "round", "rounds"),
        search.planned_rounds,
        search.evaluations,
        show_duration(Duration::from_millis(search.elapsed_ms)),
        argument(&plan.problem),
        search.rounds,
        search.planned_rounds,
        search.lanes,
        search.seed,
    );
    text
}

/// The problem as a shell takes it.
fn argument(problem: &str) -> String {
    if problem == "standard input" {
        return "-".to_owned();
    }
    // What no shell can be told, no shell has told us.
    shlex::try_quote(problem).map_or_else(|_| problem.to_owned(), Into::into)
}

fn headline(plan: &PlanForm) -> String {
    let moves = count(plan.moved_replicas as u64, "move", "moves");
    let placed = match plan.placed_replicas {
        0 => String::new(),
        placed => format!(" and {}", count(placed as u64, "new place", "new places")),
    };
    let (before, after) = (plan.cost_before.total, plan.cost_after.total);
    if !plan.feasible {
        return format!("NOT FEASIBLE: {moves}{placed} leave some rules broken.");
    }
    if plan.moved_replicas + plan.placed_replicas == 0 {
        return format!("NOTHING TO DO: nothing cheaper than {before} was found.");
    }
    let gap = match plan.gap_percent {
        Some(gap) => format!(", {gap:.2} % above the lower bound"),
        None => String::new(),
    };
    format!("FEASIBLE: {moves}{placed} take the cost to {after}{}{gap}.", change(before, after))
}

/// By how much a cost has changed, for example ` (−25.0 %)`; nothing where there is nothing to compare.
pub fn change(before: i64, after: i64) -> String {
    if before == after || before <= 0 {
        return String::new();
    }
    let percent = (after as f64 - before as f64) / before as f64 * 100.0;
    let sign = if percent < 0.0 { "−" } else { "+" };
    format!(" ({sign}{:.1} %)", percent.abs())
}

fn costs(plan: &PlanForm) -> comfy_table::Table {
    let (before, after, bound) = (&plan.cost_before, &plan.cost_after, &plan.lower_bound);
    let mut table = table(&["cost", "before", "after", "lower bound"]);
    for (name, before, after, bound) in [
        ("load above targets", before.terms.load, after.terms.load, Some(bound.load)),
        ("unbalanced resources", before.terms.balance, after.terms.balance, Some(bound.balance)),
        ("replicas moved", before.terms.replica_moves, after.terms.replica_moves, None),
        ("most moves in a group", before.terms.group_moves, after.terms.group_moves, None),
        ("distances", before.terms.distance, after.terms.distance, None),
        ("all", before.total, after.total, Some(bound.total)),
    ] {
        let bound = bound.map_or_else(|| "–".to_owned(), |bound| bound.to_string());
        table.add_row([Cell::new(name), number(before), number(after), number(bound)]);
    }
    table
}
