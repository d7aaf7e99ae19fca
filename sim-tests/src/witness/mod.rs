//! Watches every disk of a zone, and checks after each batch what must hold then.
//!
//! The stores that processes get are wrapped ([`Witness::watch_index_node`], [`Witness::watch_member`]).
//! What is written passes through here, is decoded by the views that production code offers of its
//! records, and is compared with what all other disks hold: [`group`] has Raft's invariants, for each
//! partition's group and for the members'; [`index_node`] what an index node's records must say;
//! [`zone_state`] each state of the zone that was committed. Nothing is changed on the way, and no process
//! knows.
//!
//! What is found first stays; the run asks for it after each step.

pub mod group;
mod index_node;
mod log;
mod member;
mod store;
#[cfg(test)]
mod tests;
mod zone_state;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runtime::store::{Change, Family, Reader, Scan, Store, StoreError};

use self::{index_node::IndexNodes, member::Members, store::WitnessedStore};
use crate::{ambush::OperationKind, checks::Problem, report::HARNESS};

/// Sees all stores of one run. Clones are the same witness.
#[derive(Clone, Default)]
pub struct Witness {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    hosts: BTreeMap<String, Host>,
    members: Members,
    index_nodes: IndexNodes,
    problem: Option<Problem>,
    batches: u64,
}

struct Host {
    kind: Kind,
    /// Which start of the process; what stores of earlier starts still say is of no interest.
    boot: u64,
    /// What was on the disk when the process started could not be understood.
    blind: bool,
    /// A vote or an entry was written, and no sync was asked for since.
    owes_sync: bool,
    /// By batch: how far a group's log was when it was written.
    unsynced: Vec<(u64, group::Reached)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Member,
    IndexNode,
}

/// What a batch did to logs: the replicas that it touched, and whether it wrote votes or entries.
#[derive(Default)]
struct Effect {
    reached: Vec<group::Reached>,
    must_be_synced: bool,
}

impl Witness {
    /// The store of an index node, watched. To be called when the process starts.
    pub fn watch_index_node(&self, host: &str, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.watch(Kind::IndexNode, host, store, &::index_node::families())
    }

    /// The store of a member, watched. To be called when the process starts.
    pub fn watch_member(&self, host: &str, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.watch(Kind::Member, host, store, &control_plane::families())
    }

    /// What was found first, if anything was.
    pub fn problem(&self) -> Option<Problem> {
        self.lock().problem.clone()
    }

    /// To be called when time has passed: whoever wrote a vote or an entry must have asked for a sync by
    /// now.
    pub fn step_ended(&self) {
        let mut state = self.lock();
        let owing = state.hosts.iter().find(|(_, host)| host.owes_sync);
        if let Some((name, _)) = owing {
            let sentence = format!("{name} wrote a vote or an entry, and asked for no sync");
            state.found(Problem::new("G2", sentence));
        }
    }

    /// The member that was the first to apply the newest state of the zone: the one that leads, unless
    /// that has just changed.
    pub fn leading_member(&self) -> Option<String> {
        self.lock().members.leading().map(str::to_owned)
    }

    /// Whether the newest state of the zone has an operation of this kind that has not ended.
    pub fn is_under_way(&self, kind: OperationKind) -> bool {
        self.lock().members.is_under_way(kind)
    }

    /// How many batches were looked at.
    pub fn batches(&self) -> u64 {
        self.lock().batches
    }

    fn watch(
        &self,
        kind: Kind,
        name: &str,
        store: Arc<dyn Store>,
        families: &[Family],
    ) -> Arc<dyn Store> {
        let boot = {
            let mut state = self.lock();
            let boot = state.hosts.get(name).map_or(0, |host| host.boot + 1);
            let booted =
                content(store.as_ref(), families).map_err(damaged).and_then(|content| match kind {
                    Kind::Member => state.members.boots(name, &content),
                    Kind::IndexNode => state.index_nodes.boots(name, &content),
                });
            // A disk may have been damaged on purpose: then the process has to notice, and not this one.
            let blind = matches!(&booted, Err(problem) if problem.guarantee == HARNESS);
            let host = Host { kind, boot, blind, owes_sync: false, unsynced: Vec::new() };
            state.hosts.insert(name.to_owned(), host);
            if !blind {
                state.note(booted);
            }
            boot
        };
        Arc::new(WitnessedStore::new(store, name.to_owned(), self.clone(), boot))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self, name: &str, boot: u64, batch: u64, changes: &[Change], store: &dyn Reader) {
        let mut state = self.lock();
        let State { hosts, members, index_nodes, .. } = &mut *state;
        let Some(host) = hosts.get_mut(name).filter(|host| host.boot == boot && !host.blind) else {
            return;
        };
        let written = match host.kind {
            Kind::Member => members.written(name, changes, store),
            Kind::IndexNode => index_nodes.written(name, changes),
        };
        let noted = written.map(|effect| {
            host.owes_sync |= effect.must_be_synced;
            host.unsynced.extend(effect.reached.into_iter().map(|reached| (batch, reached)));
        });
        state.batches += 1;
        state.note(noted);
    }

    fn sync_requested(&self, name: &str, boot: u64) {
        if let Some(host) = self.lock().hosts.get_mut(name)
            && host.boot == boot
        {
            host.owes_sync = false;
        }
    }

    fn synced(&self, name: &str, boot: u64, through: u64) {
        let mut state = self.lock();
        let State { hosts, members, index_nodes, .. } = &mut *state;
        let Some(host) = hosts.get_mut(name).filter(|host| host.boot == boot) else { return };
        let count = host.unsynced.partition_point(|(batch, _)| *batch <= through);
        for (_, reached) in host.unsynced.drain(..count) {
            match host.kind {
                Kind::Member => members.synced(reached),
                Kind::IndexNode => index_nodes.synced(reached),
            }
        }
    }
}

impl State {
    fn note(&mut self, result: Result<(), Problem>) {
        if let Err(problem) = result {
            self.found(problem);
        }
    }

    fn found(&mut self, problem: Problem) {
        if self.problem.is_none() {
            tracing::error!(%problem, "violation");
            self.problem = Some(problem);
        }
    }
}

/// Everything in a store, as the changes that would write it.
fn content(store: &dyn Reader, families: &[Family]) -> Result<Vec<Change>, StoreError> {
    let mut content = Vec::new();
    for family in families {
        for entry in store.scan(*family, Scan::prefix("")) {
            let (key, value) = entry?;
            content.push(Change::Put { family: *family, key, value });
        }
    }
    Ok(content)
}

/// A record that cannot be read. Production code finds out by itself; a record that is damaged when it is
/// written is a mistake.
fn damaged(error: StoreError) -> Problem {
    Problem::new(HARNESS, format!("a record on a disk cannot be understood: {error}"))
}
