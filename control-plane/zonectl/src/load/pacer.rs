//! Says when requests are due.
//!
//! From a thread of its own: the executor's timers are good to a millisecond, which is as long as the
//! requests that are to be measured.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use runtime::seams::{Environment, Moment};
use tokio::sync::mpsc::{Receiver, channel, error::TrySendError};
use tokio_util::sync::CancellationToken;

/// Requests that are due may wait for the executor to look at them; beyond that they are shed.
const DUE_MAX: usize = 65_536;

/// The longest sleep: how soon a cancellation is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// When the request with this number is due.
fn due(started: Moment, number: u64, rate_per_second: f64) -> Moment {
    // Exact to a microsecond for some centuries.
    started + Duration::from_secs_f64(number as f64 / rate_per_second)
}

/// Starts the pace: the receiver gets the moment of each request when it has come. Those that found no
/// room are counted in `shed`.
///
/// # Errors
/// If its thread cannot be started.
pub fn start(
    environment: Environment,
    started: Moment,
    planned: u64,
    rate_per_second: f64,
    shed: Arc<AtomicU64>,
    stop: CancellationToken,
) -> io::Result<Receiver<Moment>> {
    let (sender, receiver) = channel(DUE_MAX);
    let pace = move || {
        for number in 0..planned {
            let due = due(started, number, rate_per_second);
            loop {
                if stop.is_cancelled() {
                    return;
                }
                let wait = due.since(environment.now());
                if wait.is_zero() {
                    break;
                }
                // A clock for real processes: the load generator does not run in the simulation.
                #[allow(clippy::disallowed_methods)]
                thread::sleep(wait.min(SLEEP_MAX));
            }
            match sender.try_send(due) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    shed.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Closed(_)) => return,
            }
        }
    };
    thread::Builder::new().name("pacer".into()).spawn(pace)?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly() {
        let started = Moment::from_origin(Duration::from_secs(5));
        assert_eq!(due(started, 0, 250.0), started);
        assert_eq!(due(started, 1, 250.0), started + Duration::from_millis(4));
        assert_eq!(due(started, 1_000_000, 250.0), started + Duration::from_secs(4_000));
    }

    #[tokio::test]
    async fn every_request_is_announced_and_none_early() {
        let environment = Environment::production();
        let started = environment.now();
        let shed = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let mut dues =
            start(environment.clone(), started, 100, 5_000.0, Arc::clone(&shed), stop).unwrap();
        let mut count = 0;
        while let Some(due) = dues.recv().await {
            assert!(environment.now() >= due);
            count += 1;
        }
        assert_eq!((count, shed.load(Ordering::Relaxed)), (100, 0));
    }

    #[tokio::test]
    async fn a_cancelled_pace_ends() {
        let environment = Environment::production();
        let stop = CancellationToken::new();
        let started = environment.now();
        let shed = Arc::default();
        let mut dues = start(environment, started, 1_000, 0.1, shed, stop.clone()).unwrap();
        assert!(dues.recv().await.is_some());
        stop.cancel();
        assert!(dues.recv().await.is_none());
    }
}
