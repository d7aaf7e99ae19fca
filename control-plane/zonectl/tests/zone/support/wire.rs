//! gRPC stubs for one address, raw connections, and what is expected of refusals.

use std::fmt::Debug;

use bytes::Bytes;
use proto::v1::{
    self, admin_service_client::AdminServiceClient, error_detail::Kind,
    index_service_client::IndexServiceClient, member_service_client::MemberServiceClient,
    node_service_client::NodeServiceClient, peer_service_client::PeerServiceClient,
    routing_service_client::RoutingServiceClient,
};
use runtime::{
    grpc::{ChannelOptions, Channels, MESSAGE_BYTES_MAX, detail},
    seams::Environment,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Response, Status, transport::Channel};

use super::LIMIT;

/// Stubs for any address.
pub struct Wire {
    pub environment: Environment,
    channels: Channels,
}

impl Wire {
    pub fn new() -> Self {
        let environment = Environment::production();
        let channels = Channels::new(&environment, ChannelOptions::default()).unwrap();
        Self { environment, channels }
    }

    pub fn channel(&self, address: &str) -> Channel {
        self.channels.get(address)
    }

    pub fn admin(&self, address: &str) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel(address))
    }

    pub fn node(&self, address: &str) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel(address))
    }

    pub fn routing(&self, address: &str) -> RoutingServiceClient<Channel> {
        RoutingServiceClient::new(self.channel(address))
    }

    pub fn member(&self, address: &str) -> MemberServiceClient<Channel> {
        MemberServiceClient::new(self.channel(address))
    }

    pub fn peer(&self, address: &str) -> PeerServiceClient<Channel> {
        PeerServiceClient::new(self.channel(address))
    }

    pub fn index(&self, address: &str) -> IndexServiceClient<Channel> {
        IndexServiceClient::new(self.channel(address))
            .max_encoding_message_size(2 * MESSAGE_BYTES_MAX)
    }

    /// 16 bytes that no other write has.
    pub fn write_id(&self) -> Bytes {
        let id: [u8; 16] = self.environment.random_bytes();
        Bytes::copy_from_slice(&id)
    }

    /// Sends raw bytes, and returns what comes back until the server closes the connection; fails if it
    /// does not.
    pub async fn raw(&self, address: &str, bytes: &[u8]) -> Vec<u8> {
        let mut connection = self.environment.network.connect(address).await.unwrap();
        // The server may close before everything was written.
        let _ = connection.write_all(bytes).await;
        let _ = connection.shutdown().await;
        let mut answer = Vec::new();
        let reading = connection.read_to_end(&mut answer);
        let _ = tokio::time::timeout(LIMIT, reading).await.expect("the connection is closed");
        answer
    }

    /// The page of a path, by HTTP/1.1.
    pub async fn page(&self, address: &str, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let mut connection = self.environment.network.connect(address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let reading = connection.read_to_end(&mut answer);
        tokio::time::timeout(LIMIT, reading).await.expect("the page ends").unwrap();
        String::from_utf8(answer).expect("a page is text")
    }
}

/// The status with which a call was refused: this code, and these words.
#[track_caller]
pub fn refused<T: Debug>(
    answer: Result<Response<T>, Status>,
    code: Code,
    words: &[&str],
) -> Status {
    let status = match answer {
        Ok(answer) => panic!("not refused: {answer:?}"),
        Err(status) => status,
    };
    assert_eq!(status.code(), code, "{status}");
    for word in words {
        assert!(status.message().contains(word), "{word:?} is not in: {status}");
    }
    status
}

/// The machine-readable detail of a refusal.
#[track_caller]
pub fn detail_of(status: &Status) -> Kind {
    detail::kind_of(status).unwrap_or_else(|| panic!("no detail: {status}"))
}

/// Where a refusal says that the leader is.
#[track_caller]
pub fn leader_hint(status: &Status) -> v1::NodeAddress {
    match detail_of(status) {
        Kind::WrongLeader(wrong) => wrong.leader.expect("a hint"),
        other => panic!("not a wrong leader but {other:?}"),
    }
}

pub fn node_id(id: u64) -> Option<v1::NodeReference> {
    Some(v1::NodeReference { id, name: String::new() })
}

pub fn node_name(name: &str) -> Option<v1::NodeReference> {
    Some(v1::NodeReference { id: 0, name: name.to_owned() })
}
