//! A real group of three on this log: founded, written to, killed all at once and started again.

mod raft_support;
mod store_support;

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use openraft::{
    Config, EmptyNode, Membership, OptionalSend, Raft,
    alias::{SnapshotOf, VoteOf},
    entry::RaftEntry,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkFactory, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
    },
};
use raft_support::{Command, Entry, Log, LogId, State, StateMachine, Types};
use runtime::{
    raft::{self, RaftRuntime},
    store::{Batch, contract::Machine, synced},
};
use store_support::{RocksMachine, SimulatedMachine};

type Member = Raft<Types, StateMachine>;

/// Calls the other members directly.
#[derive(Clone, Default)]
struct Network {
    members: Arc<Mutex<BTreeMap<u64, Member>>>,
}

struct Link {
    network: Network,
    target: u64,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Link {
        Link { network: self.clone(), target }
    }
}

fn unreachable(reason: &str) -> Unreachable<Types> {
    Unreachable::new(&io::Error::other(reason.to_owned()))
}

impl Link {
    fn member(&self) -> Result<Member, Unreachable<Types>> {
        let members = self.network.members.lock().expect("not poisoned");
        members.get(&self.target).cloned().ok_or_else(|| unreachable("not started"))
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = State;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let response = self.member()?.append_entries(request).await;
        response.map_err(|error| unreachable(&error.to_string()).into())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let response = self.member()?.vote(request).await;
        response.map_err(|error| unreachable(&error.to_string()).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, State>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let response = self.member()?.install_full_snapshot(vote, snapshot).await;
        response.map_err(|error| unreachable(&error.to_string()).into())
    }
}

const MEMBERS: [u64; 3] = [1, 2, 3];

struct Group {
    machines: BTreeMap<u64, Box<dyn Machine>>,
    network: Network,
    state_machines: BTreeMap<u64, StateMachine>,
}

impl Group {
    async fn start(machines: BTreeMap<u64, Box<dyn Machine>>) -> Self {
        let config = Config {
            heartbeat_interval: 50,
            election_timeout_min: 200,
            election_timeout_max: 400,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("valid"));
        let network = Network::default();
        let mut state_machines = BTreeMap::new();
        for (id, machine) in &machines {
            let log = Log::new(machine.store(), *id);
            let state_machine = StateMachine::default();
            state_machines.insert(*id, state_machine.clone());
            let member = Raft::new(*id, Arc::clone(&config), network.clone(), log, state_machine);
            let member = RaftRuntime::scope(*id, member).await.expect("started");
            network.members.lock().expect("not poisoned").insert(*id, member);
        }
        Self { machines, network, state_machines }
    }

    fn member(&self, id: u64) -> Member {
        self.network.members.lock().expect("not poisoned")[&id].clone()
    }

    /// The member that commits a command. Who was the leader before a restart may not be it yet.
    async fn leader(&self) -> Member {
        loop {
            for id in MEMBERS {
                let member = self.member(id);
                if member.client_write(Command(Vec::new())).await.is_ok() {
                    return member;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// What a crash of all members leaves.
    async fn crash(self) -> BTreeMap<u64, Box<dyn Machine>> {
        let left = self.machines.iter().map(|(id, machine)| (*id, machine.crashed(*id))).collect();
        for id in MEMBERS {
            self.member(id).shutdown().await.expect("stopped");
        }
        left
    }
}

/// The log id that the founders agree on without having talked.
fn founding() -> LogId {
    LogId::new(openraft::impls::leader_id_adv::LeaderId { term: 0, node_id: 0 }, 0)
}

async fn write(leader: &Member, count: usize) -> Option<LogId> {
    let writes = (0..count).map(|number| leader.client_write(Command(vec![7; number])));
    let written = join_all(writes).await.into_iter();
    written.map(|outcome| outcome.expect("committed").log_id).max()
}

async fn survives(make: impl Fn() -> Box<dyn Machine>) {
    let mut machines = BTreeMap::new();
    for id in MEMBERS {
        let machine = make();
        let founders: Membership<u64, EmptyNode> =
            Membership::new_with_defaults(vec![MEMBERS.into()], []);
        let first = Entry::new_membership(founding(), founders);
        let mut batch = Batch::new();
        raft::bootstrap::<Types>(&mut batch, id, &first);
        machine.store().write(batch).expect("written");
        synced(&*machine.store()).await.expect("synced");
        machines.insert(id, machine);
    }
    let group = Group::start(machines).await;
    group.member(2).trigger().elect(false).await.expect("triggered");
    let mut acknowledged = None;
    let mut group = group;
    for _ in 0..3 {
        acknowledged = acknowledged.max(write(&group.leader().await, 100).await);
        group = Group::start(group.crash().await).await;
        // The commit position was saved; a leader commits the rest.
        group.leader().await;
        for (id, state_machine) in &group.state_machines {
            group
                .member(*id)
                .wait(Some(Duration::from_secs(10)))
                .applied_index_at_least(acknowledged.map(|id| id.index), "acknowledged writes")
                .await
                .expect("applied");
            assert!(state_machine.applied() >= acknowledged);
        }
    }
    assert!(acknowledged.is_some_and(|id| id.index >= 300));
}

#[tokio::test]
async fn a_group_on_rocksdb_survives_a_crash_of_all() {
    survives(|| Box::new(RocksMachine::new(&[raft::FAMILY]))).await;
}

#[tokio::test]
async fn a_group_on_simulated_disks_survives_a_crash_of_all() {
    survives(|| Box::new(SimulatedMachine::new(&[raft::FAMILY]))).await;
}
