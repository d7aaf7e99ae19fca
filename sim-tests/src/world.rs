//! A simulated world: hosts with their disks and clocks on a simulated network, all in one thread, all
//! from one seed. It knows nothing of zones.
//!
//! - A **process** is a program with a disk. It can be killed (its connections break, its disk keeps
//!   what was synced and a part of what was written after), lose power with its machine (its peers hear
//!   nothing), and be started again. It can be frozen, and its clocks are not right. What can be done to
//!   processes and their disks is in `world/processes.rs`.
//! - A **driver** is a program of the harness itself, a client or an operator: it has no disk and is
//!   never killed, but its links can fail.
//!
//! What can be done to the network is in `world/network.rs`.
//!
//! The harness steps the world, [`STEP`] of simulated time each, and acts on it in between.

mod network;
mod processes;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::LocalBoxFuture};
use rand::RngExt;
use runtime::{
    raft::RaftRuntime,
    seams::{Environment, NoProcessorTime},
    store::{Family, simulated::SimulatedDisk},
    time::Timekeeper,
};

use crate::{
    clock::{ProcessClock, Rate, SimulatedClock, epoch},
    gate::Gate,
    links::Links,
    network::SimulatedNetwork,
    randomness::SeededRandomness,
    seed::Seed,
    trace::Trace,
};

pub use self::processes::SeamCall;

/// How the world behaves when nothing is wrong with it.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// The fastest that a message travels.
    pub latency_min: Duration,
    /// The slowest. Latencies are distributed exponentially in between.
    pub latency_max: Duration,
    /// How wrong a process's clock runs at most, in millionths. Half of all boots have a right clock.
    pub drift_max: u32,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_millis(1),
            latency_max: Duration::from_millis(8),
            drift_max: 100_000,
        }
    }
}

impl WorldOptions {
    /// How fast the clock of one boot runs.
    fn rate(&self, seed: Seed) -> Rate {
        let mut generator = seed.derive("rate", 0).generator();
        if generator.random_bool(0.5) {
            return Rate::RIGHT;
        }
        let Rate(right) = Rate::RIGHT;
        Rate(generator.random_range(right - self.drift_max..=right + self.drift_max))
    }
}

/// turmoil ends with an error after so much simulated time; the harness ends much earlier.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// One step: messages arrive when one begins, and timers have the precision of a millisecond all the same.
/// A step costs as much whether something happens in it or not, so half as many take about two thirds of
/// the time.
pub const STEP: Duration = Duration::from_millis(2);

/// Segments in flight on one connection. TCP does not retransmit here, so the buffers must not overflow.
const TCP_CAPACITY: usize = 65_536;

/// One start of a process.
pub struct Boot {
    /// The process's name, which is its host's name.
    pub name: String,
    /// 0 for the first start.
    pub number: u64,
    pub environment: Environment,
    /// The process's disk, as the last crash left it.
    pub disk: SimulatedDisk,
}

/// What a process does, from its start to its end.
pub type Program = Rc<dyn Fn(Boot) -> LocalBoxFuture<'static, anyhow::Result<()>>>;

/// A process that ended although nobody stopped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub process: String,
    pub at: Duration,
    /// None: it ended as if it had been asked to.
    pub error: Option<String>,
}

/// How a process is stopped against its will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crash {
    /// `kill -9`: the machine lives on, closes the process's connections and refuses new ones.
    ProcessKilled,
    /// The machine loses its power: silence.
    PowerLost,
}

struct Process {
    disk: SimulatedDisk,
    running: bool,
    crashes: u64,
    gate: Gate,
    /// Something is wrong with its disk for which it may end by itself.
    may_end: bool,
    /// An earlier state of the disk.
    disk_copy: Option<SimulatedDisk>,
    /// What was damaged on the disk, and what it was damaged to.
    damage: Option<(Family, Bytes, Bytes)>,
}

/// Hosts, their network, and what was done to them.
pub struct World {
    simulation: turmoil::Sim<'static>,
    options: WorldOptions,
    seed: Seed,
    links: Links,
    slow_links: BTreeSet<(String, String)>,
    trace: Trace,
    processes: BTreeMap<String, Process>,
    hosts: Vec<String>,
    without_power: Vec<String>,
    endings: Rc<RefCell<Vec<Ending>>>,
}

impl World {
    pub fn new(seed: Seed, options: &WorldOptions, trace: Trace) -> Self {
        align_task_ids();
        let simulation = turmoil::Builder::new()
            .rng_seed(seed.derive("turmoil", 0).0)
            .epoch(epoch())
            .tick_duration(STEP)
            .simulation_duration(DURATION_MAX)
            .min_message_latency(options.latency_min)
            .max_message_latency(options.latency_max)
            .tcp_capacity(TCP_CAPACITY)
            .enable_random_order()
            .build();
        Self {
            simulation,
            options: options.clone(),
            seed,
            links: Links::new(),
            slow_links: BTreeSet::new(),
            trace,
            processes: BTreeMap::new(),
            hosts: Vec::new(),
            without_power: Vec::new(),
            endings: Rc::default(),
        }
    }

    /// Simulated time since the start.
    pub fn now(&self) -> Duration {
        self.simulation.elapsed()
    }

    /// All hosts, in the sequence in which they were added.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The names of all processes, in order.
    pub fn processes(&self) -> impl Iterator<Item = &str> {
        self.processes.keys().map(String::as_str)
    }

    /// The disk of a process.
    ///
    /// # Panics
    /// If there is no such process.
    pub fn disk(&self, process: &str) -> &SimulatedDisk {
        &self.process(process).disk
    }

    pub fn is_running(&self, process: &str) -> bool {
        self.process(process).running
    }

    fn process(&self, name: &str) -> &Process {
        self.processes.get(name).unwrap_or_else(|| panic!("there is no process {name}"))
    }

    /// Adds a process, which starts with the next step.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn add_process(&mut self, name: &str, disk: SimulatedDisk, program: Program) {
        assert!(!self.hosts.iter().any(|host| host == name), "the name {name} is taken");
        self.hosts.push(name.to_owned());
        let gate = Gate::new(Some(disk.clone()));
        let process = Process {
            disk: disk.clone(),
            running: true,
            crashes: 0,
            gate: gate.clone(),
            may_end: false,
            disk_copy: None,
            damage: None,
        };
        self.processes.insert(name.to_owned(), process);
        let seed = self.seed.derive(name, 0);
        let options = self.options.clone();
        let links = self.links.clone();
        let endings = Rc::clone(&self.endings);
        let boots = Cell::new(0);
        let name = name.to_owned();
        self.simulation.host(name.clone(), move || {
            let number = boots.get();
            boots.set(number + 1);
            let seed = seed.derive("boot", number);
            let rate = options.rate(seed);
            let (name, disk, links, gate) =
                (name.clone(), disk.clone(), links.clone(), gate.clone());
            let (program, endings) = (Rc::clone(&program), Rc::clone(&endings));
            RaftRuntime::scope(seed.derive("raft", 0).0, async move {
                gate.start_clock(turmoil::sim_elapsed().unwrap_or_default(), rate);
                let clock = Arc::new(ProcessClock::start(gate.clone()));
                let _governed = runtime::time::govern(Arc::clone(&clock) as Arc<dyn Timekeeper>);
                let environment = environment(&name, &links, &gate, clock, seed);
                let ended = program(Boot { name: name.clone(), number, environment, disk }).await;
                gate.running().await;
                let error = ended.err().map(|error| format!("{error:#}"));
                tracing::warn!(process = name, error = error.as_deref(), "the process ended");
                links.process_stopped(&name, false);
                let at = turmoil::sim_elapsed().unwrap_or_default();
                endings.borrow_mut().push(Ending { process: name, at, error });
                Ok(())
            })
        });
    }

    /// Adds a program of the harness, which starts with the next step.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn add_driver<P>(&mut self, name: &str, program: P)
    where
        P: FnOnce(Environment) -> LocalBoxFuture<'static, anyhow::Result<()>> + 'static,
    {
        assert!(!self.hosts.iter().any(|host| host == name), "the name {name} is taken");
        self.hosts.push(name.to_owned());
        let seed = self.seed.derive(name, 0);
        let links = self.links.clone();
        let host = name.to_owned();
        self.simulation.client(
            name,
            RaftRuntime::scope(seed.derive("raft", 0).0, async move {
                let gate = Gate::new(None);
                let clock = Arc::new(ProcessClock::start(gate.clone()));
                let environment = environment(&host, &links, &gate, clock, seed);
                program(environment).await.map_err(|error| format!("{host}: {error:#}").into())
            }),
        );
    }

    /// Lets [`STEP`] pass.
    ///
    /// # Errors
    /// If a driver failed.
    pub fn step(&mut self) -> anyhow::Result<()> {
        self.trace.run_hosts(self.now());
        let stepped = self.simulation.step();
        self.trace.between_steps(self.now());
        for ending in self.endings.borrow().iter() {
            if let Some(process) = self.processes.get_mut(&ending.process) {
                process.running = false;
            }
        }
        self.end_the_doomed();
        stepped.map(|_| ()).map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// The processes that ended by themselves, without a reason on their disk, since the last time this was
    /// asked.
    pub fn take_endings(&mut self) -> Vec<Ending> {
        let mut endings = std::mem::take(&mut *self.endings.borrow_mut());
        endings.retain(|ending| {
            let process = self.processes.get(&ending.process);
            !process.is_some_and(|process| process.may_end)
        });
        endings
    }

    /// Heals all links, mends all disks, and lets all processes run.
    pub fn heal_everything(&mut self) {
        self.heal_network();
        let processes: Vec<String> = self.processes().map(str::to_owned).collect();
        for process in processes {
            self.unmute(&process);
            self.straighten_orders(&process);
            self.thaw(&process);
            self.mend_disk(&process);
            self.restart(&process);
        }
    }
}

/// The seams of one boot of one host. To be called where the host runs.
fn environment(
    host: &str,
    links: &Links,
    gate: &Gate,
    clock: Arc<ProcessClock>,
    seed: Seed,
) -> Environment {
    Environment {
        network: Arc::new(SimulatedNetwork::new(host, links.clone(), gate.clone())),
        clock: Arc::new(SimulatedClock::new(clock)),
        randomness: Arc::new(SeededRandomness::new(seed.derive("randomness", 0))),
        processor_time: Arc::new(NoProcessorTime),
    }
}

/// tokio numbers tasks by one counter of the whole process, and drops a runtime's tasks in groups that
/// follow from their numbers. So a world starts where the numbers start over.
fn align_task_ids() {
    const GROUPS: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing of the operating system");
    loop {
        let id = runtime.spawn(std::future::ready(())).id().to_string();
        let id: u64 = id.parse().expect("tokio shows a task's id as a number");
        if id.is_multiple_of(GROUPS) {
            break;
        }
    }
}

/// Boxes a program's future.
pub fn program<F, P>(run: P) -> Program
where
    F: Future<Output = anyhow::Result<()>> + 'static,
    P: Fn(Boot) -> F + 'static,
{
    Rc::new(move |boot| run(boot).boxed_local())
}
