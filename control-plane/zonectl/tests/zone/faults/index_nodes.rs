//! An index node dies, or is stopped, and comes back.

use zonectl::zone_process::Exit;

use crate::support::{LIMIT, shared::shared, traffic::Traffic};

#[tokio::test(flavor = "multi_thread")]
async fn the_busiest_one_is_killed_and_comes_back() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    for _ in 0..3 {
        let busiest = zone.busiest().await;
        assert!(busiest.leaders > 0);
        let role = zone.role(&busiest);
        let before = zone.placements().await;
        zone.processes.kill(role).unwrap();
        let status = zone
            .status_when("leaders elsewhere", |status| {
                let node = status.nodes.iter().find(|node| node.id == busiest.id).unwrap();
                node.state == "down" && node.leaders == 0 && status.partitions.available == 8
            })
            .await;
        assert!(status.partitions.under_replicated > 0);
        assert!(
            status.problems.iter().any(|it| it.contains(&busiest.name)),
            "{:?}",
            status.problems
        );
        traffic.flows().await;
        zone.processes.start(role).unwrap();
        zone.settled().await;
        // It was taken back as it was: not one replica was made anew.
        let replicas = |placements: &crate::support::zone::Placements| {
            placements.values().map(|it| it.replicas.clone()).collect::<Vec<_>>()
        };
        assert_eq!(replicas(&zone.placements().await), replicas(&before));
        traffic.flows().await;
    }
    let report = traffic.unharmed().await;
    eprintln!("longest pause of writes: {:?}", report.longest_write_pause);
    let takeovers = zone.events().await.into_iter().filter(|event| event.kind == "takeover");
    let takeovers: Vec<_> = takeovers.collect();
    assert!(!takeovers.is_empty());
    assert!(takeovers.iter().all(|event| !event.reason.is_empty()), "{takeovers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_frozen_loses_its_leaderships_and_goes_on_later() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let busiest = zone.busiest().await;
    let role = zone.role(&busiest);
    zone.processes.freeze(role).unwrap();
    zone.status_when("leaders elsewhere", |status| {
        let node = status.nodes.iter().find(|node| node.id == busiest.id).unwrap();
        node.state != "up" && node.leaders == 0 && status.partitions.available == 8
    })
    .await;
    traffic.flows().await;
    zone.processes.thaw(role).unwrap();
    zone.settled().await;
    traffic.flows().await;
    traffic.unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_asked_to_end_hands_its_leaderships_over() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let busiest = zone.busiest().await;
    let role = zone.role(&busiest);
    let exit = zone.processes.terminate(role, LIMIT).await.unwrap();
    assert!(exit.is_some_and(Exit::success), "{exit:?}");
    zone.status_when("leaders elsewhere", |status| {
        let node = status.nodes.iter().find(|node| node.id == busiest.id).unwrap();
        node.state != "up" && node.leaders == 0 && status.partitions.available == 8
    })
    .await;
    traffic.flows().await;
    zone.processes.start(role).unwrap();
    zone.settled().await;
    traffic.unharmed().await;
}
