//! Clients that read, write and delete, and record what they asked and what they were told.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use client::{Client, ConnectError, Item, ObjectMetadata, RequestError, Version, WriteError};
use rand::{RngExt, rngs::StdRng};
use runtime::seams::Environment;

use crate::{
    board::{Board, Phase},
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

/// The share of operations that go to the few hot keys, and how many these are.
const HOT_SHARE: f64 = 0.5;
const HOT_KEYS: usize = 3;

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

    /// All items, by `List`.
    ///
    /// # Errors
    /// If the client could not get at one of them.
    pub async fn list_all(&self) -> Result<Vec<Item>, RequestError> {
        let mut items = Vec::new();
        let mut from = Bytes::new();
        loop {
            let page = self.client.list_page(&Bytes::new(), from, 7).await?;
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

    fn condition(&self, key: usize) -> Condition {
        self.versions[key].map_or(Condition::Absent, Condition::VersionEquals)
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
    let mut memory = Memory { versions: vec![None; keys.len()] };
    while board.phase() == Phase::Faults {
        let key = draw_key(&mut generator, keys.len());
        let call = draw_call(&mut generator, &memory, key, &mut client);
        let outcome = client.perform(&keys[key], call).await;
        memory.note(key, &outcome);
        let pause = generator.random_range(options.pause_ms.clone());
        environment.sleep(Duration::from_millis(pause)).await;
    }
    board.client_ends();
    Ok(())
}

fn draw_key(generator: &mut StdRng, keys: usize) -> usize {
    let among = if generator.random_bool(HOT_SHARE) { HOT_KEYS.min(keys) } else { keys };
    generator.random_range(0..among)
}

fn draw_call(
    generator: &mut StdRng,
    memory: &Memory,
    key: usize,
    client: &mut RecordingClient,
) -> Call {
    match generator.random_range(0..100_u32) {
        0..45 => Call::Get,
        45..73 => Call::Put { value: client.next_value(), condition: None },
        73..88 => Call::Put { value: client.next_value(), condition: Some(memory.condition(key)) },
        88..95 => Call::Delete { condition: None },
        _ => match memory.condition(key) {
            Condition::Absent => Call::Delete { condition: None },
            condition @ Condition::VersionEquals(_) => Call::Delete { condition: Some(condition) },
        },
    }
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
}
