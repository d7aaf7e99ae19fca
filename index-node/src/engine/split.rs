//! What a leader does when its partition is to be split: finds the key, measures what lies behind it, and
//! proposes the entry.
//!
//! How much belongs to each half has to be the same on all replicas, and nobody may wait for it to be
//! counted. So the leader first proposes a `Measure`: from then on every replica counts what changes
//! behind the key. Meanwhile the leader counts what is there, in a snapshot, and the entry of the split says
//! how much that was when the measuring began.
//!
//! Repeated, an order finds the range of another epoch and does nothing.

use std::time::Duration;

use bytes::Bytes;
use runtime::store::{Reader, Scan, StoreError};

use super::{
    birth,
    command::{Operation, PartitionOutcome, Split, SplitOutcome, SplitRefusal},
    error::RequestError,
    keys,
    records::{self, StoredValue},
    replica::Replica,
    types::{KeyRange, Lineage, PartitionId, Placement, RaftLogId},
};

/// Keys that are counted before others have a turn.
const KEYS_AT_ONCE: usize = 512;
/// The longest that the keys may take to be counted.
const COUNT_TIMEOUT: Duration = Duration::from_secs(120);

/// Where a partition is to be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitPoint {
    Key(Bytes),
    /// Where the latest requests fall into halves.
    MiddleOfLoad,
    /// Where the bytes of keys and values fall into halves.
    MiddleOfSize,
}

/// A partition that is to be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitOrder {
    pub point: SplitPoint,
    /// Of the range that is meant.
    pub range_epoch: u64,
    pub child: PartitionId,
    pub replicas: Vec<Placement>,
    pub based_on: Option<RaftLogId>,
}

/// Why a partition was not split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("this replica does not lead")]
    NotLeader,
    #[error("the group has no range yet")]
    NoRange,
    #[error(transparent)]
    Refused(#[from] SplitRefusal),
    #[error(
        "too few requests have come lately to say where their middle is: split by size, or name a key"
    )]
    NoLoad,
    #[error("one key gets most of the requests: no split would divide them")]
    OneKey,
    #[error("the partition has fewer than two keys: name the key to split at")]
    TooFewKeys,
    #[error("the keys cannot be counted: {0}")]
    Store(#[from] StoreError),
    #[error("the keys were not counted within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Request(#[from] RequestError),
    #[error("the entry was answered as another one")]
    Unexpected,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    keys: u64,
    bytes: u64,
}

impl Replica {
    /// Splits the partition, unless that is done.
    pub async fn split(&self, order: &SplitOrder) -> Result<(), SplitError> {
        if !self.is_leader() {
            return Err(SplitError::NotLeader);
        }
        let range = {
            let state = self.view.state();
            if state.range_epoch > order.range_epoch {
                runtime::mark!("order: the partition was split already");
                return Ok(());
            }
            state.range.clone().ok_or(SplitError::NoRange)?
        };
        self.check_members(order)?;
        let at = self.split_key(&order.point, &range).await?;
        if !birth::is_inside(&range, &at) {
            return Err(SplitRefusal::NotInside.into());
        }
        let (measured_at, amount) = self.measure(&at).await?;
        let split = Split {
            at,
            range_epoch: order.range_epoch,
            membership_log: order.based_on,
            child: order.child,
            replicas: order.replicas.clone(),
            measured_at,
            keys: amount.keys,
            stored_bytes: amount.bytes,
        };
        match self.propose_own(Operation::Split(split)).await? {
            PartitionOutcome::Split(SplitOutcome::Done) => Ok(()),
            PartitionOutcome::Split(SplitOutcome::Refused(refusal)) => Err(refusal.into()),
            _ => Err(SplitError::Unexpected),
        }
    }

    async fn propose_own(&self, operation: Operation) -> Result<PartitionOutcome, RequestError> {
        self.propose(self.command(self.clock.now_ms(), operation)).await
    }

    /// What the entry's apply checks for good: nothing is begun that must fail.
    fn check_members(&self, order: &SplitOrder) -> Result<(), SplitRefusal> {
        let membership = self.membership();
        let voters = birth::plain_voters(&membership).ok_or(SplitRefusal::OtherMembers)?;
        if *membership.log_id() != order.based_on {
            return Err(SplitRefusal::OtherMembers);
        }
        if !birth::are_on_nodes_of(&order.replicas, &voters) {
            return Err(SplitRefusal::OtherNodes);
        }
        Ok(())
    }

    async fn split_key(&self, point: &SplitPoint, range: &KeyRange) -> Result<Bytes, SplitError> {
        match point {
            SplitPoint::Key(key) => Ok(key.clone()),
            SplitPoint::MiddleOfLoad => match self.heat.middle(range) {
                Some(middle) => Ok(middle.key),
                None if self.heat.samples_keys() => Err(SplitError::OneKey),
                None => Err(SplitError::NoLoad),
            },
            SplitPoint::MiddleOfSize => self.middle_of_size(range).await,
        }
    }

    /// The first key that has at least half of all bytes before it.
    async fn middle_of_size(&self, range: &KeyRange) -> Result<Bytes, SplitError> {
        let (state, reader) = self.view.snapshot();
        let mut walk = Walk::over(state.lineage, range);
        let mut before = 0;
        let limit = async {
            while let Some(batch) = walk.next(reader.as_ref())? {
                for (key, bytes) in batch {
                    let is_middle = before >= state.stored_bytes.div_ceil(2) || walk.is_last(&key);
                    if before > 0 && is_middle {
                        let is_proper = birth::is_inside(range, &key);
                        return is_proper.then_some(key).ok_or(SplitError::TooFewKeys);
                    }
                    before += bytes;
                }
                tokio::task::yield_now().await;
            }
            Err(SplitError::TooFewKeys)
        };
        match runtime::time::timeout(COUNT_TIMEOUT, limit).await {
            Ok(found) => found,
            Err(_) => Err(SplitError::Timeout(COUNT_TIMEOUT)),
        }
    }

    /// Begins to measure from the key on: the entry's index, and what was there then.
    async fn measure(&self, at: &Bytes) -> Result<(u64, Amount), SplitError> {
        let outcome = self.propose_own(Operation::Measure { at: at.clone() }).await?;
        if outcome != PartitionOutcome::Measured {
            return Err(SplitError::Unexpected);
        }
        // Whoever has measured in between has the last word.
        let (state, reader) = self.view.snapshot();
        let measuring = state.measuring.as_ref().filter(|measuring| measuring.at == *at);
        let (Some(measuring), Some(range)) = (measuring, &state.range) else {
            return Err(SplitRefusal::NotMeasured.into());
        };
        let behind = KeyRange { start: at.clone(), end: range.end.clone() };
        let mut walk = Walk::over(state.lineage, &behind);
        let counting = async {
            let mut amount = Amount::default();
            while let Some(batch) = walk.next(reader.as_ref())? {
                for (_, bytes) in batch {
                    amount.keys += 1;
                    amount.bytes += bytes;
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, SplitError>(amount)
        };
        let now = match runtime::time::timeout(COUNT_TIMEOUT, counting).await {
            Ok(counted) => counted?,
            Err(_) => return Err(SplitError::Timeout(COUNT_TIMEOUT)),
        };
        let then = measuring.then(now.keys, now.bytes);
        let (keys, bytes) = then.ok_or(SplitRefusal::NotMeasured)?;
        Ok((measuring.since, Amount { keys, bytes }))
    }
}

/// A walk over the keys of a range, some at a time.
struct Walk {
    next: Option<Bytes>,
    end: Bytes,
    last: Option<Bytes>,
}

impl Walk {
    fn over(lineage: Lineage, range: &KeyRange) -> Self {
        let (start, end) = keys::data_range(lineage, range);
        Self { next: Some(start), end, last: None }
    }

    /// The next keys, each with the bytes that it takes with its value; none at the end.
    fn next(&mut self, reader: &dyn Reader) -> Result<Option<Vec<(Bytes, u64)>>, StoreError> {
        let Some(start) = self.next.take() else { return Ok(None) };
        let mut batch = Vec::new();
        for entry in reader.scan(keys::DATA, Scan::range(start, self.end.clone())) {
            let (full_key, value) = entry?;
            if batch.len() >= KEYS_AT_ONCE {
                self.next = Some(full_key);
                break;
            }
            let stored: StoredValue = records::decode(keys::DATA, &value)?;
            let key = keys::without_lineage(&full_key);
            let bytes = (key.len() + stored.value.len()) as u64;
            batch.push((key, bytes));
        }
        if self.next.is_none() {
            self.last = batch.last().map(|(key, _)| key.clone());
        }
        Ok(Some(batch))
    }

    /// Whether it is the range's last key.
    fn is_last(&self, key: &Bytes) -> bool {
        self.last.as_ref() == Some(key)
    }
}
