//! What the tests of the control plane stand on: members in this process, each on a runtime and a
//! RocksDB directory of its own, over real loopback gRPC; and index nodes that are played.

#![allow(dead_code)]

pub mod groups;
pub mod member;
pub mod node;
pub mod zone;

use std::{future::Future, time::Duration};

/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `look` finds something.
///
/// # Panics
/// If it does not in time.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(POLL).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"))
}

/// An address on this machine that nothing listens at.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}
