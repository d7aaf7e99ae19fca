//! Verbs that change where things are: `partition transfer-leader|move`, `node drain|uncordon|remove`,
//! `operation watch|cancel`.

use serde_json::Value;

use super::{NODE, OPERATION, has_fields};
use crate::support::{program::Zonectl, shared::shared};

#[tokio::test(flavor = "multi_thread")]
async fn partition_transfer_leader() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let (partition, from, to) = zone.a_transfer().await;
    let (partition, from, to) = (partition.to_string(), from.to_string(), to.to_string());
    let transfer = |to| ["partition", "transfer-leader", &partition, "--to", to];
    let changes = zonectl.json_lines(&[&transfer(&to)[..], &["--wait"]].concat()).await;
    for change in &changes {
        has_fields(change, &OPERATION);
        assert_eq!(change["kind"], "transfer-leader");
    }
    assert_eq!(changes.last().unwrap()["state"], "succeeded");
    let leader = zonectl.json(&["partition", "show", &partition]).await["leader_node_id"].clone();
    assert_eq!(leader.to_string(), to);

    let text = zonectl.text(&transfer(&from)).await;
    assert!(text.starts_with("Accepted: ") && text.contains("zonectl operation watch"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_move() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let placements = zone.placements().await;
    let (partition, placement) = placements.iter().next().unwrap();
    let from = placement.replicas.values().find(|node| **node != placement.leader).unwrap();
    let free = |node: &u64| !placement.replicas.values().any(|it| it == node);
    let to = (1..=5).find(free).unwrap();
    let (partition, from, to) = (partition.to_string(), from.to_string(), to.to_string());
    let movement = |from, to| ["partition", "move", &partition, "--from", from, "--to", to];
    let text = zonectl.text(&[&movement(&from, &to)[..], &["--wait"]].concat()).await;
    assert!(text.lines().last().unwrap().contains("succeeded, 100 %"), "{text}");
    let started = zonectl.json(&movement(&to, &from)).await;
    has_fields(&started, &OPERATION);
    let watched = zonectl.json_lines(&["operation", "watch", &started["id"].to_string()]).await;
    assert_eq!(watched.last().unwrap()["state"], "succeeded");
    let text = zonectl.text(&["operation", "watch", &started["id"].to_string()]).await;
    assert!(text.contains("succeeded"), "{text}");
    let shown = zonectl.json(&["partition", "show", &partition]).await;
    let nodes: Vec<String> = shown["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|replica| replica["node_id"].to_string())
        .collect();
    assert!(nodes.contains(&from) && !nodes.contains(&to), "{nodes:?}");
    let explained = zonectl.json(&["explain", "partition", &partition]).await;
    let places = explained["places"].as_array().unwrap();
    let back = places.iter().find(|place| place["node_id"].as_u64() == from.parse().ok()).unwrap();
    assert_eq!(back["placed_by"]["id"], started["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_drain_uncordon_and_remove() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let name = &*zone.busiest().await.name;
    let changes = zonectl.json_lines(&["node", "drain", name, "--wait"]).await;
    assert_eq!(changes.last().unwrap()["state"], "succeeded");
    let shown = zonectl.json(&["node", "show", name]).await;
    assert_eq!((&shown["replicas"], &shown["leaders"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(shown["administrative_state"], "drained");
    zonectl
        .run(&["node", "drain", name])
        .await
        .refused(1, &["not possible now", "drained already"]);
    let uncordoned = zonectl.json(&["node", "uncordon", name]).await;
    has_fields(&uncordoned, &NODE);
    assert_eq!(uncordoned["administrative_state"], "active");
    let text = zonectl.text(&["node", "uncordon", name]).await;
    assert!(text.contains(&format!("{name} takes part again.")), "{text}");
    zonectl.run(&["node", "remove", name]).await.refused(1, &["is up", "stop its process first"]);
    for verb in ["drain", "uncordon", "remove"] {
        zonectl.run(&["node", verb, "nobody"]).await.refused(1, &["nobody"]);
    }

    // Its leaderships come back once it holds replicas again.
    zone.even_out().await;
    let drain = zonectl.text(&["node", "drain", name]).await;
    assert!(drain.starts_with("Accepted: "), "{drain}");
    let text = zonectl.text(&["node", "uncordon", name]).await;
    assert!(text.contains("takes part again"), "{text}");
    zone.even_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_cancel() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let name = zone.busiest().await.name;
    let mut ids = Vec::new();
    for output in ["json", "table"] {
        let started = zonectl.json(&["node", "drain", &name]).await;
        let id = started["id"].to_string();
        let cancelled = zonectl.run(&["operation", "cancel", &id, "-o", output]).await;
        assert!(cancelled.text().contains("cancelled"), "{cancelled:?}");
        let watched = zonectl.run(&["operation", "watch", &id]).await;
        watched_to_failure(&watched.stderr, &id);
        assert_eq!(watched.code, Some(1), "{watched:?}");
        ids.push(id);
        zone.settled().await;
    }
    let again = zonectl.run(&["operation", "cancel", &ids[0]]).await;
    again.refused(1, &["has ended already", "cancelled"]);
    zone.even_out().await;
}

#[track_caller]
fn watched_to_failure(said: &str, id: &str) {
    assert!(said.contains(&format!("operation {id} ended as cancelled")), "{said}");
}
