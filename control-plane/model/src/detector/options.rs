//! The detector's limits, with what each of them is for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectorOptions {
    /// Silence after which a node is suspect of which is not known yet how its heartbeats come.
    pub suspect_after: Duration,
    /// Where it is known, silence of such a φ makes it suspect: 12 is one chance in a million million that
    /// the heartbeat is merely late. Nobody confirms it, so it has to be sure.
    pub phi_suspect: f64,
    /// But not sooner than this, however regular its heartbeats are: a process may pause.
    pub suspect_after_min: Duration,
    /// And then whatever φ is, however irregular they are.
    pub suspect_after_max: Duration,
    /// The same for a node that its peers have lost too, and of which is not known yet how its heartbeats
    /// come: more than what one of them may be late itself.
    pub suspect_with_peers_after: Duration,
    /// Where it is known, silence of such a φ: less than without peers, who confirm it.
    pub phi_suspect_with_peers: f64,
    /// But not sooner than this: two heartbeats may be lost on the way.
    pub suspect_with_peers_after_min: Duration,
    /// Silence after which a node is down.
    pub down_after: Duration,
    /// Silence that a node is granted at the start of a leadership, to find the new leader.
    pub first_contact: Duration,
    /// A heartbeat at most so old shows that a node is up.
    pub fresh_heartbeat: Duration,
    /// From one round to the next; more than this, and the judge was late.
    pub round_max: Duration,
    /// How long the brake's cause must be gone before it is released.
    pub brake_hold: Duration,
    /// How often a node without session is dialled.
    pub probe_interval: Duration,
    /// For how long a broken session waits for a dial to say whether the process is gone: where that is so, one
    /// conclusion is enough.
    pub dial_grace: Duration,
    /// How often such a node is dialled for [`super::REDIAL_FOR`]: a process that ends loses its connections a moment
    /// before it stops listening.
    pub redial_interval: Duration,
    /// How long a slow node must have been well before it counts as up; and a node that was lost for the
    /// second time. Each time more doubles it.
    pub quarantine_min: Duration,
    /// And not longer than this.
    pub quarantine_max: Duration,
    /// After how long without anything being wrong with it a node's lapses are forgotten.
    pub forgive_after: Duration,
}

impl Default for DetectorOptions {
    fn default() -> Self {
        Self {
            suspect_after: Duration::from_millis(1_500),
            phi_suspect: 12.0,
            suspect_after_min: Duration::from_secs(1),
            suspect_after_max: Duration::from_secs(3),
            suspect_with_peers_after: Duration::from_millis(600),
            phi_suspect_with_peers: 8.0,
            suspect_with_peers_after_min: Duration::from_millis(300),
            down_after: Duration::from_secs(10),
            first_contact: Duration::from_secs(3),
            fresh_heartbeat: Duration::from_millis(500),
            round_max: Duration::from_millis(500),
            brake_hold: Duration::from_secs(5),
            probe_interval: Duration::from_millis(500),
            dial_grace: Duration::from_millis(20),
            redial_interval: Duration::from_millis(5),
            quarantine_min: Duration::from_secs(5),
            quarantine_max: Duration::from_secs(300),
            forgive_after: Duration::from_secs(600),
        }
    }
}
