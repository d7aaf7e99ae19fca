//! Random faults under random writes: nothing acknowledged is lost, nothing takes effect twice, and all
//! replicas end with the same content.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::v1::{VoteAuthority, take_over_result::Outcome};

use super::harness::{PARTITION, Zone, environment, placement, put};
use crate::engine::{
    command::{Applied, Mutation},
    error::RequestError,
    keys,
    options::EngineOptions,
    replica::Replica,
    requests::WriteRequest,
};

/// What clients were told.
#[derive(Default)]
struct Told {
    /// By key: version → value, of puts whose outcome was learnt.
    applied: BTreeMap<String, BTreeMap<u64, String>>,
    /// Values of puts whose outcome was never learnt.
    unknown: Vec<String>,
    writes: Vec<(WriteRequest, Applied)>,
}

struct Dice(runtime::seams::Environment);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        self.0.random_below(bound)
    }

    fn node(&self) -> u64 {
        1 + self.below(3)
    }
}

/// One write with its retries, at whoever leads.
async fn write(zone: &Zone, told: &Mutex<Told>, key: String, value: String) {
    let mut request: Option<WriteRequest> = None;
    let mut maybe = false;
    for _ in 0..30 {
        let leader = (1..=3).find_map(|node| {
            let host = zone.running(node)?;
            let replica = host.replica(PARTITION)?;
            replica.is_leader().then_some(replica)
        });
        let Some(leader) = leader else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let attempt = request.get_or_insert_with(|| put(&leader, &key, &value)).clone();
        let answer = tokio::time::timeout(Duration::from_millis(300), leader.write(attempt)).await;
        match answer {
            Ok(Ok(applied)) => {
                let mut told = told.lock().unwrap();
                let versions = told.applied.entry(key).or_default();
                assert_eq!(versions.insert(applied.version, value), None, "a version twice");
                told.writes.push((request.expect("it was sent"), applied));
                return;
            }
            Err(_) | Ok(Err(RequestError::OutcomeUnknown { .. })) => maybe = true,
            // Refused: this attempt had no effect. An earlier one may have had.
            Ok(Err(RequestError::Expiry { .. })) if !maybe => request = None,
            Ok(Err(RequestError::Expiry { .. })) => break,
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    if maybe {
        told.lock().unwrap().unknown.push(value);
    }
}

/// Gives the group a leader, if a majority can talk.
async fn settle_leader(zone: &Zone) {
    let mut positions = Vec::new();
    for node in 1..=3 {
        if zone.is_reachable(node) && zone.running(node).is_some() {
            let position = zone.replica(node).log_position().await;
            let last = position.last_log.map(|last| (last.term, last.leader_id, last.index));
            positions.push((last, node));
        }
    }
    positions.sort();
    let Some((_, candidate)) = positions.last().copied() else { return };
    if zone.appoint(candidate, 0, false).await.outcome() == Outcome::Leading {
        return;
    }
    for (_, other) in positions.iter().filter(|(_, node)| *node != candidate) {
        zone.ask(*other, candidate, 0, VoteAuthority::Conclusion, false).await;
    }
    zone.appoint(candidate, 0, true).await;
}

async fn fault(zone: &mut Zone, dice: &Dice) {
    let node = dice.node();
    match dice.below(5) {
        0 if zone.running(node).is_some() => {
            zone.crash(node);
        }
        1 => zone.cut(node),
        2 | 3 => {
            for node in 1..=3 {
                zone.heal(node);
                if zone.running(node).is_none() {
                    zone.start(node).await;
                }
            }
        }
        _ => {
            let target = placement(dice.node()).replica;
            if let Some(host) = zone.running(node)
                && let Some(replica) = host.replica(PARTITION)
            {
                let _ = replica.transfer_leader(target).await;
            }
        }
    }
    settle_leader(zone).await;
}

async fn run(seed: u64) {
    let dice = Dice(environment(seed.wrapping_mul(7_919) + 13));
    let options = EngineOptions {
        // Small, so that snapshots happen.
        log_entries_per_snapshot: 20,
        log_entries_kept: 5,
        ..EngineOptions::default()
    };
    let mut zone = Zone::simulated(3, options).await;
    zone.found(&[1, 2, 3]).await;
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..12 {
        {
            let writers = (0..6).map(|writer| {
                let (zone, told) = (&zone, &told);
                let keys: Vec<u64> = (0..4).map(|_| dice.below(8)).collect();
                async move {
                    for (number, key) in keys.into_iter().enumerate() {
                        let value = format!("{round}-{writer}-{number}");
                        write(zone, told, format!("k{key}"), value).await;
                    }
                }
            });
            futures_util::future::join_all(writers).await;
        }
        fault(&mut zone, &dice).await;
    }
    for node in 1..=3 {
        zone.heal(node);
        if zone.running(node).is_none() {
            zone.start(node).await;
        }
    }
    for _ in 0..20 {
        settle_leader(&zone).await;
        if (1..=3).any(|node| zone.replica(node).leads_with_quorum()) {
            break;
        }
    }
    let leader = zone.leader().await;
    check(&zone, leader, &told).await;
}

fn lineages(zone: &Zone, node: u64) -> usize {
    let all = runtime::store::Scan::prefix("");
    let store = zone.store(node);
    let lineages: std::collections::BTreeSet<_> =
        store.scan(keys::DATA, all).map(|entry| keys::lineage_of(&entry.unwrap().0)).collect();
    lineages.len()
}

async fn check(zone: &Zone, leader: u64, told: &Mutex<Told>) {
    for node in 1..=3 {
        zone.caught_up(node, leader).await;
        // Writes that nobody waits for any more may still be committed.
        zone.eventually(|| (zone.content(node) == zone.content(leader)).then_some(())).await;
        // The one that a snapshot replaced goes a moment after it was installed.
        zone.eventually(|| (lineages(zone, node) <= 1).then_some(())).await;
    }
    let told = std::mem::take(&mut *told.lock().unwrap());
    let content = zone.content(leader);
    assert!(!told.applied.is_empty());
    for (key, versions) in &told.applied {
        let (last, value) = versions.last_key_value().unwrap();
        let (found, version) = &content[key];
        assert!(version >= last, "{key}: version {last} is lost, {version} is there");
        if version == last {
            assert_eq!(found, value, "{key}");
        } else {
            assert!(told.unknown.contains(found), "{key}: {found} is nobody's");
        }
    }
    // Every write again, as a retry: it answers as it did, or has expired.
    let replica: Arc<Replica> = zone.replica(leader);
    for (request, applied) in told.writes {
        assert!(matches!(request.mutation, Mutation::Put { .. }));
        match replica.write(request).await {
            Ok(again) => assert_eq!(again, applied),
            Err(RequestError::Expiry { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(zone.content(leader), content, "a retry took effect");
}

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_under_faults() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(8);
    for seed in 0..seeds {
        run(seed).await;
    }
}
