//! Garbage on every port: whoever sends it is turned away, and nobody else notices.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use zonectl::zone_process::Role;

use crate::support::{shared::shared, spot::Spot, wire::Wire};

#[tokio::test(flavor = "multi_thread")]
async fn on_every_port() {
    let mut zone = shared().await;
    let wire = Wire::new();
    let before = zone.fingerprint().await;
    let roles = [Role::Member(0), Role::Member(1), Role::Member(2), Role::IndexNode(0)];
    let ids: Vec<_> = roles.iter().map(|role| zone.processes.process_id(*role)).collect();
    let random: Vec<u8> = (0..256).flat_map(|_| wire.environment.random_bytes()).collect();
    let garbage: [&[u8]; 7] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /zone.v1.AdminService/DrainNode HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a greeting of TLS",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\x04\x00\x00\x00\x00\x00garbage",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &random,
    ];
    for role in roles {
        let layout = zone.processes.layout();
        for address in [layout.address(role), layout.metrics_address(role)] {
            for bytes in garbage {
                wire.raw(&address, bytes).await;
            }
        }
    }
    for (role, id) in roles.iter().zip(ids) {
        assert_eq!(zone.processes.process_id(*role), id, "{role} lives on");
    }
    let spot = Spot::of(&zone, b"garbage\0").await;
    spot.put_ok(b"garbage\0after", "unharmed").await;
    assert_eq!(zone.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_greeting_that_never_ends_holds_up_nobody() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"garbage\0").await;
    let mut held = Vec::new();
    for address in [zone.address(zone.leader().await), spot.leader.clone()] {
        for _ in 0..50 {
            let mut connection = spot.wire.environment.network.connect(&address).await.unwrap();
            connection.write_all(b"PRI * HTTP/2.0\r\n\r").await.unwrap();
            held.push(connection);
        }
    }
    spot.put_ok(b"garbage\0meanwhile", "served").await;
    zone.status_when("health", |status| status.healthy).await;
    let other = Wire::new();
    let mut admin = other.admin(&zone.address(zone.leader().await));
    let asked = admin.list_nodes(proto::v1::ListNodesRequest {});
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("an answer").unwrap();
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_no_protobuf() {
    use raw::RawCodec;
    use tonic::{Code, Request, codegen::http::uri::PathAndQuery};

    let zone = shared().await;
    let spot = Spot::of(&zone, b"garbage\0").await;
    let before = zone.fingerprint().await;
    let leader = zone.address(zone.leader().await);
    for (address, method) in [
        (&leader, "/zone.v1.AdminService/DrainNode"),
        (&leader, "/zone.v1.NodeService/Register"),
        (&leader, "/zone.v1.MemberService/Raft"),
        (&spot.leader, "/zone.v1.IndexService/Put"),
        (&spot.leader, "/zone.v1.PeerService/TakeOver"),
    ] {
        let mut grpc = tonic::client::Grpc::new(spot.wire.channel(address));
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static(method);
        // A field that says that it is longer than the message.
        let message = bytes::Bytes::from_static(b"\x0a\xff\xff\x03no");
        let answer = grpc.unary(Request::new(message), path, RawCodec).await;
        let status = answer.expect_err(method);
        assert!(
            matches!(status.code(), Code::Internal | Code::InvalidArgument),
            "{method}: {status}"
        );
    }
    let mut grpc = tonic::client::Grpc::new(spot.wire.channel(&leader));
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/zone.v1.AdminService/NoSuchMethod");
    let answer = grpc.unary(Request::new(bytes::Bytes::new()), path, RawCodec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(zone.fingerprint().await, before);
}

/// Bytes as they are, in place of messages.
mod raw {
    use bytes::{Buf, BufMut, Bytes};
    use tonic::{
        Status,
        codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    };

    #[derive(Clone, Copy, Default)]
    pub struct RawCodec;

    impl Codec for RawCodec {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            *self
        }

        fn decoder(&mut self) -> Self {
            *self
        }
    }

    impl Encoder for RawCodec {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put(item);
            Ok(())
        }
    }

    impl Decoder for RawCodec {
        type Item = Bytes;
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
        }
    }
}
