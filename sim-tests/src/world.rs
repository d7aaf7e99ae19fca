//! A simulated world: hosts with their disks and clocks on a simulated network, all in one thread, all
//! from one seed. It knows nothing of zones.
//!
//! - A **process** is a program with a disk. It can be killed (its connections break, its disk keeps
//!   what was synced and a part of what was written after), lose power with its machine (its peers hear
//!   nothing), and be started again.
//! - A **driver** is a program of the harness itself, a client or an operator: it has no disk and is
//!   never killed, but its links can fail.
//!
//! The harness steps the world, [`STEP`] of simulated time each, and acts on it in between.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use runtime::{raft::RaftRuntime, seams::Environment, store::simulated::SimulatedDisk};

use crate::{
    clock::{SimulatedClock, epoch},
    links::{Links, Trouble},
    network::SimulatedNetwork,
    randomness::SeededRandomness,
    seed::Seed,
    trace::Trace,
};

/// How the world behaves when nothing is wrong with it.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// The fastest that a message travels.
    pub latency_min: Duration,
    /// The slowest. Latencies are distributed exponentially in between.
    pub latency_max: Duration,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self { latency_min: Duration::from_millis(1), latency_max: Duration::from_millis(8) }
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
    /// Its syncs fail, so it may end by itself.
    disk_broken: bool,
}

/// Hosts, their network, and what was done to them.
pub struct World {
    simulation: turmoil::Sim<'static>,
    seed: Seed,
    links: Links,
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
            seed,
            links: Links::new(),
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
        self.processes.insert(
            name.to_owned(),
            Process { disk: disk.clone(), running: true, crashes: 0, disk_broken: false },
        );
        let seed = self.seed.derive(name, 0);
        let links = self.links.clone();
        let endings = Rc::clone(&self.endings);
        let boots = Cell::new(0);
        let name = name.to_owned();
        self.simulation.host(name.clone(), move || {
            let number = boots.get();
            boots.set(number + 1);
            let seed = seed.derive("boot", number);
            let (name, disk, links) = (name.clone(), disk.clone(), links.clone());
            let (program, endings) = (Rc::clone(&program), Rc::clone(&endings));
            RaftRuntime::scope(seed.derive("raft", 0).0, async move {
                let environment = environment(&name, &links, seed);
                let ended = program(Boot { name: name.clone(), number, environment, disk }).await;
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
                let environment = environment(&host, &links, seed);
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
        stepped.map(|_| ()).map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// The processes that ended by themselves, without a broken disk, since the last time this was
    /// asked.
    pub fn take_endings(&mut self) -> Vec<Ending> {
        let mut endings = std::mem::take(&mut *self.endings.borrow_mut());
        endings.retain(|ending| {
            let process = self.processes.get(&ending.process);
            !process.is_some_and(|process| process.disk_broken)
        });
        endings
    }

    /// From now on each sync of the process fails: it has to stop.
    pub fn break_disk(&mut self, name: &str) {
        tracing::info!(process = name, "the disk breaks");
        let process = self.processes.get_mut(name).expect("faults name processes that exist");
        process.disk_broken = true;
        process.disk.fail_syncs(true);
    }

    /// The disk works as at the start. If it was broken, the process loses what it had not synced, and
    /// starts again: a store whose sync has failed stays failed.
    pub fn mend_disk(&mut self, name: &str) {
        tracing::info!(process = name, "the disk is mended");
        let process = self.processes.get_mut(name).expect("faults name processes that exist");
        process.disk.mend();
        if !std::mem::take(&mut process.disk_broken) {
            return;
        }
        if process.running {
            self.crash(name, Crash::ProcessKilled);
        } else {
            // It has stopped by itself.
            let seed = self.seed.derive(name, 0);
            let process = self.processes.get_mut(name).expect("looked up just above");
            process.disk.crash(seed.derive("crash", process.crashes).0);
            process.crashes += 1;
        }
        self.restart(name);
    }

    /// Stops a process; its disk keeps what was synced and a seeded part of what was written after.
    /// One that does not run stays as it is.
    pub fn crash(&mut self, name: &str, crash: Crash) {
        if !self.process(name).running {
            return;
        }
        tracing::info!(process = name, ?crash, "crash");
        let power_lost = crash == Crash::PowerLost;
        self.links.process_stopped(name, power_lost);
        if power_lost {
            self.without_power.push(name.to_owned());
            self.apply_links_of(name);
        }
        self.simulation.crash(name);
        let seed = self.seed.derive(name, 0);
        let process = self.processes.get_mut(name).expect("looked up just above");
        process.running = false;
        process.disk.crash(seed.derive("crash", process.crashes).0);
        process.crashes += 1;
    }

    /// Starts a process again, from its disk. One that runs goes on.
    pub fn restart(&mut self, name: &str) {
        if self.process(name).running {
            return;
        }
        tracing::info!(process = name, "restart");
        self.processes.get_mut(name).expect("looked up just above").running = true;
        self.links.process_started(name);
        if self.without_power.iter().any(|host| host == name) {
            self.without_power.retain(|host| host != name);
            self.apply_links_of(name);
        }
        self.simulation.bounce(name);
    }

    /// Loses every message from one host to another.
    pub fn cut_one_way(&mut self, from: &str, to: &str) {
        tracing::info!(from, to, "cut");
        self.change_link(from, to, |links| links.set_trouble(from, to, Some(Trouble::Cut)));
    }

    /// Loses every message between two hosts.
    pub fn cut(&mut self, a: &str, b: &str) {
        tracing::info!(a, b, "cut both ways");
        self.change_link(a, b, |links| {
            links.set_trouble(a, b, Some(Trouble::Cut));
            links.set_trouble(b, a, Some(Trouble::Cut));
        });
    }

    /// Holds every message between two hosts back until the link is healed.
    pub fn hold(&mut self, a: &str, b: &str) {
        tracing::info!(a, b, "hold");
        self.change_link(a, b, |links| {
            links.set_trouble(a, b, Some(Trouble::Held));
            links.set_trouble(b, a, Some(Trouble::Held));
        });
    }

    /// Ends whatever trouble the link has.
    pub fn heal(&mut self, a: &str, b: &str) {
        tracing::info!(a, b, "heal");
        self.change_link(a, b, |links| {
            links.set_trouble(a, b, None);
            links.set_trouble(b, a, None);
        });
    }

    /// Heals all links, mends all disks and starts all processes again.
    pub fn heal_everything(&mut self) {
        for ((from, to), _) in self.links.troubles() {
            self.heal(&from, &to);
        }
        let processes: Vec<String> = self.processes().map(str::to_owned).collect();
        for process in processes {
            self.mend_disk(&process);
            self.restart(&process);
        }
    }

    fn change_link(&mut self, a: &str, b: &str, change: impl FnOnce(&Links)) {
        let was_held = self.links.trouble(a, b) == Some(Trouble::Held);
        change(&self.links);
        if was_held && self.links.trouble(a, b) != Some(Trouble::Held) {
            self.simulation.release(a, b);
        }
        self.apply_link(a, b);
    }

    fn apply_links_of(&self, name: &str) {
        for other in self.hosts.iter().filter(|host| *host != name) {
            self.apply_link(name, other);
        }
    }

    /// Tells turmoil what the link between two hosts is to do.
    fn apply_link(&self, a: &str, b: &str) {
        let dark = self.without_power.iter().any(|host| host == a || host == b);
        if !dark && self.links.trouble(a, b) == Some(Trouble::Held) {
            return self.simulation.hold(a, b);
        }
        for (from, to) in [(a, b), (b, a)] {
            if dark || self.links.trouble(from, to) == Some(Trouble::Cut) {
                self.simulation.partition_oneway(from, to);
            } else {
                self.simulation.repair_oneway(from, to);
            }
        }
    }
}

/// The seams of one boot of one host. To be called where the host runs.
fn environment(host: &str, links: &Links, seed: Seed) -> Environment {
    Environment {
        network: Arc::new(SimulatedNetwork::new(host, links.clone())),
        clock: Arc::new(SimulatedClock::start()),
        randomness: Arc::new(SeededRandomness::new(seed.derive("randomness", 0))),
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
