//! What every server has: health, reflection, metrics.

use std::collections::BTreeSet;

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use zonectl::zone_process::Role;

use crate::support::{
    shared::shared,
    wire::{Wire, refused},
};

const SERVERS: [Role; 2] = [Role::Member(0), Role::IndexNode(0)];

/// The services that a server of this role has.
fn services(role: Role) -> &'static [&'static str] {
    match role {
        Role::Member(_) => &[
            "zone.v1.AdminService",
            "zone.v1.MemberService",
            "zone.v1.NodeService",
            "zone.v1.RoutingService",
        ],
        Role::IndexNode(_) => &["zone.v1.IndexService", "zone.v1.PeerService"],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_serving() {
    let zone = shared().await;
    let wire = Wire::new();
    for role in SERVERS {
        let mut health = HealthClient::new(wire.channel(&zone.address(role)));
        let whole = HealthCheckRequest { service: String::new() };
        let answer = health.check(whole.clone()).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{role}");
        let mut watched = health.watch(whole).await.unwrap().into_inner();
        let first = watched.message().await.unwrap().expect("the state now");
        assert_eq!(first.status(), ServingStatus::Serving, "{role}");
        let unknown = HealthCheckRequest { service: "zone.v1.NoSuchService".into() };
        refused(health.check(unknown).await, Code::NotFound, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_knows_every_service() {
    let zone = shared().await;
    let wire = Wire::new();
    for role in SERVERS {
        let mut health = HealthClient::new(wire.channel(&zone.address(role)));
        for service in services(role) {
            let request = HealthCheckRequest { service: (*service).to_owned() };
            let answer = health.check(request).await;
            let answer = answer.unwrap_or_else(|status| panic!("{role} {service}: {status}"));
            assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{role} {service}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_every_service() {
    let zone = shared().await;
    let wire = Wire::new();
    for role in SERVERS {
        let mut reflection = ServerReflectionClient::new(wire.channel(&zone.address(role)));
        let ask = |question| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        let mut questions = vec![ask(MessageRequest::ListServices(String::new()))];
        for service in services(role) {
            questions.push(ask(MessageRequest::FileContainingSymbol((*service).to_owned())));
        }
        let asked = questions.len();
        let answers = reflection.server_reflection_info(futures_util::stream::iter(questions));
        let mut answers = answers.await.unwrap().into_inner();
        let (mut listed, mut described) = (BTreeSet::new(), 0);
        for _ in 0..asked {
            let answer = answers.message().await.unwrap().expect("one answer for each question");
            match answer.message_response.expect("an answer") {
                MessageResponse::ListServicesResponse(services) => {
                    listed.extend(services.service.into_iter().map(|service| service.name));
                }
                MessageResponse::FileDescriptorResponse(files) => {
                    described += usize::from(!files.file_descriptor_proto.is_empty());
                }
                other => panic!("{role}: {other:?}"),
            }
        }
        assert_eq!(described, services(role).len(), "{role}");
        for service in services(role).iter().chain(&["grpc.health.v1.Health"]) {
            assert!(listed.contains(*service), "{role} does not list {service}: {listed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_in_the_text_format_of_prometheus() {
    let zone = shared().await;
    let wire = Wire::new();
    for role in SERVERS {
        let address = zone.processes.layout().metrics_address(role);
        let page = wire.page(&address, "/metrics").await;
        let (head, body) = page.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{role}: {head}");
        let (mut samples, mut helped) = (0, BTreeSet::new());
        for line in body.lines().map(str::trim).filter(|line| line.contains("isotherm_")) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped.insert(help.split(' ').next().unwrap_or_default().to_owned());
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            assert!(line.starts_with("isotherm_"), "{role}: {line}");
            let value = line.rsplit(' ').next().unwrap_or_default();
            assert!(value.parse::<f64>().is_ok(), "{role}: {line}");
            samples += 1;
        }
        assert!(samples > 5, "{role} has few metrics:\n{body}");
        assert!(!helped.is_empty(), "{role} explains none of its metrics:\n{body}");
        let elsewhere = wire.page(&address, "/nothing-here").await;
        assert!(elsewhere.starts_with("HTTP/1.1 404"), "{role}: {elsewhere}");
    }
}
