//! The brake over the wire: what it says of itself, and how an operator overrides it.

use std::collections::BTreeSet;

use proto::v1;
use tonic::Code;

use crate::support::{eventually, zone::TestZone};

fn request(duration_ms: u64, reason: &str, key: &str) -> v1::OverrideBrakeRequest {
    let (reason, idempotency_key) = (reason.to_owned(), key.to_owned());
    v1::OverrideBrakeRequest { duration_ms, reason, idempotency_key }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_overrides_it_and_restores_it() {
    let mut zone = TestZone::members(1);
    zone.init(8, 3, 1_000).await.unwrap();
    zone = zone.with_nodes(5).await;
    zone.healthy().await;
    let mut admin = zone.admin().await;
    let early = admin.override_brake(request(1_000, "why", "early")).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition, "{early:?}");
    assert_eq!(early.message(), "the brake is not engaged: there is nothing to override");

    let lost: Vec<u64> = zone.nodes[..2].iter().map(|node| node.id()).collect();
    for node in &mut zone.nodes[..2] {
        node.kill();
    }
    let held = zone
        .status_when("repairs that wait", |status| {
            status.brake.as_ref().is_some_and(|brake| brake.held_back_repairs > 0)
        })
        .await;
    let brake = held.brake.clone().unwrap();
    assert!(brake.engaged && brake.overridden_for_ms == 0, "{brake:?}");
    let said = |status: &v1::ZoneStatus, words: &str| {
        status.problems.iter().any(|problem| problem.contains(words))
    };
    assert!(said(&held, "the brake is engaged, so "), "{:?}", held.problems);

    for (wrong, words) in [
        (request(3_600_001, "why", ""), "at most 3600000 ms"),
        (request(u64::MAX, "why", ""), "an hour"),
        (request(1_000, "", ""), "reason"),
        (request(1_000, " ", ""), "reason"),
        (request(1_000, "a\nb", ""), "control characters"),
        (request(1_000, &"x".repeat(257), ""), "256 bytes"),
        (request(0, &"x".repeat(100_000), ""), "256 bytes"),
        (request(1_000, "why", &"k".repeat(65)), "64 bytes"),
        (request(0, "", "early"), "was used for another command"),
    ] {
        let refused = admin.override_brake(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(words), "{refused:?}");
        assert!(refused.message().len() < 1_000, "{refused:?}");
    }

    let override_it = request(600_000, "both were scrapped", "once");
    let brake = admin.override_brake(override_it.clone()).await.unwrap().into_inner().brake;
    let brake = brake.unwrap();
    assert!(brake.engaged && brake.overridden_until_zone_time_ms > 0, "{brake:?}");
    assert!((1..=600_000).contains(&brake.overridden_for_ms), "{brake:?}");
    assert_eq!(brake.held_back_repairs, 0);
    let repaired = zone
        .status_when("replicas made again wherever a majority is left", |status| {
            status.operations_running == 0 && status.partitions.unwrap().under_replicated < 8
        })
        .await;
    assert!(said(&repaired, "but an operator overrides it"), "{:?}", repaired.problems);
    let left = |partition: &v1::PartitionSummary| {
        partition.replicas.iter().filter(|it| !lost.contains(&it.node_id)).count()
    };
    eventually("every partition with a majority to be whole", || async {
        let counts: BTreeSet<usize> = zone.partitions().await.iter().map(left).collect();
        (!counts.contains(&2)).then_some(())
    })
    .await;

    let again = admin.override_brake(override_it).await.unwrap().into_inner().brake.unwrap();
    assert_eq!(again.overridden_until_zone_time_ms, brake.overridden_until_zone_time_ms);
    let restored = admin.override_brake(request(0, "", "end")).await.unwrap().into_inner();
    let restored = restored.brake.unwrap();
    assert!(restored.engaged && restored.overridden_for_ms == 0, "{restored:?}");
    assert_eq!(restored.overridden_until_zone_time_ms, 0);
    let events = zone.events().await;
    let told = |kind: &str| {
        let events = events.iter().filter(|event| event.kind == kind);
        events.map(|event| event.reason.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told("brake-overridden"), ["both were scrapped"]);
    assert_eq!(told("brake-restored"), ["an operator asked for it"]);
    assert_eq!(told("brake-engaged").len(), 1);

    for node in &mut zone.nodes[..2] {
        node.restart();
    }
    let healthy = zone.healthy().await;
    assert_eq!(healthy.brake, Some(v1::Brake::default()));
}
