//! `zonectl plan`.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};

pub const PLAN_HELP: &str = "\
Examples:
  zonectl plan --problem zone.json
  zonectl plan --problem zone.json --time-limit 5m -o json > plan.json
  zonectl plan --problem zone.json --rounds 214 --lanes 2 --seed 1
  generate-problem | zonectl plan --problem -

It asks no zone and changes nothing. A problem has nodes with capacities and
targets for each resource, and replicas with demands, in groups whose members
keep apart; runbooks/plan-offline.md describes the form. What can be had is
searched for until the time is over, or Ctrl-C: an answer breaks no rule that
was kept before and is never dearer. The lower bound counts as if all nodes
were one; the best that is possible may be well above it.

The answer names the rounds that give it again, on any machine, in any time.

JSON:
  problem, feasible, nodes, replicas, groups, resources[],
  cost_before, cost_after {total, load, balance, replica_moves, group_moves,
    distance}, lower_bound {total, load, balance}, gap_percent or null,
  violations_before, violations_after {unplaced, misplaced, conflicts,
    spread_shortfall, over_capacity, over_transient},
  search {rounds, planned_rounds, lanes, seed, evaluations, elapsed_ms},
  moved_replicas, placed_replicas,
  assignment[] {replica, node, from}

`node` is null for a replica without a place, `from` for one that had none. The
exit code is 1 if the answer still breaks a rule.";

#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("effort").args(["time_limit", "rounds"])))]
pub struct PlanArguments {
    /// The problem's file; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub problem: PathBuf,
    /// For how long an answer is searched for.
    #[arg(long, value_name = "DURATION", value_parser = time_limit, default_value = "60s")]
    pub time_limit: Duration,
    /// So many rounds instead of a time limit: they give the same answer everywhere.
    #[arg(long)]
    pub rounds: Option<NonZeroU32>,
    /// How many rounds the search was meant to have, if it ended before they were done.
    #[arg(long, requires = "rounds")]
    pub planned_rounds: Option<NonZeroU32>,
    /// Threads that search at the same time; other numbers give other answers.
    ///
    /// As many as the machine has processors unless said otherwise.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=LANES_MAX))]
    pub lanes: Option<u16>,
    /// Which of many ways the search takes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

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
