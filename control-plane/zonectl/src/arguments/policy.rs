//! `zonectl policy …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `zonectl policy --help`, after the list of verbs.
pub const POLICY_HELP: &str = "\
Examples:
  zonectl policy show
  zonectl policy set replace_after_ms=1800000 --reason 'disks come back within 30 min'
  zonectl policy show -o json > policy.json
  zonectl policy diff policy.json
  zonectl policy set policy.json --reason 'calmer balance' --dry-run
  zonectl policy shadow set act_above_permille=1100 --reason 'calmer?'
  zonectl policy shadow show

A change takes effect at once, and is in the ledger with its reason. A file has
every field, and the version of the policy that it was made from: if somebody
has changed the policy since, it is refused.

`diff` changes nothing. Its exit codes are those of diff: 0 the same,
1 different, 2 the file is no policy, or the zone has none; 3 the zone could not
be reached.

JSON of `show`, and what `set` and `diff` read: version, one number for each
field, and those of balance in an object `balance`. Of `diff`:
  version, file_version, changes[] {field, from, to, unit}
Of `set`:
  version, dry_run, changes[] {field, from, to, unit}
Of `shadow set` and `shadow clear`:
  is_set, changes[] {field, from, to, unit}
Of `shadow show`:
  is_set, reason, set_zone_time_ms, set_wall_time_ms, changes[],
  comparison {began_zone_time_ms, planned_zone_time_ms, plans, better, equal,
    worse, active, shadow};
  active and shadow {transfers, moves, splits, bytes, worst_share_max,
    worst_share_mean, worst_share_last}";

#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Every field: its value, its unit, its default, and what it is for.
    #[command(after_help = "Examples:\n  \
        zonectl policy show\n  \
        zonectl policy show -o json > policy.json")]
    Show,
    /// What a file would change. Exit codes: 0 nothing, 1 something, 2 it is no policy.
    #[command(after_help = "Examples:\n  zonectl policy diff policy.json")]
    Diff {
        /// As `zonectl policy show -o json` writes it; `-`: standard input.
        file: PathBuf,
    },
    /// Change the policy: a whole one from a file, or single fields.
    #[command(after_help = "Examples:\n  \
        zonectl policy set replace_after_ms=1800000 --reason 'disks come back within 30 min'\n  \
        zonectl policy set balance.moves_zone_max=0 balance.transfers_max=0 --reason 'launch day'\n  \
        zonectl policy set policy.json --reason 'calmer balance' --dry-run")]
    Set(PolicySetArguments),
    /// Try another policy of balance in the shadow of the zone's own: it is planned with, and never acted on.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        zonectl policy shadow set act_above_permille=1100 gain_min_permille=40 --reason 'calmer?'\n  \
        zonectl policy shadow show\n  \
        zonectl policy shadow clear --reason 'seen enough'"
    )]
    Shadow(ShadowVerb),
}

#[derive(Debug, Subcommand)]
pub enum ShadowVerb {
    /// Plan with another policy of balance; the comparison begins anew.
    Set {
        /// A file as `zonectl policy show -o json` writes it, with other values of balance (`-`: standard input), or
        /// fields that are otherwise than in the zone's policy.
        #[arg(required = true, value_name = "FILE|FIELD=VALUE")]
        changes: Vec<String>,
        /// Why, for the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Plan with the zone's policy only.
    Clear {
        /// Why, for the ledger.
        #[arg(long)]
        reason: String,
    },
    /// What it has otherwise, and what it would have done better or worse since it was set.
    Show,
}

#[derive(Debug, Args)]
pub struct PolicySetArguments {
    /// A file as `zonectl policy show -o json` writes it (`-`: standard input), or fields with their new values.
    #[arg(required = true, value_name = "FILE|FIELD=VALUE")]
    pub changes: Vec<String>,
    /// Why, for the ledger.
    #[arg(long, required_unless_present = "dry_run")]
    pub reason: Option<String>,
    /// Only say what would change, and whether it is possible.
    #[arg(long)]
    pub dry_run: bool,
}
