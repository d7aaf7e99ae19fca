//! Writes: at most once, whatever happens to the attempts.

use std::time::Duration;

use super::fake::{
    Behaviour, Node, dead_address, no_leader, options, partition_time, wrong_leader, zone_of,
};
use crate::{Condition, ObjectMetadata, Options, RequestError, Version, WriteError};

fn value(text: &'static str) -> ObjectMetadata {
    ObjectMetadata { user_payload: text.into(), ..ObjectMetadata::default() }
}

fn short() -> Options {
    Options { deadline: Duration::from_millis(600), ..options() }
}

#[tokio::test]
async fn the_first_write_learns_the_partitions_time() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    client.put("a", value("1"), None).await.unwrap();
    client.put("b", value("2"), None).await.unwrap();
    let expiries: Vec<u64> = node
        .state()
        .seen
        .iter()
        .map(|seen| seen.write_id.as_ref().unwrap().expires_at_ms)
        .collect();
    assert_eq!(expiries.len(), 3, "one attempt to learn the time, then one for each write");
    assert_eq!(expiries[0], 0);
    for expiry in &expiries[1..] {
        assert!((1_010_000..1_030_000).contains(expiry), "{expiry}");
    }
}

#[tokio::test]
async fn a_retry_after_silence_is_the_same_write() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    client.put("warm", value("up"), None).await.unwrap();
    node.state().seen.clear();
    node.state().script.extend([Behaviour::Silent, Behaviour::DoneButSilent]);
    let version = client.put("k", value("v"), Some(Condition::Absent)).await.unwrap();
    let state = node.state();
    assert_eq!(state.seen.len(), 3);
    assert!(state.seen.iter().all(|seen| *seen == state.seen[0]), "{:?}", state.seen);
    assert_eq!(version, Version(2), "the second attempt's application, not a third one");
    assert_eq!(state.data["k".as_bytes()].version, 2);
}

#[tokio::test]
async fn a_condition_is_not_measured_against_ones_own_first_attempt() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    let first = client.put("k", value("1"), None).await.unwrap();
    node.state().script.extend([Behaviour::DoneButSilent]);
    let condition = Some(Condition::VersionEquals(first));
    let second = client.put("k", value("2"), condition).await.unwrap();
    assert!(second > first);
    let again = client.put("k", value("3"), condition).await;
    assert_eq!(again, Err(WriteError::ConditionFailed { current_version: Some(second) }));
    let deleted = client.delete("k", Some(Condition::VersionEquals(second))).await.unwrap();
    assert!(deleted.existed);
    let gone = client.put("k", value("4"), condition).await;
    assert_eq!(gone, Err(WriteError::ConditionFailed { current_version: None }));
}

#[tokio::test]
async fn a_write_that_nobody_answers_is_unknown() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], short()).await;
    client.put("warm", value("up"), None).await.unwrap();
    node.state().seen.clear();
    node.state().then = Some(|| Behaviour::Silent);
    let outcome = client.put("k", value("v"), None).await;
    assert!(matches!(outcome, Err(WriteError::Unknown { .. })), "{outcome:?}");
    let state = node.state();
    assert!(state.seen.len() > 1);
    assert!(state.seen.iter().all(|seen| seen.write_id == state.seen[0].write_id));
}

#[tokio::test]
async fn a_write_that_was_refused_throughout_has_failed() {
    let node = Node::whole().then(|| Behaviour::Refuse(no_leader()));
    let server = node.serve().await;
    let dead = dead_address().await;
    let (client, _member, _) = zone_of(&[&server.address, &dead], short()).await;
    let outcome = client.put("k", value("v"), None).await;
    let Err(WriteError::Failed(RequestError::Deadline { attempts, last, .. })) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(attempts > 1);
    assert!(!last.is_empty());
}

#[tokio::test]
async fn a_refusal_does_not_speak_for_an_earlier_attempt() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    client.put("warm", value("up"), None).await.unwrap();
    let bad = || Behaviour::Refuse(tonic::Status::invalid_argument("the key is too long"));
    node.state().script.extend([bad()]);
    let outcome = client.put("k", value("v"), None).await;
    assert!(
        matches!(outcome, Err(WriteError::Failed(RequestError::Rejected { .. }))),
        "{outcome:?}"
    );
    node.state().script.extend([Behaviour::DoneButSilent, bad()]);
    let outcome = client.put("k", value("v"), None).await;
    assert!(matches!(outcome, Err(WriteError::Unknown { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_write_that_expired_unanswered_is_unknown() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    client.put("warm", value("up"), None).await.unwrap();
    let much_later = Behaviour::Refuse(partition_time(9_000_000));
    node.state().script.extend([Behaviour::DoneButSilent, much_later]);
    let outcome = client.put("k", value("v"), None).await;
    let Err(WriteError::Unknown { last, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(last.contains("expired"), "{last}");
}

#[tokio::test]
async fn a_write_that_expired_before_it_was_proposed_takes_a_new_expiry() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    client.put("warm", value("up"), None).await.unwrap();
    node.state().time_ms = 9_000_000;
    client.put("k", value("v"), None).await.unwrap();
    let seen = node.state().seen.last().unwrap().write_id.clone().unwrap();
    assert!(seen.expires_at_ms > 9_000_000);
}

#[tokio::test]
async fn an_expiry_too_far_ahead_of_a_write_that_may_be_done_is_kept() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    client.put("warm", value("up"), None).await.unwrap();
    node.state().seen.clear();
    // The partition's time stood still for long: the expiry looks too far ahead at first.
    let behind = || Behaviour::Refuse(partition_time(900_000));
    node.state().script.extend([Behaviour::Silent, behind(), behind()]);
    client.put("k", value("v"), None).await.unwrap();
    let state = node.state();
    assert_eq!(state.seen.len(), 4);
    assert!(state.seen.iter().all(|seen| seen.write_id == state.seen[0].write_id));
}

#[tokio::test]
async fn an_outcome_that_the_server_does_not_know_is_asked_for_again() {
    use proto::v1::{OutcomeUnknown, error_detail::Kind};
    let node = Node::whole();
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    client.put("warm", value("up"), None).await.unwrap();
    node.state().seen.clear();
    let unknown = runtime::grpc::detail::status(
        tonic::Code::Unknown,
        "the leader stopped",
        Kind::OutcomeUnknown(OutcomeUnknown {}),
    );
    node.state().script.extend([Behaviour::Refuse(unknown)]);
    client.put("k", value("v"), None).await.unwrap();
    let state = node.state();
    assert_eq!(state.seen[0], state.seen[1]);
}

#[tokio::test]
async fn a_write_moves_to_the_new_leader_with_its_identity() {
    let old = Node::whole();
    let new = Node::whole();
    let (old_server, new_server) = (old.serve().await, new.serve().await);
    let addresses = [old_server.address.as_str(), new_server.address.as_str()];
    let (client, _member, _) = zone_of(&addresses, options()).await;
    client.put("warm", value("up"), None).await.unwrap();
    old.state().seen.clear();
    new.state().seen.clear();
    old.state().script.extend([Behaviour::Silent]);
    old.state().then = Some(|| Behaviour::Refuse(no_leader()));
    let stale = wrong_leader(1, &old_server.address);
    new.state().script.extend([Behaviour::Refuse(stale)]);
    client.put("k", value("v"), None).await.unwrap();
    let first = old.state().seen[0].clone();
    assert!(new.state().seen.iter().all(|seen| *seen == first));
    assert_eq!(client.route_of(b"k").unwrap().leader.unwrap().0, 2);
}
