//! Load: what nodes tell of it, and what is left of that when another member leads.

use proto::v1;
use tonic::Code;

use crate::support::{eventually, zone::TestZone};

/// Load as the leader knows it, once `wanted` holds of it.
async fn heat_when(
    zone: &TestZone,
    what: &str,
    wanted: impl Fn(&v1::GetHeatResponse) -> bool,
) -> v1::GetHeatResponse {
    eventually(what, || async {
        let answer = zone.admin().await.get_heat(v1::GetHeatRequest { top: 64 }).await;
        answer.ok().map(tonic::Response::into_inner).filter(|heat| wanted(heat))
    })
    .await
}

fn reads(rates: &Option<v1::HeatRates>) -> f64 {
    rates.as_ref().map_or(0.0, |rates| rates.reads_per_second)
}

fn hottest(heat: &v1::GetHeatResponse) -> Vec<u64> {
    heat.partitions.iter().map(|partition| partition.partition_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_knows_what_was_hot_before_anybody_tells_it() {
    let mut zone = TestZone::start(3, 3, 4, 3).await;
    zone.healthy().await;
    // Of one node, which tells of both at a time.
    let (hot, warm) = zone.groups.lock().led_together().expect("three nodes lead four partitions");
    // That something was committed is seen, not what: whoever loses the leader too early tries again.
    let mut inherited = None;
    for _ in 0..10 {
        let before = zone.healthy().await.revision;
        zone.groups.lock().reads = [(warm, 60), (hot, 500)].into();
        let told = heat_when(&zone, "two partitions with load", |heat| {
            heat.partitions.len() == 2 && heat.partitions.iter().all(|it| it.leader_node_id > 0)
        })
        .await;
        assert_eq!(hottest(&told), [hot, warm]);
        let of_nodes: f64 = told.nodes.iter().map(|node| reads(&node.short_term)).sum();
        assert!((of_nodes - 560.0).abs() < 1.0, "each load is one node's: {told:#?}");

        zone.status_when("a commit", |status| status.revision > before).await;
        zone.groups.lock().reads.clear();
        let old = zone.leader().await;
        zone.members[old].kill();
        let found = heat_when(&zone, "an answer", |_| true).await;
        zone.members[old].start();
        zone.healthy().await;
        if !found.partitions.is_empty() {
            inherited = Some(found);
            break;
        }
    }
    let inherited = inherited.expect("what was hot was written down");
    assert_eq!(hottest(&inherited), [hot, warm]);
    for (partition, expected) in inherited.partitions.iter().zip([500.0, 60.0]) {
        assert!((reads(&partition.long_term) - expected).abs() < 1.0, "{inherited:#?}");
        assert_eq!(partition.leader_node_id, 0, "nobody has told it: {inherited:#?}");
    }
    assert!(inherited.nodes.iter().all(|node| reads(&node.long_term) == 0.0));

    // Then they tell it, and it believes them.
    zone.groups.lock().reads = [(hot, 500), (warm, 5_000)].into();
    let told = heat_when(&zone, "what nodes tell", |heat| {
        hottest(heat).starts_with(&[warm, hot])
            && heat.partitions.iter().take(2).all(|it| it.leader_node_id > 0)
    })
    .await;
    assert!(told.max_to_mean > 1.0, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_no_part_in_does_not_count() {
    let zone = TestZone::start(1, 2, 3, 1).await;
    zone.healthy().await;
    let claim = {
        let mut world = zone.groups.lock();
        world.reads = (1..=3).map(|partition| (partition, 100)).collect();
        let leader = world.groups[&1].leader.expect("it is led");
        let at = world.groups[&1].replicas[&leader];
        let term = world.groups[&1].term;
        let claim = v1::HeatReport {
            partition_id: 1,
            replica_id: leader,
            term,
            interval_ms: 1_000,
            reads: 100_000,
            ..Default::default()
        };
        let other = world.alive.iter().copied().find(|node| *node != at).expect("there are two");
        let absurd = v1::HeatReport { reads: u64::MAX, term: u64::MAX, ..claim.clone() };
        world.claims = vec![
            // Of a replica elsewhere, of one that is not there, of a partition that is not there.
            (other, claim.clone()),
            (at, v1::HeatReport { replica_id: 999, ..claim.clone() }),
            (at, v1::HeatReport { partition_id: u64::MAX, ..claim.clone() }),
            (at, v1::HeatReport { interval_ms: 0, ..claim.clone() }),
            (at, absurd),
            // Twice in one message: the later one counts.
            (at, claim.clone()),
        ];
        claim
    };
    eventually("the claims to be sent", || async {
        zone.groups.lock().claims.is_empty().then_some(())
    })
    .await;
    let heat = heat_when(&zone, "all three partitions", |heat| heat.partitions.len() == 3).await;
    let sum: f64 = heat.nodes.iter().map(|node| reads(&node.short_term)).sum();
    let of_partitions: f64 = heat.partitions.iter().map(|it| reads(&it.short_term)).sum();
    assert!((sum - of_partitions).abs() < 1.0, "{heat:#?}");
    let others = heat.partitions.iter().filter(|it| it.partition_id != claim.partition_id);
    for partition in others {
        assert!((reads(&partition.short_term) - 100.0).abs() < 1.0, "{heat:#?}");
    }
    assert!(sum < 100_300.0, "nothing counts twice: {heat:#?}");

    let refused = zone.admin().await.get_heat(v1::GetHeatRequest { top: 65 }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}
