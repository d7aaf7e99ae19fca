//! Load moves.

use proto::v1;

use crate::support::{
    eventually,
    program::Zonectl,
    traffic::Traffic,
    zone::{Shape, TestZone},
};

/// All leaderships are put on one node by hand. Whether the load is seen, and moved, is what this is about; how even
/// it becomes in the end, the simulation and the benchmarks say.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_bears_alone_is_spread_under_traffic() {
    let shape = Shape { members: 3, index_nodes: 3, partitions: 6, ..Shape::default() };
    let mut zone = TestZone::start(shape).await;
    zone.settled().await;
    let traffic = Traffic::start(&zone).await;
    zone.set_balance("nothing of its own meanwhile", |balance| {
        balance.idle_permille = Some(1);
        balance.act_after_ms = Some(3_600_000);
    })
    .await;
    let alone = zone.busiest().await.id;
    for (partition, placement) in zone.placements().await {
        if placement.leader != alone {
            let operation = zone.transfer_leader(partition, alone).await.unwrap();
            zone.succeeded(operation).await;
        }
    }
    let last = zone.fingerprint().await.last_operation;

    zone.set_balance("load, and at once", |balance| {
        (balance.act_after_ms, balance.cooldown_ms) = (Some(0), Some(0));
    })
    .await;
    let admin = zone.admin();
    let taken = eventually("a leadership that load takes elsewhere", async move || {
        let request = v1::ListOperationsRequest { include_ended: true, limit: 1_000 };
        let operations = admin.list_operations(request).await.ok()?.operations;
        let by_load = operations.iter().filter(|it| it.origin == "heat" && it.id > last);
        let mut given = by_load.filter(|it| it.from_node_id == alone && it.to_node_id != alone);
        given.find(|it| it.state() == v1::OperationState::Succeeded).cloned()
    })
    .await;
    traffic.flows().await;

    // Why it is where it is, and with how much load it went, the next leader can tell as well.
    let partition = taken.partition_id.to_string();
    let zonectl = Zonectl::new(&zone.endpoints());
    let told = zonectl.json(&["explain", "partition", &partition]).await;
    let former = zone.status().await.control_plane.leader;
    let role = zone.leader().await;
    zone.processes.kill(role).unwrap();
    zone.status_when("another leader", |status| {
        status.control_plane.leader.is_some() && status.control_plane.leader != former
    })
    .await;
    let later = zonectl.json(&["explain", "partition", &partition]).await;
    for explained in [&told, &later] {
        let events = explained["events"].as_array().unwrap();
        let began = events.iter().find(|event| {
            event["operation_id"] == taken.id && event["kind"] == "operation-started"
        });
        let reason = began.unwrap_or_else(|| panic!("{events:#?}"))["reason"].as_str().unwrap();
        assert_eq!(reason, taken.reason);
        for word in ["more than its share of processor time", "‰ of the mean", "its leader bears"]
        {
            assert!(reason.contains(word), "{word}: {reason}");
        }
    }
    zone.processes.start(role).unwrap();
    zone.settled().await;
    traffic.unharmed().await;
}
