//! A zone for tests: real nodes on real stores over the loopback, and a control plane that says exactly
//! what a test wants it to say.

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod clients;
pub mod control_plane;
pub mod node;

use std::time::Duration;

/// The longest that anything in a test may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
///
/// # Panics
/// If there is none after [`LIMIT`].
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(LIMIT, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited in vain: {what}"),
    }
}
