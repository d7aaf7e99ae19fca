//! A zone of members and played nodes.

use control_plane::configuration::Configuration;
use proto::v1::{self, admin_service_client::AdminServiceClient};
use tonic::{Status, transport::Channel};

use super::{
    eventually,
    groups::Groups,
    member::{TestMember, channel},
    node::TestNode,
};

/// Members, and the nodes that are played for them.
pub struct TestZone {
    pub members: Vec<TestMember>,
    pub nodes: Vec<TestNode>,
    pub groups: Groups,
}

impl TestZone {
    /// Members that are not initialised yet.
    pub fn members(count: usize) -> Self {
        Self::members_with(count, &|_| {})
    }

    pub fn members_with(count: usize, change: &dyn Fn(&mut Configuration)) -> Self {
        let members = (0..count).map(|_| TestMember::new(change)).collect();
        Self { members, nodes: Vec::new(), groups: Groups::default() }
    }

    /// An initialised zone.
    pub async fn start(
        members: usize,
        nodes: usize,
        partitions: usize,
        replication_factor: u32,
    ) -> Self {
        let zone = Self::members(members);
        zone.init(partitions, replication_factor, 0).await.expect("it initialises");
        zone.with_nodes(nodes).await
    }

    pub async fn with_nodes(mut self, count: usize) -> Self {
        for number in 1..=count {
            let node = self.node(&format!("node-{number}"), &format!("rack-{number}")).await;
            self.nodes.push(node);
        }
        self
    }

    pub async fn node(&self, name: &str, fault_domain: &str) -> TestNode {
        TestNode::start(name, fault_domain, &self.addresses(), &self.groups).await
    }

    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    pub fn init_request(
        &self,
        partitions: usize,
        replication_factor: u32,
        replace_after_ms: u64,
    ) -> v1::InitRequest {
        v1::InitRequest {
            member_addresses: self.addresses(),
            split_keys: (1..partitions).map(|key| format!("key-{key:04}").into()).collect(),
            replication_factor,
            replace_after_ms,
        }
    }

    pub async fn init(
        &self,
        partitions: usize,
        replication_factor: u32,
        replace_after_ms: u64,
    ) -> Result<v1::InitResponse, Status> {
        let request = self.init_request(partitions, replication_factor, replace_after_ms);
        let admin = self.members[0].admin();
        // A member that has just been started may not listen yet.
        eventually("an answer to init", || {
            let (mut admin, request) = (admin.clone(), request.clone());
            async move {
                match admin.init(request).await {
                    Err(status) if status.code() == tonic::Code::Unavailable => None,
                    answer => Some(answer.map(tonic::Response::into_inner)),
                }
            }
        })
        .await
    }

    /// The index of the member that leads and gives orders.
    pub async fn leader(&self) -> usize {
        eventually("a leader", || async {
            for (index, member) in self.members.iter().enumerate() {
                if member.is_running()
                    && let Some(status) = status(&member.address).await
                    && status.from_leader
                {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        self.members[self.leader().await].admin()
    }

    /// The leader's view of the zone, once `wanted` holds in it.
    pub async fn status_when(
        &self,
        what: &str,
        wanted: impl Fn(&v1::ZoneStatus) -> bool,
    ) -> v1::ZoneStatus {
        let last = std::sync::Mutex::new(None);
        let found = tokio::time::timeout(super::PATIENCE, async {
            loop {
                let leader = self.leader().await;
                if let Some(status) = status(&self.members[leader].address).await {
                    if status.from_leader && wanted(&status) {
                        return status;
                    }
                    *last.lock().expect("not poisoned") = Some(status);
                }
                tokio::time::sleep(super::POLL).await;
            }
        });
        match found.await {
            Ok(status) => status,
            Err(_) => {
                panic!("not in time: {what}; last: {:#?}", last.lock().expect("not poisoned"))
            }
        }
    }

    /// Waits until every partition is placed, led and fully replicated.
    pub async fn healthy(&self) -> v1::ZoneStatus {
        self.status_when("a healthy zone", |status| status.healthy).await
    }

    /// Waits until an operation has ended.
    pub async fn ended(&self, id: u64) -> v1::Operation {
        eventually("the end of an operation", || async {
            let mut admin = self.admin().await;
            let request = v1::ListOperationsRequest { include_ended: true, limit: 1_000 };
            let operations = admin.list_operations(request).await.ok()?.into_inner().operations;
            let operation = operations.into_iter().find(|operation| operation.id == id)?;
            (operation.state() != v1::OperationState::Running).then_some(operation)
        })
        .await
    }

    pub async fn partitions(&self) -> Vec<v1::PartitionSummary> {
        let mut admin = self.admin().await;
        let listed = admin.list_partitions(v1::ListPartitionsRequest::default()).await;
        listed.expect("it lists").into_inner().partitions
    }

    pub async fn events(&self) -> Vec<v1::Event> {
        let mut admin = self.admin().await;
        let events = admin.watch_events(v1::WatchEventsRequest::default()).await;
        let mut events = events.expect("it streams").into_inner();
        let mut all = Vec::new();
        while let Some(event) = events.message().await.expect("no error") {
            all.push(event);
        }
        all
    }
}

pub async fn status(address: &str) -> Option<v1::ZoneStatus> {
    let mut admin = AdminServiceClient::new(channel(address));
    let asked = admin.get_zone_status(v1::GetZoneStatusRequest {});
    let answer = tokio::time::timeout(std::time::Duration::from_secs(1), asked).await.ok()?;
    answer.ok().map(tonic::Response::into_inner)
}
