//! `zonectl snapshot …`.

use clap::Subcommand;

pub const SNAPSHOT_HELP: &str = "\
Examples:
  zonectl snapshot export > zone.json
  zonectl snapshot export | zonectl plan --problem - --time-limit 10s

The file is a problem for `zonectl plan`: the zone's nodes, its replicas where
they are, and what they bear. Edit it to ask: what if this node went
(\"may_hold\": false), what if load doubled? runbooks/plan-offline.md describes
the form.

Resources: reads_per_1000_s and writes_per_1000_s, requests in a thousand
seconds (reads where a partition is led, writes at each of its replicas), whose
targets are what each node would have if all had the same; stored_bytes, by the
nodes' capacity, held at both ends during a move. Each resource counts for the
same, all of it together; to move a node's bytes costs a twentieth of that.
Leaders stay with their replica. Nodes that are down or are to be emptied may
hold none.";

#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Write the zone down as a problem for `zonectl plan`, to standard output.
    #[command(after_help = "Examples:\n  zonectl snapshot export > zone.json")]
    Export,
}
