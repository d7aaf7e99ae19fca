//! Which replicas of one group do not follow their leader, as the leader reports it, and since when.
//!
//! Leaders report how far the others are only now and then, and small lags only roughly: what is a few
//! entries behind counts as following.

use std::time::Duration;

use crate::{
    ids::{LogPosition, ReplicaId, Term},
    observation::{Progress, ReplicaReport},
    reconcile::LAG_ENTRIES_MAX,
};

/// A lag that a leader need not report as a change.
const LAG_NEGLIGIBLE_ENTRIES: u64 = 16;

/// Those that are behind, of one leader in one term. Mostly there is nobody, and then nothing is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Laggards {
    known: Option<Box<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    leader: ReplicaId,
    term: Term,
    list: Vec<Laggard>,
}

#[derive(Clone, Copy, Debug)]
struct Laggard {
    replica: ReplicaId,
    matched: Option<LogPosition>,
    /// Since when it is known to be there and no further.
    matched_since: Duration,
    /// Since when it is too far behind to be called a follower.
    far_since: Option<Duration>,
}

impl Laggards {
    /// Takes in what a leader reports.
    pub fn take_in(&mut self, report: &ReplicaReport, now: Duration) {
        if self.known.as_ref().is_some_and(|known| report.term < known.term) {
            return;
        }
        let before = self.known.take().filter(|known| known.is_of(report.replica, report.term));
        let before = before.map_or_else(Vec::new, |known| known.list);
        let behind = report.progress.iter().filter(|progress| {
            progress.replica != report.replica
                && (progress.matched.is_none() || progress.lag_entries >= LAG_NEGLIGIBLE_ENTRIES)
        });
        let list: Vec<_> = behind.map(|progress| laggard(&before, progress, now)).collect();
        if !list.is_empty() {
            self.known = Some(Box::new(Known { leader: report.replica, term: report.term, list }));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_none()
    }

    /// Since when this leader reports the replica as not following; none if it follows.
    pub fn since(&self, leader: ReplicaId, term: Term, replica: ReplicaId) -> Option<Duration> {
        let known = self.known.as_ref().filter(|known| known.is_of(leader, term))?;
        let laggard = known.list.iter().find(|laggard| laggard.replica == replica)?;
        let still = laggard.matched_since;
        Some(laggard.far_since.map_or(still, |far| far.min(still)))
    }
}

impl Known {
    fn is_of(&self, leader: ReplicaId, term: Term) -> bool {
        (leader, term) == (self.leader, self.term)
    }
}

fn laggard(before: &[Laggard], progress: &Progress, now: Duration) -> Laggard {
    let before = before.iter().find(|laggard| laggard.replica == progress.replica);
    let is_far = progress.matched.is_none() || progress.lag_entries > LAG_ENTRIES_MAX;
    let far_since = before.and_then(|before| before.far_since).unwrap_or(now);
    let stayed = before.filter(|before| before.matched == progress.matched);
    Laggard {
        replica: progress.replica,
        matched: progress.matched,
        matched_since: stayed.map_or(now, |before| before.matched_since),
        far_since: is_far.then_some(far_since),
    }
}
