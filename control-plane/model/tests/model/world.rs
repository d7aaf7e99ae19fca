//! A toy zone: nodes and groups that obey orders in the simplest possible way, and a leader of the
//! control plane that runs the model's loops on them. One step is 100 ms.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    Action, Applied, Command, Incarnation, NodeId, Outcome, PartitionId, Revision, Term, WallTime,
    ZoneState, ZoneView,
    balancer::{Balancer, Sight},
    command::{Conclusion, Registration},
    detector::{Detector, DetectorOptions},
    heat::{HotKey, LoadReport, ZoneHeat},
    leaders,
    node::{Capacity, NodeState},
    observation::{Heartbeat, ReplicaPhase},
    order::{Order, OrderKind},
    plan::{self, PlanOptions},
    reconcile::{Reconciled, reconcile},
    takeover::{CallKind, GroupResult, TakeOverOutcome, TakeoverOptions, Takeovers},
    zone_clock::ZoneClock,
};
use uuid::Uuid;

use crate::group::ToyGroup;

pub const STEP: Duration = Duration::from_millis(100);

/// After so long a silence a node has lost its peer.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(1);

pub fn zone_id() -> Uuid {
    Uuid::from_u128(1)
}

pub fn identity(number: u64) -> Uuid {
    Uuid::from_u128(1_000 + u128::from(number))
}

/// A well-formed first registration of the node with this number.
pub fn registration(number: u64, fault_domain: &str) -> Registration {
    Registration {
        zone_id: None,
        identity: identity(number),
        node: None,
        incarnation: Incarnation(1),
        name: format!("node-{number}"),
        address: format!("127.0.0.1:{}", 7500 + number),
        fault_domain: fault_domain.to_owned(),
        capacity: Capacity { stored_bytes: 1 << 40, cores: 2 },
        software_version: "test".to_owned(),
    }
}

/// Cuts the key space into so many partitions.
pub fn split_keys(partitions: u8) -> Vec<Vec<u8>> {
    (1..partitions).map(|key| vec![key]).collect()
}

#[derive(Clone, Debug)]
pub struct ToyNode {
    pub alive: bool,
    /// Alive, but answers nobody; its session stays open.
    pub frozen: bool,
    pub frozen_at: Duration,
    pub connected: bool,
    pub incarnation: u64,
    pub fault_domain: String,
}

fn hot_key() -> HotKey {
    HotKey { key_prefix: b"hot".to_vec(), share: 1.0, share_error: 0.0 }
}

/// Load on a partition, in microseconds of processor time per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToyLoad {
    pub request_cpu_us: u64,
    /// On each of its replicas.
    pub apply_cpu_us: u64,
}

pub struct World {
    pub state: ZoneState,
    pub view: ZoneView,
    pub detector: Detector,
    pub takeovers: Takeovers,
    pub nodes: BTreeMap<NodeId, ToyNode>,
    pub groups: BTreeMap<PartitionId, ToyGroup>,
    pub now: Duration,
    pub revision: u64,
    clock: ZoneClock,
    /// Orders given and commands proposed in the last step, ticks aside.
    pub activity: Vec<String>,
    pub heat: ZoneHeat,
    pub balancer: Balancer,
    /// Processor time per second of those partitions that have load.
    pub loads: BTreeMap<PartitionId, ToyLoad>,
    /// Partitions can be split in the middle of their load, and say so.
    pub divisible: bool,
    /// All of this one's requests are for one key.
    pub hot_key: Option<PartitionId>,
    /// Reports of load are off by so much, up or down.
    pub noise_percent: u64,
    /// Of so many orders or commands one is lost; 0: none.
    pub loss: u64,
    drawn: u64,
}

impl World {
    pub fn new(partitions: u8, replication_factor: u32, domains: &[&str]) -> Self {
        let mut world = Self::empty();
        world
            .apply(Action::InitializeZone {
                zone_id: zone_id(),
                split_keys: split_keys(partitions),
                replication_factor,
                replace_after_ms: 20_000,
            })
            .expect("well-formed");
        for domain in domains {
            world.add_node(domain);
        }
        world
    }

    pub fn empty() -> Self {
        let now = Duration::from_secs(1);
        Self {
            state: ZoneState::default(),
            view: ZoneView::new(now),
            detector: Detector::new(DetectorOptions::default(), now),
            takeovers: Takeovers::new(TakeoverOptions::default()),
            heat: ZoneHeat::resume(None, now),
            balancer: Balancer::default(),
            loads: BTreeMap::new(),
            divisible: false,
            hot_key: None,
            noise_percent: 0,
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            now,
            revision: 0,
            clock: ZoneClock::new(model::ZoneTime(0), now),
            activity: Vec::new(),
            loss: 0,
            drawn: 1,
        }
    }

    pub fn apply(&mut self, action: Action) -> Outcome {
        self.revision += 1;
        let zone_time = self.clock.propose(self.state.zone_time(), self.now);
        let command = Command::new(zone_time, WallTime(0), action);
        let outcome = self.state.apply(Revision(self.revision), &command);
        self.state.take_changes();
        outcome
    }

    pub fn add_node(&mut self, fault_domain: &str) -> NodeId {
        let number = u64::try_from(self.nodes.len()).expect("few") + 1;
        let outcome = self.apply(Action::RegisterNode(registration(number, fault_domain)));
        let Ok(Applied::NodeRegistered { node, .. }) = outcome else {
            panic!("registered: {outcome:?}")
        };
        let toy = ToyNode {
            alive: true,
            frozen: false,
            frozen_at: Duration::ZERO,
            connected: false,
            incarnation: 1,
            fault_domain: fault_domain.to_owned(),
        };
        self.nodes.insert(node, toy);
        node
    }

    pub fn kill(&mut self, node: NodeId) {
        let toy = self.nodes.get_mut(&node).expect("there");
        toy.alive = false;
        toy.frozen = false;
        toy.connected = false;
        self.view.session_closed(node, self.now);
        self.heat.session_closed(node, self.now);
        self.view.dial_refused(node, self.now);
        for group in self.groups.values_mut() {
            group.lose_leader_on(node);
        }
    }

    pub fn freeze(&mut self, node: NodeId) {
        let toy = self.nodes.get_mut(&node).expect("there");
        toy.frozen = true;
        toy.frozen_at = self.now;
        for group in self.groups.values_mut() {
            group.lose_leader_on(node);
        }
    }

    /// Says of the node's present incarnation what it is.
    pub fn conclude(&mut self, node: NodeId, state: NodeState) {
        let incarnation = self.state.node(node).expect("it is registered").incarnation;
        let conclusion = Conclusion {
            node,
            incarnation,
            state,
            evidence: "the test says so".into(),
            by_own_account: false,
            forgets: false,
        };
        self.apply(Action::SetLiveness { conclusions: vec![conclusion], brake: None })
            .expect("a batch");
    }

    pub fn thaw(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).expect("there").frozen = false;
    }

    pub fn restart(&mut self, node: NodeId) {
        let toy = self.nodes.get_mut(&node).expect("there");
        if toy.alive {
            return;
        }
        toy.alive = true;
        toy.incarnation += 1;
        let registration = Registration {
            zone_id: Some(zone_id()),
            node: Some(node),
            incarnation: Incarnation(toy.incarnation),
            ..registration(node.get(), &toy.fault_domain.clone())
        };
        self.apply(Action::RegisterNode(registration)).expect("known");
    }

    /// A new leader of the control plane: it knows the state, and has seen nothing.
    pub fn change_control_plane_leader(&mut self) {
        self.view = ZoneView::new(self.now);
        self.detector = Detector::new(DetectorOptions::default(), self.now);
        self.takeovers = Takeovers::new(TakeoverOptions::default());
        self.clock = ZoneClock::new(self.state.zone_time(), self.now);
        self.heat = ZoneHeat::resume(self.state.heat_summary(), self.now);
        self.balancer = Balancer::default();
        for toy in self.nodes.values_mut() {
            toy.connected = false;
        }
    }

    pub fn is_responsive(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.alive && !node.frozen)
    }

    pub fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.step();
        }
    }

    /// Runs until nothing has happened for a while; the number of steps that it took.
    pub fn settle(&mut self, steps_max: u32) -> u32 {
        let mut quiet = 0;
        for step in 0..steps_max {
            self.step();
            // A transfer that has failed rests before it is proposed again: no sign of peace.
            let at_rest = self.activity.is_empty() && leaders::resting(&self.state).is_empty();
            quiet = if at_rest { quiet + 1 } else { 0 };
            if quiet == 80 {
                return step;
            }
        }
        panic!("still busy after {steps_max} steps: {:#?}", self.activity);
    }

    pub fn step(&mut self) {
        self.now += STEP;
        self.activity.clear();
        self.replicate();
        self.speak();
        self.tell_load();
        let round = self.detector.gather(self.now, &self.state, &self.view);
        let judgement = self.detector.judge(&round);
        for node in &judgement.probe {
            if self.nodes.get(node).is_some_and(|toy| toy.alive) {
                self.view.dial_answered(*node);
            } else {
                self.view.dial_refused(*node, self.now);
            }
        }
        self.propose(judgement.action());
        self.take_over();
        let mut reconciled = Reconciled::default();
        let known = self.state.partitions().iter().map(|(id, _)| *id);
        let all: BTreeSet<PartitionId> = known.chain(self.groups.keys().copied()).collect();
        for partition in all {
            reconciled.extend(reconcile(&self.state, &self.view, partition));
        }
        for order in &reconciled.orders {
            self.activity.push(format!("{order:?}"));
            if !self.is_lost() {
                self.obey(order);
            }
        }
        self.propose(reconciled.actions());
        let leads_by_heat = self.balancer.leads_by_heat(&self.state);
        let options = PlanOptions { leads_by_heat, ..PlanOptions::default() };
        self.propose(plan::plan(&self.state, &self.view, self.now, &options));
        self.balance();
        // Zone time stands still as long as nobody waits for it and nothing happens.
        if self.state.wants_ticks() {
            self.apply(Action::Tick).expect("initialised");
        }
        for group in self.groups.values() {
            group.check();
        }
    }

    fn balance(&mut self) {
        let sight = Sight { state: &self.state, view: &self.view, heat: &self.heat, now: self.now };
        let actions = self.balancer.round(&sight);
        self.propose(actions);
    }

    /// Leaders tell their partitions' load once a second.
    fn tell_load(&mut self) {
        if !self.now.as_millis().is_multiple_of(1_000) {
            return;
        }
        for (id, load) in self.loads.clone() {
            let noise = self.noise_percent;
            let percent = 100 - noise + self.draw(2 * noise + 1);
            let Some(group) = self.groups.get(&id) else { continue };
            let Some(leader) = group.leader else { continue };
            let node = group.replicas[&leader].node;
            let Some(toy) = self.nodes.get(&node).filter(|toy| toy.connected) else { continue };
            let report = LoadReport {
                term: Term(group.term),
                replica: leader,
                interval_ms: 1_000,
                reads: 100,
                request_cpu_us: load.request_cpu_us * percent / 100,
                apply_cpu_us: load.apply_cpu_us * percent / 100,
                split_left_permille: if self.divisible { 500 } else { 0 },
                hottest_keys: (self.hot_key == Some(id)).then(hot_key).into_iter().collect(),
                ..LoadReport::default()
            };
            self.heat.report(node, Incarnation(toy.incarnation), id, report, self.now);
        }
    }

    /// Each node's processor time per second, as it really is.
    pub fn spent(&self) -> BTreeMap<NodeId, u64> {
        let mut spent: BTreeMap<NodeId, u64> = self.nodes.keys().map(|id| (*id, 0)).collect();
        for (id, load) in &self.loads {
            let group = &self.groups[id];
            for (replica, toy) in &group.replicas {
                if toy.phase == ReplicaPhase::Live {
                    let leads = group.leader == Some(*replica);
                    let request = if leads { load.request_cpu_us } else { 0 };
                    *spent.entry(toy.node).or_default() += request + load.apply_cpu_us;
                }
            }
        }
        spent
    }

    /// A number below a bound.
    pub fn draw(&mut self, below: u64) -> u64 {
        self.is_lost();
        (self.drawn >> 33) % below
    }

    fn is_lost(&mut self) -> bool {
        // A linear congruential generator: any will do.
        self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.loss > 0 && (self.drawn >> 33).is_multiple_of(self.loss)
    }

    fn propose(&mut self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            self.activity.push(format!("{action:?}"));
            if !self.is_lost() {
                self.apply(action).expect("batches are always applied");
            }
        }
    }

    /// Leaders bring everybody up to date.
    fn replicate(&mut self) {
        let alive: BTreeSet<NodeId> =
            self.nodes.keys().copied().filter(|node| self.is_responsive(*node)).collect();
        for group in self.groups.values_mut() {
            if group.leader.is_some() && group.has_majority(&alive) {
                group.catch_up(&alive);
            }
        }
        self.bear();
    }

    /// Nodes open sessions, send heartbeats, and report everything, every time.
    fn speak(&mut self) {
        let lost: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(_, toy)| {
                !toy.alive || toy.frozen && self.now - toy.frozen_at >= PEER_SILENCE_MAX
            })
            .map(|(id, _)| *id)
            .collect();
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        for node in ids {
            let toy = self.nodes.get_mut(&node).expect("listed");
            if !toy.alive || toy.frozen || self.state.node(node).is_none() {
                continue;
            }
            if !toy.connected {
                toy.connected = true;
                self.view.session_opened(node, Incarnation(toy.incarnation), self.now);
                self.heat.session_opened(node, Incarnation(toy.incarnation), self.now);
            }
            let heartbeat = Heartbeat { unreachable: lost.clone(), ..Heartbeat::default() };
            self.view.heartbeat(node, heartbeat, self.now);
            for (id, group) in &self.groups {
                for (replica, toy) in group.replicas.iter().filter(|(_, toy)| toy.node == node) {
                    self.view.report(node, group.report(*id, *replica, toy), self.now);
                }
            }
            self.view.full_report_end(node);
        }
    }

    fn obey(&mut self, order: &Order) {
        if !self.is_responsive(order.node) {
            return;
        }
        let alive: BTreeSet<NodeId> =
            self.nodes.keys().copied().filter(|node| self.is_responsive(*node)).collect();
        if let OrderKind::Split { child, replicas, .. } = &order.kind {
            let whole = self.state.partition(order.partition).expect("known").range.clone();
            let parent = self.groups.get_mut(&order.partition).expect("it has a leader");
            if let Some(index) = parent.split(order, &whole, &alive) {
                let born = parent.born(index, replicas);
                assert!(self.groups.insert(*child, born).is_none(), "an id is given out twice");
                self.bear();
            }
            return;
        }
        let group = self.groups.entry(order.partition).or_default();
        group.obey(order, &alive);
    }

    /// Children appear where their parents have come to the entry.
    fn bear(&mut self) {
        let births: Vec<(PartitionId, PartitionId)> = self
            .groups
            .iter()
            .flat_map(|(parent, group)| {
                group.children.iter().map(|(_, child, _)| (*parent, *child))
            })
            .collect();
        for (parent, child) in births {
            let mut group = self.groups.remove(&child).expect("born");
            self.groups[&parent].bear(child, &mut group);
            self.groups.insert(child, group);
        }
    }

    fn take_over(&mut self) {
        self.takeovers.begin(&self.state, &self.view, self.now);
        for _ in 0..50 {
            let calls = self.takeovers.calls(&self.state, self.now);
            if calls.is_empty() {
                break;
            }
            for call in calls {
                self.activity.push(format!("{call:?}"));
                let is_there = self.is_responsive(call.node);
                if !is_there || self.is_lost() {
                    self.takeovers.call_failed(call.id, "no answer");
                    continue;
                }
                let alive: BTreeSet<NodeId> =
                    self.nodes.keys().copied().filter(|node| self.is_responsive(*node)).collect();
                match call.kind {
                    CallKind::Collect { groups } => {
                        let positions = groups.iter().map(|asked| {
                            let group = &self.groups[&asked.partition];
                            group.position(asked.partition, asked.replica, &alive)
                        });
                        let positions = positions.collect();
                        self.takeovers.collected(call.id, positions);
                    }
                    CallKind::TakeOver { groups, .. } => {
                        let mut results = Vec::new();
                        for asked in &groups {
                            let group = self.groups.get_mut(&asked.partition).expect("collected");
                            let outcome = if asked.replica == asked.candidate {
                                group.elect(asked.replica, asked.elect, &alive)
                            } else {
                                TakeOverOutcome::Disarmed
                            };
                            results.push(GroupResult {
                                partition: asked.partition,
                                replica: asked.replica,
                                outcome,
                                term: Term(group.term),
                                leader: None,
                                message: String::new(),
                            });
                        }
                        self.takeovers.taken_over(call.id, results);
                    }
                }
            }
        }
        while let Some(action) = self.takeovers.finished(self.now) {
            self.propose([action]);
        }
    }

    /// Leaders by node, as the groups have them.
    pub fn leaders(&self) -> BTreeMap<NodeId, u32> {
        let mut counts = BTreeMap::new();
        for group in self.groups.values() {
            if let Some(leader) = group.leader {
                *counts.entry(group.replicas[&leader].node).or_default() += 1;
            }
        }
        counts
    }

    /// What must hold in a zone at rest with so many nodes alive.
    pub fn check_healthy(&self) {
        for (id, partition) in self.state.partitions().iter() {
            assert!(partition.is_settled(), "{id} {partition:?} {:?}", self.groups.get(id));
            assert_eq!(partition.change, None, "{id}");
            let group = &self.groups[id];
            assert!(group.leader.is_some(), "{id} has no leader");
            for target in &partition.targets {
                assert!(self.is_responsive(target.node), "{id}: {target:?} is lost");
                assert_eq!(group.replicas[&target.id].phase, ReplicaPhase::Live);
            }
            for retiring in &partition.retiring {
                assert!(!self.is_responsive(retiring.replica.node), "{id}: {retiring:?} is left");
            }
            let live = group
                .replicas
                .iter()
                .filter(|(_, toy)| toy.phase == ReplicaPhase::Live && self.is_responsive(toy.node));
            assert_eq!(live.count(), partition.targets.len(), "{id}: nothing is left over");
        }
        self.state.check().expect("G4");
    }
}
