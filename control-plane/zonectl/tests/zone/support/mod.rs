//! Zones of real processes for tests, and what asks them.
//!
//! - [`zone`]: a zone in a directory of its own; [`shared`]: the one that most tests share.
//! - [`program`]: runs `zonectl`, or a server that shall end by itself.
//! - [`wire`]: gRPC stubs for one address, raw connections, and what is expected of refusals.
//! - [`spot`]: one partition, and requests to it by hand.
//! - [`traffic`]: load with verification, under which something happens.
//! - [`scripted`]: a control plane that says exactly what a test wants it to say.

pub mod program;
pub mod scripted;
pub mod shared;
pub mod spot;
pub mod traffic;
pub mod wire;
pub mod zone;

use std::time::Duration;

/// The longest that anything in a test may take. It is there so that a hang ends, and says nothing about
/// how long things should take.
pub const LIMIT: Duration = Duration::from_secs(60);

const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// Asks again and again until there is an answer.
///
/// # Panics
/// If there is none after [`LIMIT`].
#[track_caller]
pub fn eventually<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let asking = async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        match tokio::time::timeout(LIMIT, asking).await {
            Ok(answer) => answer,
            Err(_) => panic!("waited in vain for {what} at {caller}"),
        }
    }
}
