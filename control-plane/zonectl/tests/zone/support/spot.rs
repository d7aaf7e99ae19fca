//! One partition, and requests to it by hand.

use bytes::Bytes;
use proto::v1;
use tonic::transport::Channel;

use super::{eventually, wire::Wire, zone::TestZone};

/// A partition with its nodes.
pub struct Spot {
    pub wire: Wire,
    pub partition: v1::PartitionSummary,
    /// Address of the node that leads.
    pub leader: String,
    /// Addresses of the other nodes that hold it.
    pub followers: Vec<String>,
    /// Addresses of the nodes that do not.
    pub strangers: Vec<String>,
}

impl Spot {
    /// The partition of a key, once it answers.
    pub async fn of(zone: &TestZone, key: &[u8]) -> Self {
        let wire = Wire::new();
        let partitions = zone.partitions().await;
        let fits = |partition: &&v1::PartitionSummary| {
            let range = partition.range.as_ref().expect("a partition has a range");
            *range.start <= *key && (range.end.is_empty() || *key < *range.end)
        };
        let partition = partitions.iter().find(fits).expect("the ranges cover every key").clone();
        let status = zone.status().await;
        let address = |id: u64| {
            let node = status.nodes.iter().find(|node| node.id == id);
            node.expect("a partition is on nodes of the zone").address.clone()
        };
        let holders: Vec<u64> = partition.replicas.iter().map(|it| it.node_id).collect();
        let others = |held: bool| {
            let nodes = status.nodes.iter().map(|node| node.id);
            nodes
                .filter(|id| *id != partition.leader_node_id && holders.contains(id) == held)
                .map(address)
                .collect()
        };
        let spot = Self {
            leader: address(partition.leader_node_id),
            followers: others(true),
            strangers: others(false),
            wire,
            partition,
        };
        eventually("an answer of the partition", async || spot.try_time().await).await;
        spot
    }

    pub fn index(&self) -> v1::index_service_client::IndexServiceClient<Channel> {
        self.wire.index(&self.leader)
    }

    pub fn target(&self) -> Option<v1::Target> {
        let (partition_id, range_epoch) = (self.partition.id, self.partition.range_epoch);
        Some(v1::Target { partition_id, range_epoch })
    }

    async fn try_time(&self) -> Option<u64> {
        // Every range has a key right at its start, but for the lowest, where the shortest key is.
        let start = &self.partition.range.as_ref()?.start;
        let key = if start.is_empty() { Bytes::from_static(b"\0") } else { start.clone() };
        let request = v1::GetRequest { target: self.target(), key };
        Some(self.index().get(request).await.ok()?.into_inner().partition_time_ms)
    }

    /// The partition's time now.
    pub async fn time(&self) -> u64 {
        self.try_time().await.expect("the leader answers")
    }

    /// A write's identity, good for half a minute.
    pub async fn write_id(&self) -> v1::WriteId {
        v1::WriteId { id: self.wire.write_id(), expires_at_ms: self.time().await + 30_000 }
    }

    /// An unconditional write of a new id.
    pub async fn put(&self, key: &[u8], payload: &str) -> v1::PutRequest {
        v1::PutRequest {
            target: self.target(),
            key: Bytes::copy_from_slice(key),
            value: Some(metadata(payload)),
            condition: None,
            write_id: Some(self.write_id().await),
        }
    }

    /// The same for a delete.
    pub async fn delete(&self, key: &[u8]) -> v1::DeleteRequest {
        v1::DeleteRequest {
            target: self.target(),
            key: Bytes::copy_from_slice(key),
            condition: None,
            write_id: Some(self.write_id().await),
        }
    }

    pub async fn put_ok(&self, key: &[u8], payload: &str) -> v1::PutResponse {
        let request = self.put(key, payload).await;
        self.index().put(request).await.unwrap().into_inner()
    }

    pub fn get(&self, key: &[u8]) -> v1::GetRequest {
        v1::GetRequest { target: self.target(), key: Bytes::copy_from_slice(key) }
    }

    /// What the key holds.
    pub async fn item(&self, key: &[u8]) -> Option<v1::Item> {
        self.index().get(self.get(key)).await.unwrap().into_inner().item
    }

    pub fn list(&self, prefix: &[u8]) -> v1::ListRequest {
        v1::ListRequest {
            target: self.target(),
            prefix: Bytes::copy_from_slice(prefix),
            start_after: Bytes::new(),
            limit: 1_000,
        }
    }
}

pub fn metadata(payload: &str) -> v1::ObjectMetadata {
    v1::ObjectMetadata {
        etag: Bytes::from_static(b"tag"),
        size_bytes: 7,
        location: Bytes::from_static(b"disk-1/9"),
        user_payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

pub fn version_equals(version: u64) -> Option<v1::Condition> {
    Some(v1::Condition { kind: Some(v1::condition::Kind::VersionEquals(version)) })
}

pub fn absent() -> Option<v1::Condition> {
    Some(v1::Condition { kind: Some(v1::condition::Kind::Absent(true)) })
}
