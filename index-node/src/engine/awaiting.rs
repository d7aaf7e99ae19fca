//! Requests that come in while a group changes its leader wait here for the next one.
//!
//! In a takeover or a hand-over nobody leads for some milliseconds. A client that is sent away asks again
//! after a backoff, which is longer than that, and meanwhile every replica answers it several times. So a
//! replica that knows of no leader, and one that is handing over, keep the request for a moment: it is
//! answered by this replica if that leads then, and otherwise with a hint that is right.
//!
//! A leader that hands over knows its successor as soon as that asks for votes, and names it then: the
//! request waits there for the rest, and is answered in the moment in which it can be.
//!
//! Nothing was proposed for a request that waits, and it waits for less than a client's attempt lasts.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::{error::RequestError, host::ReplicaHost, replica::Replica};

impl Replica {
    /// Returns when this replica leads, or says who does.
    ///
    /// # Errors
    /// [`RequestError::WrongLeader`]: another replica leads, or nobody has come to lead in time.
    pub(super) async fn await_leading(&self) -> Result<(), RequestError> {
        if self.is_leader() {
            return Ok(());
        }
        self.wait(|| self.is_leader() || self.leader_elsewhere().is_some()).await;
        if self.is_leader() {
            runtime::mark!("request: waited until this replica led");
            return Ok(());
        }
        Err(self.wrong_leader())
    }

    /// A request was refused because this replica leads no more, or is handing over: who leads, once that is
    /// known.
    pub(super) async fn await_successor(&self) -> RequestError {
        self.wait(|| self.leader_elsewhere().is_some()).await;
        if self.leader_elsewhere().is_some() {
            runtime::mark!("request: waited for the end of a hand-over");
        }
        self.wrong_leader()
    }

    fn wrong_leader(&self) -> RequestError {
        let leader = self.leader_elsewhere();
        RequestError::WrongLeader { partition: self.partition(), leader }
    }

    /// Until it is so, but not for long; not at all if too many wait already.
    async fn wait(&self, is_so: impl Fn() -> bool) {
        if is_so() {
            return;
        }
        let Ok(_permit) = self.shared.leader_waits.try_acquire() else {
            runtime::mark!("request: too many wait for a leader");
            return;
        };
        let mut metrics = self.raft.server_metrics();
        let mut sightings = self.sightings.subscribe();
        let waiting = async {
            while !is_so() {
                tokio::select! {
                    biased;
                    changed = metrics.changed() => if changed.is_err() { return },
                    changed = sightings.changed() => if changed.is_err() { return },
                }
            }
        };
        let limit: Duration = self.shared.options.leader_wait_max;
        // Level, not edge: whoever asked looks again.
        let _ = runtime::time::timeout(limit, waiting).await;
    }
}

impl ReplicaHost {
    /// Returns when no request waits here for what other nodes have to say: that its entry is committed, or who
    /// leads, nor for other requests of its key. For a node that has handed over what it led, and is about to leave its peers.
    pub async fn requests_settled(&self) {
        let options = &self.shared.options;
        let all = |permits: usize| u32::try_from(permits).unwrap_or(u32::MAX);
        // They are never closed: errors would only mean that nobody can wait. Who waits for a turn has none
        // of the others yet.
        let turns = self.shared.turn_waits.acquire_many(all(options.turn_waits_max));
        drop(turns.await);
        let writes = self.shared.writes_in_flight.acquire_many(all(options.writes_in_flight_max));
        drop(writes.await);
        let waits = self.shared.leader_waits.acquire_many(all(options.leader_waits_max));
        drop(waits.await);
    }
}
