//! Reading and listing.

use futures_util::TryStreamExt;

use super::fake::{Behaviour, Member, Node, connect, map, options, retry_after, route};
use crate::{Client, Item, ListOptions, ObjectMetadata, RequestError};

/// Three partitions on three nodes.
async fn three() -> (Client, Vec<Node>, Vec<super::fake::Server>) {
    let nodes = vec![Node::of(1, "", "h"), Node::of(2, "h", "p"), Node::of(3, "p", "")];
    let mut servers = Vec::new();
    for node in &nodes {
        servers.push(node.serve().await);
    }
    let addresses: Vec<&str> = servers.iter().map(|server| server.address.as_str()).collect();
    let routes =
        vec![route(1, "", "h", [1], 1), route(2, "h", "p", [2], 2), route(3, "p", "", [3], 3)];
    let member = Member::with(map(1, routes, &addresses)).serve().await;
    let client = connect(&member, options()).await;
    servers.push(member);
    (client, nodes, servers)
}

async fn keys(client: &Client, options: ListOptions) -> Vec<String> {
    let items: Vec<Item> = client.list(options).try_collect().await.unwrap();
    items.into_iter().map(|item| String::from_utf8(item.key.to_vec()).unwrap()).collect()
}

async fn fill(client: &Client, keys: &[&'static str]) {
    for key in keys {
        client.put(*key, ObjectMetadata::default(), None).await.unwrap();
    }
}

/// A key that its node throttles takes nothing from what requests for other keys may retry.
#[tokio::test]
async fn a_throttled_key_leaves_the_budget_of_retries_to_others() {
    let (client, nodes, _servers) = three().await;
    let refuse = || Behaviour::Refuse(retry_after(1));
    nodes[0].state().script.extend(std::iter::repeat_with(refuse).take(6));
    assert_eq!(client.get("a").await.unwrap(), None);
    assert_eq!(nodes[0].state().seen.len(), 7, "it came again until it was served");
    let budget = &client.shared.budget;
    let left = std::iter::repeat_with(|| budget.take()).take_while(|taken| *taken).count();
    assert_eq!(left, 1_000, "all of it");
}

#[tokio::test]
async fn what_was_put_is_read() {
    let (client, _nodes, _servers) = three().await;
    let value = ObjectMetadata {
        etag: "e".into(),
        size_bytes: 7,
        location: "disk-3".into(),
        user_payload: "p".into(),
    };
    let version = client.put("k", value.clone(), None).await.unwrap();
    let item = client.get("k").await.unwrap().unwrap();
    assert_eq!((item.value, item.version), (value, version));
    client.delete("k", None).await.unwrap();
    assert_eq!(client.get("k").await, Ok(None));
    assert!(!client.delete("k", None).await.unwrap().existed);
}

#[tokio::test]
async fn a_listing_streams_over_partitions() {
    let (client, nodes, _servers) = three().await;
    fill(&client, &["a", "b", "h", "ka", "kb", "p", "z"]).await;
    assert_eq!(keys(&client, ListOptions::default()).await, ["a", "b", "h", "ka", "kb", "p", "z"]);
    let prefix = ListOptions { prefix: "k".into(), ..ListOptions::default() };
    assert_eq!(keys(&client, prefix).await, ["ka", "kb"]);
    let after = ListOptions { start_after: "b".into(), limit: Some(3), ..ListOptions::default() };
    assert_eq!(keys(&client, after).await, ["h", "ka", "kb"]);
    let listed = nodes[2].state().seen.iter().filter(|seen| seen.call == "list").count();
    assert_eq!(listed, 1, "neither the prefix nor the limit reaches the last partition");
}

#[tokio::test]
async fn a_listing_goes_on_within_a_partition() {
    let (client, _nodes, _servers) = three().await;
    fill(&client, &["a", "a\0", "a\0b", "b"]).await;
    let mut from = bytes::Bytes::new();
    let mut found = Vec::new();
    loop {
        let page = client.list_page(&bytes::Bytes::new(), from, 1).await.unwrap();
        found.extend(page.items.into_iter().map(|item| item.key));
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(found, ["a", "a\0", "a\0b", "b"]);
}

#[tokio::test]
async fn a_split_between_two_pages_neither_loses_nor_doubles() {
    let (client, nodes, _servers) = three().await;
    fill(&client, &["a", "c", "e"]).await;
    let page = client.list_page(&bytes::Bytes::new(), "".into(), 1).await.unwrap();
    assert_eq!(page.items.len(), 1);
    // The first partition's range epoch rises, as in a split whose right half went nowhere yet.
    nodes[0].state().epoch = 2;
    let rest = ListOptions { start_after: "a".into(), ..ListOptions::default() };
    assert_eq!(keys(&client, rest).await, ["c", "e"]);
}

#[tokio::test]
async fn an_impossible_request_is_refused_once() {
    let (client, nodes, _servers) = three().await;
    let bad = tonic::Status::invalid_argument("the key is empty; 1 to 4,096 bytes are allowed");
    nodes[0].state().script.extend([Behaviour::Refuse(bad)]);
    let Err(RequestError::Rejected { message, .. }) = client.get("").await else {
        panic!("an empty key was read");
    };
    assert!(message.contains("empty"));
    assert_eq!(nodes[0].state().seen.len(), 1);
}
