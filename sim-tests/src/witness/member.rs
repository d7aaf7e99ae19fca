//! The members' group, on the disks of the members.

use std::collections::BTreeMap;

use control_plane::inspection::{self, MemberRecord};
use runtime::{
    raft::{FAMILY, inspect::Position},
    store::{Change, Reader},
};

use super::{
    Effect, damaged,
    group::{Group, Reached},
    log::{self, LogEffect},
    zone_state::ZoneStates,
};
use crate::{ambush::OperationKind, checks::Problem};

/// All members of a zone.
pub(super) struct Members {
    group: Group,
    /// By host: who it is. A wiped disk is another member.
    ids: BTreeMap<String, u64>,
    /// The zone's states, each as the first member that applies it has it.
    states: ZoneStates,
    newest_applied: Option<Position>,
    /// The host that was the first to apply it.
    newest_applied_by: Option<String>,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            group: Group::new("the members' group".into()),
            ids: BTreeMap::new(),
            states: ZoneStates::default(),
            newest_applied: None,
            newest_applied_by: None,
        }
    }
}

impl Members {
    /// What the process finds on its disk when it starts.
    pub(super) fn boots(&mut self, host: &str, content: &[Change]) -> Result<(), Problem> {
        let records: Vec<MemberRecord> = match records(content) {
            Ok(records) => records.collect(),
            Err(problem) => {
                self.ids.get(host).into_iter().for_each(|id| self.group.unwatch(*id));
                return Err(problem);
            }
        };
        let identity = records.iter().find_map(|record| match record {
            MemberRecord::Identity(id) => Some(*id),
            _ => None,
        });
        if let Some(before) = self.ids.get(host).copied()
            && identity != Some(before)
        {
            self.group.forget(before);
            self.ids.remove(host);
        }
        let Some(id) = identity else { return Ok(()) };
        self.ids.insert(host.to_owned(), id);
        let mut found = Group::new(String::new());
        for record in records {
            match record {
                MemberRecord::Log(record) => {
                    log::put(&mut found, id, record, &mut LogEffect::default())?;
                }
                MemberRecord::Applied(applied) => found.replica(id).applied = applied,
                MemberRecord::Identity(_) => {}
            }
        }
        self.group.boots(id, std::mem::take(found.replica(id)))
    }

    pub(super) fn written(
        &mut self,
        host: &str,
        changes: &[Change],
        store: &dyn Reader,
    ) -> Result<Effect, Problem> {
        let mut applied = None;
        let mut logged = Vec::new();
        for record in records(changes)? {
            match record {
                MemberRecord::Identity(id) => {
                    self.ids.insert(host.to_owned(), id);
                }
                MemberRecord::Applied(position) => applied = position,
                MemberRecord::Log(record) => logged.push(record),
            }
        }
        let Some(id) = self.ids.get(host).copied() else { return Ok(Effect::default()) };
        let before = self.group.replica(id).last();
        let mut effect = LogEffect::default();
        for change in changes {
            match change {
                Change::Delete { family, key } if *family == FAMILY => {
                    if let Some(index) = runtime::raft::inspect::entry_index(key) {
                        log::delete(&mut self.group, id, index..index + 1, &mut effect);
                    }
                }
                Change::DeleteRange { family, start, end } if *family == FAMILY => {
                    log::delete(&mut self.group, id, log::indexes(start, end), &mut effect);
                }
                _ => {}
            }
        }
        for record in logged {
            log::put(&mut self.group, id, record, &mut effect)?;
        }
        if let Some(position) = applied {
            self.group.applies(id, position)?;
            if Some(position) > self.newest_applied {
                self.newest_applied = Some(position);
                self.newest_applied_by = Some(host.to_owned());
                let state = inspection::zone_state(store).map_err(|error| {
                    Problem::new("G4", format!("{host}'s state makes no sense: {error}"))
                })?;
                self.states.advances(state)?;
            }
        }
        log::finish(&mut self.group, id, &effect)?;
        let after = self.group.replica(id).last();
        Ok(Effect {
            reached: reached(id, before, after).into_iter().collect(),
            must_be_synced: effect.must_be_synced,
        })
    }

    /// Who was the first to apply the newest state.
    pub(super) fn leading(&self) -> Option<&str> {
        self.newest_applied_by.as_deref()
    }

    pub(super) fn is_under_way(&self, kind: OperationKind) -> bool {
        self.states.is_under_way(kind)
    }

    pub(super) fn synced(&mut self, reached: Reached) {
        self.group.synced(reached.replica, reached.position);
    }
}

fn reached(replica: u64, before: Option<Position>, after: Option<Position>) -> Option<Reached> {
    let position = after.filter(|_| before != after)?;
    Some(Reached { group: 0, replica, position })
}

/// The records that changes write, as far as they are of use.
fn records(changes: &[Change]) -> Result<impl Iterator<Item = MemberRecord>, Problem> {
    let mut records = Vec::new();
    for change in changes {
        if let Change::Put { family, key, value } = change {
            records.extend(inspection::decode(*family, key, value).map_err(damaged)?);
        }
    }
    Ok(records.into_iter())
}
