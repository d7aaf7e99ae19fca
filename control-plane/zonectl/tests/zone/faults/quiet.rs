//! When nothing happens, nothing moves.

use crate::support::{shared::shared, traffic::Traffic};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_on_stationary_load() {
    let zone = shared().await;
    let before = zone.fingerprint().await;
    let traffic = Traffic::start(&zone).await;
    // A few thousand requests, and with them some seconds of everything that runs by the clock.
    for _ in 0..8 {
        traffic.flows().await;
    }
    let report = traffic.unharmed().await;
    assert_eq!(report.unknown, 0);
    assert_eq!(zone.fingerprint().await, before, "no event, no operation, no leadership");
}
