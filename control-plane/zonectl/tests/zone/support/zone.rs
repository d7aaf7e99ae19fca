//! A zone of real processes in a directory of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client::{AdminClient, AdminError, AdminOptions, Client, Options};
use proto::v1;
use runtime::seams::Environment;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};
use zonectl::{
    dev::{Making, bring_up},
    forms::{NodeForm, StatusForm},
    zone_process::{Layout, Role, ZoneProcesses},
};

use super::{eventually, program, wire::node_id};

/// Zones that may be up at a time: the machine is small.
static ROOM: Semaphore = Semaphore::const_new(2);

/// A variable that, when set, keeps the directories of zones for a look afterwards.
const KEEP: &str = "ISOTHERM_KEEP_TEST_ZONES";

/// How a zone shall be.
#[derive(Clone)]
pub struct Shape {
    pub members: u32,
    pub index_nodes: u32,
    pub partitions: u32,
    pub replication_factor: u32,
    pub replace_after: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            members: 3,
            index_nodes: 5,
            partitions: 8,
            replication_factor: 3,
            replace_after: Duration::from_secs(300),
        }
    }
}

/// Where one replica set is, and who leads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Node ids by replica id.
    pub replicas: BTreeMap<u64, u64>,
    pub leader: u64,
}

/// What every replica set of a zone is, by partition.
pub type Placements = BTreeMap<u64, Placement>;

impl From<&v1::PartitionSummary> for Placement {
    fn from(partition: &v1::PartitionSummary) -> Self {
        let replicas = partition.replicas.iter().map(|it| (it.replica_id, it.node_id)).collect();
        Self { replicas, leader: partition.leader_node_id }
    }
}

/// See [`TestZone::fingerprint`].
#[derive(Debug, PartialEq, Eq)]
pub struct Fingerprint {
    placements: Placements,
    nodes: Vec<(u64, String, &'static str, &'static str, String, u64)>,
    last_event: u64,
    pub last_operation: u64,
}

/// A zone's processes. All are killed, and the directory goes, when it is dropped.
pub struct TestZone {
    // Dropped first: nobody writes to the directory any more when it goes.
    pub processes: ZoneProcesses,
    pub environment: Environment,
    place: Place,
    _room: SemaphorePermit<'static>,
}

/// Where a zone is. When a test has failed, the ends of its logs are shown before they go.
struct Place {
    directory: Option<TempDir>,
}

impl Place {
    fn path(&self) -> &Path {
        self.directory.as_ref().expect("taken only when dropped").path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("zone")
    }

    fn print_logs(&self) {
        const LINES: usize = 12;
        let Ok(logs) = std::fs::read_dir(self.data().join("logs")) else { return };
        for log in logs.flatten() {
            let text = std::fs::read(log.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
            eprintln!("--- {}\n{tail}", log.file_name().display());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        if std::env::var_os(KEEP).is_some()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("kept: {}", directory.keep().display());
        }
    }
}

/// A block of ports that nobody uses now: 20000 to 29999 belong to these tests.
fn free_base_port(layout: impl Fn(u16) -> Layout) -> Layout {
    const BLOCK: u16 = 300;
    const BLOCKS: u16 = 33;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % u32::from(BLOCKS)).expect("less than 33");
    for _ in 0..BLOCKS {
        let block = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
        let layout = layout(20_000 + BLOCK * block);
        let free = layout
            .ports()
            .all(|(port, _)| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
        if free {
            return layout;
        }
    }
    panic!("no block of ports from 20000 to 29999 is free");
}

impl TestZone {
    /// A directory and ports for a zone, whose processes do not run yet.
    pub async fn prepare(members: u32, index_nodes: u32) -> Self {
        Self::prepare_with(members, index_nodes, "", "").await
    }

    /// The same, with configuration files for members and index nodes.
    pub async fn prepare_with(
        members: u32,
        index_nodes: u32,
        member_file: &str,
        index_node_file: &str,
    ) -> Self {
        let room = ROOM.acquire().await.expect("never closed");
        let directory = tempfile::Builder::new().prefix("isotherm-test-").tempdir().unwrap();
        let place = Place { directory: Some(directory) };
        let data = place.data();
        let file = |name: &str, text: &str| {
            let file = place.path().join(name);
            std::fs::write(&file, text).unwrap();
            vec!["--config".to_owned(), file.display().to_string()]
        };
        let member_arguments = file("member.toml", member_file);
        let index_node_arguments = file("index-node.toml", index_node_file);
        let layout = free_base_port(|port| {
            let mut layout = Layout::new(members, index_nodes, port, &data);
            layout.member_arguments.clone_from(&member_arguments);
            layout.index_node_arguments.clone_from(&index_node_arguments);
            layout
        });
        let processes = ZoneProcesses::new(layout, program::servers()).unwrap();
        Self { processes, environment: Environment::production(), place, _room: room }
    }

    /// A zone that is made, and healthy. Whatever its tests ask of it, it counts as without load: it moves
    /// nothing but what a test does, and what makes numbers of leaderships even.
    pub async fn start(shape: Shape) -> Self {
        let mut zone = Self::prepare(shape.members, shape.index_nodes).await;
        zone.bring_up(&shape).await;
        zone.set_balance("numbers, not load", |balance| balance.idle_permille = Some(1_000)).await;
        zone
    }

    /// Changes the part of the zone's policy that is for balance.
    pub async fn set_balance(&self, reason: &str, change: impl FnOnce(&mut v1::BalancePolicy)) {
        let admin = self.admin();
        let mut policy =
            admin.get_policy(v1::GetPolicyRequest {}).await.unwrap().policy.expect("a policy");
        change(policy.balance.as_mut().expect("a part for balance"));
        let request = v1::SetPolicyRequest {
            policy: Some(policy),
            reason: reason.into(),
            ..Default::default()
        };
        admin.set_policy(request).await.unwrap();
    }

    /// Starts what does not run, makes the zone if it is not made, and waits until it is healthy.
    pub async fn bring_up(&mut self, shape: &Shape) {
        let making = Making {
            split_keys: split_keys(shape.partitions),
            replication_factor: shape.replication_factor,
            replace_after: shape.replace_after,
        };
        if let Err(failure) = bring_up(&self.environment, &mut self.processes, &making).await {
            panic!("the zone does not come up: {failure}");
        }
    }

    /// The same zone under another command line: everything is stopped, and nothing started.
    pub async fn with_index_node_arguments(mut self, arguments: &[&str]) -> Self {
        self.processes.stop_all(super::LIMIT).await;
        let Self { processes, environment, place, _room } = self;
        let mut layout = processes.layout().clone();
        // The old one holds the directory's lock.
        drop(processes);
        layout.index_node_arguments = arguments.iter().map(|&it| it.to_owned()).collect();
        let processes = ZoneProcesses::new(layout, program::servers()).unwrap();
        Self { processes, environment, place, _room }
    }

    /// A place beside the zone for another process, with the zone's endpoints and ports.
    pub fn beside(&self, name: &str, index_nodes: u32, arguments: &[&str]) -> ZoneProcesses {
        let mut layout = self.processes.layout().clone();
        layout.data = self.directory().join(name);
        layout.index_nodes = index_nodes;
        layout.index_node_arguments = arguments.iter().map(|&it| it.to_owned()).collect();
        ZoneProcesses::new(layout, program::servers()).unwrap()
    }

    /// The zone's directory is in it, and files of tests can be, too.
    pub fn directory(&self) -> &Path {
        self.place.path()
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.processes.layout().endpoints()
    }

    pub fn address(&self, role: Role) -> String {
        self.processes.layout().address(role)
    }

    pub fn admin(&self) -> AdminClient {
        let options = AdminOptions {
            deadline: super::LIMIT,
            unreachable_after: super::LIMIT,
            ..AdminOptions::default()
        };
        AdminClient::new(&self.environment, &self.endpoints(), options).unwrap()
    }

    pub async fn client(&self) -> Client {
        let options = Options { connect_deadline: super::LIMIT, ..Options::default() };
        Client::connect(&self.environment, &self.endpoints(), options).await.unwrap()
    }

    /// The zone's state by its leader's account.
    pub async fn status(&self) -> StatusForm {
        self.status_when("a leader's account", |_| true).await
    }

    /// Waits until the leader's account is so.
    #[track_caller]
    pub fn status_when(
        &self,
        what: &str,
        mut wanted: impl FnMut(&StatusForm) -> bool,
    ) -> impl Future<Output = StatusForm> {
        let admin = self.admin();
        let last = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&last);
        let looking = eventually(what, async move || {
            let status = match admin.status().await {
                Ok(status) => StatusForm::from(status),
                Err(error) => {
                    *seen.lock().unwrap() = error.to_string();
                    return None;
                }
            };
            if status.from_leader && wanted(&status) {
                return Some(status);
            }
            *seen.lock().unwrap() = summary(&status);
            None
        });
        async move {
            // Said only if the wait is in vain.
            let _last = OnPanic(last);
            looking.await
        }
    }

    /// Waits until everything is as it should be: all is well, nothing is under way, and no leadership is
    /// about to move.
    #[track_caller]
    pub fn settled(&self) -> impl Future<Output = StatusForm> {
        let nodes = self.processes.layout().index_nodes as usize;
        let admin = self.admin();
        let quiet = self.status_when("a healthy zone without operations", move |status| {
            let up = status.nodes.iter().filter(|node| node.state == "up").count();
            let active =
                status.nodes.iter().filter(|node| node.administrative_state == "active").count();
            status.healthy
                && status.operations.running == 0
                && up >= nodes
                && active == status.nodes.len()
        });
        let even = eventually("even leaderships", async move || {
            let plan = admin.plan_balance(v1::PlanBalanceRequest::default()).await.ok()?;
            let is_transfer = |step: &v1::PlanStep| {
                matches!(step.change, Some(v1::plan_step::Change::Transfer(_)))
            };
            // What load wants, it wants after a while only.
            (plan.by_load || !plan.steps.iter().any(is_transfer)).then_some(())
        });
        async move {
            even.await;
            quiet.await
        }
    }

    /// Gives every node at least two replicas again, as after a drain that emptied one, and waits until
    /// the zone has settled.
    pub async fn even_out(&self) {
        loop {
            let status = self.settled().await;
            let most = status.nodes.iter().max_by_key(|node| node.replicas).unwrap();
            let least = status.nodes.iter().min_by_key(|node| node.replicas).unwrap();
            if least.replicas >= 2 {
                return;
            }
            let placements = self.placements().await;
            let movable = placements.iter().find(|(_, it)| {
                let on = |node| it.replicas.values().any(|it| *it == node);
                on(most.id) && !on(least.id)
            });
            let (partition, _) = movable.expect("the emptier node lacks one of the fuller one's");
            let operation = self.move_replica(*partition, most.id, least.id).await.unwrap();
            self.succeeded(operation).await;
        }
    }

    pub async fn move_replica(
        &self,
        partition_id: u64,
        from: u64,
        to: u64,
    ) -> Result<Option<v1::Operation>, AdminError> {
        let request = v1::MoveReplicaRequest {
            partition_id,
            from: node_id(from),
            to: node_id(to),
            idempotency_key: String::new(),
        };
        Ok(self.admin().move_replica(request).await?.operation)
    }

    pub async fn transfer_leader(
        &self,
        partition_id: u64,
        to: u64,
    ) -> Result<Option<v1::Operation>, AdminError> {
        let request = v1::TransferLeaderRequest {
            partition_id,
            to: node_id(to),
            idempotency_key: String::new(),
        };
        Ok(self.admin().transfer_leader(request).await?.operation)
    }

    pub async fn drain(&self, node: u64) -> Result<Option<v1::Operation>, AdminError> {
        let request = v1::DrainNodeRequest { node: node_id(node), ..Default::default() };
        Ok(self.admin().drain_node(request).await?.operation)
    }

    pub async fn uncordon(&self, node: u64) {
        let request = v1::UncordonNodeRequest { node: node_id(node), ..Default::default() };
        self.admin().uncordon_node(request).await.unwrap();
    }

    /// Every partition as the leader sees it.
    pub async fn partitions(&self) -> Vec<v1::PartitionSummary> {
        self.admin().all_partitions(v1::ListPartitionsRequest::default()).await.unwrap()
    }

    pub async fn placements(&self) -> Placements {
        self.partitions().await.iter().map(|it| (it.id, Placement::from(it))).collect()
    }

    /// A partition, the node that leads it, and another of its nodes that may lead it as well: of all
    /// such transfers one that leaves the leaderships even, if there is one, so that it is not undone.
    pub async fn a_transfer(&self) -> (u64, u64, u64) {
        let status = self.status().await;
        let leaders: BTreeMap<u64, i64> =
            status.nodes.iter().map(|node| (node.id, i64::from(node.leaders))).collect();
        let placements = self.placements().await;
        let transfers = placements.iter().flat_map(|(partition, placement)| {
            let from = placement.leader;
            let others = placement.replicas.values().filter(move |node| **node != from);
            others.map(move |to| (*partition, from, *to))
        });
        transfers.max_by_key(|(_, from, to)| leaders[from] - leaders[to]).expect("3 replicas each")
    }

    /// Watches an operation to its end.
    pub async fn ended(&self, operation: u64) -> v1::Operation {
        use futures_util::TryStreamExt;
        let admin = self.admin();
        let watched = admin.watch_operation(operation);
        let last = watched.try_fold(None, |_, operation| async move { Ok(Some(operation)) });
        let last = tokio::time::timeout(super::LIMIT, last).await;
        last.expect("the operation ends").unwrap().expect("it is shown at least once")
    }

    /// Watches an operation to its end, which must be success.
    pub async fn succeeded(&self, operation: Option<v1::Operation>) -> v1::Operation {
        let ended = self.ended(operation.expect("an operation").id).await;
        assert_eq!(ended.state(), v1::OperationState::Succeeded, "{ended:?}");
        ended
    }

    /// Everything in the ledger.
    pub async fn events(&self) -> Vec<v1::Event> {
        use futures_util::TryStreamExt;
        let admin = self.admin();
        let events = admin.watch_events(v1::WatchEventsRequest::default());
        events.try_collect().await.unwrap()
    }

    /// All that a refused command must leave as it was.
    pub async fn fingerprint(&self) -> Fingerprint {
        let request = v1::ListOperationsRequest { include_ended: true, limit: 1_000 };
        let operations = self.admin().list_operations(request).await.unwrap().operations;
        let nodes = self.status().await.nodes;
        let nodes = nodes.into_iter().map(|node| {
            let NodeForm { id, name, state, administrative_state, address, incarnation, .. } = node;
            (id, name, state, administrative_state, address, incarnation)
        });
        Fingerprint {
            placements: self.placements().await,
            nodes: nodes.collect(),
            last_event: self.events().await.last().map_or(0, |event| event.sequence),
            last_operation: operations.first().map_or(0, |operation| operation.id),
        }
    }

    /// The process that runs as the node.
    pub fn role(&self, node: &NodeForm) -> Role {
        let roles = self.processes.layout().index_node_roles();
        let named = roles.into_iter().find(|role| role.name() == node.name);
        named.unwrap_or_else(|| panic!("no process runs node {}", node.name))
    }

    /// The process of the member that leads.
    pub async fn leader(&self) -> Role {
        let status = self.status_when("a leader", |it| it.control_plane.leader.is_some()).await;
        let leader = status.control_plane.leader;
        let members = &status.control_plane.members;
        let address = &members.iter().find(|it| Some(it.id) == leader).unwrap().address;
        let mut roles = self.processes.layout().member_roles();
        roles.find(|role| self.address(*role) == *address).unwrap()
    }

    pub async fn a_follower(&self) -> Role {
        let leader = self.leader().await;
        self.processes.layout().member_roles().find(|role| *role != leader).unwrap()
    }

    /// The index node that leads most partitions.
    pub async fn busiest(&self) -> NodeForm {
        let status = self.status().await;
        status.nodes.into_iter().max_by_key(|node| (node.leaders, node.id)).unwrap()
    }

    /// Ends without a word: `kill -9` of everything.
    pub fn kill_all(&mut self) {
        self.processes.kill_all().unwrap();
    }
}

/// What a test wants to know of a zone that is not as it should be.
fn summary(status: &StatusForm) -> String {
    let nodes = status.nodes.iter().map(|node| {
        let NodeForm { id, name, state, administrative_state, leaders, replicas, .. } = node;
        format!("{id} {name} {state} {administrative_state} {leaders}/{replicas}")
    });
    let nodes: Vec<String> = nodes.collect();
    format!(
        "{}, {} running, problems: {:?}, nodes (leaders/replicas): {}",
        if status.from_leader { "leader's account" } else { "follower's account" },
        status.operations.running,
        status.problems,
        nodes.join(", ")
    )
}

/// Shows a text if it is dropped by a panic.
struct OnPanic(Arc<Mutex<String>>);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("last seen: {}", self.0.lock().unwrap());
        }
    }
}

/// Cuts the byte space evenly.
pub fn split_keys(partitions: u32) -> Vec<Bytes> {
    zonectl::commands::even_split_keys(partitions)
}
