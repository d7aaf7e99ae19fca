//! A small group: its types, its state machine, and its log.

// Each test binary uses its part of this module.
#![allow(dead_code)]

use std::{
    fmt, io,
    sync::{Arc, Mutex},
};

use futures_util::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf},
    entry::RaftEntry,
    storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine},
};
use openraft_rt::{AsyncRuntime, Oneshot};
use runtime::raft::{LogStore, RaftRuntime};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// A command: bytes without a meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command(pub Vec<u8>);

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

openraft::declare_raft_types!(
    pub Types:
        D = Command,
        R = (),
        Node = openraft::EmptyNode,
        AsyncRuntime = RaftRuntime,
);

pub type Log = LogStore<Types>;
pub type Entry = EntryOf<Types>;
pub type LogId = LogIdOf<Types>;
pub type Vote = VoteOf<Types>;

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::impls::leader_id_adv::LeaderId { term, node_id: 1 }, index)
}

pub fn entry(term: u64, index: u64) -> Entry {
    sized_entry(term, index, 8)
}

pub fn sized_entry(term: u64, index: u64, bytes: usize) -> Entry {
    Entry::new_normal(
        log_id(term, index),
        Command(vec![u8::try_from(index % 251).expect("small"); bytes]),
    )
}

/// Appends without waiting for durability.
pub async fn append(
    log: &mut Log,
    entries: Vec<Entry>,
) -> Result<oneshot::Receiver<Result<(), io::Error>>, io::Error> {
    let (sender, receiver) = <<RaftRuntime as AsyncRuntime>::Oneshot as Oneshot>::channel();
    log.append(entries, IOFlushed::signal(sender)).await?;
    Ok(receiver)
}

/// Appends and waits until the entries are durable.
pub async fn append_durably(log: &mut Log, entries: Vec<Entry>) {
    let durable = append(log, entries).await.expect("appended");
    durable.await.expect("answered").expect("durable");
}

#[derive(Clone, Debug, Default)]
pub struct State {
    pub applied: Option<LogId>,
    pub membership: StoredMembershipOf<Types>,
}

/// Remembers what was applied last, and nothing else.
#[derive(Clone, Default)]
pub struct StateMachine {
    state: Arc<Mutex<State>>,
    snapshot: Arc<Mutex<Option<SnapshotOf<Types, State>>>>,
}

impl StateMachine {
    pub fn applied(&self) -> Option<LogId> {
        self.state.lock().expect("not poisoned").applied
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = State;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, State>, io::Error> {
        let state = self.state.lock().expect("not poisoned").clone();
        let meta = SnapshotMetaOf::<Types> {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
        };
        let snapshot = SnapshotOf::<Types, State> { meta, snapshot: state };
        *self.snapshot.lock().expect("not poisoned") = Some(snapshot.clone());
        Ok(snapshot)
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = State;
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembershipOf<Types>), io::Error> {
        let state = self.state.lock().expect("not poisoned");
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            {
                let mut state = self.state.lock().expect("not poisoned");
                state.applied = Some(entry.log_id());
                if let EntryPayload::Membership(membership) = entry.payload {
                    state.membership =
                        StoredMembershipOf::<Types>::new(Some(entry.log_id), membership);
                }
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        snapshot: State,
    ) -> Result<(), io::Error> {
        *self.state.lock().expect("not poisoned") =
            State { applied: meta.last_log_id, membership: meta.last_membership.clone() };
        *self.snapshot.lock().expect("not poisoned") =
            Some(SnapshotOf::<Types, State> { meta: meta.clone(), snapshot });
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Types, State>>, io::Error> {
        Ok(self.snapshot.lock().expect("not poisoned").clone())
    }
}
