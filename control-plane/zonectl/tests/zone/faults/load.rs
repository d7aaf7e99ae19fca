//! Load moves.

use proto::v1;

use crate::support::{
    eventually,
    traffic::Traffic,
    zone::{Shape, TestZone},
};

/// All leaderships are put on one node by hand. Whether the load is seen, and moved, is what this is about; how even
/// it becomes in the end, the simulation and the benchmarks say.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_bears_alone_is_spread_under_traffic() {
    let shape = Shape { members: 1, index_nodes: 3, partitions: 6, ..Shape::default() };
    let zone = TestZone::start(shape).await;
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
    eventually("a leadership that load takes elsewhere", async move || {
        let request = v1::ListOperationsRequest { include_ended: true, limit: 1_000 };
        let operations = admin.list_operations(request).await.ok()?.operations;
        let by_load = operations.iter().filter(|it| it.origin == "heat" && it.id > last);
        let mut given = by_load.filter(|it| it.from_node_id == alone && it.to_node_id != alone);
        given.any(|it| it.state() == v1::OperationState::Succeeded).then_some(())
    })
    .await;
    traffic.flows().await;
    traffic.unharmed().await;
}
