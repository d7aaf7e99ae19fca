//! Clients that read, write, delete and list, and record what they asked and what they were told.
//!
//! Which keys are asked for how often, and how fast, follows from the seed: see [`Shape`]. A third of the
//! keys is never deleted: whoever knows that such a key exists has to find it in every list that begins
//! after that, however the partitions move meanwhile.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use bytes::Bytes;
use client::{Client, ConnectError, Item, ObjectMetadata, RequestError, Version, WriteError};
use rand::{RngExt, rngs::StdRng};
use runtime::seams::Environment;

use crate::{
    board::{Board, Phase},
    checks::Problem,
    history::{Call, Condition, Outcome, Recorder, ValueId},
    seed::Seed,
};

/// What the clients of a run do.
#[derive(Clone, Debug)]
pub struct WorkloadOptions {
    pub clients: u32,
    /// How many keys there are.
    pub keys: u32,
    /// The pause between two operations of one client.
    pub pause_ms: Range<u64>,
}

impl Default for WorkloadOptions {
    fn default() -> Self {
        Self { clients: 4, keys: 24, pause_ms: 0..60 }
    }
}

/// The keys of a run, in order.
pub fn keys(count: u32) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from(format!("key-{number:04}"))).collect()
}

/// Every so many keys there is one that is never deleted.
const LASTING_EVERY: usize = 3;

fn is_lasting(key: usize) -> bool {
    key.is_multiple_of(LASTING_EVERY)
}

/// The metadata that stands for a value. All its fields follow from the value, so that a mixture of two
/// values is none.
pub fn metadata_of(value: ValueId) -> ObjectMetadata {
    let length = usize::try_from(value.0 % 401).expect("below 401");
    ObjectMetadata {
        etag: Bytes::from(format!("{:016x}", value.0)),
        size_bytes: value.0,
        location: Bytes::from(format!("slab/{}/{}", value.0 % 7, value.0)),
        user_payload: Bytes::from(vec![u8::try_from(value.0 % 251).expect("below 251"); length]),
    }
}

/// The value that the metadata stands for. Metadata that nobody wrote stands for value 0, which nobody
/// writes.
pub fn value_of(metadata: &ObjectMetadata) -> ValueId {
    let value = ValueId(metadata.size_bytes);
    if *metadata == metadata_of(value) {
        return value;
    }
    tracing::error!(?metadata, "the value of a key was never written like this");
    ValueId(0)
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// A client that records.
pub struct RecordingClient {
    number: u32,
    client: Client,
    recorder: Recorder,
    writes: u64,
}

/// Values of one client: beyond those of every other.
const VALUES_PER_CLIENT: u64 = 1_000_000;

impl RecordingClient {
    /// Connects, as often as it takes.
    ///
    /// # Errors
    /// If no patience would help.
    pub async fn connect(
        number: u32,
        environment: &Environment,
        endpoints: &[String],
        options: client::Options,
        recorder: Recorder,
    ) -> anyhow::Result<Self> {
        loop {
            match Client::connect(environment, endpoints, options.clone()).await {
                Ok(client) => return Ok(Self { number, client, recorder, writes: 0 }),
                Err(ConnectError::Unreachable { .. } | ConnectError::NotInitialized(_)) => {
                    environment.sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A value that was never written before.
    pub fn next_value(&mut self) -> ValueId {
        self.writes += 1;
        ValueId(u64::from(self.number + 1) * VALUES_PER_CLIENT + self.writes)
    }

    /// Carries out one operation and records it. The answer is also returned.
    pub async fn perform(&self, key: &Bytes, call: Call) -> Outcome {
        let token = self.recorder.invoke(self.number, key.clone(), call, now());
        let outcome = match call {
            Call::Get => read_outcome(self.client.get(key.clone()).await),
            Call::Put { value, condition } => {
                let value = metadata_of(value);
                match self.client.put(key.clone(), value, condition.map(Into::into)).await {
                    Ok(version) => Outcome::Written { version: version.0 },
                    Err(error) => write_outcome(error),
                }
            }
            Call::Delete { condition } => {
                match self.client.delete(key.clone(), condition.map(Into::into)).await {
                    Ok(deleted) => {
                        Outcome::Deleted { version: deleted.version.0, existed: deleted.existed }
                    }
                    Err(error) => write_outcome(error),
                }
            }
        };
        self.recorder.complete(token, outcome.clone(), now());
        tracing::debug!(client = self.number, ?key, %call, %outcome, "operation");
        outcome
    }

    /// All items, by `List`, in pages of at most so many.
    ///
    /// # Errors
    /// If the client could not get at one of them.
    pub async fn list_all(&self, page_items: u32) -> Result<Vec<Item>, RequestError> {
        let mut items = Vec::new();
        let mut from = Bytes::new();
        loop {
            let page = self.client.list_page(&Bytes::new(), from, page_items).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => from = next,
                None => return Ok(items),
            }
        }
    }
}

fn read_outcome(answer: Result<Option<Item>, RequestError>) -> Outcome {
    match answer {
        Ok(Some(item)) => Outcome::Found { value: value_of(&item.value), version: item.version.0 },
        Ok(None) => Outcome::Missing,
        Err(error) => Outcome::Refused { reason: error.to_string() },
    }
}

fn write_outcome(error: WriteError) -> Outcome {
    match error {
        WriteError::ConditionFailed { current_version } => Outcome::ConditionFailed {
            current_version: current_version.map_or(0, |version| version.0),
        },
        WriteError::Failed(error) => Outcome::Refused { reason: error.to_string() },
        WriteError::Unknown { .. } => Outcome::Unknown,
    }
}

impl From<Condition> for client::Condition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Absent => client::Condition::Absent,
            Condition::VersionEquals(version) => client::Condition::VersionEquals(Version(version)),
        }
    }
}

/// What one client remembers of the keys, to ask conditional writes that have a chance.
struct Memory {
    versions: Vec<Option<u64>>,
}

impl Memory {
    fn note(&mut self, key: usize, outcome: &Outcome) {
        match outcome {
            Outcome::Written { version } | Outcome::Found { version, .. } => {
                self.versions[key] = Some(*version);
            }
            Outcome::ConditionFailed { current_version } => {
                self.versions[key] = (*current_version > 0).then_some(*current_version);
            }
            Outcome::Deleted { .. } | Outcome::Missing => self.versions[key] = None,
            Outcome::Refused { .. } | Outcome::Unknown => {}
        }
    }

    /// The keys that exist for ever, as far as this client knows, and the versions that it has seen.
    fn lasting(&self, keys: &[Bytes]) -> BTreeMap<Bytes, u64> {
        let known = keys.iter().enumerate().filter(|(number, _)| is_lasting(*number));
        known.filter_map(|(number, key)| Some((key.clone(), self.versions[number]?))).collect()
    }

    fn condition(&self, key: usize) -> Condition {
        self.versions[key].map_or(Condition::Absent, Condition::VersionEquals)
    }
}

/// What a client is to do next.
enum Task {
    Call(Call),
    List { page_items: u32 },
}

/// How often which keys are asked for, and how fast. The same for all clients of a run, so that they meet.
struct Shape {
    seed: Seed,
    /// The chance of a key up to and including each rank, by rank: as in Zipf's law.
    cumulative: Vec<f64>,
    /// How long the same keys are hot.
    hot_for_ms: u128,
    /// The pause between two operations against the usual one, in halves.
    pause_halves: u64,
}

impl Shape {
    fn drawn(seed: Seed, keys: usize) -> Self {
        let seed = seed.derive("workload shape", 0);
        let mut generator = seed.generator();
        // From every key as often as another, to half of all operations on the hottest.
        let exponent = generator.random_range(0.0..1.6_f64);
        let mut cumulative = Vec::with_capacity(keys);
        let mut sum = 0.0;
        let mut rank = 1.0_f64;
        for _ in 0..keys {
            sum += rank.powf(-exponent);
            rank += 1.0;
            cumulative.push(sum);
        }
        for chance in &mut cumulative {
            *chance /= sum;
        }
        Self {
            seed,
            cumulative,
            hot_for_ms: generator.random_range(1_500..6_000),
            pause_halves: [1, 2, 2, 4][generator.random_range(0..4)],
        }
    }

    fn draw_key(&self, generator: &mut StdRng, now: Duration) -> usize {
        let chance = generator.random_range(0.0..1.0);
        let rank = self.cumulative.partition_point(|up_to| *up_to < chance);
        let keys = self.cumulative.len();
        let era = u64::try_from(now.as_millis() / self.hot_for_ms).unwrap_or(u64::MAX);
        let hottest = self.seed.derive("hottest", era).0 % u64::try_from(keys).unwrap_or(1);
        (rank.min(keys - 1) + usize::try_from(hottest).unwrap_or_default()) % keys
    }
}

/// One client's work, from the first phase with faults to its end.
///
/// # Errors
/// If the client cannot be made.
pub async fn work(
    number: u32,
    seed: Seed,
    options: WorkloadOptions,
    environment: Environment,
    endpoints: Vec<String>,
    client_options: client::Options,
    recorder: Recorder,
    board: Board,
) -> anyhow::Result<()> {
    board.reached(Phase::Faults).await;
    board.client_starts();
    let mut generator = seed.derive("workload", u64::from(number)).generator();
    let mut client =
        RecordingClient::connect(number, &environment, &endpoints, client_options, recorder)
            .await?;
    let keys = keys(options.keys);
    let shape = Shape::drawn(seed, keys.len());
    let mut memory = Memory { versions: vec![None; keys.len()] };
    while board.phase() <= Phase::Steady {
        // From then on the same keys are hot.
        let at = if board.phase() == Phase::Steady { Duration::ZERO } else { now() };
        let key = shape.draw_key(&mut generator, at);
        match draw_task(&mut generator, &memory, key, &mut client) {
            Task::Call(call) => {
                let outcome = client.perform(&keys[key], call).await;
                memory.note(key, &outcome);
            }
            Task::List { page_items } => {
                let known = memory.lasting(&keys);
                if let Ok(items) = client.list_all(page_items).await {
                    tracing::debug!(client = number, items = items.len(), page_items, "list");
                    if let Err(problem) = check_list(&items, &known) {
                        board.report(problem);
                    }
                }
            }
        }
        let pause_ms = generator.random_range(options.pause_ms.clone()) * shape.pause_halves / 2;
        environment.sleep(Duration::from_millis(pause_ms)).await;
    }
    board.client_ends();
    Ok(())
}

/// G3 for a list, given keys that were there throughout, each with a version that it had before.
fn check_list(items: &[Item], known: &BTreeMap<Bytes, u64>) -> Result<(), Problem> {
    let problem = |sentence: &str, key: &Bytes| {
        Err(Problem::new("G3", sentence).with_details(String::from_utf8_lossy(key).into_owned()))
    };
    for pair in items.windows(2) {
        if let [first, second] = pair
            && first.key >= second.key
        {
            return problem("List gives keys out of order, or a key twice", &second.key);
        }
    }
    let listed: BTreeMap<&Bytes, &Item> = items.iter().map(|item| (&item.key, item)).collect();
    for item in items {
        if value_of(&item.value) == ValueId(0) {
            return problem("List gives a value that nobody wrote", &item.key);
        }
    }
    for (key, version) in known {
        match listed.get(key) {
            None => return problem("List misses a key that was there throughout", key),
            Some(item) if item.version.0 < *version => {
                return problem("List gives a value that was overwritten before it began", key);
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn draw_task(
    generator: &mut StdRng,
    memory: &Memory,
    key: usize,
    client: &mut RecordingClient,
) -> Task {
    let condition = memory.condition(key);
    let call = match generator.random_range(0..100_u32) {
        0..38 => Call::Get,
        38..60 => Call::Put { value: client.next_value(), condition: None },
        60..82 => Call::Put { value: client.next_value(), condition: Some(condition) },
        82..96 if is_lasting(key) => Call::Put { value: client.next_value(), condition: None },
        82..89 => Call::Delete { condition: None },
        89..96 => match condition {
            Condition::Absent => Call::Delete { condition: None },
            condition @ Condition::VersionEquals(_) => Call::Delete { condition: Some(condition) },
        },
        _ => return Task::List { page_items: generator.random_range(1..8) },
    };
    Task::Call(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_its_metadata_and_a_mixture_does_not() {
        let value = ValueId(3_000_017);
        assert_eq!(value_of(&metadata_of(value)), value);
        let mixture = ObjectMetadata { etag: metadata_of(ValueId(5)).etag, ..metadata_of(value) };
        assert_eq!(value_of(&mixture), ValueId(0));
    }

    fn item(key: &'static str, version: u64) -> Item {
        let value = metadata_of(ValueId(VALUES_PER_CLIENT + version));
        Item { key: Bytes::from_static(key.as_bytes()), value, version: Version(version) }
    }

    #[test]
    fn a_list_has_everything_that_lasts_and_nothing_twice() {
        let known = BTreeMap::from([(Bytes::from_static(b"b"), 5)]);
        check_list(&[item("a", 1), item("b", 5)], &known).unwrap();
        check_list(&[item("b", 6)], &known).unwrap();
        for wrong in [
            vec![item("a", 1)],
            vec![item("b", 4)],
            vec![item("b", 5), item("b", 5)],
            vec![item("b", 5), item("a", 1)],
            vec![item("b", 5), Item { value: ObjectMetadata::default(), ..item("c", 7) }],
        ] {
            assert_eq!(check_list(&wrong, &known).unwrap_err().guarantee, "G3", "{wrong:?}");
        }
    }

    #[test]
    fn hot_keys_jump_and_are_hot_for_everybody() {
        let mut hottest = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let shape = Shape::drawn(Seed(seed), 24);
            let drawn = |salt: u64, at: u64| {
                let mut generator = Seed(salt).generator();
                let mut counts = [0_u32; 24];
                for _ in 0..2_000 {
                    counts[shape.draw_key(&mut generator, Duration::from_secs(at))] += 1;
                }
                let most = (0..24).max_by_key(|key| counts[*key]).unwrap();
                (most, counts[most])
            };
            let (most, count) = drawn(1, 0);
            if count > 600 {
                assert_eq!(drawn(2, 0).0, most, "seed {seed}");
                hottest.extend([most, drawn(1, 7).0, drawn(1, 14).0]);
            }
        }
        assert!(hottest.len() > 5, "{hottest:?}");
    }
}
