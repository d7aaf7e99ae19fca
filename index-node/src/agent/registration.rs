//! Becoming known to the control plane.

use std::time::Duration;

use proto::v1::{
    NodeCapacity, ProtocolVersion, RegisterRequest, RegisterResponse, error_detail::Kind,
    node_service_client::NodeServiceClient,
};
use runtime::{
    grpc::{Channels, MESSAGE_BYTES_MAX, detail},
    seams::Environment,
};
use tonic::Status;
use uuid::Uuid;

use super::schedule::{Search, Turned};
use crate::engine::types::NodeId;

/// The longest that one member may take to answer.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);

/// What the node says of itself.
#[derive(Clone, Debug)]
pub struct Registration {
    pub identity: Uuid,
    /// What an earlier registration gave; none in the first one of a data directory.
    pub known: Option<(String, NodeId)>,
    pub incarnation: u64,
    pub name: String,
    pub address: String,
    pub fault_domain: String,
    pub capacity_bytes: u64,
    pub cores: u32,
}

/// A registration that a leader has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The member that leads.
    pub endpoint: String,
    pub zone_id: String,
    pub node: NodeId,
    pub heartbeat_interval: Duration,
    pub session_timeout: Duration,
}

/// Asks one member after the other until one of them accepts.
pub struct Registrar {
    registration: Registration,
    /// The configured members, and after them those that hints named.
    endpoints: Vec<String>,
    /// The one to ask next.
    next: usize,
    /// The last refusal that was logged: the same again is not.
    logged: String,
}

/// Endpoints that are remembered from hints, besides the configured ones.
const HINTS_MAX: usize = 16;

impl Registrar {
    /// # Panics
    /// Without endpoints; the configuration has some.
    pub fn new(registration: Registration, endpoints: Vec<String>) -> Self {
        assert!(!endpoints.is_empty(), "the configuration names at least one member");
        Self { registration, endpoints, next: 0, logged: String::new() }
    }

    pub fn incarnation(&self) -> u64 {
        self.registration.incarnation
    }

    /// The member that is said to lead is asked first; without such a hint, the next one.
    pub fn prefer(&mut self, leader: Option<String>) {
        let Some(leader) = leader.filter(|address| !address.is_empty()) else {
            self.next = (self.next + 1) % self.endpoints.len();
            return;
        };
        match self.endpoints.iter().position(|endpoint| *endpoint == leader) {
            Some(position) => self.next = position,
            None => {
                self.endpoints.truncate(HINTS_MAX);
                self.endpoints.push(leader);
                self.next = self.endpoints.len() - 1;
            }
        }
    }

    /// Registers, however long it takes.
    pub async fn register(&mut self, environment: &Environment, channels: &Channels) -> Registered {
        let mut search = Search::new(self.endpoints.len());
        loop {
            let endpoint = self.endpoints[self.next].clone();
            let attempt = self.attempt(&endpoint, channels);
            let answer = environment
                .timeout(ATTEMPT_LIMIT, attempt)
                .await
                .unwrap_or_else(|| Err(Status::deadline_exceeded("no answer in time")));
            let pause = match answer.and_then(|response| self.accept(&endpoint, response)) {
                Ok(registered) => {
                    self.logged.clear();
                    self.registration.known = Some((registered.zone_id.clone(), registered.node));
                    return registered;
                }
                Err(status) => {
                    self.log(&endpoint, &status);
                    let hint = leader_hint(&status);
                    let turned = if for_good(&status) {
                        Turned::ForGood
                    } else if hint.is_some() {
                        Turned::ToLeader
                    } else {
                        Turned::Away
                    };
                    if hint.is_some() {
                        runtime::mark!("registration: a hint to the leader was followed");
                    }
                    self.prefer(hint);
                    search.pause(turned, self.endpoints.len())
                }
            };
            environment.sleep(environment.jittered(pause)).await;
        }
    }

    async fn attempt(
        &self,
        endpoint: &str,
        channels: &Channels,
    ) -> Result<RegisterResponse, Status> {
        let mut client = NodeServiceClient::new(channels.get(endpoint))
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(client.register(self.request()).await?.into_inner())
    }

    fn request(&self) -> RegisterRequest {
        let registration = &self.registration;
        let (zone_id, node_id) = match &registration.known {
            Some((zone_id, node)) => (zone_id.clone(), node.0),
            None => (String::new(), 0),
        };
        RegisterRequest {
            protocol_version: ProtocolVersion::ProtocolVersion1.into(),
            zone_id,
            identity: registration.identity.to_string(),
            node_id,
            incarnation: registration.incarnation,
            name: registration.name.clone(),
            address: registration.address.clone(),
            fault_domain: registration.fault_domain.clone(),
            capacity: Some(NodeCapacity {
                stored_bytes: registration.capacity_bytes,
                cores: registration.cores,
            }),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What the answer says, unless it contradicts what this node knows of itself.
    fn accept(&self, endpoint: &str, response: RegisterResponse) -> Result<Registered, Status> {
        let node = NodeId(response.node_id);
        if response.zone_id.is_empty() || node == NodeId::default() {
            return Err(Status::internal("the member's answer names no zone or no node"));
        }
        if let Some((zone_id, known)) = &self.registration.known
            && (*zone_id != response.zone_id || *known != node)
        {
            return Err(Status::failed_precondition(format!(
                "this data directory belongs to node {known} of zone {zone_id}, and the control \
                 plane answers with node {node} of zone {}; point control_plane_endpoints at the \
                 right zone, or start with an empty data directory",
                response.zone_id
            )));
        }
        if response.heartbeat_interval_ms == 0 || response.session_timeout_ms == 0 {
            return Err(Status::internal("the member's answer has no intervals"));
        }
        Ok(Registered {
            endpoint: endpoint.to_owned(),
            zone_id: response.zone_id,
            node,
            heartbeat_interval: Duration::from_millis(response.heartbeat_interval_ms),
            session_timeout: Duration::from_millis(response.session_timeout_ms),
        })
    }

    fn log(&mut self, endpoint: &str, status: &Status) {
        let text = format!("{:?}: {}", status.code(), status.message());
        if leader_hint(status).is_some() || text == self.logged {
            return;
        }
        if for_good(status) {
            runtime::mark!("registration: refused for good");
            tracing::warn!(
                member = endpoint,
                refusal = text,
                "the control plane refuses this node"
            );
        } else {
            tracing::info!(member = endpoint, reason = text, "not registered yet");
        }
        self.logged = text;
    }
}

/// The address of the member that leads, if the status says so.
pub(super) fn leader_hint(status: &Status) -> Option<String> {
    match detail::kind_of(status)? {
        Kind::WrongLeader(wrong) => {
            wrong.leader.map(|leader| leader.address).filter(|address| !address.is_empty())
        }
        _ => None,
    }
}

/// Whether asking again cannot help: the request itself is refused.
fn for_good(status: &Status) -> bool {
    let code = status.code();
    matches!(code, tonic::Code::InvalidArgument | tonic::Code::AlreadyExists)
        || (code == tonic::Code::FailedPrecondition && detail::kind_of(status).is_none())
}

#[cfg(test)]
mod tests {
    use proto::v1::{NodeAddress, WrongLeader};

    use super::*;

    fn registrar() -> Registrar {
        let registration = Registration {
            identity: Uuid::nil(),
            known: None,
            incarnation: 1,
            name: "n".into(),
            address: "a:1".into(),
            fault_domain: "f".into(),
            capacity_bytes: 1,
            cores: 1,
        };
        Registrar::new(registration, vec!["a:1".into(), "b:1".into()])
    }

    #[test]
    fn hints_are_followed_and_without_one_the_next_member_is_asked() {
        let mut registrar = registrar();
        registrar.prefer(Some("b:1".into()));
        assert_eq!(registrar.endpoints[registrar.next], "b:1");
        registrar.prefer(None);
        assert_eq!(registrar.endpoints[registrar.next], "a:1");
        registrar.prefer(Some("c:1".into()));
        assert_eq!(registrar.endpoints[registrar.next], "c:1");
        registrar.prefer(None);
        assert_eq!(registrar.endpoints[registrar.next], "a:1");
        for hint in 0..100 {
            registrar.prefer(Some(format!("h{hint}:1")));
        }
        assert!(registrar.endpoints.len() <= HINTS_MAX + 1);
        assert_eq!(registrar.endpoints[0], "a:1");
    }

    #[test]
    fn an_answer_that_contradicts_the_data_directory_is_refused() {
        let mut registrar = registrar();
        let response = |zone: &str, node_id| RegisterResponse {
            zone_id: zone.into(),
            node_id,
            heartbeat_interval_ms: 100,
            session_timeout_ms: 1_000,
        };
        assert!(registrar.accept("a:1", response("z", 3)).is_ok());
        assert!(registrar.accept("a:1", response("", 3)).is_err());
        registrar.registration.known = Some(("z".into(), NodeId(3)));
        assert!(registrar.accept("a:1", response("z", 3)).is_ok());
        assert!(registrar.accept("a:1", response("y", 3)).is_err());
        assert!(registrar.accept("a:1", response("z", 4)).is_err());
    }

    #[test]
    fn only_a_refusal_of_the_request_itself_is_for_good() {
        let leader = NodeAddress { node_id: 1, address: "c:1".into() };
        let wrong = Kind::WrongLeader(WrongLeader { leader: Some(leader) });
        let status = detail::status(tonic::Code::FailedPrecondition, "not the leader", wrong);
        assert!(!for_good(&status));
        assert_eq!(leader_hint(&status), Some("c:1".into()));
        assert!(for_good(&Status::failed_precondition("another zone")));
        assert!(!for_good(&Status::unavailable("later")));
    }
}
