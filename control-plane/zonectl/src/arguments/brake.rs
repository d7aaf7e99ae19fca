//! `zonectl brake …`.

use std::time::Duration;

use clap::Subcommand;

/// `zonectl brake --help`, after the list of verbs.
pub const BRAKE_HELP: &str = "\
Examples:
  zonectl brake override --for 10m --reason 'rack 3 burnt down'
  zonectl brake restore

The brake is engaged when too much seems to be lost at once: then no repair and
no move begins. Override it if you know that the lost nodes will not come back
soon; not if you do not know yet what they share, since a copy of everything
they hold makes an overloaded network or a bad upgrade worse. Nothing is done to
a partition without a majority. The override ends after its time, by `restore`,
and when the brake is released.

JSON:
  engaged, reason, since_zone_time_ms, overridden_until_zone_time_ms,
  overridden_for_ms, held_back_repairs, held_back_moves, held_back_transfers";

#[derive(Debug, Subcommand)]
pub enum BrakeVerb {
    /// Let repairs and moves go on for a while although the brake is engaged.
    #[command(after_help = "Examples:\n  \
        zonectl brake override --for 10m --reason 'rack 3 burnt down'")]
    Override {
        /// For how long, at most an hour; given again, the last word counts.
        #[arg(long = "for", value_name = "DURATION", value_parser = override_duration)]
        duration: Duration,
        /// Why, for the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Let the brake hold again.
    #[command(after_help = "Examples:\n  zonectl brake restore")]
    Restore {
        /// Why, for the ledger.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// A duration of at least a millisecond: none at all would end the override.
fn override_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.as_millis() == 0 {
        return Err("it must be at least 1ms; `zonectl brake restore` ends an override".into());
    }
    Ok(duration)
}
