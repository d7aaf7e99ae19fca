//! `zonectl plan`.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};

use super::WaitArguments;

pub const APPLY_HELP: &str = "\
Examples:
  zonectl plan -o json > plan.json && zonectl apply plan.json
  zonectl plan -o json | zonectl apply - --wait

All of the plan is carried out, or nothing: it is refused if one of its
partitions is no longer as the plan saw it, and the refusal says which and how.
Plan again then. The same plan twice counts once.

JSON:
  zone_id, operation_ids[]";

pub const PLAN_HELP: &str = "\
Examples:
  zonectl plan
  zonectl plan -o json > plan.json && zonectl apply plan.json --wait
  zonectl plan --problem zone.json
  zonectl plan --problem zone.json --time-limit 5m -o json > plan.json
  zonectl plan --problem zone.json --rounds 214 --lanes 2 --seed 1
  generate-problem | zonectl plan --problem -

It changes nothing. Without a problem it plans for the zone as it is now: which
leaderships and replicas should be elsewhere, so that load is even, or numbers
where there is no load; and it goes on until the zone's policy has enough,
however small the distance. `zonectl apply` carries out exactly what was shown,
or refuses it because the zone has changed. Splits are no part of a plan: what is
too large a piece the zone splits by itself after a while, or you do, with
`zonectl partition split`.

JSON of such a plan, which is what `apply` takes:
  version, zone_id, revision, by_load, worst_share_before, worst_share_after,
  steps[] {partition_id, change (transfer-leader or move-replica),
    from_node_id, to_node_id, replica_id or null, leader_node_id,
    target_replica_ids[], exchanged_with_partition_id or null, reason,
    effect {goal, dimension, from_before, from_after, to_before, to_after,
      bytes}},
  nodes[] {node_id, name, share_before, share_after, leaders_before,
    leaders_after, replicas_before, replicas_after},
  obstacles[] {node_id, partition_id or null, hindrance},
  held_back[], left_out, evaluations, seed, effort

Shares are a node's load for its capacity against the mean: 1 is even.

With a problem in a file it asks no zone. A problem has nodes with capacities and
targets for each resource, and replicas with demands, in groups whose members
keep apart; runbooks/plan-offline.md describes the form. What can be had is
searched for until the time is over, or Ctrl-C, and then until the end of the
round; a second Ctrl-C ends it at once, without an answer and with exit code 130.
An answer breaks no rule that was kept before and, if none was broken, is never
dearer. The lower bound counts as if all nodes were one; the best that is
possible may be well above it.

The answer names the rounds that give it again, on any machine, in any time.

JSON of an answer to a problem:
  problem, feasible, nodes, replicas, groups, resources[],
  cost_before, cost_after {total, load, balance, replica_moves, group_moves,
    distance}, lower_bound {total, load, balance}, gap_percent or null,
  violations_before, violations_after {unplaced, misplaced, conflicts,
    spread_shortfall, over_capacity, over_transient}, broken_after[],
  search {rounds, planned_rounds, lanes, seed, evaluations, elapsed_ms},
  moved_replicas, placed_replicas,
  assignment[] {replica, node, from}

`node` is null for a replica without a place, `from` for one that had none. The
exit code is 1 if the answer still breaks a rule.";

#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("limit").args(["time_limit", "rounds"])))]
pub struct PlanArguments {
    /// A problem's file, instead of the zone; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub problem: Option<PathBuf>,
    /// How many changes are weighed at most, when it is planned for the zone.
    ///
    /// The plan ends with the step that it is at by then; 1,000,000 unless said otherwise.
    #[arg(long, conflicts_with = "problem", value_parser = clap::value_parser!(u64).range(1..=EFFORT_MAX))]
    pub effort: Option<u64>,
    /// For how long an answer to a problem is searched for.
    #[arg(
        long, value_name = "DURATION", value_parser = time_limit, default_value = "60s", requires = "problem"
    )]
    pub time_limit: Duration,
    /// So many rounds instead of a time limit: they give the same answer everywhere.
    #[arg(long, requires = "problem")]
    pub rounds: Option<NonZeroU32>,
    /// How many rounds the search was meant to have, if it ended before they were done.
    #[arg(long, requires = "rounds")]
    pub planned_rounds: Option<NonZeroU32>,
    /// Threads that search at the same time; other numbers give other answers.
    ///
    /// As many as the machine has processors unless said otherwise.
    #[arg(long, requires = "problem", value_parser = clap::value_parser!(u16).range(1..=LANES_MAX))]
    pub lanes: Option<u16>,
    /// Which of many ways the search takes, or which of equally good nodes is taken.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

const EFFORT_MAX: u64 = model::balancer::DRAFT_EFFORT_MAX;
const LANES_MAX: i64 = model::reassignment::LANES_MAX as i64;

/// The longest time limit: a day.
const TIME_LIMIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

fn time_limit(text: &str) -> Result<Duration, String> {
    let limit = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if limit.is_zero() || limit > TIME_LIMIT_MAX {
        return Err("it must be more than 0s and at most 1day".into());
    }
    Ok(limit)
}

#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// What `zonectl plan -o json` has written; `-` for standard input.
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
    #[command(flatten)]
    pub wait: WaitArguments,
}
