//! What a client does, by hand: asks a node, and says what came of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::v1::{
    GetRequest, ObjectMetadata, PutRequest, Target, WriteId, error_detail::Kind,
    index_service_client::IndexServiceClient, peer_service_client::PeerServiceClient,
};
use runtime::{
    grpc::{ChannelOptions, Channels, detail},
    seams::Environment,
};
use tonic::{Code, Status, transport::Channel};

/// Clients of the nodes at some addresses.
pub struct Clients {
    environment: Environment,
    channels: Channels,
    /// What each partition has said of its time.
    times: BTreeMap<u64, u64>,
}

impl Clients {
    pub fn new() -> Self {
        let environment = Environment::production();
        let channels = Channels::new(&environment, ChannelOptions::default()).unwrap();
        Self { environment, channels, times: BTreeMap::new() }
    }

    pub fn index(&self, address: &str) -> IndexServiceClient<Channel> {
        IndexServiceClient::new(self.channels.get(address))
    }

    pub fn peer(&self, address: &str) -> PeerServiceClient<Channel> {
        PeerServiceClient::new(self.channels.get(address))
    }

    /// One attempt to write at this node; the version if it was acknowledged.
    pub async fn put_at(
        &mut self,
        address: &str,
        partition: u64,
        key: &str,
        value: &str,
        write_id: [u8; 16],
    ) -> Result<u64, Status> {
        let now_ms = self.times.get(&partition).copied().unwrap_or(0);
        let request = PutRequest {
            target: Some(Target { partition_id: partition, range_epoch: 1 }),
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Some(ObjectMetadata {
                location: Bytes::copy_from_slice(value.as_bytes()),
                ..ObjectMetadata::default()
            }),
            condition: None,
            write_id: Some(WriteId {
                id: Bytes::copy_from_slice(&write_id),
                expires_at_ms: now_ms + 50_000,
            }),
        };
        match self.index(address).put(request).await {
            Ok(response) => {
                let response = response.into_inner();
                self.times.insert(partition, response.partition_time_ms);
                Ok(response.version)
            }
            Err(status) => {
                if let Some(Kind::PartitionTime(time)) = detail::kind_of(&status) {
                    self.times.insert(partition, time.now_ms);
                }
                Err(status)
            }
        }
    }

    /// Asks again and again at this node, until the partition's time is known and the write ends in
    /// one way or the other.
    pub async fn put_once(
        &mut self,
        address: &str,
        partition: u64,
        key: &str,
    ) -> Result<u64, Status> {
        let write_id = self.environment.random_bytes();
        for _ in 0..2 {
            match self.put_at(address, partition, key, "value", write_id).await {
                Err(status) if status.code() == Code::FailedPrecondition => {}
                ended => return ended,
            }
        }
        self.put_at(address, partition, key, "value", write_id).await
    }

    /// Writes at whichever of these nodes leads, until it is acknowledged.
    pub async fn put(&mut self, addresses: &[&str], partition: u64, key: &str, value: &str) -> u64 {
        let write_id = self.environment.random_bytes();
        super::eventually("the write is acknowledged", async || {
            for address in addresses {
                match self.put_at(address, partition, key, value, write_id).await {
                    Ok(version) => return Some(version),
                    Err(status) => assert_ne!(status.code(), Code::InvalidArgument, "{status}"),
                }
            }
            None
        })
        .await
    }

    /// One attempt to read at this node; the value if the key is there.
    pub async fn get_at(
        &self,
        address: &str,
        partition: u64,
        key: &str,
    ) -> Result<Option<String>, Status> {
        let request = GetRequest {
            target: Some(Target { partition_id: partition, range_epoch: 1 }),
            key: Bytes::copy_from_slice(key.as_bytes()),
        };
        let response = self.index(address).get(request).await?.into_inner();
        Ok(response.item.map(|item| {
            let value = item.value.expect("an item has a value").location;
            String::from_utf8(value.to_vec()).expect("the tests write text")
        }))
    }

    /// Reads at whichever of these nodes leads.
    pub async fn get(&self, addresses: &[&str], partition: u64, key: &str) -> Option<String> {
        super::eventually("the read is answered", async || {
            for address in addresses {
                if let Ok(answer) = self.get_at(address, partition, key).await {
                    return Some(answer);
                }
            }
            None
        })
        .await
    }
}
