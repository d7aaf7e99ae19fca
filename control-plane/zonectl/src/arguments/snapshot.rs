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

Resources, each by its own name:
  reads_per_1000_s     requests in a thousand seconds, where a partition is led
  writes_per_1000_s    the same, at each of its replicas
  stored_bytes         held at both ends during a move
  bytes_per_s          read and written, where it is led
  processor_us_per_s   microseconds of processor time per second: leading it, or
                       applying what is written to it

Requests and stored bytes are as `zonectl partition list` has them, the last two
as `zonectl heat` has them, averaged with a half-life of ten seconds: those of
the 64 hottest partitions are told, for the nodes that lead them; what is left of
each node's is shared by its other replicas according to their requests.

Hard limits are a node's disk for stored_bytes and its cores for
processor_us_per_s, a million to a core; of the others nobody knows how much a
node can bear, and the limit is all there is. Targets are even shares: of
stored_bytes for the nodes' disks, of all others for their cores, or the same
for all where the cores of one are not known.

Each resource counts for the same, all of it together; to move all bytes once
costs a twentieth of that. A partition is to be spread over as many fault domains
as it has replicas and there are fault domains with nodes that may hold some.
Leaders stay with their replica. Nodes that are down or are to be emptied may
hold none.";

#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Write the zone down as a problem for `zonectl plan`, to standard output.
    #[command(after_help = "Examples:\n  zonectl snapshot export > zone.json")]
    Export,
}
