//! A detector at work on a zone that the test's hand moves: who is heard, and who says what.

use std::time::Duration;

use model::{
    Incarnation, NodeId, ZoneView,
    detector::{Detector, DetectorOptions, Judgement},
    node::{Liveness, NodeState},
    observation::Heartbeat,
    signal_log::{SignalLog, SignalLogOptions},
};

use crate::world::World;

pub fn at(ms: u64) -> Duration {
    Duration::from_secs(1) + Duration::from_millis(ms)
}

/// A zone whose nodes are all connected and heard at moment 0.
pub struct Bench {
    pub world: World,
    pub view: ZoneView,
    pub detector: Detector,
    /// What was judged.
    pub log: SignalLog,
}

impl Bench {
    pub fn new(domains: &[&str]) -> Self {
        let world = World::new(1, 1, domains);
        let mut view = ZoneView::new(at(0));
        for id in world.nodes.keys() {
            view.session_opened(*id, Incarnation(1), at(0));
            view.heartbeat(*id, Heartbeat::default(), at(0));
        }
        let detector = Detector::new(DetectorOptions::default(), at(0));
        let log = SignalLog::new(SignalLogOptions::default(), &detector);
        Self { world, view, detector, log }
    }

    /// Judges every 100 ms up to the given moment, with heartbeats of those that are named; the last
    /// judgement.
    pub fn run(&mut self, from_ms: u64, to_ms: u64, beating: &[u64]) -> Vec<Judgement> {
        (from_ms..=to_ms)
            .step_by(100)
            .map(|ms| {
                for id in beating {
                    self.view.heartbeat(NodeId(*id), Heartbeat::default(), at(ms));
                }
                self.judge(ms)
            })
            .collect()
    }

    pub fn judge(&mut self, ms: u64) -> Judgement {
        let round = self.detector.gather(at(ms), &self.world.state, &self.view);
        let judgement = self.detector.judge(&round);
        self.log.record(round, &judgement, self.detector.memory());
        if let Some(action) = judgement.action() {
            self.world.apply(action).expect("a batch");
        }
        judgement
    }

    /// Nodes that share partitions.
    pub fn sharing(partitions: u8, domains: &[&str]) -> Self {
        let mut bench = Self::new(domains);
        bench.world = World::new(partitions, 3, domains);
        bench.world.settle(400);
        bench
    }

    /// Heartbeats every 100 ms of those that are named, in which these call those unreachable.
    pub fn complain(&mut self, from_ms: u64, to_ms: u64, beating: &[u64], by: &[u64], of: &[u64]) {
        for ms in (from_ms..=to_ms).step_by(100) {
            for id in beating {
                let lost = if by.contains(id) { of } else { &[] };
                let unreachable = lost.iter().copied().map(NodeId).collect();
                let heartbeat = Heartbeat { unreachable, ..Heartbeat::default() };
                self.view.heartbeat(NodeId(*id), heartbeat, at(ms));
            }
            self.judge(ms);
        }
    }

    /// Heartbeats of all nodes every 100 ms; those of one node say that a sync takes so long.
    pub fn beat(&mut self, from_ms: u64, to_ms: u64, sick: u64, disk_sync_ms: u64) {
        for ms in (from_ms..=to_ms).step_by(100) {
            for id in self.world.nodes.keys().copied() {
                let disk_sync_ms = if id.get() == sick { disk_sync_ms } else { 2 };
                let heartbeat = Heartbeat { disk_sync_ms, ..Heartbeat::default() };
                self.view.heartbeat(id, heartbeat, at(ms));
            }
            self.judge(ms);
        }
    }

    /// What is committed about the node.
    pub fn liveness(&self, node: u64) -> &Liveness {
        &self.world.state.node(NodeId(node)).expect("there").liveness
    }

    pub fn state(&self, node: u64) -> NodeState {
        self.liveness(node).state
    }
}
