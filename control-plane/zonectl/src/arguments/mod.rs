//! What can be said on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use runtime::grpc::TlsFiles;

use crate::demo::DemoArguments;

/// Operates a zone of the object index.
#[derive(Debug, Parser)]
#[command(name = "zonectl", version, max_term_width = 100, after_long_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

const AFTER_HELP: &str = "\
Examples:
  zonectl dev up                       a zone on this machine
  zonectl status                       is it healthy?
  zonectl node drain node-2 --wait     empty a node before maintenance
  zonectl events --follow              what happens, and why
  zonectl load --rate 1000 --verify    put load on it, and check every answer

A zone with TLS: give --tls-ca, --tls-certificate and --tls-key, or set
ZONECTL_TLS_CA, ZONECTL_TLS_CERTIFICATE and ZONECTL_TLS_KEY.

Exit codes: 0 done, 1 the command failed, 2 wrong usage, 3 the zone could not be reached.

JSON (-o json) is one document, or one object per line where a command
streams (`events`, `operation watch`). Field names are stable: new ones may
come, none is renamed or goes away. Durations end in `_ms`, sizes in `_bytes`,
rates in `_per_second`; an absent value is null. Keys and other binary text are
shown as UTF-8 where it is printable, with `\\\\` for a backslash and `\\xNN`
for any other byte. `status` has:
  healthy, problems[], zone_id, revision, from_leader, replication_factor,
  control_plane {leader, term, members[] {id, address, state, lag_entries}},
  nodes[] {id, name, state, administrative_state, fault_domain, address,
    leaders, replicas, stored_bytes, capacity_bytes, reads_per_second,
    writes_per_second, disk_below_reserve, incarnation, software_version},
  partitions {total, available, under_replicated, unavailable},
  operations {running, failed}, brake {engaged, reason, since_zone_time_ms}";

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Members of the control plane, host:port each; any of them will do.
    #[arg(
        long,
        global = true,
        env = "ZONECTL_ENDPOINTS",
        value_delimiter = ',',
        value_parser = endpoint,
        default_value = "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402"
    )]
    pub endpoints: Vec<String>,
    /// What the output is for: people or programs.
    #[arg(short, long, global = true, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
    /// How long a command, or one request of it, may take, for example 500ms or 1m.
    #[arg(long, global = true, value_parser = humantime::parse_duration, default_value = "10s")]
    pub deadline: Duration,
    #[command(flatten)]
    pub tls: TlsArguments,
}

/// For zones whose servers use TLS, all three or none. A server is verified under the host name or the
/// address by which it is reached.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArguments {
    /// PEM file with the authority that signed the certificates of the zone's servers.
    #[arg(long, global = true, env = "ZONECTL_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with a certificate (chain) for this command, signed by the same authority.
    #[arg(long, global = true, env = "ZONECTL_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(long, global = true, env = "ZONECTL_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

impl TlsArguments {
    /// None: plain text.
    ///
    /// # Errors
    /// If some of the three files are given and others are not: which.
    pub fn files(&self) -> Result<Option<TlsFiles>, String> {
        let (authority, certificate, key) = (&self.tls_ca, &self.tls_certificate, &self.tls_key);
        if let (Some(authority), Some(certificate), Some(key)) = (authority, certificate, key) {
            return Ok(Some(TlsFiles {
                authority: authority.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }));
        }
        let files = [
            (authority, "--tls-ca (or ZONECTL_TLS_CA)"),
            (certificate, "--tls-certificate (or ZONECTL_TLS_CERTIFICATE)"),
            (key, "--tls-key (or ZONECTL_TLS_KEY)"),
        ];
        let missing: Vec<&str> =
            files.iter().filter(|(file, _)| file.is_none()).map(|(_, name)| *name).collect();
        if missing.len() == files.len() {
            return Ok(None);
        }
        Err(format!("TLS needs three files: give {} as well", missing.join(" and ")))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a zone of members that run and belong to none yet. Once.
    #[command(after_help = "Examples:\n  \
        zonectl init --partitions 16\n  \
        zonectl --endpoints a:7400 init --members a:7400,b:7400,c:7400 --split-keys-file keys.txt")]
    Init(InitArguments),
    /// Is the zone healthy, and if not, what is wrong?
    #[command(after_help = "Examples:\n  \
        zonectl status\n  \
        zonectl status -o json | jq .partitions\n  \
        zonectl status --wait-healthy 2m")]
    Status(StatusArguments),
    /// Index nodes: look at them, empty them, take them back, forget them.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        zonectl node list\n  \
        zonectl node show node-2\n  \
        zonectl node drain node-2 --wait\n  \
        zonectl node uncordon node-2\n  \
        zonectl node remove node-2"
    )]
    Node(NodeVerb),
    /// Why something is as it is: what it is judged by, and what was decided about it.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        zonectl explain node node-2\n  \
        zonectl explain node 2 -o json | jq .signals"
    )]
    Explain(ExplainVerb),
    /// Partitions: look at them, move their leadership and their replicas.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        zonectl partition list --problems\n  \
        zonectl partition show 7\n  \
        zonectl partition transfer-leader 7 --to node-2 --wait\n  \
        zonectl partition move 7 --from node-1 --to node-4 --wait"
    )]
    Partition(PartitionVerb),
    /// Spread leadership evenly over the nodes.
    #[command(after_help = "Examples:\n  \
        zonectl rebalance --dry-run\n  \
        zonectl rebalance --wait")]
    Rebalance(RebalanceArguments),
    /// Operations: what the zone is changing, how far it is, and why.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        zonectl operation list --all\n  \
        zonectl operation watch 12\n  \
        zonectl operation cancel 12"
    )]
    Operation(OperationVerb),
    /// The zone's ledger: what happened, and why.
    #[command(after_help = "Examples:\n  \
        zonectl events\n  \
        zonectl events --follow --after 120 -o json")]
    Events(EventsArguments),
    /// Write one key of the index.
    #[command(after_help = "Examples:\n  \
        zonectl put --bucket photos cat.jpg --size 1234 --location disk-3/17\n  \
        zonectl put --bucket photos cat.jpg --payload new --if-version 42\n  \
        zonectl put --bucket photos cat.jpg --payload-file meta.bin --if-absent")]
    Put(PutArguments),
    /// Read one key of the index.
    #[command(after_help = "Examples:\n  \
        zonectl get --bucket photos cat.jpg\n  \
        zonectl get --bucket photos cat.jpg -o json")]
    Get(GetArguments),
    /// Delete one key of the index.
    #[command(after_help = "Examples:\n  \
        zonectl delete --bucket photos cat.jpg\n  \
        zonectl delete --bucket photos cat.jpg --if-version 42")]
    Delete(DeleteArguments),
    /// List keys of the index, in order.
    #[command(after_help = "Examples:\n  \
        zonectl list --bucket photos --prefix 2024/ --limit 20\n  \
        zonectl list --bucket photos --start-after 2024/07/cat.jpg\n  \
        zonectl list")]
    List(ListArguments),
    /// A zone on this machine, for trying and developing.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        zonectl dev up\n  \
        zonectl dev up --members 1 --index-nodes 3 --partitions 4 --data /tmp/zone"
    )]
    Dev(DevVerb),
    /// Put load on the zone and measure it: open loop, with latencies from the intended start.
    #[command(after_long_help = LOAD_HELP)]
    Load(LoadArguments),
    /// Show what a zone can take: a zone on this machine indexes a directory tree, suffers faults under
    /// traffic, and every key and value is verified in the end.
    #[command(after_long_help = DEMO_HELP)]
    Demo(DemoArguments),
    /// Completions for a shell.
    #[command(after_help = "Examples:\n  \
        zonectl completions bash > /etc/bash_completion.d/zonectl\n  \
        zonectl completions zsh > ~/.zfunc/_zonectl")]
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

const LOAD_HELP: &str = "\
Examples:
  zonectl load --rate 1000 --duration 30s
  zonectl load --rate 500 --duration 1m --read-ratio 0.5 --zipf 0.99 --verify
  zonectl load --rate 5000 --duration 10s --connections 4 -o json

Requests start when they are due, whether earlier ones were answered or not,
and their latency counts from then. What cannot start since too many are
outstanding is counted as shed. Failed means: certainly not done, in spite of
retries; unknown means: a write that may or may not have been done. A pause is
the longest time in which a partition completed nothing although something was
waiting for it.

JSON:
  rate_per_second, duration_ms, elapsed_ms, planned, issued, shed, completed,
  failed, unknown, throughput_per_second, reads_found,
  reads, writes {issued, completed, failed, unknown,
    latency {p50_ms, p90_ms, p99_ms, p99_9_ms, max_ms, mean_ms}},
  longest_read_pause, longest_write_pause {pause_ms, partition_id,
    started_after_ms, ended} or null,
  partitions[] {partition_id, reads, writes, longest_read_pause_ms,
    longest_write_pause_ms}, errors[] {message, count},
  verification {passed, keys_checked, keys_unchecked, acknowledged_writes,
    unknown_writes, violations, examples[]} or null

The exit code is 1 if the verification found a violation, or if nothing at all
was answered.";

const DEMO_HELP: &str = "\
Examples:
  zonectl demo
  zonectl demo /home --keys-max 50000 -o json
  zonectl demo --sabotage              one acknowledged write is dropped: the exit code must be 1

The demo kills the index node that leads most partitions and lets it come back, drains another, kills the
control plane's leader, and stops the whole control plane for ten seconds. Exit code 0 only if every
affected partition acknowledged writes again within 5 s of its fault, no request failed, and every key
and value is what was acknowledged (where the outcome of a write is unknown, either value).

JSON: passed, keys, generated_keys, partitions, fill_seconds, fill_writes_per_second, faults[] {fault,
affected_partitions, recovered_ms, failed, unknown, longest_request_ms, note}, reads, writes, failed,
unknown, wrong_answers, verification {compared, unknown, missing, different, unexpected, examples[]},
seconds, failures[].";

fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no address; host:port is, for example 127.0.0.1:7400");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 || text.contains(['/', ' ']) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

#[derive(Debug, Args)]
pub struct InitArguments {
    /// All members of the control plane: 1, 3 or 5. Default: the endpoints.
    #[arg(long, value_delimiter = ',', value_parser = endpoint)]
    pub members: Vec<String>,
    #[command(flatten)]
    pub split: SplitArguments,
    /// Replicas of each partition: 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    pub replication_factor: u32,
    /// How long a node is missed before its replicas are made again elsewhere.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5m")]
    pub replace_after: Duration,
}

/// How the key space is cut.
#[derive(Clone, Debug, Args)]
pub struct SplitArguments {
    /// How many partitions, cut evenly over the byte space.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub partitions: u32,
    /// Where to cut instead: one key on each line, ascending, as `bucket/object key`, with \xNN for
    /// bytes that are no text.
    #[arg(long, value_name = "FILE", conflicts_with = "partitions")]
    pub split_keys_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Wait so long for the zone to be healthy; fail if it does not become so.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub wait_healthy: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// All nodes.
    List,
    /// One node: why it is in its state, and what it holds.
    Show {
        /// Id or name.
        node: String,
    },
    /// Move everything off a node, leaders first, and keep it empty.
    Drain {
        /// Id or name.
        node: String,
        /// Go on although a partition could lose its majority, and with it data.
        #[arg(long)]
        accept_data_loss_risk: bool,
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Let a node take part again; ends its drain.
    Uncordon {
        /// Id or name.
        node: String,
    },
    /// Forget a node for good. It must be down, and hold nothing.
    Remove {
        /// Id or name.
        node: String,
    },
}

/// For commands that start an operation.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct WaitArguments {
    /// Show the operation's progress until it has ended; fail if it fails.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum ExplainVerb {
    /// Why a node is thought to be up, slow, suspect or down.
    Node {
        /// Id or name.
        node: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum PartitionVerb {
    /// Partitions in key order.
    List {
        /// Only those with a replica on this node (id or name).
        #[arg(long)]
        node: Option<String>,
        /// Only those that are not as they should be.
        #[arg(long)]
        problems: bool,
    },
    /// One partition: its members, how far each is, and what is being changed.
    Show { partition: u64 },
    /// Move a partition's leadership to another of its replicas.
    TransferLeader {
        partition: u64,
        /// Id or name of a node that holds a replica.
        #[arg(long)]
        to: String,
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Move one replica from a node to another.
    Move {
        partition: u64,
        /// Id or name of the node that holds it.
        #[arg(long)]
        from: String,
        /// Id or name of the node that shall hold it.
        #[arg(long)]
        to: String,
        #[command(flatten)]
        wait: WaitArguments,
    },
}

#[derive(Debug, Args)]
pub struct RebalanceArguments {
    /// Only show what would be done.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArguments,
}

#[derive(Debug, Subcommand)]
pub enum OperationVerb {
    /// Operations, newest first.
    List {
        /// Also those that have ended.
        #[arg(long)]
        all: bool,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Follow one operation until it has ended; fail if it fails.
    Watch { operation: u64 },
    /// Cancel one that has not passed its point of no return.
    Cancel { operation: u64 },
}

#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Go on with what happens from now on, until interrupted.
    #[arg(short, long)]
    pub follow: bool,
    /// Only events after this sequence number.
    #[arg(long, default_value_t = 0)]
    pub after: u64,
}

/// Which key.
#[derive(Clone, Debug, Args)]
pub struct KeyArguments {
    /// The bucket. An index key is bucket, NUL, object key.
    #[arg(short, long, default_value = "default")]
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// Bucket and key are written as they are shown: \\ for a backslash, \xNN for any byte.
    #[arg(long)]
    pub escaped: bool,
}

#[derive(Debug, Args)]
pub struct PutArguments {
    #[command(flatten)]
    pub key: KeyArguments,
    /// Tag of the content.
    #[arg(long, default_value = "")]
    pub etag: String,
    /// The object's size in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub size: u64,
    /// Where the object's bytes are.
    #[arg(long, default_value = "")]
    pub location: String,
    /// Anything else to keep with it.
    #[arg(long, default_value = "")]
    pub payload: String,
    /// The same from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    pub payload_file: Option<PathBuf>,
    /// Only if the key is absent.
    #[arg(long)]
    pub if_absent: bool,
    /// Only if the key has exactly this version.
    #[arg(long, value_name = "VERSION", conflicts_with = "if_absent")]
    pub if_version: Option<u64>,
}

#[derive(Debug, Args)]
pub struct GetArguments {
    #[command(flatten)]
    pub key: KeyArguments,
}

#[derive(Debug, Args)]
pub struct DeleteArguments {
    #[command(flatten)]
    pub key: KeyArguments,
    /// Only if the key has exactly this version.
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only this bucket. Default: the whole index.
    #[arg(short, long)]
    pub bucket: Option<String>,
    /// Only object keys that start with this.
    #[arg(long, default_value = "", requires = "bucket")]
    pub prefix: String,
    /// Only object keys greater than this one.
    #[arg(long, default_value = "", requires = "bucket")]
    pub start_after: String,
    /// The most keys to show; 0: all.
    #[arg(long, default_value_t = 100)]
    pub limit: u64,
    /// Bucket, prefix and start-after are written as they are shown.
    #[arg(long)]
    pub escaped: bool,
}

#[derive(Debug, Subcommand)]
pub enum DevVerb {
    /// Start a zone of separate processes, and run it until Ctrl-C. The same data directory gives the
    /// same zone again.
    Up(DevUpArguments),
}

#[derive(Clone, Debug, Args)]
pub struct DevUpArguments {
    /// Members of the control plane: 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    pub members: u32,
    /// Index nodes, each in a rack of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub index_nodes: u32,
    #[command(flatten)]
    pub split: SplitArguments,
    /// Where the zone lives. Default: isotherm/dev-zone in the state directory of this user.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The first of its ports. Members listen from P (metrics: P + 10), nodes from P + 100 (P + 200).
    #[arg(long, value_name = "P", default_value_t = 7_400, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub base_port: u16,
    /// Replicas of each partition: 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    pub replication_factor: u32,
    /// How long a node is missed before its replicas are made again elsewhere.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    pub replace_after: Duration,
}

#[derive(Clone, Debug, Args)]
pub struct LoadArguments {
    /// Requests per second that are started.
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// For how long requests are started.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    pub duration: Duration,
    /// How many different keys.
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: u32,
    /// The share of reads, 0 to 1.
    #[arg(long, default_value_t = 0.5)]
    pub read_ratio: f64,
    /// The share of deletes among the writes, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub delete_ratio: f64,
    /// How skewed: 0 is uniform, 0.99 is usual for caches.
    #[arg(long, default_value_t = 0.0)]
    pub zipf: f64,
    /// Check every answer while it runs, and every key at the end.
    #[arg(long)]
    pub verify: bool,
    /// Connections to each node.
    #[arg(long, default_value_t = 1)]
    pub connections: u32,
    /// Requests that may be outstanding; what is due beyond that is shed.
    #[arg(long, default_value_t = 4_096)]
    pub outstanding: u32,
    /// Ends the buckets that the keys are in; a run with the same word uses the same keys.
    #[arg(long, default_value = "load")]
    pub bucket: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_verb_has_examples() {
        for verb in Arguments::command().get_subcommands() {
            let help = verb.clone().render_long_help().to_string();
            assert!(help.contains("Examples:"), "{} has no examples", verb.get_name());
        }
    }

    #[test]
    fn the_default_endpoints_are_the_dev_zones() {
        let arguments = parse("zonectl status").unwrap();
        if std::env::var_os("ZONECTL_ENDPOINTS").is_none() {
            assert_eq!(
                arguments.global.endpoints,
                ["127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:7402"]
            );
        }
        assert_eq!(arguments.global.deadline, Duration::from_secs(10));
        assert_eq!(arguments.global.output, OutputFormat::Table);
    }

    #[test]
    fn global_options_may_follow_the_verb() {
        let line = "zonectl node show 3 --endpoints a:1,b:2 -o json --deadline 500ms";
        let arguments = parse(line).unwrap();
        assert_eq!(arguments.global.endpoints, ["a:1", "b:2"]);
        assert_eq!(arguments.global.output, OutputFormat::Json);
        assert_eq!(arguments.global.deadline, Duration::from_millis(500));
    }

    #[test]
    fn tls_takes_all_three_files_or_none() {
        let files = |line| parse(line).unwrap().global.tls.files();
        assert_eq!(files("zonectl status"), Ok(None));
        let all = files("zonectl --tls-ca a status --tls-certificate c --tls-key k");
        assert_eq!(all.unwrap().unwrap().key, PathBuf::from("k"));
        let error = files("zonectl status --tls-ca a --tls-key k").unwrap_err();
        assert!(error.contains("--tls-certificate") && !error.contains("--tls-ca"), "{error}");
    }

    #[test]
    fn wrong_usage_is_refused_in_words() {
        for (line, word) in [
            ("zonectl status --endpoints nonsense", "host:port"),
            ("zonectl status --endpoints http://a:1", "host:port"),
            ("zonectl status --deadline soon", "deadline"),
            ("zonectl init --partitions 0", "partitions"),
            ("zonectl put k --if-absent --if-version 3", "if-version"),
            ("zonectl list --prefix x", "bucket"),
            ("zonectl partition move 7 --from 1", "--to"),
            ("zonectl frobnicate", "frobnicate"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.to_string().contains(word), "{line}: {error}");
            assert_eq!(error.exit_code(), i32::from(crate::failure::USAGE), "{line}");
        }
    }
}
