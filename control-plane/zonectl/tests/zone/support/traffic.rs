//! Load with verification, under which a test lets something happen.

use std::time::Duration;

use client::Options;
use zonectl::load::{self, LoadOptions, LoadReport, RunningLoad};

use super::{eventually, zone::TestZone};

/// Traffic that goes on until it is stopped.
pub struct Traffic {
    running: RunningLoad,
}

impl Traffic {
    /// Starts reads, writes and deletes on many keys of every partition, and returns when they flow.
    pub async fn start(zone: &TestZone) -> Self {
        let options = LoadOptions {
            rate_per_second: 150.0,
            // Stopped long before.
            duration: Duration::from_secs(600),
            keys: 2_000,
            value_bytes: 200,
            read_ratio: 0.4,
            delete_ratio: 0.1,
            verify: true,
            ..LoadOptions::default()
        };
        let environment = &zone.environment;
        let endpoints = zone.endpoints();
        let clients = load::connect(environment, &endpoints, &Options::default(), &options).await;
        let running = load::start(environment, clients.unwrap(), options).unwrap();
        let traffic = Self { running };
        traffic.flows().await;
        traffic
    }

    fn completed(&self) -> u64 {
        self.running.progress().completed
    }

    /// Waits until a few hundred more requests were answered.
    #[track_caller]
    pub fn flows(&self) -> impl Future<Output = ()> {
        let enough = self.completed() + 300;
        eventually("traffic that flows", async move || (self.completed() >= enough).then_some(()))
    }

    /// Ends it and verifies every key. Nothing acknowledged may be missing.
    pub async fn verified(self) -> LoadReport {
        self.running.stop();
        let report = self.running.finish().await.unwrap();
        assert_eq!(report.failure(), None, "{report:?}");
        let verification = report.verification.as_ref().expect("it was asked for");
        assert!(verification.passed, "{verification:?}");
        assert!(verification.acknowledged_writes > 0, "{report:?}");
        report
    }

    /// The same, and no request may have failed, nor been left in the dark.
    pub async fn unharmed(self) -> LoadReport {
        let report = self.verified().await;
        assert_eq!((report.failed, report.shed), (0, 0), "{:?}", report.errors);
        report
    }
}
