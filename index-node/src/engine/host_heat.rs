//! One round of heat reports over all replicas of a node.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use openraft::async_runtime::WatchReceiver;
use proto::v1::{FollowerLoad, HeatReport};

use super::{
    heat::{HeatReporter, reporter::Sample},
    host::ReplicaHost,
    replica::Replica,
    types::PartitionId,
};

/// Keys that are told of a partition whose keys are watched.
const KEYS_MAX: usize = 4;
/// In less time too little happens to call it a rate: a session that has just begun asks at once.
const ROUND_MIN: Duration = Duration::from_millis(100);
/// The store is asked for the size of so many partitions in one round: asking takes some 10 µs each.
const SIZES_MAX: usize = 32;

impl Replica {
    fn sample(&self) -> Sample {
        // Both from one look: who asks twice may take another leader's term for its own.
        let server = self.server.borrow_watched();
        let leads_in = server.state.is_leader().then(|| server.vote.leader_id().term);
        drop(server);
        Sample {
            partition: self.partition(),
            replica: self.id(),
            leads_in,
            counts: self.heat.take(),
        }
    }
}

impl ReplicaHost {
    fn reporter(&self) -> MutexGuard<'_, HeatReporter> {
        self.heat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is told next knows nothing yet.
    pub fn restart_heat(&self) {
        self.reporter().restart();
    }

    /// The load of partitions that are led here, as far as there is something to say, and what the other
    /// replicas cost; none if that was told just now. To be called every second or so, by one caller only.
    pub fn heat(&self) -> Option<(Vec<HeatReport>, FollowerLoad)> {
        let now = self.now();
        if now.since(self.reporter().last_round_at()) < ROUND_MIN {
            return None;
        }
        let replicas = self.replicas();
        let samples: Vec<Sample> = replicas.iter().map(|replica| replica.sample()).collect();
        let mut reporter = self.reporter();
        let elapsed = now.since(reporter.last_round_at());
        let mut round = reporter.round(now, &samples);
        drop(reporter);

        for replica in &replicas {
            replica.heat.age_keys(elapsed);
            replica.heat.track_keys(round.watched.contains(&replica.partition()));
        }
        let mut sizes_left = SIZES_MAX;
        for report in &mut round.reports {
            let Some(replica) = self.replica(PartitionId(report.partition_id)) else { continue };
            report.hottest_keys = replica.heat.hottest_keys(KEYS_MAX);
            let range = replica.view.state().range.clone();
            let middle = range.and_then(|range| replica.heat.middle(&range));
            report.split_left_permille = middle.map_or(0, |middle| middle.left_permille);
            report.stored_bytes = match replica.stored.fresh(now) {
                Some(bytes) => bytes,
                None if sizes_left > 0 => {
                    sizes_left -= 1;
                    let state = replica.view.state();
                    let store = self.shared.store.as_ref();
                    replica.stored.refresh(store, &state, now)
                }
                None => replica.stored.last().unwrap_or_else(|| replica.view.state().stored_bytes),
            };
        }
        Some((round.reports, round.follower_load))
    }
}
