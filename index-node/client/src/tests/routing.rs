//! Finding the right node.

use std::time::Duration;

use super::fake::{
    Behaviour, Member, Node, connect, dead_address, map, no_leader, options, route, wrong_leader,
    zone_of,
};
use crate::{Client, ConnectError, ObjectMetadata, Options, PartitionId, RequestError};
use runtime::seams::Environment;

#[tokio::test]
async fn a_hint_is_followed_and_remembered() {
    let (one, two) = (Node::whole(), Node::whole());
    let (first, second) = (one.serve().await, two.serve().await);
    let hint = wrong_leader(2, &second.address);
    one.state().script.extend([Behaviour::Refuse(hint)]);
    let (client, _member, _) = zone_of(&[&first.address, &second.address], options()).await;
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(one.state().seen.len(), 1);
    assert_eq!(two.state().seen.len(), 2);
}

#[tokio::test]
async fn a_hint_tells_the_address_of_a_node_that_the_map_does_not_know() {
    let (one, two) = (Node::whole(), Node::whole());
    let (first, second) = (one.serve().await, two.serve().await);
    one.state().script.extend([Behaviour::Refuse(wrong_leader(7, &second.address))]);
    let (client, _member, _) = zone_of(&[&first.address], options()).await;
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(two.state().seen.len(), 1);
}

#[tokio::test]
async fn a_hint_to_a_dead_node_is_not_followed_for_ever() {
    let dead = dead_address().await;
    let stale = || Behaviour::Refuse(wrong_leader(1, &dead));
    let survivor = Node::whole().script([stale(), stale(), stale(), stale()]);
    let server = survivor.serve().await;
    let (client, _member, _) = zone_of(&[&dead, &server.address], options()).await;
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(client.route_of(b"k").unwrap().leader.unwrap().0, 2);
    // The next request does not go to the dead node first.
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(survivor.state().seen.len(), 6);
}

#[tokio::test]
async fn a_newer_range_in_an_error_corrects_the_map() {
    let node = Node::whole();
    node.state().epoch = 4;
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    assert_eq!(client.get("k").await, Ok(None));
    let epochs: Vec<u64> = node.state().seen.iter().map(|seen| seen.epoch).collect();
    assert_eq!(epochs, [1, 4]);
}

#[tokio::test]
async fn a_key_that_moved_to_another_partition_is_found_by_a_new_map() {
    let (left, right) = (Node::of(1, "", "m"), Node::of(2, "m", ""));
    left.state().epoch = 2;
    let (first, second) = (left.serve().await, right.serve().await);
    let addresses = [first.address.as_str(), second.address.as_str()];
    let member = Member::with(map(1, vec![route(1, "", "", [1], 1)], &addresses)).quiet();
    let server = member.serve().await;
    let client = connect(&server, options()).await;
    // The member learns of the split, but its watch has not told yet when the request is made.
    let mut parent = route(1, "", "m", [1], 1);
    parent.range_epoch = 2;
    member.change(map(2, vec![parent, route(2, "m", "", [2], 2)], &addresses));
    assert_eq!(client.get("x").await, Ok(None));
    assert_eq!(client.partition_of(b"x"), Some(PartitionId(2)));
    assert_eq!((left.state().seen.len(), right.state().seen.len()), (1, 1));
}

#[tokio::test]
async fn the_watch_moves_requests_to_a_new_leader() {
    let (one, two) = (Node::whole(), Node::whole());
    let (first, second) = (one.serve().await, two.serve().await);
    let addresses = [first.address.as_str(), second.address.as_str()];
    let (client, _server, member) = zone_of(&addresses, options()).await;
    member.change(map(2, vec![route(1, "", "", [1, 2], 2)], &addresses));
    while client.map_revision() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!((one.state().seen.len(), two.state().seen.len()), (0, 1));
}

#[tokio::test]
async fn requests_go_on_without_the_control_plane_and_correct_themselves() {
    let (one, two) = (Node::whole(), Node::whole());
    let (first, second) = (one.serve().await, two.serve().await);
    let addresses = [first.address.as_str(), second.address.as_str()];
    let (client, server, _) = zone_of(&addresses, options()).await;
    drop(server);
    assert_eq!(client.get("k").await, Ok(None));
    let hint = wrong_leader(2, &second.address);
    one.state().script.extend([Behaviour::Refuse(hint)]);
    one.state().then = Some(|| Behaviour::Refuse(no_leader()));
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(two.state().seen.len(), 1);
}

#[tokio::test]
async fn a_kept_map_starts_a_client_without_a_control_plane() {
    let node = Node::whole();
    let server = node.serve().await;
    let (client, member, _) = zone_of(&[&server.address], options()).await;
    let kept = client.partition_map().unwrap();
    drop((client, member));
    let endpoints = [dead_address().await];
    let seeded = Options { seed_map: Some(kept), ..options() };
    let client = Client::connect(&Environment::production(), &endpoints, seeded).await.unwrap();
    client.put("k", ObjectMetadata::default(), None).await.unwrap();
}

#[tokio::test]
async fn connecting_says_what_is_wrong() {
    let environment = Environment::production();
    let soon = Options { connect_deadline: Duration::from_millis(50), ..options() };
    let nobody = Client::connect(&environment, &[dead_address().await], soon.clone()).await;
    let Err(ConnectError::Unreachable { problems, .. }) = nobody else { panic!("connected") };
    assert!(problems.contains("127.0.0.1"), "{problems}");
    let server = Member::uninitialized().serve().await;
    let early = Client::connect(&environment, std::slice::from_ref(&server.address), soon).await;
    assert!(matches!(early, Err(ConnectError::NotInitialized(_))));
    let none = Client::connect(&environment, &[], options()).await;
    assert!(matches!(none, Err(ConnectError::NoEndpoints)));
}

#[tokio::test]
async fn those_who_wait_are_woken_by_the_first_success() {
    let node = Node::whole().then(|| Behaviour::Refuse(no_leader()));
    let server = node.serve().await;
    let (client, _member, _) = zone_of(&[&server.address], options()).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("k").await })
        })
        .collect();
    while node.state().seen.len() < 40 {
        tokio::task::yield_now().await;
    }
    node.state().then = None;
    for task in waiting {
        assert_eq!(task.await.unwrap(), Ok(None));
    }
}

#[tokio::test]
async fn a_read_of_a_dead_partition_fails_at_its_deadline() {
    let dead = dead_address().await;
    let (client, _member, _) = zone_of(&[&dead], options()).await;
    let client = client.with_deadline(Duration::from_millis(200));
    let outcome = client.get("k").await;
    let Err(RequestError::Deadline { last, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(last.contains(&dead), "{last}");
}
