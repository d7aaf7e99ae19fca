//! Applying against a reference that knows neither batches nor a store.

use std::collections::BTreeMap;

use bytes::Bytes;
use openraft::EntryPayload;
use proptest::prelude::*;
use runtime::store::{Scan, Store, simulated::SimulatedDisk};

use super::harness::{EPOCH, environment, whole_range};
use crate::engine::{
    FAMILIES,
    apply::ApplyRun,
    command::{
        Applied, Condition, Mutation, Operation, PartitionCommand, PartitionOutcome, Write,
        WriteOutcome,
    },
    keys,
    records::{self, GroupState, StoredValue},
    types::{Lineage, RaftEntry, ReplicaId, log_id},
};

const REPLICA: ReplicaId = ReplicaId(1);

/// The semantics, written down a second time.
#[derive(Default)]
struct Reference {
    time_ms: u64,
    created: bool,
    data: BTreeMap<Bytes, (u64, Bytes)>,
    outcomes: BTreeMap<(u64, [u8; 16], Bytes), WriteOutcome>,
}

impl Reference {
    fn apply(&mut self, index: u64, command: &PartitionCommand) -> PartitionOutcome {
        self.time_ms = self.time_ms.max(command.timestamp_ms);
        match &command.operation {
            Operation::Create { .. } => {
                self.created = true;
                PartitionOutcome::Created
            }
            Operation::Write(write) => PartitionOutcome::Write(self.write(index, write)),
            Operation::Measure { .. } | Operation::Split(_) => unreachable!("not drawn"),
        }
    }

    fn write(&mut self, index: u64, write: &Write) -> WriteOutcome {
        if self.time_ms > write.expires_at_ms {
            return WriteOutcome::Expired { now_ms: self.time_ms };
        }
        let range = self.created.then(whole_range);
        let range_epoch = if self.created { EPOCH } else { 0 };
        if !range.as_ref().is_some_and(|range| range.contains(&write.key)) {
            return WriteOutcome::WrongRange { range, range_epoch };
        }
        let id = (write.expires_at_ms, write.write_id, write.key.clone());
        if let Some(outcome) = self.outcomes.get(&id) {
            return outcome.clone();
        }
        if write.range_epoch != EPOCH {
            return WriteOutcome::WrongRange { range, range_epoch };
        }
        let current_version = self.data.get(&write.key).map_or(0, |(version, _)| *version);
        let outcome = if write.condition.holds(current_version) {
            match &write.mutation {
                Mutation::Put { value } => {
                    self.data.insert(write.key.clone(), (index, value.clone()));
                }
                Mutation::Delete => {
                    self.data.remove(&write.key);
                }
            }
            WriteOutcome::Applied(Applied { version: index, existed: current_version > 0 })
        } else {
            WriteOutcome::ConditionFailed { current_version }
        };
        self.outcomes.insert(id, outcome.clone());
        outcome
    }
}

fn commands() -> impl Strategy<Value = Vec<PartitionCommand>> {
    let condition = prop_oneof![
        3 => Just(Condition::None),
        1 => Just(Condition::Absent),
        1 => (1_u64..40).prop_map(Condition::VersionEquals),
    ];
    let mutation = prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..9)
            .prop_map(|value| Mutation::Put { value: value.into() }),
        1 => Just(Mutation::Delete),
    ];
    let write = (0_u8..12, 0_u64..60_000, 0_u64..6, 0_u8..5, mutation, condition).prop_map(
        |(id, expires, epoch, key, mutation, condition)| {
            Operation::Write(Write {
                write_id: [id; 16],
                // Few different ones, so that write ids repeat with the same expiry.
                expires_at_ms: expires / 20_000 * 20_000,
                range_epoch: if epoch == 0 { EPOCH + 1 } else { EPOCH },
                key: Bytes::from(vec![b'x' + key]),
                mutation,
                condition,
            })
        },
    );
    let create = Just(Operation::Create { range: whole_range(), range_epoch: EPOCH });
    let operation = prop_oneof![12 => write, 1 => create];
    let command = (0_u64..45_000, operation)
        .prop_map(|(timestamp, operation)| PartitionCommand::new(timestamp, operation));
    prop::collection::vec(command, 1..60)
}

fn content(store: &dyn Store, lineage: Lineage) -> BTreeMap<Bytes, (u64, Bytes)> {
    store
        .scan(keys::DATA, Scan::prefix(keys::lineage(lineage)))
        .map(|entry| {
            let (key, value) = entry.unwrap();
            let stored: StoredValue = records::decode(keys::DATA, &value).unwrap();
            (keys::without_lineage(&key), (stored.version, stored.value))
        })
        .collect()
}

proptest! {
    #[test]
    fn runs_of_any_length_do_what_the_reference_does(
        commands in commands(),
        run_lengths in prop::collection::vec(1_usize..9, 60),
    ) {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = tokio.enter();
        let store = SimulatedDisk::new().open(&FAMILIES, &environment(1));
        let mut reference = Reference::default();
        let mut state = GroupState::new(Lineage(4));
        let mut commands = commands.into_iter().enumerate().peekable();
        for length in run_lengths {
            let mut run = ApplyRun::new(store.as_ref(), REPLICA, state);
            for (index, command) in commands.by_ref().take(length) {
                let index = index as u64 + 1;
                let expected = reference.apply(index, &command);
                let payload = EntryPayload::Normal(command);
                let entry = RaftEntry { log_id: log_id(1, 1, index), payload };
                prop_assert_eq!(run.apply(entry).unwrap(), expected);
            }
            let finished = run.finish(&[]).unwrap();
            store.write(finished.batch).unwrap();
            state = finished.state;
            prop_assert_eq!(GroupState::load(store.as_ref(), REPLICA).unwrap(), Some(state.clone()));
        }
        prop_assert_eq!(content(store.as_ref(), state.lineage), reference.data.clone());
        prop_assert_eq!(state.keys, reference.data.len() as u64);
        let bytes: usize =
            reference.data.iter().map(|(key, (_, value))| key.len() + value.len()).sum();
        prop_assert_eq!(state.stored_bytes, bytes as u64);
        prop_assert_eq!(state.time_ms, reference.time_ms);
    }
}
