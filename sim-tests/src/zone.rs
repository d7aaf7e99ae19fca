//! A whole zone in a world: members of the control plane and index nodes, running the production code
//! unchanged over simulated seams, and the programs that use the zone.

use std::{collections::BTreeMap, fmt, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use proto::v1::InitRequest;
use rand::{RngExt, seq::IndexedRandom};
use runtime::{seams::Environment, store::simulated::SimulatedDisk};
use tokio_util::sync::CancellationToken;

use crate::{
    board::{Board, Phase},
    commands::{self, TimedCommand},
    faults::Cast,
    history::Recorder,
    onlooker,
    operator::{Operator, Zone as OperatedZone, verify},
    processor::SimulatedProcessor,
    sabotage::Sabotage,
    seed::Seed,
    wayward,
    witness::Witness,
    workload::{self, RecordingClient, WorkloadOptions},
    world::{Boot, World, program},
};

/// The size of a zone, and how its parts are configured.
#[derive(Clone, Debug)]
pub struct ZoneOptions {
    /// 1, 3 or 5.
    pub members: u32,
    pub index_nodes: u32,
    /// Into how many fault domains the index nodes are divided; none: each is one of its own.
    pub fault_domains: Option<u32>,
    pub partitions: u32,
    pub replication_factor: u32,
    /// How long a node's loss lasts before its replicas are made again elsewhere.
    pub replace_after: Duration,
    pub workload: WorkloadOptions,
    /// What each poll of a request costs an index node's processor. If it costs anything, load is spread: the run
    /// has a phase of steady load, which has to settle. None: nothing.
    pub poll_cost: Option<Duration>,
    /// With so many requests of a partition under way, one more of the same key waits. None: as usual, which a few
    /// clients never get to.
    pub key_crowd: Option<u32>,
    /// What the second operator asks for; none: what follows from the seed.
    pub commands: Option<Vec<TimedCommand>>,
    /// What is wrong with the zone on purpose.
    pub sabotage: Option<Sabotage>,
}

impl ZoneOptions {
    /// The zone that follows from a seed: mostly a small one.
    pub fn drawn(seed: Seed) -> Self {
        let mut generator = seed.derive("zone", 0).generator();
        let members = if generator.random_bool(0.85) { 3 } else { 5 };
        let index_nodes = *[3, 3, 4, 4, 4, 5, 5, 6, 7]
            .choose(&mut generator)
            .expect("there are sizes to choose from");
        let partitions = generator.random_range(1..=8);
        // Half of the zones replace what is lost while the run lasts.
        let replace_after = if generator.random_bool(0.5) {
            Duration::from_secs(300)
        } else {
            Duration::from_secs(generator.random_range(3..8))
        };
        let options = Self { members, index_nodes, partitions, replace_after, ..Self::default() };
        // Up to two nodes in each, and as many as a partition needs.
        let pairs = options.index_nodes.div_ceil(2).max(options.replication_factor);
        let fault_domains = generator.random_bool(0.4).then_some(pairs);
        let key_crowd = generator.random_bool(0.4).then(|| generator.random_range(1..=2));
        Self { fault_domains, key_crowd, ..options }
    }

    /// Whether requests cost anything.
    pub fn has_load(&self) -> bool {
        self.poll_cost.is_some()
    }

    /// The same zone under load: from one that some processors can hardly bear to one that is worth a look.
    #[must_use]
    pub fn under_load(self, seed: Seed) -> Self {
        let mut generator = seed.derive("poll cost", 0).generator();
        let micros = generator.random_range(400..4_000);
        // Load has to be steady then, and not what clients come again with.
        Self { poll_cost: Some(Duration::from_micros(micros)), key_crowd: None, ..self }
    }

    /// In which fault domain an index node is, both counted from 0.
    fn fault_domain(&self, index_node: usize) -> usize {
        let domains = self.fault_domains.unwrap_or(self.index_nodes);
        index_node % usize::try_from(domains).unwrap_or(usize::MAX).max(1)
    }

    /// The index nodes by fault domain.
    fn domains(&self, index_nodes: &[String]) -> Vec<Vec<String>> {
        let mut domains: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (number, index_node) in index_nodes.iter().enumerate() {
            domains.entry(self.fault_domain(number)).or_default().push(index_node.clone());
        }
        domains.into_values().collect()
    }
}

/// Up to here the zone replaces what is lost while a run lasts.
const REPLACE_AFTER_SOON: Duration = Duration::from_secs(10);

impl Default for ZoneOptions {
    fn default() -> Self {
        Self {
            members: 3,
            index_nodes: 3,
            fault_domains: None,
            partitions: 4,
            replication_factor: 3,
            replace_after: Duration::from_secs(300),
            workload: WorkloadOptions::default(),
            poll_cost: None,
            key_crowd: None,
            commands: None,
            sabotage: None,
        }
    }
}

impl fmt::Display for ZoneOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { members, index_nodes, partitions, .. } = self;
        let seconds = self.replace_after.as_secs();
        write!(
            formatter,
            "{members} members, {index_nodes} nodes, {partitions} partitions, replace after {seconds} s"
        )?;
        if let Some(domains) = self.fault_domains {
            write!(formatter, ", {domains} fault domains")?;
        }
        if let Some(cost) = self.poll_cost {
            write!(formatter, ", {} µs a poll", cost.as_micros())?;
        }
        match self.key_crowd {
            Some(crowd) => write!(formatter, ", crowded by {crowd}"),
            None => Ok(()),
        }
    }
}

pub const MEMBER_PORT: u16 = 7400;
const INDEX_NODE_PORT: u16 = 7500;

/// Partition groups' timers against production's: a run is seconds long, and has to see them fire.
const GROUP_TIMERS_DIVISOR: u64 = 10;

/// A run writes hundreds of entries into each group, and has to see snapshots.
const ENTRIES_PER_SNAPSHOT: u64 = 60;
/// So few that even the small partitions of a simulation take several chunks, and so long that faults come between
/// them.
const SNAPSHOT_CHUNK_BYTES_MAX: u64 = 512;
const SNAPSHOT_BYTES_PER_SECOND_MAX: u64 = 16 << 10;
const ENTRIES_KEPT: u64 = 20;

/// Of the members' group, which writes about as much in a run as all partitions together.
const MEMBER_ENTRIES_PER_SNAPSHOT: u64 = 100;

/// A run is too short for the usual times: it has to see them end.
const QUARANTINE_MIN_MS: u64 = 1_000;
const QUARANTINE_MAX_MS: u64 = 6_000;

/// How long every other client waits for a request: not long enough for what goes wrong, so that some
/// outcomes stay unknown. The others wait as long as clients usually do.
const IMPATIENT_DEADLINE_MS: Range<u64> = 200..1_500;

/// A zone that was put into a world.
pub struct Zone {
    pub cast: Cast,
    pub board: Board,
    pub recorder: Recorder,
    /// Sees all disks.
    pub witness: Witness,
}

fn member_name(number: u32) -> String {
    format!("member-{number}")
}

fn client_name(number: u32) -> String {
    format!("client-{}", number + 1)
}

fn index_node_name(number: u32) -> String {
    format!("node-{number}")
}

/// Whether such a zone has a host of that name.
pub fn has_host(options: &ZoneOptions, host: &str) -> bool {
    (1..=options.members).any(|number| member_name(number) == host)
        || has_index_node(options.index_nodes, host)
        || (0..options.workload.clients).any(|number| client_name(number) == host)
        || [OPERATOR, COMMANDER].contains(&host)
}

pub fn has_index_node(index_nodes: u32, name: &str) -> bool {
    (1..=index_nodes).any(|number| index_node_name(number) == name)
}

/// Adds the processes and the programs of a zone to a world. They start with the next step.
pub fn build(world: &mut World, seed: Seed, options: &ZoneOptions) -> Zone {
    let board = Board::default();
    let recorder = Recorder::new();
    let witness = Witness::default();
    let members: Vec<String> = (1..=options.members).map(member_name).collect();
    let index_nodes: Vec<String> = (1..=options.index_nodes).map(index_node_name).collect();
    let endpoints: Vec<String> =
        members.iter().map(|member| format!("{member}:{MEMBER_PORT}")).collect();
    for member in &members {
        add_member(world, member, options.sabotage, &witness);
    }
    for (number, index_node) in index_nodes.iter().enumerate() {
        let fault_domain = format!("rack-{}", options.fault_domain(number) + 1);
        add_index_node(world, index_node, fault_domain, &endpoints, options, &witness);
    }
    add_operator(world, &endpoints, options, &board);
    add_commander(world, seed, &endpoints, &index_nodes, options, &board);
    let mut drivers = vec![OPERATOR.to_owned(), COMMANDER.to_owned()];
    for number in 0..options.workload.clients {
        drivers.push(add_client(world, seed, number, &endpoints, options, &recorder, &board));
    }
    add_watchers(world, seed, &endpoints, options, &recorder, &board);
    let cast = Cast {
        domains: options.domains(&index_nodes),
        domains_needed: usize::try_from(options.replication_factor).unwrap_or(usize::MAX),
        replaces_lost: options.replace_after <= REPLACE_AFTER_SOON,
        members,
        index_nodes,
        drivers,
    };
    Zone { cast, board, recorder, witness }
}

const OPERATOR: &str = "operator";
const COMMANDER: &str = "second-operator";
const WATCHERS: &str = "watchers";

fn add_member(world: &mut World, name: &str, sabotage: Option<Sabotage>, witness: &Witness) {
    let witness = witness.clone();
    let run = move |boot: Boot| {
        let witness = witness.clone();
        async move {
            let configuration = control_plane::configuration::Configuration {
                data_directory: PathBuf::from("simulated"),
                listen_address: format!("{}:{MEMBER_PORT}", boot.name),
                liveness: control_plane::configuration::LivenessTimers {
                    quarantine_min_ms: QUARANTINE_MIN_MS,
                    quarantine_max_ms: QUARANTINE_MAX_MS,
                    ..Default::default()
                },
                raft: control_plane::configuration::RaftOptions {
                    snapshot_after_entries: MEMBER_ENTRIES_PER_SNAPSHOT,
                    entries_kept: ENTRIES_KEPT,
                    ..Default::default()
                },
                ..Default::default()
            };
            let store = boot.disk.open(&control_plane::families(), &boot.environment);
            let store = witness.watch_member(&boot.name, store);
            let store = match sabotage {
                Some(sabotage) => sabotage.store(store),
                None => store,
            };
            let shutdown = CancellationToken::new();
            Ok(control_plane::run(boot.environment, store, configuration, shutdown).await?)
        }
    };
    world.add_process(name, SimulatedDisk::new(), program(run));
}

/// A key's share of a crowd that a few clients can make.
fn hot_keys(crowd: Option<u32>) -> index_node::configuration::HotKeySettings {
    let usual = index_node::configuration::HotKeySettings::default();
    match crowd {
        Some(partition_crowd) => index_node::configuration::HotKeySettings {
            partition_crowd,
            key_share: 1,
            key_waiting_max: 1,
            ..usual
        },
        None => usual,
    }
}

fn add_index_node(
    world: &mut World,
    name: &str,
    fault_domain: String,
    endpoints: &[String],
    options: &ZoneOptions,
    witness: &Witness,
) {
    let endpoints = endpoints.to_vec();
    let witness = witness.clone();
    let (sabotage, poll_cost) = (options.sabotage, options.poll_cost.unwrap_or_default());
    let hot_keys = hot_keys(options.key_crowd);
    let run = move |boot: Boot| {
        let hot_keys = hot_keys.clone();
        let (endpoints, fault_domain, witness) =
            (endpoints.clone(), fault_domain.clone(), witness.clone());
        async move {
            let usual = index_node::configuration::RaftSettings::default();
            let configuration = index_node::configuration::Configuration {
                data_directory: PathBuf::from("simulated"),
                name: boot.name.clone(),
                fault_domain,
                listen_address: format!("{}:{INDEX_NODE_PORT}", boot.name),
                control_plane_endpoints: endpoints,
                cores: 2,
                raft: index_node::configuration::RaftSettings {
                    heartbeat_interval_ms: usual.heartbeat_interval_ms / GROUP_TIMERS_DIVISOR,
                    election_timeout_min_ms: usual.election_timeout_min_ms / GROUP_TIMERS_DIVISOR,
                    election_timeout_max_ms: usual.election_timeout_max_ms / GROUP_TIMERS_DIVISOR,
                    entries_per_snapshot: ENTRIES_PER_SNAPSHOT,
                    entries_kept: ENTRIES_KEPT,
                },
                hot_keys,
                snapshot_bytes_per_second_max: SNAPSHOT_BYTES_PER_SECOND_MAX,
                snapshot_chunk_bytes_max: SNAPSHOT_CHUNK_BYTES_MAX,
                ..Default::default()
            };
            let store = boot.disk.open(&index_node::families(), &boot.environment);
            let store = witness.watch_index_node(&boot.name, store);
            let store = match sabotage {
                Some(sabotage) => sabotage.store(store),
                None => store,
            };
            let shutdown = CancellationToken::new();
            let processor_time = Arc::new(SimulatedProcessor::new(poll_cost));
            let environment = Environment { processor_time, ..boot.environment };
            Ok(index_node::run(environment, store, configuration, shutdown).await?)
        }
    };
    world.add_process(name, SimulatedDisk::new(), program(run));
}

fn add_operator(world: &mut World, endpoints: &[String], options: &ZoneOptions, board: &Board) {
    let keys = workload::keys(options.workload.keys);
    let init = InitRequest {
        member_addresses: endpoints.to_vec(),
        split_keys: split_keys(&keys, options.partitions),
        replication_factor: options.replication_factor,
        replace_after_ms: u64::try_from(options.replace_after.as_millis()).unwrap_or(u64::MAX),
    };
    let zone = OperatedZone { partitions: options.partitions, has_load: options.has_load() };
    let (endpoints, board) = (endpoints.to_vec(), board.clone());
    world.add_driver(OPERATOR, move |environment| {
        async move { Operator::new(environment, endpoints, board)?.run(init, zone).await }
            .boxed_local()
    });
}

fn add_commander(
    world: &mut World,
    seed: Seed,
    endpoints: &[String],
    index_nodes: &[String],
    options: &ZoneOptions,
    board: &Board,
) {
    let (members, nodes) = (endpoints.to_vec(), index_nodes.to_vec());
    let (partitions, written, board) =
        (options.partitions, options.commands.clone(), board.clone());
    world.add_driver(COMMANDER, move |environment| {
        commands::work(seed, environment, members, nodes, partitions, written, board).boxed_local()
    });
}

/// Cuts that leave about as many keys in each partition.
fn split_keys(keys: &[Bytes], partitions: u32) -> Vec<Bytes> {
    let partitions = usize::try_from(partitions).expect("a number of partitions fits");
    (1..partitions).map(|number| keys[number * keys.len() / partitions].clone()).collect()
}

fn add_client(
    world: &mut World,
    seed: Seed,
    number: u32,
    endpoints: &[String],
    options: &ZoneOptions,
    recorder: &Recorder,
    board: &Board,
) -> String {
    let name = client_name(number);
    let workload = options.workload.clone();
    let (endpoints, recorder, board) = (endpoints.to_vec(), recorder.clone(), board.clone());
    let mut options = client::Options::default();
    if !is_patient(number) {
        let mut generator = seed.derive("patience", u64::from(number)).generator();
        options.deadline = Duration::from_millis(generator.random_range(IMPATIENT_DEADLINE_MS));
    }
    world.add_driver(&name, move |environment| {
        workload::work(number, seed, workload, environment, endpoints, options, recorder, board)
            .boxed_local()
    });
    name
}

/// Whether a client tries for as long as clients do by default. Every other one gives up early: so some
/// outcomes are unknown in each run.
pub fn is_patient(client: u32) -> bool {
    client.is_multiple_of(2)
}

/// Those that are there for their checks only: one host for all of them, since each one costs time. No fault
/// is aimed at it.
fn add_watchers(
    world: &mut World,
    seed: Seed,
    members: &[String],
    options: &ZoneOptions,
    recorder: &Recorder,
    board: &Board,
) {
    let number = options.workload.clients;
    let keys = workload::keys(options.workload.keys);
    let (members, recorder, board) = (members.to_vec(), recorder.clone(), board.clone());
    world.add_driver(WATCHERS, move |environment| {
        async move {
            let onlooker = onlooker::watch(environment.clone(), members.clone(), board.clone());
            let wayward = wayward::work(seed, environment.clone(), members.clone(), board.clone());
            let verifier = async {
                board.reached(Phase::Verifying).await;
                let options = client::Options::default();
                let client =
                    RecordingClient::connect(number, &environment, &members, options, recorder)
                        .await?;
                verify(client, keys, board.clone()).await;
                Ok(())
            };
            futures_util::try_join!(onlooker, wayward, verifier)?;
            Ok(())
        }
        .boxed_local()
    });
}
