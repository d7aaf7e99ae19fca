//! What may be read, given what was written.
//!
//! Pure. For each key the model keeps the highest version that is known to exist and what made it (the
//! *floor*), and the writes whose outcome is open or unknown. Since versions are positions in a log, and
//! writes and reads are linearizable, it knows without the whole history:
//! - nobody may read below the floor that was known before the read began (nothing acknowledged is lost,
//!   nothing goes backwards);
//! - above the floor there can only be writes that are open or unknown, each under one version only (a
//!   write takes effect once at most), and never one that has failed;
//! - a write that begins when the floor is known gets a version above it.

use std::collections::{BTreeMap, BTreeSet};

use client::Version;

use super::values::Content;

/// How a write can change a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    Put,
    Delete,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    Acknowledged(Version),
    /// It certainly had no effect.
    Failed,
    Unknown,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Absent,
    Present { version: Version, content: Content },
}

/// What made a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    Put {
        sequence: u64,
    },
    Delete,
    /// Something before or beside this run.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Floor {
    version: Version,
    maker: Maker,
}

/// A write whose outcome is not known (yet).
#[derive(Clone, Copy, Debug)]
struct OpenWrite {
    kind: WriteKind,
    /// Where a read has seen it.
    seen: Option<Version>,
}

#[derive(Clone, Debug, Default)]
struct KeyModel {
    floor: Option<Floor>,
    /// Outstanding, by sequence.
    open: BTreeMap<u64, OpenWrite>,
    /// Ended without an answer.
    unknown: BTreeMap<u64, OpenWrite>,
    failed: BTreeSet<u64>,
    /// The latest acknowledged delete.
    deleted: Option<Version>,
    /// Whether a write of this run was acknowledged.
    acknowledged: bool,
}

/// Given for a write, and taken back when it ends.
#[derive(Clone, Copy, Debug)]
pub struct WriteTicket {
    pub key: u64,
    pub sequence: u64,
    floor: Option<Version>,
}

/// Given for a read, and taken back when it ends.
#[derive(Clone, Copy, Debug)]
pub struct ReadTicket {
    pub key: u64,
    floor: Option<Floor>,
}

/// What may be read of all keys.
#[derive(Clone, Debug, Default)]
pub struct Model {
    keys: BTreeMap<u64, KeyModel>,
    sequence: u64,
    acknowledged: u64,
    unknown: u64,
    violations: u64,
    examples: Vec<String>,
}

const EXAMPLES_MAX: usize = 20;

impl KeyModel {
    fn raise(&mut self, version: Version, maker: Maker) {
        if self.floor.is_none_or(|floor| version > floor.version) {
            self.floor = Some(Floor { version, maker });
        }
    }

    fn pending(&mut self, sequence: u64) -> Option<&mut OpenWrite> {
        match self.open.get_mut(&sequence) {
            Some(write) => Some(write),
            None => self.unknown.get_mut(&sequence),
        }
    }

    /// Whether a delete after `version` may have taken effect.
    fn may_be_deleted_after(&self, version: Version) -> bool {
        let pending = self.open.values().chain(self.unknown.values());
        self.deleted.is_some_and(|deleted| deleted > version)
            || pending.into_iter().any(|write| write.kind == WriteKind::Delete)
    }

    fn acknowledge(&mut self, ticket: WriteTicket, version: Version) -> Result<(), String> {
        let open = self.open.remove(&ticket.sequence);
        let write = open.ok_or("ended twice")?;
        let maker = match write.kind {
            WriteKind::Put => Maker::Put { sequence: ticket.sequence },
            WriteKind::Delete => Maker::Delete,
        };
        self.acknowledged = true;
        let known = self.floor;
        self.raise(version, maker);
        if write.kind == WriteKind::Delete {
            self.deleted = self.deleted.max(Some(version));
        }
        if let Some(seen) = write.seen.filter(|seen| *seen != version) {
            return Err(format!("took effect at version {seen} and again at {version}"));
        }
        if let Some(floor) = ticket.floor.filter(|floor| version <= *floor) {
            return Err(format!("got version {version}, although {floor} existed before it began"));
        }
        if let Some(known) = known.filter(|known| known.version == version && known.maker != maker)
        {
            return Err(format!("got version {version}, which {:?} has", known.maker));
        }
        Ok(())
    }

    fn read(&mut self, before: Option<Floor>, found: &Found) -> Result<(), String> {
        match found {
            Found::Absent => match before {
                Some(Floor { version, maker: Maker::Put { .. } | Maker::Foreign })
                    if !self.may_be_deleted_after(version) =>
                {
                    Err(format!("absent, although version {version} was there: lost"))
                }
                Some(_) | None => Ok(()),
            },
            Found::Present { content: Content::Corrupt(what), version } => {
                Err(format!("version {version} is {what}"))
            }
            Found::Present { version, content: Content::Ours { sequence } } => {
                self.check_below(before, *version)?;
                self.read_ours(*version, *sequence)
            }
            Found::Present { version, content: Content::Foreign } => {
                self.check_below(before, *version)?;
                self.read_foreign(*version)
            }
        }
    }

    fn check_below(&self, before: Option<Floor>, version: Version) -> Result<(), String> {
        match before {
            Some(floor) if version < floor.version => {
                Err(format!("version {version}, although {} was there before: lost", floor.version))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn read_ours(&mut self, version: Version, sequence: u64) -> Result<(), String> {
        if self.failed.contains(&sequence) {
            return Err(format!("version {version} is write {sequence}, which had failed"));
        }
        let maker = Maker::Put { sequence };
        match self.floor {
            Some(floor) if version == floor.version && floor.maker != maker => {
                return Err(format!(
                    "version {version} is write {sequence}, but was {:?} before",
                    floor.maker
                ));
            }
            // Overtaken while it was read: whoever made it is known no longer.
            Some(floor) if version <= floor.version => return Ok(()),
            Some(_) | None => {}
        }
        let Some(write) = self.pending(sequence) else {
            return Err(format!(
                "version {version} is write {sequence}, which had its answer at another version: it \
                 took effect twice"
            ));
        };
        if let Some(seen) = write.seen.replace(version).filter(|seen| *seen != version) {
            return Err(format!(
                "version {version} is write {sequence}, which was seen at version {seen}: it took \
                 effect twice"
            ));
        }
        self.raise(version, maker);
        Ok(())
    }

    fn read_foreign(&mut self, version: Version) -> Result<(), String> {
        let above = self.floor.is_none_or(|floor| version > floor.version);
        if self.acknowledged && above {
            return Err(format!(
                "version {version} is none of this run's writes: does somebody else write these keys?"
            ));
        }
        self.raise(version, Maker::Foreign);
        Ok(())
    }
}

impl Model {
    /// A write begins.
    pub fn begin_write(&mut self, key: u64, kind: WriteKind) -> WriteTicket {
        self.sequence += 1;
        let sequence = self.sequence;
        let model = self.keys.entry(key).or_default();
        model.open.insert(sequence, OpenWrite { kind, seen: None });
        WriteTicket { key, sequence, floor: model.floor.map(|floor| floor.version) }
    }

    /// A write has ended.
    pub fn end_write(&mut self, ticket: WriteTicket, end: WriteEnd) {
        let model = self.keys.entry(ticket.key).or_default();
        let checked = match end {
            WriteEnd::Acknowledged(version) => {
                self.acknowledged += 1;
                model.acknowledge(ticket, version)
            }
            WriteEnd::Failed => {
                let write = model.open.remove(&ticket.sequence);
                model.failed.insert(ticket.sequence);
                match write.and_then(|write| write.seen) {
                    Some(seen) => Err(format!("failed, but was seen at version {seen}")),
                    None => Ok(()),
                }
            }
            WriteEnd::Unknown => {
                self.unknown += 1;
                if let Some(write) = model.open.remove(&ticket.sequence) {
                    model.unknown.insert(ticket.sequence, write);
                }
                Ok(())
            }
        };
        if let Err(problem) = checked {
            self.violate(ticket.key, &format!("write {} {problem}", ticket.sequence));
        }
    }

    /// A read begins.
    pub fn begin_read(&self, key: u64) -> ReadTicket {
        ReadTicket { key, floor: self.keys.get(&key).and_then(|model| model.floor) }
    }

    /// A read was answered.
    pub fn end_read(&mut self, ticket: ReadTicket, found: &Found) {
        if *found == Found::Absent && !self.keys.contains_key(&ticket.key) {
            // Nothing was ever there: nothing to remember.
            return;
        }
        let model = self.keys.entry(ticket.key).or_default();
        if let Err(problem) = model.read(ticket.floor, found) {
            self.violate(ticket.key, &format!("a read found {problem}"));
        }
    }

    fn violate(&mut self, key: u64, problem: &str) {
        self.violations += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("key {key}: {problem}"));
        }
    }

    /// Every key that was written, or found, in order.
    pub fn known_keys(&self) -> Vec<u64> {
        self.keys.keys().copied().collect()
    }

    pub fn acknowledged_writes(&self) -> u64 {
        self.acknowledged
    }

    pub fn unknown_writes(&self) -> u64 {
        self.unknown
    }

    pub fn violations(&self) -> u64 {
        self.violations
    }

    /// The first few violations in words.
    pub fn examples(&self) -> &[String] {
        &self.examples
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
