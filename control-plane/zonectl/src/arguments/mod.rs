//! What can be said on the command line: the verbs here, what each takes in the modules below.

mod brake;
mod changes;
pub mod fields;
mod global;
mod load;
mod objects;
mod plan;
mod policy;
mod snapshot;
mod zone;

use clap::{Parser, Subcommand};

pub use brake::BrakeVerb;
pub use changes::{
    ExplainVerb, NodeVerb, OperationVerb, PartitionVerb, RebalanceArguments, SplitBy, SplitKey,
    WaitArguments,
};
pub use global::{Global, OutputFormat, TlsArguments};
pub use load::LoadArguments;
pub use objects::{DeleteArguments, GetArguments, KeyArguments, ListArguments, PutArguments};
pub use plan::{ApplyArguments, PlanArguments};
pub use policy::{PolicySetArguments, PolicyVerb, ShadowVerb};
pub use snapshot::SnapshotVerb;
pub use zone::{
    DevUpArguments, DevVerb, EventsArguments, HeatArguments, InitArguments, SplitArguments,
    StatusArguments,
};

use self::{
    brake::BRAKE_HELP,
    changes::REBALANCE_HELP,
    load::{DEMO_HELP, LOAD_HELP},
    plan::{APPLY_HELP, PLAN_HELP},
    policy::POLICY_HELP,
    snapshot::SNAPSHOT_HELP,
};
use crate::demo::DemoArguments;

/// Operates a zone of the object index.
#[derive(Debug, Parser)]
#[command(name = "zonectl", version, max_term_width = 100, after_long_help = after_help())]
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
streams (`events`, `operation watch`, `--wait`). Field names are stable: new ones
may come, none is renamed or goes away. Durations end in `_ms`, sizes in
`_bytes`, rates in `_per_second`; an absent value is null. Keys and other binary
text are shown as UTF-8 where it is printable, with `\\\\` for a backslash and
`\\xNN` for any other byte. docs/zonectl-json.md says what each field means.

Below, name[] is a list, name {…} an object, and <name> the fields that are
listed under that name at the end. What starts an operation (`node drain`,
`partition move`, …) answers with it. `plan`, `apply`, `rebalance`, `brake`,
`policy`, `load` and `demo` list theirs in their own --help.
";

fn after_help() -> String {
    format!("{AFTER_HELP}\n{}", fields::listed().trim_end())
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
        zonectl explain node 2 -o json | jq .signals\n  \
        zonectl explain partition 7\n  \
        zonectl explain signals > signals.jsonl"
    )]
    Explain(ExplainVerb),
    /// Load: is it spread evenly, and what are the hottest partitions and keys?
    #[command(after_help = "Examples:\n  \
        zonectl heat\n  \
        zonectl heat --top 64 -o json | jq .partitions")]
    Heat(HeatArguments),
    /// Partitions: look at them, move their leadership and their replicas, split them.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        zonectl partition list --problems\n  \
        zonectl partition show 7\n  \
        zonectl partition transfer-leader 7 --to node-2 --wait\n  \
        zonectl partition move 7 --from node-1 --to node-4 --wait\n  \
        zonectl partition split 7 --by load --wait\n  \
        zonectl partition split 7 --at photos/m"
    )]
    Partition(PartitionVerb),
    /// Even out the zone now: plan and apply in one, for load, leaderships and replicas.
    #[command(after_long_help = REBALANCE_HELP)]
    Rebalance(RebalanceArguments),
    /// Plan what should be elsewhere: in the zone as it is now, or in a file's problem (what if load doubled?).
    #[command(after_long_help = PLAN_HELP)]
    Plan(PlanArguments),
    /// Carry out a plan for the zone, exactly as it was shown.
    #[command(after_long_help = APPLY_HELP)]
    Apply(ApplyArguments),
    /// The zone as a file that can be edited and planned for.
    #[command(subcommand, after_long_help = SNAPSHOT_HELP)]
    Snapshot(SnapshotVerb),
    /// Operations: what the zone is changing, how far it is, and why.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        zonectl operation list --all\n  \
        zonectl operation watch 12\n  \
        zonectl operation cancel 12"
    )]
    Operation(OperationVerb),
    /// The brake, which holds back repairs and moves while too much seems to be lost: override it for a while.
    #[command(subcommand, after_long_help = BRAKE_HELP)]
    Brake(BrakeVerb),
    /// The zone's policy, what operators decide for all partitions: look at it, compare it, change it.
    #[command(subcommand, after_long_help = POLICY_HELP)]
    Policy(PolicyVerb),
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

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

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
            ("zonectl heat --top 65", "64"),
            ("zonectl heat --top 0", "64"),
            ("zonectl brake override --for 0s --reason x", "brake restore"),
            ("zonectl brake override --for soon --reason x", "--for"),
            ("zonectl brake override --for 10m", "--reason"),
            ("zonectl brake override --reason x", "--for"),
            ("zonectl policy set", "FILE|FIELD=VALUE"),
            ("zonectl policy set splits_max=1", "--reason"),
            ("zonectl policy diff", "<FILE>"),
            ("zonectl policy shadow set splits_max=1", "--reason"),
            ("zonectl plan --rounds 3", "--problem"),
            ("zonectl plan --problem x --effort 5", "--effort"),
            ("zonectl plan --effort 4000001", "4000000"),
            ("zonectl apply", "<PLAN>"),
            ("zonectl plan --problem x --time-limit 0s", "more than 0s"),
            ("zonectl plan --problem x --time-limit 2days", "at most 1day"),
            ("zonectl plan --problem x --rounds 0", "--rounds"),
            ("zonectl plan --problem x --rounds 3 --time-limit 5s", "--time-limit"),
            ("zonectl plan --problem x --planned-rounds 3", "--rounds"),
            ("zonectl plan --problem x --lanes 257", "1..=256"),
            ("zonectl frobnicate", "frobnicate"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.to_string().contains(word), "{line}: {error}");
            assert_eq!(error.exit_code(), i32::from(crate::failure::USAGE), "{line}");
        }
    }
}
