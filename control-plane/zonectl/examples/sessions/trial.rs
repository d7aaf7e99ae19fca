//! One loss of the control plane's leader.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use proto::v1;
use runtime::seams::{Environment, Moment};
use serde::Serialize;
use zonectl::zone_process::Role;

use crate::{
    crowd::most_within,
    figures::Spread,
    nodes::{Nodes, Welcome},
    requests::Request,
    succession::{events_after, succession},
    zone::Zone,
};

/// For how long the leader's processor time is taken before it is killed.
const CALM_FOR: Duration = Duration::from_secs(3);

/// How long the nodes may take to have sessions again.
const SESSIONS_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether they have.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long it is watched afterwards: longer than a new leader waits for a node before it misses it.
const WATCHED_FOR: Duration = Duration::from_secs(6);

/// What a crowd is measured in, in milliseconds.
pub const WINDOW_MS: f64 = 10.0;

/// What one loss has shown, in milliseconds from `kill -9`, on this program's clock.
#[derive(Clone, Debug, Serialize)]
pub struct TrialRecord {
    /// Another member answered as the leader.
    pub answered_ms: f64,
    /// It had committed that it leads, and so decides.
    pub deciding_ms: f64,
    pub sessions: SessionFigures,
    /// Nodes that the ledger called suspect, and down, from the loss on.
    pub suspected: usize,
    pub down: usize,
    /// How often the brake was engaged.
    pub brakes: usize,
    /// Processor seconds per second of the leader that was lost, before it was.
    pub calm_cores: f64,
    /// Processor milliseconds of the new leader until the last node had a session with it.
    pub change_processor_ms: f64,
}

/// How the nodes came to the new leader.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionFigures {
    /// When each node had a session with the new leader for the first time, rising.
    pub established_ms: Vec<f64>,
    /// Nodes that had none in time.
    pub missing: usize,
    /// Nodes that lost the session with the new leader and had to begin another one.
    pub repeated: usize,
    /// The most session requests that the new leader got within 10 ms.
    pub session_requests_most: usize,
    /// The most requests of any kind: registrations, too, and before it led.
    pub requests_most: usize,
    /// Requests of all nodes to all members until the last node had a session.
    pub requests: usize,
}

impl SessionFigures {
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.established_ms.clone())
    }
}

impl TrialRecord {
    /// In a few words.
    pub fn gist(&self) -> String {
        let sessions = &self.sessions;
        let when = sessions.spread().map_or_else(
            || "no sessions".to_owned(),
            |all| format!("sessions after {:.0} ms, the last after {:.0} ms", all.median, all.max),
        );
        format!(
            "deciding after {:.0} ms; {when}; at most {} session requests in {WINDOW_MS} ms; {} suspected, {} down",
            self.deciding_ms, sessions.session_requests_most, self.suspected, self.down
        )
    }
}

/// What is no good in these trials, a sentence each.
pub fn failures(trials: &[TrialRecord]) -> Vec<String> {
    let mut failures = Vec::new();
    for (number, trial) in trials.iter().enumerate() {
        let bad = [
            (trial.sessions.missing, "had no session with the new leader"),
            (trial.suspected, "called suspect although they were well"),
            (trial.down, "called down although they were well"),
        ];
        let bad = bad.into_iter().filter(|(count, _)| *count > 0);
        failures
            .extend(bad.map(|(count, what)| format!("trial {}: {count} nodes {what}", number + 1)));
    }
    failures
}

/// Kills the leader, watches, and starts it again.
pub async fn run(zone: &mut Zone, nodes: &Nodes) -> anyhow::Result<TrialRecord> {
    let environment = zone.environment.clone();
    zone.wait_calm().await?;
    let lost = zone.leader().await?;
    let before = zone.processor_seconds(lost.role)?;
    let calm_since = environment.now();
    environment.sleep(CALM_FOR).await;
    let calm_seconds = environment.now().since(calm_since).as_secs_f64();
    let calm_cores = (zone.processor_seconds(lost.role)? - before) / calm_seconds;

    let after_sequence = zone.last_sequence().await?;
    let used_before = survivors(zone, lost.role)?;
    nodes.clear();
    let since = environment.now();
    zone.processes.kill(lost.role)?;
    let (succession, complete) = tokio::join!(
        succession(&environment, zone.processes.layout(), lost.role, after_sequence, since),
        all_in_session(&environment, nodes, lost.term),
    );
    let used_after = survivors(zone, lost.role)?;
    let succession = succession?;
    let requests = nodes.requests.seen();
    if !complete {
        eprintln!("Not all nodes have a session after {SESSIONS_WITHIN:?} …");
    }

    environment.sleep(WATCHED_FOR).await;
    let leader = zone.leader().await?;
    let address = zone.processes.layout().address(leader.role);
    let welcomes = nodes.sightings.welcomes();
    let sessions = figures(since, nodes.count(), lost.term, &address, &welcomes, &requests);
    let events = events_after(&zone.admin, after_sequence).await?;
    let is_whole = events.iter().any(|event| event.kind == "control-plane-leader");
    anyhow::ensure!(is_whole, "the new leader does not say what is in its ledger");
    zone.processes.start(lost.role)?;
    let used = |seconds: &BTreeMap<Role, f64>| seconds.get(&leader.role).copied();
    let used_seconds =
        used(&used_after).zip(used(&used_before)).map(|(after, before)| after - before);
    Ok(TrialRecord {
        answered_ms: succession.answered_ms,
        deciding_ms: succession.committed_ms,
        sessions,
        suspected: nodes_called(&events, "node-suspect"),
        down: nodes_called(&events, "node-down"),
        brakes: events.iter().filter(|event| event.kind == "brake-engaged").count(),
        calm_cores,
        change_processor_ms: used_seconds.context("the new leader is no survivor")? * 1e3,
    })
}

/// What each member but this one has used of the processors, in seconds.
fn survivors(zone: &mut Zone, lost: Role) -> anyhow::Result<BTreeMap<Role, f64>> {
    let mut used = BTreeMap::new();
    let roles: Vec<Role> = zone.processes.layout().member_roles().collect();
    for role in roles.into_iter().filter(|role| *role != lost) {
        used.insert(role, zone.processor_seconds(role)?);
    }
    Ok(used)
}

/// Waits until each node has had a session under one and the same later term; false if that takes too long.
async fn all_in_session(environment: &Environment, nodes: &Nodes, lost_term: u64) -> bool {
    let waiting = async {
        while in_session(&nodes.sightings.welcomes(), lost_term).len() < nodes.count() {
            environment.sleep(LOOK_INTERVAL).await;
        }
    };
    environment.timeout(SESSIONS_WITHIN, waiting).await.is_some()
}

/// When each node first had a session under the latest term after this one.
fn in_session(welcomes: &[Welcome], lost_term: u64) -> BTreeMap<usize, Moment> {
    let later = || welcomes.iter().filter(|welcome| welcome.term > lost_term);
    let latest = later().map(|welcome| welcome.term).max();
    let mut first = BTreeMap::new();
    for welcome in later().filter(|welcome| Some(welcome.term) == latest) {
        first.entry(welcome.number).or_insert(welcome.at);
    }
    first
}

/// How the nodes came to the new leader, which is at this address.
fn figures(
    since: Moment,
    nodes: usize,
    lost_term: u64,
    leader: &str,
    welcomes: &[Welcome],
    requests: &[Request],
) -> SessionFigures {
    let ms = |at: Moment| at.since(since).as_secs_f64() * 1e3;
    let established = in_session(welcomes, lost_term);
    let mut established_ms: Vec<f64> = established.values().map(|at| ms(*at)).collect();
    established_ms.sort_by(f64::total_cmp);
    let last = established.values().max().copied().unwrap_or_default();
    let until_last: Vec<&Request> =
        requests.iter().filter(|request| request.at >= since && request.at <= last).collect();
    let to_leader: Vec<&Request> =
        until_last.iter().copied().filter(|request| *request.member == *leader).collect();
    // What a node asked last before it was welcome was the session.
    let mut asked: BTreeMap<usize, Moment> = BTreeMap::new();
    for request in &to_leader {
        if established.get(&request.node).is_some_and(|welcome| request.at <= *welcome) {
            asked.insert(request.node, request.at);
        }
    }
    let asked_ms: Vec<f64> = asked.values().map(|at| ms(*at)).collect();
    let all_ms: Vec<f64> = to_leader.iter().map(|request| ms(request.at)).collect();
    let mut begun: BTreeMap<usize, usize> = BTreeMap::new();
    for welcome in welcomes.iter().filter(|welcome| welcome.term > lost_term) {
        *begun.entry(welcome.number).or_default() += 1;
    }
    SessionFigures {
        missing: nodes.saturating_sub(established.len()),
        repeated: begun.values().filter(|count| **count > 1).count(),
        session_requests_most: most_within(&asked_ms, WINDOW_MS),
        requests_most: most_within(&all_ms, WINDOW_MS),
        requests: until_last.len(),
        established_ms,
    }
}

/// How many nodes have such an event.
fn nodes_called(events: &[v1::Event], kind: &str) -> usize {
    let called: BTreeSet<u64> =
        events.iter().filter(|event| event.kind == kind).map(|event| event.node_id).collect();
    called.len()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(ms))
    }

    fn welcome(ms: u64, number: usize, term: u64) -> Welcome {
        Welcome { at: at(ms), number, term }
    }

    fn request(ms: u64, node: usize, member: &str) -> Request {
        Request { at: at(ms), node, member: member.into() }
    }

    pub fn record(established_ms: &[f64]) -> TrialRecord {
        TrialRecord {
            answered_ms: 800.0,
            deciding_ms: 810.0,
            sessions: SessionFigures {
                established_ms: established_ms.to_vec(),
                missing: 0,
                repeated: 0,
                session_requests_most: 31,
                requests_most: 64,
                requests: 4_200,
            },
            suspected: 0,
            down: 0,
            brakes: 0,
            calm_cores: 0.25,
            change_processor_ms: 420.0,
        }
    }

    #[test]
    fn only_sessions_of_the_latest_term_count() {
        let welcomes =
            [welcome(90, 0, 4), welcome(120, 0, 5), welcome(130, 1, 5), welcome(150, 1, 6)];
        let established = in_session(&welcomes, 4);
        assert_eq!(established, BTreeMap::from([(1, at(150))]));
        assert!(in_session(&welcomes, 6).is_empty());
    }

    #[test]
    fn requests_are_told_apart_by_member_node_and_time() {
        let welcomes =
            [welcome(220, 0, 5), welcome(240, 1, 5), welcome(250, 0, 5), welcome(95, 2, 4)];
        let requests = [
            request(90, 0, "b:1"),
            request(110, 0, "c:1"),
            // Node 0 registers and asks for its session, and so does node 1.
            request(212, 0, "b:1"),
            request(215, 0, "b:1"),
            request(216, 1, "b:1"),
            request(236, 1, "b:1"),
            request(300, 2, "b:1"),
        ];
        let figures = figures(at(100), 3, 4, "b:1", &welcomes, &requests);
        let expected = SessionFigures {
            established_ms: vec![120.0, 140.0],
            missing: 1,
            repeated: 1,
            session_requests_most: 1,
            requests_most: 3,
            requests: 5,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn a_node_that_was_taken_for_ill_is_a_failure() {
        let well = record(&[900.0]);
        assert_eq!(failures(std::slice::from_ref(&well)), [""; 0]);
        let mut ill = well.clone();
        ill.down = 2;
        ill.sessions.missing = 1;
        let failures = failures(&[well, ill]);
        assert_eq!(failures.len(), 2);
        assert_eq!(failures[1], "trial 2: 2 nodes called down although they were well");
        let event =
            |kind: &str, node_id| v1::Event { kind: kind.into(), node_id, ..Default::default() };
        let events = [event("node-down", 3), event("node-down", 3), event("node-suspect", 4)];
        assert_eq!(nodes_called(&events, "node-down"), 1);
    }
}
