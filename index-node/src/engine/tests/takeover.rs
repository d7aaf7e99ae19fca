//! Leaders that are lost, and who may take over.

use std::time::Duration;

use proto::v1::{VoteAuthority, frame_error::Code, take_over_result::Outcome};

use super::harness::{EPOCH, FENCE, PARTITION, Zone, placement};
use crate::engine::{
    options::EngineOptions,
    transport::{Fence, VoteAuthority as Authority},
    types::{RaftVote, VoteRequest},
};

async fn zone() -> (Zone, u64, u64, u64) {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    zone.put(leader, "b", "one").await.unwrap();
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    for other in &others {
        zone.caught_up(*other, leader).await;
    }
    (zone, leader, others[0], others[1])
}

#[tokio::test(start_paused = true)]
async fn an_appointed_replica_leads_at_once() {
    let (mut zone, leader, next, _) = zone().await;
    zone.crash(leader);
    let began = tokio::time::Instant::now();
    let result = zone.appoint(next, leader, false).await;
    assert_eq!(result.outcome(), Outcome::Leading, "{result:?}");
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(zone.get(next, "b").await, Ok(Some("one".into())));
    zone.put(next, "b", "two").await.unwrap();

    // Asked again it says so again.
    assert_eq!(zone.appoint(next, leader, false).await.outcome(), Outcome::Leading);
    // The old one comes back, and follows without a copy.
    zone.start(leader).await;
    zone.caught_up(leader, next).await;
    assert_eq!(zone.content(leader)["b"].0, "two");
    assert_eq!(zone.network.snapshots_sent.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn voters_that_have_just_started_are_disarmed_first() {
    let (mut zone, leader, next, third) = zone().await;
    zone.crash(leader);
    for node in [next, third] {
        zone.crash(node);
        zone.start(node).await;
    }
    let gentle = zone.appoint(next, leader, false).await;
    if gentle.outcome() != Outcome::Leading {
        let disarmed = zone.ask(third, next, leader, VoteAuthority::Conclusion, false).await;
        assert_eq!(disarmed.outcome(), Outcome::Disarmed, "{disarmed:?}");
        let result = zone.appoint(next, leader, true).await;
        assert_eq!(result.outcome(), Outcome::Leading, "{result:?}");
    }
    assert_eq!(zone.get(next, "b").await, Ok(Some("one".into())));
}

#[tokio::test(start_paused = true)]
async fn a_bad_link_cannot_depose_a_leader_that_others_see() {
    let (zone, leader, next, third) = zone().await;
    // Only `next` could claim so; it is not cut off from the leader, so it refuses by itself.
    let result = zone.ask(next, next, leader, VoteAuthority::Peers, false).await;
    assert_eq!(result.outcome(), Outcome::LedElsewhere, "{result:?}");
    let result = zone.ask(third, next, leader, VoteAuthority::Peers, false).await;
    assert_eq!(result.outcome(), Outcome::LedElsewhere, "{result:?}");
    // Nor does anybody without a lost node while there is a leader.
    let result = zone.ask(next, next, 0, VoteAuthority::Peers, false).await;
    assert_eq!(result.outcome(), Outcome::LedElsewhere, "{result:?}");
    assert_eq!(zone.leader().await, leader);
    zone.put(leader, "b", "two").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn peers_take_over_what_they_have_lost() {
    let (zone, leader, next, _) = zone().await;
    zone.cut(leader);
    let result = zone.ask(next, next, leader, VoteAuthority::Peers, false).await;
    assert_eq!(result.outcome(), Outcome::Leading, "{result:?}");
    // What the old one still believes is worth nothing.
    assert!(zone.get(leader, "b").await.is_err());
    zone.put(next, "b", "two").await.unwrap();
    zone.heal(leader);
    zone.caught_up(leader, next).await;
    assert_eq!(zone.leader().await, next);
}

#[tokio::test(start_paused = true)]
async fn a_lost_leader_is_known_as_lost_after_it_was_forgotten() {
    let (zone, leader, next, _) = zone().await;
    let position = zone.replica(next).log_position().await;
    assert!(!position.leader_lost, "{position:?}");
    // What a node does when its watch has lost another one.
    zone.cut(leader);
    zone.host(next).confirm_led_with(placement(leader).node).await;
    assert_eq!(zone.replica(next).leader(), None);
    assert_eq!(zone.replica(next).followed(), Some(placement(leader)));
    let position = zone.replica(next).log_position().await;
    assert!(position.leader_lost, "{position:?}");
    assert_eq!(position.leader_replica_id, 0, "{position:?}");
    zone.heal(leader);
    assert!(!zone.replica(next).log_position().await.leader_lost);
}

#[tokio::test(start_paused = true)]
async fn orders_of_a_deposed_control_plane_leader_count_for_nothing() {
    let (zone, leader, next, _) = zone().await;
    let newer = Fence { term: FENCE.term + 1, ..FENCE };
    zone.host(next).accept_term(newer).await.unwrap();
    zone.cut(leader);
    let position = zone.replica(next).log_position().await;
    let request = proto::v1::TakeOverRequest {
        fence: Some(FENCE.into()),
        authority: VoteAuthority::Conclusion.into(),
        lost_node_id: leader,
        groups: vec![proto::v1::TakeOverGroup {
            group: position.group,
            candidate_replica_id: placement(next).replica.0,
            membership_log: position.membership_log,
            elect: false,
        }],
        timeout_ms: 1_000,
    };
    let status = zone.host(next).take_over(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(matches!(
        runtime::grpc::detail::kind_of(&status),
        Some(proto::v1::error_detail::Kind::StaleFence(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_planned_hand_over_loses_nothing() {
    let (zone, leader, next, _) = zone().await;
    zone.replica(leader).transfer_leader(placement(next).replica).await.unwrap();
    assert_eq!(zone.leader().await, next);
    assert_eq!(zone.get(next, "b").await, Ok(Some("one".into())));
    // Again: nothing to do.
    zone.replica(leader).transfer_leader(placement(next).replica).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_handed_over_to_who_is_lost_or_does_not_vote() {
    let (zone, leader, next, third) = zone().await;
    zone.cut(third);
    assert!(zone.replica(leader).transfer_leader(placement(third).replica).await.is_err());
    assert!(zone.replica(leader).transfer_leader(placement(9).replica).await.is_err());
    assert_eq!(zone.leader().await, leader);
    zone.put(leader, "b", "two").await.unwrap();
    zone.replica(leader).transfer_leader(placement(next).replica).await.unwrap();
    assert_eq!(zone.leader().await, next);
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_candidate_is_not_elected_and_says_so() {
    let (zone, leader, next, third) = zone().await;
    zone.cut(leader);
    zone.cut(third);
    let result = zone.appoint(next, leader, false).await;
    assert_eq!(result.outcome(), Outcome::NotElected, "{result:?}");
    zone.heal(third);
    // The other one can, all the same.
    let disarmed = zone.ask(next, third, leader, VoteAuthority::Conclusion, false).await;
    assert!(
        matches!(disarmed.outcome(), Outcome::Disarmed | Outcome::LedElsewhere),
        "{disarmed:?}"
    );
    let result = zone.appoint(third, leader, true).await;
    assert_eq!(result.outcome(), Outcome::Leading, "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn positions_tell_who_is_ahead() {
    let (zone, leader, next, third) = zone().await;
    zone.cut(third);
    for round in 0..5 {
        zone.put(leader, "b", &round.to_string()).await.unwrap();
    }
    zone.heal(third);
    zone.cut(leader);
    let ahead = zone.replica(next).log_position().await;
    let behind = zone.replica(third).log_position().await;
    assert!(ahead.last_log.unwrap().index > behind.last_log.unwrap().index);
    assert!(ahead.leader_lost);
    assert_eq!(ahead.voter_replica_ids, [10, 20, 30]);
    let unknown = proto::v1::GroupReplica { partition_id: 99, replica_id: 99 };
    let positions = zone.host(next).log_positions(&[unknown]).await;
    assert!(!positions[0].error.is_empty());
    assert_eq!(zone.replica(next).partition(), PARTITION);
    assert_eq!(zone.replica(next).report().range_epoch, EPOCH);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_restarted_leads_again_without_the_control_plane() {
    let (mut zone, leader, next, third) = zone().await;
    zone.crash(leader);
    zone.start(leader).await;
    assert_eq!(zone.replica(leader).leader(), None, "it was not elected again");
    for other in [next, third] {
        // They have heard nothing else yet.
        assert_eq!(zone.replica(other).leader(), Some(placement(leader)));
        zone.host(other).confirm_led_with(placement(leader).node).await;
        assert_eq!(zone.replica(other).leader(), None, "the watch lost its node");
    }
    // Too early for peers; then not any more.
    let result = zone.ask(next, next, 0, VoteAuthority::Peers, false).await;
    assert_eq!(result.outcome(), Outcome::LedElsewhere, "{result:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let result = zone.ask(next, next, 0, VoteAuthority::Peers, false).await;
    assert_eq!(result.outcome(), Outcome::Leading, "{result:?}");
    zone.put(next, "b", "two").await.unwrap();
    zone.caught_up(leader, next).await;
    assert_eq!(zone.replica(leader).leader(), Some(placement(next)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_in_doubt_recovers_and_says_so() {
    let (zone, leader, next, third) = zone().await;
    zone.cut(next);
    zone.cut(third);
    zone.host(leader).confirm_led_with(placement(next).node).await;
    assert!(!zone.replica(leader).report().leading);
    zone.heal(next);
    zone.heal(third);
    zone.host(leader).changed().await;
    zone.eventually(|| zone.replica(leader).report().leading.then_some(())).await;
    assert!(zone.host(leader).changed().await.contains(&placement(leader).replica));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_is_reported_as_leading() {
    let (mut zone, leader, next, _) = zone().await;
    zone.crash(leader);
    zone.appoint(next, leader, false).await;
    let mut reported = false;
    while !reported {
        let changed = zone.host(next).changed().await;
        reported = changed
            .iter()
            .filter_map(|replica| zone.host(next).report(*replica))
            .any(|report| report.leading && report.range.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_voter_checks_the_authority_itself() {
    let (zone, leader, next, third) = zone().await;
    let (from, to) = (placement(next).replica, placement(third).replica);
    let position = zone.replica(next).log_position().await;
    let last_log_id = position.last_log.as_ref().map(crate::engine::types::from_position);
    let ask = |authority| {
        let host = zone.host(third);
        async move {
            let request = VoteRequest {
                vote: RaftVote::new(position.vote_term + 1, from.0),
                last_log_id,
                leadership_transfer: true,
            };
            host.handle_vote(PARTITION, from, to, request, authority).await
        }
    };
    let newer = Fence { term: FENCE.term + 1, ..FENCE };
    zone.host(third).accept_term(newer).await.unwrap();
    let lost_node = placement(leader).node;
    let other_node = placement(9).node;
    for authority in [
        Authority::Ordinary,
        // Of a control plane's leader that is deposed.
        Authority::Conclusion { fence: FENCE, lost_node },
        // Of a node that does not lead.
        Authority::Conclusion { fence: newer, lost_node: other_node },
    ] {
        let answer = ask(authority).await.unwrap();
        assert!(!answer.vote_granted, "{authority:?}: the lease holds");
    }
    for authority in
        [Authority::Peers { lost_node }, Authority::Peers { lost_node: Default::default() }]
    {
        let fault = ask(authority).await.unwrap_err();
        assert_eq!(fault.code, Code::LeaderAlive, "{authority:?}");
    }
    let request = VoteRequest {
        vote: RaftVote::new(99, from.0),
        last_log_id: None,
        leadership_transfer: false,
    };
    let host = zone.host(third);
    let fault = host.handle_vote(PARTITION, to, to, request, Authority::Ordinary).await;
    assert_eq!(fault.unwrap_err().code, Code::Malformed, "nobody speaks for another");
    let answer = ask(Authority::Conclusion { fence: newer, lost_node }).await.unwrap();
    assert!(answer.vote_granted);
}
