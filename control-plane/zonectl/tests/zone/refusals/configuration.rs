//! Configurations that cannot be: code 2, the key by its name, and nothing made.

use std::{fs, path::Path};

use tempfile::TempDir;
use tokio::process::Command;
use zonectl::zone_process::{Binaries, Role};

use crate::support::program::{self, command, run};

/// A server that would start in `data`, if its configuration were possible.
fn server(role: Role, data: &Path) -> Command {
    let Binaries { control_plane, index_node } = program::servers();
    let mut command = match role {
        Role::Member(_) => command(&control_plane),
        Role::IndexNode(_) => {
            let mut command = command(&index_node);
            command.args(["--name", "n", "--control-plane-endpoints", "127.0.0.1:1"]);
            command
        }
    };
    command.arg("--data-directory").arg(data);
    command
}

const MEMBER: Role = Role::Member(0);
const NODE: Role = Role::IndexNode(0);

#[tokio::test(flavor = "multi_thread")]
async fn in_a_file() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let file = directory.path().join("configuration.toml");
    for (role, text, words) in [
        (MEMBER, "listen_adress = \"127.0.0.1:1\"\n", &["listen_adress"][..]),
        (MEMBER, "[raft]\nheartbeat = 5\n", &["heartbeat"]),
        (MEMBER, "[raft]\nheartbeat_interval_ms = 0\n", &["raft.heartbeat_interval_ms is 0"]),
        (
            MEMBER,
            "[raft]\nelection_timeout_max_ms = 100\n",
            &["raft.election_timeout_max_ms is 100", "raft.election_timeout_min_ms"],
        ),
        (MEMBER, "[liveness]\ndown_after_ms = 7\n", &["liveness.down_after_ms is 7"]),
        (MEMBER, "[liveness]\ndown_after_ms = \"soon\"\n", &["down_after_ms"]),
        (MEMBER, "metrics_address = \"nowhere\"\n", &["metrics_address", "host:port"]),
        (NODE, "nmae = \"n\"\n", &["nmae"]),
        (NODE, "[peers]\nlost_after_ms = 5\n", &["peers.lost_after_ms is 5", "three times"]),
        (NODE, "[raft]\nentries_per_snapshot = 0\n", &["raft.entries_per_snapshot is 0"]),
        (NODE, "capacity_bytes = 0\n", &["capacity_bytes is 0"]),
        (NODE, "capacity_bytes = -1\n", &["capacity_bytes"]),
        (NODE, "fault_domain = \"Rack A\"\n", &["fault_domain", "Rack A"]),
        (NODE, "advertised_address = \"0.0.0.0:7\"\n", &["advertised_address", "nobody can reach"]),
        (MEMBER, "this is no TOML", &["configuration.toml"]),
        (NODE, "= 5", &["configuration.toml"]),
    ] {
        fs::write(&file, text).unwrap();
        let ended = run(server(role, &data).arg("--config").arg(&file)).await;
        ended.refused(2, words);
    }
    for role in [MEMBER, NODE] {
        let ended = run(server(role, &data).args(["--config", "/nonexistent.toml"])).await;
        ended.refused(2, &["/nonexistent.toml"]);
    }
    assert!(!data.exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_environment_and_on_the_command_line() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    for (role, name, value, words) in [
        (MEMBER, "ISOTHERM_CONTROL_PLANE_LISTEN_ADDRESS", "here", &["listen_address", "here"][..]),
        (
            MEMBER,
            "ISOTHERM_CONTROL_PLANE_RAFT__HEARTBEAT_INTERVAL_MS",
            "900",
            &["raft.election_timeout_min_ms is 200", "raft.heartbeat_interval_ms, which is 900"],
        ),
        (
            MEMBER,
            "ISOTHERM_CONTROL_PLANE_RAFT__HARTBEAT",
            "1",
            &["ISOTHERM_CONTROL_PLANE_RAFT__HARTBEAT is not known", "heartbeat_interval_ms"],
        ),
        (NODE, "ISOTHERM_INDEX_NODE_PEERS__LOST_AFTER_MS", "5", &["peers.lost_after_ms is 5"]),
        (NODE, "ISOTHERM_INDEX_NODE_PORT", "7", &["ISOTHERM_INDEX_NODE_PORT is not known"]),
        (
            NODE,
            "ISOTHERM_INDEX_NODE_CAPACITY_BYTES",
            "many",
            &["ISOTHERM_INDEX_NODE_CAPACITY_BYTES is string \"many\""],
        ),
    ] {
        let ended = run(server(role, &data).env(name, value)).await;
        ended.refused(2, words);
    }
    for (role, flags, words) in [
        (MEMBER, &["--listen-address", "here"][..], &["listen_address", "\"here\""][..]),
        (MEMBER, &["--raft-heartbeat-interval-ms", "often"], &["--raft-heartbeat-interval-ms"]),
        (MEMBER, &["--no-such-flag"], &["--no-such-flag"]),
        (MEMBER, &["--tls-authority", "ca.pem"], &["--tls-certificate", "is missing"]),
        (NODE, &["--fault-domain", "Rack A"], &["fault_domain", "Rack A"]),
        (NODE, &["--capacity-bytes", "many"], &["--capacity-bytes", "many"]),
        (NODE, &["--metrics-address", "metrics"], &["metrics_address"]),
        (NODE, &["--listen-address", "0.0.0.0:7500"], &["advertised_address"]),
    ] {
        let ended = run(server(role, &data).args(flags)).await;
        ended.refused(2, words);
    }
    run(&mut command(&program::servers().index_node)).await.refused(2, &["data_directory"]);
    assert!(!data.exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_ends_the_process_with_words() {
    let directory = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for role in [MEMBER, NODE] {
        let data = directory.path().join(role.name());
        let ended = run(server(role, &data).args(["--listen-address", &address])).await;
        ended.refused(1, &["cannot listen on", &address]);
    }
}
