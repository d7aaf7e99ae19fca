//! Raft's own invariants, of one group, seen on the disks of its replicas (Ongaro and Ousterhout 2014,
//! figure 3, for openraft's order of leaders).
//!
//! - *Votes* only rise.
//! - *Log matching*: one position is one entry, on every disk.
//! - *Leader completeness*: who begins to lead has everything that is committed; and what is committed
//!   by an older leader after that, it had at its beginning.
//! - *State machine safety*: replicas apply the same entry at the same index, and never go back.
//! - *Durability* (G2): what is applied somewhere is synced by a majority of the voters; a replica never
//!   removes an entry that is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use runtime::raft::inspect::{Leader, Position, Vote};

use crate::checks::Problem;

/// How far a replica's log was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    pub group: u64,
    pub replica: u64,
    pub position: Position,
}

/// One group: a partition's, or the members'.
#[derive(Debug)]
pub struct Group {
    name: String,
    replicas: BTreeMap<u64, Replica>,
    /// Every entry that ever was on a disk: its checksum.
    entries: BTreeMap<Position, u32>,
    /// Every leader that ever appended something: the end of its log before that.
    leaders: BTreeMap<Leader, Option<Position>>,
    /// Every membership that ever was on a disk.
    voters: BTreeMap<Position, Vec<BTreeSet<u64>>>,
    /// What was applied at an index.
    committed: BTreeMap<u64, Position>,
    newest_committed: Option<Position>,
    /// Replicas whose disks cannot be understood at the moment: nobody knows what they have synced.
    unwatched: BTreeSet<u64>,
    /// Whether replicas may have been made on such a disk.
    has_unseen: bool,
}

/// What is on one replica's disk, whether it is synced or not.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    pub vote: Option<Vote>,
    pub log: BTreeMap<u64, Position>,
    pub purged: Option<Position>,
    pub applied: Option<Position>,
    /// The end of the log that no crash takes.
    durable: Option<Position>,
}

impl Replica {
    /// The end of the log; of what a snapshot brought, where that is newer.
    pub fn last(&self) -> Option<Position> {
        let last = self.log.values().next_back().copied();
        last.max(self.purged).max(self.applied)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, replica) in &self.replicas {
            let vote = replica.vote.map_or_else(|| "nobody".into(), |vote| vote.leader.to_string());
            writeln!(
                formatter,
                "replica {id}: votes for {vote}; ends with {}; purged {}; applied {}; synced {}",
                shown(replica.last()),
                shown(replica.purged),
                shown(replica.applied),
                shown(replica.durable)
            )?;
        }
        for (leader, began) in self.leaders.iter().rev().take(5) {
            writeln!(formatter, "leader {leader} began with {}", shown(*began))?;
        }
        write!(formatter, "committed: {}", shown(self.newest_committed))
    }
}

/// The founders' first entry is nobody's.
const NOBODY: Leader = Leader { term: 0, id: 0 };

impl Group {
    pub fn new(name: String) -> Self {
        Self {
            name,
            replicas: BTreeMap::new(),
            entries: BTreeMap::new(),
            leaders: BTreeMap::new(),
            voters: BTreeMap::new(),
            committed: BTreeMap::new(),
            newest_committed: None,
            unwatched: BTreeSet::new(),
            has_unseen: false,
        }
    }

    fn problem(&self, guarantee: &str, sentence: impl AsRef<str>) -> Problem {
        Problem::new(guarantee, format!("{}: {}", self.name, sentence.as_ref()))
            .with_details(self.to_string())
    }

    pub fn replica(&mut self, id: u64) -> &mut Replica {
        self.replicas.entry(id).or_default()
    }

    /// The replica is deleted, or its disk is gone.
    pub fn forget(&mut self, id: u64) {
        self.unwatched.remove(&id);
        self.replicas.remove(&id);
    }

    /// The replica's disk cannot be understood, until its process starts anew.
    pub fn unwatch(&mut self, id: u64) {
        self.unwatched.insert(id);
    }

    /// Whether replicas may be on disks that cannot be understood, and were never seen.
    pub fn expect_unseen(&mut self, expect: bool) {
        self.has_unseen = expect;
    }

    /// What the replica's process finds when it starts.
    pub fn boots(&mut self, id: u64, found: Replica) -> Result<(), Problem> {
        let durable = self.replicas.get(&id).and_then(|replica| replica.durable);
        if found.last() < durable {
            let (found, durable) = (shown(found.last()), shown(durable));
            let sentence = format!("replica {id} starts with {found}, but had synced {durable}");
            return Err(self.problem("G2", sentence));
        }
        let durable = found.last();
        self.unwatched.remove(&id);
        self.replicas.insert(id, Replica { durable, ..found });
        Ok(())
    }

    pub fn votes(&mut self, id: u64, vote: Vote) -> Result<(), Problem> {
        let before = self.replica(id).vote.replace(vote);
        match before {
            Some(before) if vote < before => {
                let sentence = format!(
                    "replica {id} voted for {}, after it had for {}",
                    vote.leader, before.leader
                );
                Err(self.problem("G1", sentence))
            }
            _ => Ok(()),
        }
    }

    pub fn appends(
        &mut self,
        id: u64,
        position: Position,
        checksum: u32,
        voters: Option<Vec<BTreeSet<u64>>>,
    ) -> Result<(), Problem> {
        if *self.entries.entry(position).or_insert(checksum) != checksum {
            let sentence =
                format!("{position} is one thing on replica {id}, and another elsewhere");
            return Err(self.problem("G1", sentence));
        }
        if let Some(voters) = voters {
            self.voters.insert(position, voters);
        }
        let before = self.replica(id).last();
        self.replica(id).log.insert(position.index, position);
        if position.leader != NOBODY && !self.leaders.contains_key(&position.leader) {
            if position.leader.id != id {
                // Its own disk is not watched. It may have begun with anything that is older.
                let anything = Position { leader: position.leader, index: 0 };
                self.leaders.insert(position.leader, Some(anything));
                return Ok(());
            }
            self.leaders.insert(position.leader, before);
            let committed = self.newest_committed.filter(|it| it.leader < position.leader);
            if before < committed {
                let (before, committed) = (shown(before), shown(committed));
                let sentence = format!(
                    "{} leads, whose log ended with {before}, and misses {committed}, which is committed",
                    position.leader
                );
                return Err(self.problem("G2", sentence));
            }
        }
        Ok(())
    }

    /// After a batch: entries that the replica had and has no more.
    pub fn removed(&mut self, id: u64, entries: &[Position]) -> Result<(), Problem> {
        let Some(replica) = self.replicas.get(&id) else { return Ok(()) };
        let covered = replica.purged.max(replica.applied).map_or(0, |purged| purged.index + 1);
        let lost = entries.iter().find(|entry| {
            entry.index >= covered
                && replica.log.get(&entry.index) != Some(*entry)
                && self.committed.get(&entry.index) == Some(*entry)
        });
        match lost {
            Some(lost) => {
                let sentence = format!("replica {id} removed {lost}, which is committed");
                Err(self.problem("G2", sentence))
            }
            None => {
                let first = entries
                    .iter()
                    .filter(|entry| {
                        entry.index >= covered && replica.log.get(&entry.index) != Some(*entry)
                    })
                    .map(|entry| entry.index)
                    .min();
                if let Some(first) = first {
                    self.lets_go(id, first);
                }
                Ok(())
            }
        }
    }

    /// The replica has removed what it had from this index on: whether a crash brings that back or not, is as
    /// good, and what was synced there counts no more.
    fn lets_go(&mut self, id: u64, first: u64) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let kept = replica.log.range(..first).next_back().map(|(_, position)| *position);
        replica.durable = replica.durable.min(kept.max(replica.purged).max(replica.applied));
    }

    /// After a batch.
    pub fn has_applied_what_it_purged(&self, id: u64) -> Result<(), Problem> {
        let Some(replica) = self.replicas.get(&id) else { return Ok(()) };
        if replica.applied >= replica.purged {
            return Ok(());
        }
        let (purged, applied) = (shown(replica.purged), shown(replica.applied));
        let sentence =
            format!("replica {id} purged its log through {purged}, but has applied only {applied}");
        Err(self.problem("G2", sentence))
    }

    pub fn applies(&mut self, id: u64, applied: Position) -> Result<(), Problem> {
        let replica = self.replica(id);
        let before = replica.applied.replace(applied);
        if Some(applied) < before {
            let sentence = format!("replica {id} went back from {} to {applied}", shown(before));
            return Err(self.problem("G3", sentence));
        }
        let from = before.map_or(0, |before| before.index + 1);
        let mut entries: Vec<Position> = if from <= applied.index {
            replica.log.range(from..=applied.index).map(|(_, position)| *position).collect()
        } else {
            Vec::new()
        };
        if entries.last() != Some(&applied) {
            // It came with a snapshot: what the log holds below may be another leader's.
            entries = vec![applied];
        }
        for position in entries {
            let known = *self.committed.entry(position.index).or_insert(position);
            if known != position {
                let sentence = format!("replica {id} applied {position}, another one {known}");
                return Err(self.problem("G3", sentence));
            }
        }
        if Some(applied) > self.newest_committed {
            self.newest_committed = Some(applied);
            self.is_committed(applied)?;
        }
        Ok(())
    }

    /// Something that was not known to be committed is.
    fn is_committed(&self, position: Position) -> Result<(), Problem> {
        if !self.entries.contains_key(&position) {
            // The beginning of a child, which its parent's group has committed.
            return Ok(());
        }
        // A leader that had the entry may have committed it, after others that had it not had led in vain.
        let with_it = |(_, began): &(&Leader, &Option<Position>)| **began >= Some(position);
        let by = self.leaders.iter().rev().find(with_it).map(|(leader, _)| *leader);
        let by = by.unwrap_or(position.leader).max(position.leader);
        for (leader, began) in &self.leaders {
            if *leader > by && *began < Some(position) {
                let sentence = format!(
                    "{position} is committed, although {leader} leads, whose log ended with {}",
                    shown(*began)
                );
                return Err(self.problem("G1", sentence));
            }
        }
        let durable: BTreeSet<u64> = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.durable >= Some(position))
            .map(|(id, _)| *id)
            .chain(self.unwatched.iter().copied())
            .collect();
        let mut unmet = Vec::new();
        for (at, voters) in self.voters.iter().rev() {
            let may_have_synced = |voter: &&u64| {
                durable.contains(voter) || (self.has_unseen && !self.replicas.contains_key(voter))
            };
            let has_majority =
                |set: &BTreeSet<u64>| 2 * set.iter().filter(may_have_synced).count() > set.len();
            if voters.iter().all(has_majority) {
                return Ok(());
            }
            unmet.push(voters);
            // Older memberships decide nothing.
            if *at <= position && self.committed.get(&at.index) == Some(at) {
                break;
            }
        }
        if unmet.is_empty() {
            // The memberships came with snapshots, which do not show on disks.
            return Ok(());
        }
        let sentence = format!(
            "{position} is applied, but synced only by {durable:?}, which is no majority of {unmet:?}"
        );
        Err(self.problem("G2", sentence))
    }

    /// The replica's state says who voted at that position.
    pub fn knows_voters(&mut self, position: Position, voters: Vec<BTreeSet<u64>>) {
        self.voters.entry(position).or_insert(voters);
    }

    /// Everything through `position` in the replica's log is synced, as far as it is there still.
    pub fn synced(&mut self, id: u64, position: Position) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            let is_there = replica.log.get(&position.index) == Some(&position)
                || replica.purged.max(replica.applied) >= Some(position);
            // What a newer leader has put below was written later than what this sync covers.
            let older = |below: &Position| below.leader <= position.leader;
            let below =
                || replica.log.range(..position.index).rev().map(|(_, below)| *below).find(older);
            let synced = if is_there { Some(position) } else { below() };
            replica.durable = replica.durable.max(synced);
        }
    }
}

fn shown(position: Option<Position>) -> String {
    position.map_or_else(|| "nothing".to_owned(), |position| position.to_string())
}
