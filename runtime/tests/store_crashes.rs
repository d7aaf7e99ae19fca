//! Crash after crash: whatever was written, synced and deleted, what is found is a prefix that has
//! everything synced, and the store opens again.

mod store_support;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use runtime::store::{
    Batch, Change, Family, Scan, Store,
    contract::{FAMILIES, Machine},
    synced,
};
use store_support::{RocksMachine, SimulatedMachine};

type Content = BTreeMap<(Family, Bytes), Bytes>;

#[derive(Clone, Debug)]
enum Step {
    Write(Batch),
    Sync,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => batch().prop_map(Step::Write),
        2 => Just(Step::Sync),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    let family = prop::sample::select(FAMILIES.to_vec());
    // Values of very different sizes: the largest overflow the log's buffer and fill memtables.
    let size = prop_oneof![8 => 0..100_usize, 1 => 100_000..300_000_usize];
    let change = (family, 0_u8..8, 0_u8..8, 0_u8..10, size, any::<u8>());
    vec(change, 1..5).prop_map(|changes| {
        let mut batch = Batch::new();
        for (family, key, end, what, size, value) in changes {
            match what {
                0 => batch.delete(family, vec![key]),
                1 => batch.delete_range(family, vec![key], vec![end]),
                _ => batch.put(family, vec![key], vec![value; size]),
            }
        }
        batch
    })
}

fn apply(content: &mut Content, batch: &Batch) {
    for change in batch.changes() {
        match change {
            Change::Put { family, key, value } => {
                content.insert((*family, key.clone()), value.clone());
            }
            Change::Delete { family, key } => {
                content.remove(&(*family, key.clone()));
            }
            Change::DeleteRange { family, start, end } => {
                content.retain(|(of, key), _| of != family || key < start || key >= end);
            }
        }
    }
}

fn found(store: &dyn Store) -> Content {
    let mut content = Content::new();
    for family in FAMILIES {
        for entry in store.scan(family, Scan::prefix("")) {
            let (key, value) = entry.expect("read");
            content.insert((family, key), value);
        }
    }
    content
}

async fn run(mut machine: Box<dyn Machine>, history: Vec<Step>) -> Result<(), TestCaseError> {
    // What a crash may leave: the content as it was synced, and after each batch since then.
    let mut possible = vec![Content::new()];
    for step in history {
        match step {
            Step::Write(batch) => {
                let mut content = possible.last().expect("never empty").clone();
                apply(&mut content, &batch);
                possible.push(content);
                prop_assert_eq!(machine.store().write(batch), Ok(()));
            }
            Step::Sync => {
                prop_assert_eq!(synced(&*machine.store()).await, Ok(()));
                possible.drain(..possible.len() - 1);
            }
            Step::Crash(seed) => {
                machine = machine.crashed(seed);
                let content = found(&*machine.store());
                prop_assert!(possible.contains(&content), "{} keys", content.len());
                possible = vec![content];
            }
        }
    }
    Ok(())
}

fn check(machine: Box<dyn Machine>, history: Vec<Step>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(run(machine, history))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn rocksdb_keeps_a_prefix(history in vec(step(), 1..60)) {
        check(Box::new(RocksMachine::new(&FAMILIES)), history)?;
    }

    #[test]
    fn the_simulated_disk_keeps_a_prefix(history in vec(step(), 1..60)) {
        check(Box::new(SimulatedMachine::new(&FAMILIES)), history)?;
    }
}
