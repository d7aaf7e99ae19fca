//! The server as a process: its command line, its exit codes, its end.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use proto::v1::{self, admin_service_client::AdminServiceClient};
use runtime::store::{
    Batch, Family, Store,
    rocks::{RocksOptions, RocksStore},
};
use tempfile::TempDir;

use crate::support::{eventually, free_address, member::channel};

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_control-plane"))
}

fn run(arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = command().args(arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().expect("an exit code"), text)
}

fn start(directory: &Path, address: &str, metrics: &str) -> Child {
    command()
        .args(["--data-directory", directory.to_str().expect("UTF-8")])
        .args(["--listen-address", address, "--metrics-address", metrics])
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

async fn zone_id(address: &str) -> String {
    eventually("its status", || async {
        let mut admin = AdminServiceClient::new(channel(address));
        let status = admin.get_zone_status(v1::GetZoneStatusRequest {}).await.ok()?.into_inner();
        (!status.zone_id.is_empty()).then_some(status.zone_id)
    })
    .await
}

#[test]
fn help_has_examples() {
    let (code, text) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(text.contains("Examples:"), "{text}");
}

#[test]
fn an_impossible_configuration_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("member.toml");
    let in_file = |text: &str| {
        std::fs::write(&file, text).unwrap();
        run(&["--config", file.to_str().unwrap()])
    };
    for (expected, (code, text)) in [
        ("listen_address", run(&["--listen-address", "here"])),
        ("election_timeout_max_ms", run(&["--raft-election-timeout-max-ms", "10"])),
        ("unexpected argument", run(&["--no-such-flag"])),
        ("listen_adress", in_file("listen_adress = \"127.0.0.1:1\"")),
        ("hearbeat", in_file("[raft]\nhearbeat_interval_ms = 7")),
        ("/nonexistent", run(&["--config", "/nonexistent"])),
    ] {
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn an_unusable_data_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let blocked = directory.path().join("file");
    std::fs::write(&blocked, "not a directory").unwrap();
    let (code, text) = run(&["--data-directory", blocked.to_str().unwrap()]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("data directory"), "{text}");
}

/// Runs on a store that was written before.
fn run_on(kind: &'static str, write: impl FnOnce(&dyn Store)) -> (i32, String) {
    let directory = TempDir::new().unwrap();
    {
        let families = control_plane::families();
        let path = directory.path().join("store");
        let store = RocksStore::open(&path, &families, RocksOptions::new(kind)).unwrap();
        write(store.as_ref());
    }
    let data = directory.path().to_str().unwrap();
    run(&["--data-directory", data, "--listen-address", &free_address()])
}

#[test]
fn a_directory_of_something_else_of_newer_software_or_damaged_is_refused() {
    let identity = |value: bytes::Bytes| {
        move |store: &dyn Store| {
            let mut batch = Batch::new();
            batch.put(Family("member"), &b"identity"[..], value);
            store.write(batch).unwrap();
        }
    };
    for (expected, (code, text)) in [
        ("index-node", run_on("index-node", |_| {})),
        ("version", run_on("control-plane", identity(runtime::record::encode(99, &7)))),
        (
            "corrupt",
            run_on("control-plane", identity(bytes::Bytes::from_static(&[1, 1, 2, 3, 4, 5]))),
        ),
    ] {
        assert_eq!(code, 3, "{text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_a_runtime_failure() {
    let directory = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = directory.path().to_str().unwrap();
    let (code, text) = run(&["--data-directory", data, "--listen-address", &address]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&address), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_serves_metrics_stops_and_comes_back() {
    let directory = TempDir::new().unwrap();
    let (address, metrics) = (free_address(), free_address());
    let mut child = start(directory.path(), &address, &metrics);
    let made = eventually("init", || async {
        let mut admin = AdminServiceClient::new(channel(&address));
        let request = v1::InitRequest {
            member_addresses: vec![address.clone()],
            replication_factor: 1,
            ..Default::default()
        };
        admin.init(request).await.ok()
    })
    .await
    .into_inner();
    let page = eventually("the metrics", || async {
        let page = get(&metrics).await?;
        page.contains("isotherm_control_plane_leader 1").then_some(page)
    })
    .await;
    assert!(page.contains("isotherm_control_plane_proposals_total"), "{page}");

    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut child = start(directory.path(), &address, &metrics);
    assert_eq!(zone_id(&address).await, made.zone_id);
    // A second one finds the directory in use.
    let data = directory.path().to_str().unwrap();
    let (code, text) = run(&["--data-directory", data, "--listen-address", &free_address()]);
    assert_eq!(code, 3, "{text}");
    signal(&child, "-KILL");
    child.wait().unwrap();
    let mut child = start(directory.path(), &address, &metrics);
    assert_eq!(zone_id(&address).await, made.zone_id);
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The body of `/metrics`, by the plainest HTTP.
async fn get(address: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer))
        .await
        .ok()?
        .ok()?;
    Some(answer)
}
