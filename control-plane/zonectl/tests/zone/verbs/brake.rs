//! The verbs about the brake.

use std::time::Duration;

use zonectl::zone_process::Role;

use super::{BRAKE, has_fields};
use crate::support::{
    program::Zonectl,
    zone::{Shape, TestZone},
};

#[tokio::test(flavor = "multi_thread")]
async fn brake_override_and_restore() {
    let replace_after = Duration::from_secs(1);
    let shape = Shape { replace_after, ..Shape::default() };
    let mut zone = TestZone::start(shape).await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let override_for = |duration: &'static str| {
        ["brake", "override", "--for", duration, "--reason", "both machines were scrapped"]
    };
    let early = zonectl.run(&override_for("1m")).await;
    early.refused(1, &["the brake is not engaged: there is nothing to override"]);

    let nodes = zone.status().await.nodes;
    let lost: Vec<Role> = nodes.iter().take(2).map(|node| zone.role(node)).collect();
    for role in &lost {
        zone.processes.kill(*role).unwrap();
    }
    let held = zone
        .status_when("repairs that wait for the brake", |status| {
            status.brake.held_back_repairs > 0 && status.operations.running == 0
        })
        .await;
    assert!(held.brake.overridden_for_ms.is_none());
    let text = zonectl.text(&["status"]).await;
    for words in ["the brake is engaged, so ", "zonectl brake override", "The brake holds back "] {
        assert!(text.contains(words), "{text}");
    }
    zonectl.run(&override_for("61m")).await.refused(1, &["at most 3600000 ms"]);

    let brake = zonectl.json(&override_for("10m")).await;
    has_fields(&brake, &BRAKE);
    assert_eq!((&brake["engaged"], &brake["held_back_repairs"]), (&true.into(), &0.into()));
    assert!((1..=600_000).contains(&brake["overridden_for_ms"].as_u64().unwrap()), "{brake}");
    let mended = zone
        .status_when("replicas made again where a majority is left", |status| {
            status.partitions.under_replicated < held.partitions.under_replicated
                && status.operations.running == 0
        })
        .await;
    let said = mended.problems.iter().any(|it| it.contains("an operator overrides it"));
    assert!(said && mended.brake.engaged, "{mended:?}");
    let text = zonectl.text(&["status"]).await;
    assert!(text.contains("The brake is overridden for another "), "{text}");

    let text = zonectl.text(&["brake", "restore"]).await;
    assert!(text.starts_with("The brake holds back "), "{text}");
    let events = zone.events().await;
    let reason = |kind: &str| {
        let event = events.iter().find(|event| event.kind == kind);
        event.unwrap_or_else(|| panic!("{kind} is missing")).reason.clone()
    };
    assert_eq!(reason("brake-overridden"), "both machines were scrapped");
    assert_eq!(reason("brake-restored"), "an operator asked for it");

    for role in lost {
        zone.processes.start(role).unwrap();
    }
    assert!(!zone.settled().await.brake.engaged);
}
