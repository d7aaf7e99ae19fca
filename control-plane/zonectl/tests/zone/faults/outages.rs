//! The whole control plane is gone, or everything is.

use std::time::Duration;

use client::{Client, Options};
use zonectl::zone_process::Role;

use crate::support::{LIMIT, shared::shared, traffic::Traffic, zone::TestZone};

/// How long a partition may be without a leader while nobody but its peers looks after it. A hang limit,
/// far above what it takes.
const HEALED_WITHIN: Duration = Duration::from_secs(30);

fn members(zone: &TestZone) -> Vec<Role> {
    zone.processes.layout().member_roles().collect()
}

/// Writes to each partition once, and waits until each has acknowledged.
async fn every_partition_acknowledges(client: &Client) {
    let writes = client.routes().into_iter().map(|route| {
        let key = [&route.start[..], b"\0outage"].concat();
        client.put(key, client::ObjectMetadata::default(), None)
    });
    for write in futures_util::future::join_all(writes).await {
        write.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_control_plane_a_dead_index_nodes_partitions_heal() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    // A map that a client has kept is enough to start with, too.
    let options = Options { seed_map: zone.client().await.partition_map(), ..Options::default() };
    let busiest = zone.busiest().await;
    let role = zone.role(&busiest);
    for member in members(&zone) {
        zone.processes.kill(member).unwrap();
    }
    let client = Client::connect(&zone.environment, &zone.endpoints(), options).await.unwrap();
    let client = client.with_deadline(HEALED_WITHIN);
    every_partition_acknowledges(&client).await;
    traffic.flows().await;

    zone.processes.kill(role).unwrap();
    let killed = zone.environment.now();
    every_partition_acknowledges(&client).await;
    let healed = zone.environment.now().since(killed);
    eprintln!("healed without a control plane after {healed:?}");
    traffic.flows().await;

    zone.processes.start(role).unwrap();
    zone.processes.start_all().unwrap();
    zone.settled().await;
    every_partition_acknowledges(&client).await;
    // While peers look after each other a request may take longer than its client waits: nothing is
    // lost, and what failed says so.
    let report = traffic.verified().await;
    assert_eq!(report.shed, 0);
    eprintln!("{} failed, {} unknown: {:?}", report.failed, report.unknown, report.errors);
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_control_plane_everything_is_served() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let before = zone.placements().await;
    for member in members(&zone) {
        zone.processes.terminate(member, LIMIT).await.unwrap();
    }
    for _ in 0..4 {
        traffic.flows().await;
    }
    zone.processes.start_all().unwrap();
    zone.settled().await;
    traffic.unharmed().await;
    assert_eq!(zone.placements().await, before, "nothing has moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_at_once_and_starts_again() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let before = zone.status().await;
    for _ in 0..2 {
        zone.kill_all();
        zone.processes.start_all().unwrap();
        zone.settled().await;
        traffic.flows().await;
    }
    let report = traffic.verified().await;
    eprintln!("{} failed, {} unknown", report.failed, report.unknown);
    let after = zone.status().await;
    assert_eq!(after.zone_id, before.zone_id);
    assert!(after.nodes.iter().all(|node| node.incarnation >= 3));
}
