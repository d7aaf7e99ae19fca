//! Data directories that cannot be used. The process ends with code 3, says why and what to do, and
//! leaves everything as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use zonectl::zone_process::{Binaries, Role};

use crate::support::{
    LIMIT, eventually,
    program::{self, Ended, command, run},
    scripted::ScriptedControlPlane,
    wire::Wire,
    zone::TestZone,
};

/// Every file below the directory with its content, but for the diary that RocksDB keeps of its starts.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if !path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"LOG"))
            {
                files.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Starts a server in the directory, and waits until it ends.
async fn started(role: Role, data: &Path) -> Ended {
    let Binaries { control_plane, index_node } = program::servers();
    let mut command = match role {
        Role::Member(_) => command(&control_plane),
        Role::IndexNode(_) => {
            let mut command = command(&index_node);
            command.args(["--name", "n", "--control-plane-endpoints", "127.0.0.1:1"]);
            command
        }
    };
    command.args(["--listen-address", "127.0.0.1:1", "--data-directory"]).arg(data);
    run(&mut command).await
}

/// Starts a server in the directory, which must refuse it and leave it as it is.
async fn refused(role: Role, data: &Path, words: &[&str]) {
    let before = content(data);
    let ended = started(role, data).await;
    ended.refused(3, words);
    let path = data.to_str().unwrap();
    assert!(ended.stderr.contains(path), "{path} is not in: {}", ended.stderr);
    let after = content(data);
    let changed =
        before.keys().chain(after.keys()).filter(|file| before.get(*file) != after.get(*file));
    let changed: BTreeSet<&PathBuf> = changed.collect();
    assert!(changed.is_empty(), "these were changed: {changed:?}");
}

const SERVERS: [Role; 2] = [Role::Member(0), Role::IndexNode(0)];

/// A directory that a server of the role has used, as a copy of its own for each case.
struct Used {
    zone: TestZone,
    role: Role,
}

impl Used {
    async fn by(role: Role) -> Self {
        let mut zone = TestZone::prepare(1, 1).await;
        match role {
            Role::Member(_) => {
                zone.processes.start(role).unwrap();
                let mut member = Wire::new().member(&zone.address(role));
                eventually("the member", async || {
                    member.identify(proto::v1::IdentifyRequest {}).await.ok().map(drop)
                })
                .await;
            }
            Role::IndexNode(_) => {
                let endpoint = zone.endpoints().remove(0);
                let control_plane = ScriptedControlPlane::start(&endpoint, "some-zone", 1).await;
                zone.processes.start(role).unwrap();
                control_plane.in_session().await;
            }
        }
        let exit = zone.processes.terminate(role, LIMIT).await.unwrap();
        assert!(exit.is_some_and(|exit| exit.success()), "{exit:?}");
        Self { zone, role }
    }

    /// A copy, for a case that spoils it.
    fn copy(&self, name: &str) -> PathBuf {
        let original = self.zone.processes.layout().data_directory(self.role);
        let copy = self.zone.directory().join(name);
        for (path, content) in content(&original) {
            let to = copy.join(path.strip_prefix(&original).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, content).unwrap();
        }
        copy
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_are_none_or_somebody_elses() {
    for role in SERVERS {
        let directory = TempDir::new().unwrap();
        let foreign = directory.path().join("foreign");
        fs::create_dir_all(foreign.join("store")).unwrap();
        fs::write(foreign.join("store").join("photo.jpg"), "x").unwrap();
        let words = ["not empty", "holds no Isotherm data", "name an empty directory"];
        refused(role, &foreign, &words).await;

        let file = directory.path().join("file");
        fs::write(&file, "not a directory").unwrap();
        let ended = started(role, &file).await;
        ended.refused(3, &[file.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "not a directory");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_wrong_kind() {
    for (role, other, kind) in
        [(SERVERS[0], SERVERS[1], "index-node"), (SERVERS[1], SERVERS[0], "control-plane")]
    {
        let used = Used::by(other).await;
        let words =
            [&*format!("of kind {kind}"), "name the directory that belongs to this process"];
        refused(role, &used.copy("other"), &words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_are_too_new() {
    for role in SERVERS {
        let used = Used::by(role).await;
        let data = used.copy("newer");
        let marker = data.join("store").join("ISOTHERM");
        let text = fs::read_to_string(&marker).unwrap();
        assert!(text.contains("format 1"), "{text}");
        fs::write(&marker, text.replace("format 1", "format 2")).unwrap();
        let words = ["format 2", "formats up to 1", "start the release that wrote it"];
        refused(role, &data, &words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_are_damaged() {
    for role in SERVERS {
        let used = Used::by(role).await;
        let advice = "start with a new one";

        let data = used.copy("marker");
        fs::write(data.join("store").join("ISOTHERM"), "what is this?").unwrap();
        refused(role, &data, &["corrupt", "ISOTHERM", advice]).await;

        let data = used.copy("watermark");
        fs::write(data.join("store").join("SYNCED"), [7; 12]).unwrap();
        refused(role, &data, &["corrupt", "SYNCED", advice]).await;

        let data = used.copy("current");
        fs::write(data.join("store").join("rocksdb").join("CURRENT"), "garbage").unwrap();
        refused(role, &data, &[advice]).await;

        // What was written and synced is gone: a log that ends too early.
        let data = used.copy("log");
        let logs =
            content(&data).into_keys().filter(|it| it.extension().is_some_and(|it| it == "log"));
        let mut cut = 0;
        for log in logs {
            let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
            if file.metadata().unwrap().len() > 0 {
                file.set_len(0).unwrap();
                cut += 1;
            }
        }
        assert!(cut > 0, "there is a log to cut");
        for _ in 0..2 {
            refused(role, &data, &["lost data that had been synced", advice]).await;
        }
    }
}
