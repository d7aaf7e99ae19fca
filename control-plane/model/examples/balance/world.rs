//! A zone as a sequence of events, around the planner that production runs.
//!
//! Heat is reported every so often and arrives late; the planner is asked once a second; a transfer takes
//! tens of milliseconds, a move as long as its bytes do; while it runs, a move costs processor time at both
//! ends. Nothing here decides anything.

use std::collections::BTreeMap;

use model::{
    balance::{
        Amounts, BalanceAction, BalancePolicy, Change, Departed, Departure, EFFORT_DEFAULT,
        PROCESSOR, PartitionView, Planner, Running, Snapshot, Tool,
    },
    ids::ZoneTime,
    seeded::Seeded,
};

/// The zone is planned for, and heat is reported, so often.
const ROUND_MS: u64 = 1_000;
const REPORT_MS: u64 = 5_000;
const TRANSFER_MS: u64 = 40;
/// What one move gets of the network, and what it costs each end in microseconds of processor time per
/// second.
const MOVE_BYTES_PER_MS: u64 = 64 << 10;
const MOVE_PROCESSOR: u64 = 50_000;

enum Event {
    Round,
    Report,
    Arrival(Vec<(Amounts, Amounts)>),
    Done(BalanceAction),
}

pub struct World {
    planner: Planner,
    pub snapshot: Snapshot,
    /// What each partition's leader and followers really bear.
    pub heat: Vec<(Amounts, Amounts)>,
    events: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    seeded: Seeded,
    noise_percent: usize,
    report_delay_ms: u64,
    moving: Vec<u64>,
    /// What left where, ever: a return is counted whenever it happens.
    been: Vec<Vec<(Departed, u32)>>,
    pub transfers: u64,
    pub moves: u64,
    pub bytes: u64,
    pub returns: u64,
    /// When the greatest utilisation against the mean was last above the goal, running moves included.
    pub last_above_ms: u64,
    pub last_change_ms: u64,
}

impl World {
    pub fn new(snapshot: Snapshot, noise_percent: usize, report_delay_ms: u64) -> Self {
        let planner = Planner::new(snapshot.clone()).expect("scenarios are well formed");
        let heat = snapshot.partitions.iter();
        let mut world = Self {
            planner,
            heat: heat.map(|view| (view.leader_heat, view.follower_heat)).collect(),
            events: BTreeMap::new(),
            numbers: 0,
            seeded: Seeded::new(1),
            noise_percent,
            report_delay_ms,
            moving: vec![0; snapshot.nodes.len()],
            been: vec![Vec::new(); snapshot.partitions.len()],
            snapshot,
            transfers: 0,
            moves: 0,
            bytes: 0,
            returns: 0,
            last_above_ms: 0,
            last_change_ms: 0,
        };
        world.schedule(ROUND_MS, Event::Round);
        world.schedule(0, Event::Report);
        world
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.numbers += 1;
        self.events.insert((at, self.numbers), event);
    }

    /// Lets time pass until then.
    pub fn run(&mut self, policy: &BalancePolicy, until_ms: u64, goal_permille: u64) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > until_ms {
                return;
            }
            match event {
                Event::Round => {
                    self.round(policy, at);
                    self.schedule(at + ROUND_MS, Event::Round);
                }
                Event::Report => {
                    let reported = self.reported();
                    self.schedule(at + self.report_delay_ms, Event::Arrival(reported));
                    self.schedule(at + REPORT_MS, Event::Report);
                }
                Event::Arrival(heat) => self.arrive(&heat),
                Event::Done(action) => self.finish(&action, policy, at),
            }
            if self.worst_permille() > goal_permille {
                self.last_above_ms = at;
            }
        }
    }

    fn reported(&mut self) -> Vec<(Amounts, Amounts)> {
        let noise = self.noise_percent;
        let mut heat = self.heat.clone();
        for (leader, follower) in &mut heat {
            let factor = (100 - noise + self.seeded.below(2 * noise + 1)) as u64;
            leader[PROCESSOR] = leader[PROCESSOR] * factor / 100;
            follower[PROCESSOR] = follower[PROCESSOR] * factor / 100;
        }
        heat
    }

    fn arrive(&mut self, heat: &[(Amounts, Amounts)]) {
        for (index, (leader, follower)) in heat.iter().enumerate() {
            let view = &mut self.snapshot.partitions[index];
            (view.leader_heat, view.follower_heat) = (*leader, *follower);
            self.tell(index as u32);
        }
    }

    fn tell(&mut self, index: u32) {
        let partition = self.snapshot.partitions[index as usize].clone();
        self.planner.apply(Change::Partition { index, partition }).expect("it is well formed");
    }

    fn round(&mut self, policy: &BalancePolicy, at: u64) {
        self.planner.apply(Change::Time { time: ZoneTime(at) }).expect("time is any number");
        let plan = self.planner.plan(policy, 1, EFFORT_DEFAULT).expect("the policy is sound");
        self.planner.apply(Change::Memory { memory: plan.memory }).expect("it is well formed");
        for action in plan.actions {
            let view = &mut self.snapshot.partitions[action.index as usize];
            let (from, to) = (action.from.index, action.to.index);
            let place = |node: u32, view: &PartitionView| {
                view.replicas().iter().position(|at| *at == node).expect("a replica is there")
            };
            let (takes, departed) = match action.tool {
                Tool::TransferLeadership => {
                    view.leader = place(to, view) as u8;
                    view.running = Running::Light;
                    (TRANSFER_MS, vec![Departed::Leadership])
                }
                Tool::MoveReplica => {
                    let led = view.leader_node() == Some(from);
                    let replica = place(from, view);
                    view.nodes[replica] = to;
                    view.running = Running::Move { from, to };
                    self.moving[from as usize] += 1;
                    self.moving[to as usize] += 1;
                    let leadership = led.then_some(Departed::Leadership);
                    let departed = [Departed::Replica].into_iter().chain(leadership).collect();
                    (TRANSFER_MS + action.bytes / MOVE_BYTES_PER_MS, departed)
                }
                // No scenario misses replicas, and these are only named.
                Tool::AddReplica | Tool::Split { .. } | Tool::Throttle { .. } => continue,
            };
            let been = &mut self.been[action.index as usize];
            for what in departed {
                view.depart(Departure { from, at: ZoneTime(at), what });
                self.returns += u64::from(been.contains(&(what, to)));
                been.push((what, from));
            }
            self.last_change_ms = at;
            self.tell(action.index);
            self.schedule(at + takes, Event::Done(action));
        }
    }

    fn finish(&mut self, action: &BalanceAction, policy: &BalancePolicy, at: u64) {
        let view = &mut self.snapshot.partitions[action.index as usize];
        view.running = Running::Nothing;
        view.cooldown_until = ZoneTime(at + policy.cooldown_ms);
        if action.tool == Tool::MoveReplica {
            self.moves += 1;
            self.bytes += action.bytes;
            self.moving[action.from.index as usize] -= 1;
            self.moving[action.to.index as usize] -= 1;
        } else {
            self.transfers += 1;
        }
        self.last_change_ms = at;
        self.tell(action.index);
    }

    /// Processor time that each node spends: on what it really serves, and on running moves. What is on its
    /// way is still served where it comes from.
    fn spent(&self) -> Vec<u64> {
        let mut spent: Vec<u64> = self.moving.iter().map(|moves| moves * MOVE_PROCESSOR).collect();
        for (view, (leader, follower)) in self.snapshot.partitions.iter().zip(&self.heat) {
            for node in view.replicas() {
                let leads = view.leader_node() == Some(*node);
                let serves = match view.running {
                    Running::Move { from, to } if to == *node => from,
                    Running::Nothing | Running::Light | Running::Move { .. } => *node,
                };
                spent[serves as usize] += if leads { leader } else { follower }[PROCESSOR];
            }
        }
        spent
    }

    /// The greatest utilisation against the mean, in thousandths.
    pub fn worst_permille(&self) -> u64 {
        let (spent, nodes) = (self.spent(), &self.snapshot.nodes);
        let all: u64 = spent.iter().sum();
        let capacity: u64 = nodes.iter().map(|node| node.capacity[PROCESSOR]).sum();
        let share = |node: usize| {
            let part = u128::from(spent[node]) * u128::from(capacity) * 1_000;
            (part / u128::from(nodes[node].capacity[PROCESSOR]) / u128::from(all.max(1))) as u64
        };
        (0..nodes.len()).map(share).max().unwrap_or(0)
    }
}
