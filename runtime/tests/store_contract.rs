//! Both stores keep the contract, and answer alike whatever is asked of them.

mod store_support;

use std::{ops::Bound, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::{collection::vec, prelude::*};
use runtime::store::{
    Batch, Change, Entries, Family, Reader, Scan, Store, StoreError, SyncDone,
    contract::{FAMILIES, Machine, check_all},
};
use store_support::{RocksMachine, SimulatedMachine};

#[tokio::test]
async fn rocksdb_keeps_the_contract() {
    check_all(|| Box::new(RocksMachine::new(&FAMILIES))).await;
}

#[tokio::test]
async fn the_simulated_disk_keeps_the_contract() {
    check_all(|| Box::new(SimulatedMachine::new(&FAMILIES))).await;
}

/// A store that breaks its word in one way, to see that the suite notices.
struct Liar {
    honest: Arc<dyn Store>,
    lie: Lie,
}

#[derive(Clone, Copy, Debug)]
enum Lie {
    SyncsNothing,
    SplitsBatches,
    LeavesRangesUndeleted,
    ForgetsOneAnswer,
    SnapshotsNothing,
}

impl Reader for Liar {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.honest.get(family, key)
    }

    fn scan(&self, family: Family, scan: Scan) -> Entries<'_> {
        self.honest.scan(family, scan)
    }
}

impl Store for Liar {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let parts = batch.changes().iter().map(|change| {
            let mut part = Batch::new();
            match change.clone() {
                Change::Put { family, key, value } => part.put(family, key, value),
                Change::Delete { family, key } => part.delete(family, key),
                Change::DeleteRange { .. } if matches!(self.lie, Lie::LeavesRangesUndeleted) => {}
                Change::DeleteRange { family, start, end } => part.delete_range(family, start, end),
            }
            part
        });
        match self.lie {
            Lie::SplitsBatches | Lie::LeavesRangesUndeleted => {
                parts.into_iter().try_for_each(|part| self.honest.write(part))
            }
            Lie::SyncsNothing | Lie::ForgetsOneAnswer | Lie::SnapshotsNothing => {
                self.honest.write(batch)
            }
        }
    }

    fn sync(&self, done: SyncDone) {
        match self.lie {
            Lie::SyncsNothing => done(Ok(())),
            Lie::ForgetsOneAnswer
                if self.honest.get(FAMILIES[0], &50_usize.to_be_bytes()) == Ok(None) => {}
            _ => self.honest.sync(done),
        }
    }

    fn snapshot(&self) -> Arc<dyn Reader> {
        match self.lie {
            Lie::SnapshotsNothing => Arc::clone(&self.honest) as Arc<dyn Reader>,
            _ => self.honest.snapshot(),
        }
    }

    fn approximate_bytes(&self, family: Family, start: &[u8], end: &[u8]) -> u64 {
        self.honest.approximate_bytes(family, start, end)
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        self.honest.free_bytes()
    }
}

struct LiarsMachine {
    honest: Box<dyn Machine>,
    lie: Lie,
}

impl Machine for LiarsMachine {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(Liar { honest: self.honest.store(), lie: self.lie })
    }

    fn crashed(&self, seed: u64) -> Box<dyn Machine> {
        Box::new(Self { honest: self.honest.crashed(seed), lie: self.lie })
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_notices_lies() {
    use Lie::{
        ForgetsOneAnswer, LeavesRangesUndeleted, SnapshotsNothing, SplitsBatches, SyncsNothing,
    };
    for lie in
        [SyncsNothing, SplitsBatches, LeavesRangesUndeleted, ForgetsOneAnswer, SnapshotsNothing]
    {
        let suite = check_all(|| {
            let honest = Box::new(SimulatedMachine::new(&FAMILIES));
            Box::new(LiarsMachine { honest, lie })
        });
        assert!(AssertUnwindSafe(suite).catch_unwind().await.is_err(), "{lie:?} went unnoticed");
    }
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Write(Batch),
    Get(Family, Bytes),
    Scan(Family, Scan),
    /// From now on compare this snapshot's answers as well.
    Snapshot,
}

/// Few and short keys, so that they meet; with the bytes at both ends of the order.
fn key() -> impl Strategy<Value = Bytes> {
    vec(prop::sample::select(vec![0_u8, 1, b'a', b'b', 0xfe, 0xff]), 0..4).prop_map(Bytes::from)
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(FAMILIES.to_vec())
}

fn batch() -> impl Strategy<Value = Batch> {
    let change = prop_oneof![
        6 => (family(), key(), vec(any::<u8>(), 0..6)).prop_map(|(family, key, value)| {
            let mut batch = Batch::new();
            batch.put(family, key, value);
            batch
        }),
        2 => (family(), key()).prop_map(|(family, key)| {
            let mut batch = Batch::new();
            batch.delete(family, key);
            batch
        }),
        1 => (family(), key(), key()).prop_map(|(family, start, end)| {
            let mut batch = Batch::new();
            batch.delete_range(family, start, end);
            batch
        }),
    ];
    vec(change, 0..6).prop_map(|changes| {
        let mut batch = Batch::new();
        for change in changes {
            batch.append(change);
        }
        batch
    })
}

fn bound() -> impl Strategy<Value = Bound<Bytes>> {
    prop_oneof![
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let scan = prop_oneof![
        (bound(), bound(), any::<bool>()).prop_map(|(start, end, reverse)| Scan {
            start,
            end,
            reverse
        }),
        (key(), any::<bool>()).prop_map(|(prefix, reverse)| {
            let scan = Scan::prefix(prefix);
            if reverse { scan.reversed() } else { scan }
        }),
    ];
    prop_oneof![
        4 => batch().prop_map(Step::Write),
        2 => (family(), key()).prop_map(|(family, key)| Step::Get(family, key)),
        2 => (family(), scan).prop_map(|(family, scan)| Step::Scan(family, scan)),
        1 => Just(Step::Snapshot),
    ]
}

fn scanned(
    reader: &dyn Reader,
    family: Family,
    scan: &Scan,
) -> Vec<Result<(Bytes, Bytes), StoreError>> {
    reader.scan(family, scan.clone()).collect()
}

fn same_answers(history: Vec<Step>) -> Result<(), TestCaseError> {
    let machines: [Box<dyn Machine>; 2] =
        [Box::new(RocksMachine::new(&FAMILIES)), Box::new(SimulatedMachine::new(&FAMILIES))];
    let [rocks, simulated] = machines.map(|machine| machine.store());
    let mut readers: Vec<[Arc<dyn Reader>; 2]> = Vec::new();
    let everything = Scan::prefix("");
    for step in history {
        match step {
            Step::Write(batch) => {
                prop_assert_eq!(rocks.write(batch.clone()), Ok(()));
                prop_assert_eq!(simulated.write(batch), Ok(()));
            }
            Step::Get(family, key) => {
                prop_assert_eq!(rocks.get(family, &key), simulated.get(family, &key));
                for [rocks, simulated] in &readers {
                    prop_assert_eq!(rocks.get(family, &key), simulated.get(family, &key));
                }
            }
            Step::Scan(family, scan) => {
                prop_assert_eq!(
                    scanned(&*rocks, family, &scan),
                    scanned(&*simulated, family, &scan)
                );
                for [rocks, simulated] in &readers {
                    prop_assert_eq!(
                        scanned(&**rocks, family, &scan),
                        scanned(&**simulated, family, &scan)
                    );
                }
            }
            Step::Snapshot => readers.push([rocks.snapshot(), simulated.snapshot()]),
        }
    }
    for family in FAMILIES {
        prop_assert_eq!(
            scanned(&*rocks, family, &everything),
            scanned(&*simulated, family, &everything)
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_answer_alike(history in vec(step(), 1..60)) {
        same_answers(history)?;
    }
}
