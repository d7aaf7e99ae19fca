//! A played index node: an honest client of `NodeService` and a server of what the control plane asks
//! of nodes, over the shared world of [`super::groups`].

use std::time::Duration;

use proto::v1::{
    self,
    error_detail::Kind,
    node_service_client::NodeServiceClient,
    peer_service_server::{PeerService, PeerServiceServer},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{free_address, groups::Groups, member::channel};

const HEARTBEAT: Duration = Duration::from_millis(100);
const HEAT: Duration = Duration::from_millis(200);

/// What a node says of itself.
#[derive(Clone)]
pub struct Identity {
    pub identity: String,
    pub name: String,
    pub fault_domain: String,
    pub address: String,
    pub zone_id: String,
    pub node_id: u64,
    pub incarnation: u64,
}

impl Identity {
    pub fn new(name: &str, fault_domain: &str) -> Self {
        // Any bytes will do for a UUID, as long as names differ.
        let mut bytes = [0x40_u8; 16];
        for (byte, from) in bytes.iter_mut().zip(name.bytes()) {
            *byte = from;
        }
        Self {
            identity: uuid::Builder::from_random_bytes(bytes).into_uuid().to_string(),
            name: name.to_owned(),
            fault_domain: fault_domain.to_owned(),
            address: free_address(),
            zone_id: String::new(),
            node_id: 0,
            incarnation: 1,
        }
    }

    pub fn registration(&self) -> v1::RegisterRequest {
        v1::RegisterRequest {
            protocol_version: v1::ProtocolVersion::ProtocolVersion1.into(),
            zone_id: self.zone_id.clone(),
            identity: self.identity.clone(),
            node_id: self.node_id,
            incarnation: self.incarnation,
            name: self.name.clone(),
            address: self.address.clone(),
            fault_domain: self.fault_domain.clone(),
            capacity: Some(v1::NodeCapacity { stored_bytes: 1 << 40, cores: 2 }),
            software_version: "played".into(),
        }
    }
}

/// A node that can be killed and started again.
pub struct TestNode {
    pub identity: Identity,
    members: Vec<String>,
    groups: Groups,
    running: Option<Runtime>,
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}

impl TestNode {
    /// Registers with whichever member leads, and starts.
    pub async fn start(
        name: &str,
        fault_domain: &str,
        members: &[String],
        groups: &Groups,
    ) -> Self {
        let mut node = Self {
            identity: Identity::new(name, fault_domain),
            members: members.to_vec(),
            groups: groups.clone(),
            running: None,
        };
        let (registered, _) = register(&node.members, &node.identity).await;
        node.identity.zone_id = registered.zone_id;
        node.identity.node_id = registered.node_id;
        node.run();
        node
    }

    pub fn id(&self) -> u64 {
        self.identity.node_id
    }

    fn run(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        self.groups.lock().alive.insert(self.id());
        let (identity, members, groups) =
            (self.identity.clone(), self.members.clone(), self.groups.clone());
        runtime.spawn(serve(identity.clone(), groups.clone()));
        runtime.spawn(agent(identity, members, groups));
        self.running = Some(runtime);
    }

    /// Its process is gone, and with it its leaderships.
    pub fn kill(&mut self) {
        self.groups.lock().alive.remove(&self.id());
        self.running.take().expect("it runs").shutdown_background();
    }

    /// Its process comes back with the same disk.
    pub fn restart(&mut self) {
        self.identity.incarnation += 1;
        self.run();
    }
}

/// Registers with whichever member leads; tells with which.
pub async fn register(members: &[String], identity: &Identity) -> (v1::RegisterResponse, String) {
    let mut next = 0;
    super::eventually("a registration", || {
        let address = members[next % members.len()].clone();
        next += 1;
        async move {
            let mut client = NodeServiceClient::new(channel(&address));
            let answer = client.register(identity.registration()).await;
            answer.ok().map(|answer| (answer.into_inner(), address))
        }
    })
    .await
}

async fn serve(identity: Identity, groups: Groups) {
    // The socket of a killed predecessor may linger for a moment.
    let listener = super::eventually("its address", || async {
        TcpListener::bind(&identity.address).await.ok()
    })
    .await;
    let peer = Peer { node: identity.node_id, groups };
    Server::builder()
        .add_service(PeerServiceServer::new(peer))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .expect("it serves");
}

/// Holds a session with whoever leads, for ever.
async fn agent(identity: Identity, members: Vec<String>, groups: Groups) {
    loop {
        let (_, leader) = register(&members, &identity).await;
        let _ = session(&identity, &leader, &groups).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn session(identity: &Identity, leader: &str, groups: &Groups) -> Result<(), Status> {
    let (sender, receiver) = mpsc::channel(64);
    let mut reported = groups.lock().reports(identity.node_id);
    let hello = v1::SessionHello {
        node_id: identity.node_id,
        incarnation: identity.incarnation,
        highest_fence: None,
    };
    let first = v1::SessionReport {
        hello: Some(hello),
        replicas: reported.clone(),
        full_report_end: true,
        ..Default::default()
    };
    sender.try_send(first).expect("room");
    let mut client = NodeServiceClient::new(channel(leader));
    let mut orders = client.session(ReceiverStream::new(receiver)).await?.into_inner();
    let mut sequence = 0;
    let mut beat = tokio::time::interval(HEARTBEAT);
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let mut tell = tokio::time::interval(HEAT);
    loop {
        tokio::select! {
            biased;
            order = orders.message() => {
                let Some(message) = order? else { return Ok(()) };
                let mut world = groups.lock();
                for order in &message.orders {
                    world.obey(identity.node_id, order);
                }
            }
            _ = beat.tick() => {
                sequence += 1;
                let heartbeat = v1::Heartbeat {
                    sequence,
                    disk_free_bytes: 1 << 40,
                    disk_below_reserve: groups.lock().low_on_disk.contains(&identity.node_id),
                    ..Default::default()
                };
                let report = v1::SessionReport { heartbeat: Some(heartbeat), ..Default::default() };
                if sender.send(report).await.is_err() {
                    return Ok(());
                }
            }
            _ = tell.tick() => {
                let heat = groups.lock().heat(identity.node_id);
                if !heat.is_empty() {
                    let report = v1::SessionReport { heat, ..Default::default() };
                    if sender.send(report).await.is_err() {
                        return Ok(());
                    }
                }
            }
            _ = look.tick() => {
                let now = groups.lock().reports(identity.node_id);
                let changed: Vec<_> =
                    now.iter().filter(|report| !reported.contains(report)).cloned().collect();
                reported = now;
                if !changed.is_empty() {
                    let report = v1::SessionReport { replicas: changed, ..Default::default() };
                    if sender.send(report).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The address and id of the leader that an error names.
pub fn leader_hint(status: &Status) -> Option<v1::NodeAddress> {
    match runtime::grpc::detail::kind_of(status)? {
        Kind::WrongLeader(wrong) => wrong.leader,
        _ => None,
    }
}

struct Peer {
    node: u64,
    groups: Groups,
}

#[tonic::async_trait]
impl PeerService for Peer {
    type RaftStream = ReceiverStream<Result<v1::PeerFrames, Status>>;

    async fn raft(
        &self,
        _request: Request<Streaming<v1::PeerFrames>>,
    ) -> Result<Response<Self::RaftStream>, Status> {
        Err(Status::unimplemented("played nodes have no Raft"))
    }

    async fn collect_log_positions(
        &self,
        request: Request<v1::CollectLogPositionsRequest>,
    ) -> Result<Response<v1::CollectLogPositionsResponse>, Status> {
        let world = self.groups.lock();
        let groups = request.into_inner().groups;
        let positions = groups.iter().map(|group| world.log_position(group)).collect();
        Ok(Response::new(v1::CollectLogPositionsResponse { positions }))
    }

    async fn take_over(
        &self,
        request: Request<v1::TakeOverRequest>,
    ) -> Result<Response<v1::TakeOverResponse>, Status> {
        let request = request.into_inner();
        assert!(request.fence.is_some(), "the control plane's orders carry a fence");
        let mut world = self.groups.lock();
        let results =
            request.groups.iter().map(|group| world.take_over(self.node, group)).collect();
        Ok(Response::new(v1::TakeOverResponse { results }))
    }

    async fn install_snapshot(
        &self,
        _request: Request<Streaming<v1::SnapshotChunk>>,
    ) -> Result<Response<v1::InstallSnapshotResponse>, Status> {
        Err(Status::unimplemented("played nodes have no snapshots"))
    }

    async fn get_snapshot_progress(
        &self,
        _request: Request<v1::GetSnapshotProgressRequest>,
    ) -> Result<Response<v1::GetSnapshotProgressResponse>, Status> {
        Err(Status::unimplemented("played nodes have no snapshots"))
    }
}
