//! The counters of one replica's load.
//!
//! To ask for a thread's processor time is a call into the kernel, and a request has several polls. So of
//! sixteen requests only one is measured, which then stands for all of them: over a second of a load that
//! matters the sum is close, and the others pay for two additions.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use proto::v1::HotKey;
use runtime::{
    metered::Metered,
    seams::{Environment, ProcessorTime},
};

use super::{
    hot_keys::HotKeys,
    key_sample::{KeySample, Middle},
};
use crate::engine::{error::RequestError, types::KeyRange};

/// One request of so many is measured.
const SAMPLED_ONE_IN: u32 = 16;

/// What was counted in some interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub request_cpu: Duration,
    pub apply_cpu: Duration,
    /// Requests that were refused because too many were under way.
    pub shed: u64,
    /// Requests that had to wait for others of their key, or were refused because there were too many.
    pub throttled: u64,
    /// The sum of the time that requests took without working.
    pub waited: Duration,
}

impl Counts {
    /// Both together.
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            reads: self.reads.saturating_add(other.reads),
            writes: self.writes.saturating_add(other.writes),
            bytes_read: self.bytes_read.saturating_add(other.bytes_read),
            bytes_written: self.bytes_written.saturating_add(other.bytes_written),
            request_cpu: self.request_cpu.saturating_add(other.request_cpu),
            apply_cpu: self.apply_cpu.saturating_add(other.apply_cpu),
            shed: self.shed.saturating_add(other.shed),
            throttled: self.throttled.saturating_add(other.throttled),
            waited: self.waited.saturating_add(other.waited),
        }
    }

    pub fn is_nothing(&self) -> bool {
        *self == Counts::default()
    }
}

/// Counters of one replica's load.
#[derive(Default)]
pub struct Heat {
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    request_cpu_ns: AtomicU64,
    apply_cpu_ns: AtomicU64,
    shed: AtomicU64,
    throttled: AtomicU64,
    waited_ns: AtomicU64,
    requests: AtomicU64,
    runs: AtomicU64,
    /// Whether `keys` holds something: most partitions are not hot, and need not take the lock.
    tracks_keys: AtomicBool,
    keys: Mutex<Option<Box<WatchedKeys>>>,
}

/// What is known of the keys of a hot partition.
#[derive(Default)]
struct WatchedKeys {
    hottest: HotKeys,
    sample: KeySample,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether the next one is measured: one of sixteen, spread so that no rhythm of requests keeps in step.
fn is_sampled(sequence: &AtomicU64) -> bool {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = sequence.fetch_add(1, Relaxed).wrapping_mul(GOLDEN);
    mixed >> (u64::BITS - SAMPLED_ONE_IN.ilog2()) == 0
}

impl Heat {
    /// A request for one key was read.
    pub fn read(&self, key: &[u8], bytes: usize) {
        self.reads.fetch_add(1, Relaxed);
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
        self.note_key(Some(key));
    }

    /// A page of keys was listed.
    pub fn listed(&self, bytes: usize) {
        self.reads.fetch_add(1, Relaxed);
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
        self.note_key(None);
    }

    pub fn wrote(&self, key: &[u8], bytes: usize) {
        self.writes.fetch_add(1, Relaxed);
        self.bytes_written.fetch_add(bytes as u64, Relaxed);
        self.note_key(Some(key));
    }

    /// A request had to wait because its key has its share, or was refused for that.
    pub fn throttled(&self) {
        self.throttled.fetch_add(1, Relaxed);
    }

    fn note_key(&self, key: Option<&[u8]>) {
        if !self.tracks_keys.load(Relaxed) {
            return;
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = keys.as_mut() {
            keys.hottest.note(key);
            if let Some(key) = key {
                keys.sample.note(key);
            }
        }
    }

    /// Carries out a request, and counts what it costs. `key`: the one that it is for; none for a list. What is refused
    /// for overload is asked for all the same, and its key as hot as if it were not.
    pub async fn request<T>(
        &self,
        environment: &Environment,
        key: Option<&[u8]>,
        work: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        let began = is_sampled(&self.requests).then(|| environment.now());
        let meter = began.map(|_| environment.processor_time.as_ref());
        let (answer, used) = Metered::new(meter, work).await;
        if let Some(began) = began {
            let waited = environment.now().since(began).saturating_sub(used);
            self.request_cpu_ns.fetch_add(nanoseconds(used * SAMPLED_ONE_IN), Relaxed);
            self.waited_ns.fetch_add(nanoseconds(waited * SAMPLED_ONE_IN), Relaxed);
        }
        let is_shed =
            matches!(answer, Err(RequestError::Exhausted { .. } | RequestError::Throttled { .. }));
        if is_shed {
            self.shed.fetch_add(1, Relaxed);
            self.note_key(key);
        }
        answer
    }

    /// Applies a run of entries, and counts what it costs.
    pub async fn apply<T>(
        &self,
        processor_time: &dyn ProcessorTime,
        work: impl Future<Output = T>,
    ) -> T {
        let meter = is_sampled(&self.runs).then_some(processor_time);
        let (outcome, used) = Metered::new(meter, work).await;
        self.apply_cpu_ns.fetch_add(nanoseconds(used * SAMPLED_ONE_IN), Relaxed);
        outcome
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Counts {
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.swap(0, Relaxed));
        Counts {
            reads: self.reads.swap(0, Relaxed),
            writes: self.writes.swap(0, Relaxed),
            bytes_read: self.bytes_read.swap(0, Relaxed),
            bytes_written: self.bytes_written.swap(0, Relaxed),
            request_cpu: time(&self.request_cpu_ns),
            apply_cpu: time(&self.apply_cpu_ns),
            shed: self.shed.swap(0, Relaxed),
            throttled: self.throttled.swap(0, Relaxed),
            waited: time(&self.waited_ns),
        }
    }

    /// Begins to watch the keys, or ends it; changes nothing if it is so already.
    pub fn track_keys(&self, tracked: bool) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.is_some() != tracked {
            *keys = tracked.then(Box::default);
            self.tracks_keys.store(tracked, Relaxed);
        }
    }

    /// What was noted of the keys weighs less from now on: half after each half-life.
    pub fn age_keys(&self, elapsed: Duration) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = keys.as_mut() {
            keys.hottest.age(elapsed);
            keys.sample.age(elapsed);
        }
    }

    /// The hottest keys, the hottest first; none where they are not watched.
    pub fn hottest_keys(&self, count: usize) -> Vec<HotKey> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.as_ref().map_or_else(Vec::new, |keys| keys.hottest.hottest(count))
    }

    /// Whether the keys are watched: only then is anything known of where the load's middle is.
    pub fn samples_keys(&self) -> bool {
        self.tracks_keys.load(Relaxed)
    }

    /// Where the load on the range falls into halves, as far as is known.
    pub fn middle(&self, range: &KeyRange) -> Option<Middle> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.as_ref()?.sample.middle(range)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::engine::types::PartitionId;

    /// Every question costs a millisecond.
    #[derive(Default)]
    struct Counting(AtomicU64);

    impl ProcessorTime for Counting {
        fn of_thread(&self) -> Duration {
            Duration::from_millis(self.0.fetch_add(1, Relaxed))
        }
    }

    fn environment() -> (Arc<Counting>, Environment) {
        let counting = Arc::new(Counting::default());
        let processor_time = Arc::clone(&counting) as Arc<dyn ProcessorTime>;
        (counting, Environment { processor_time, ..Environment::production() })
    }

    #[tokio::test]
    async fn one_of_sixteen_is_measured_and_stands_for_all() {
        let (counting, environment) = environment();
        let heat = Heat::default();
        for _ in 0..16_000 {
            let answer = heat.request(&environment, None, async { Ok(()) }).await;
            assert!(answer.is_ok());
        }
        let measured = counting.0.load(Relaxed) / 2;
        assert!((990..=1_010).contains(&measured), "{measured} of 16,000");
        let counts = heat.take();
        assert_eq!(counts.request_cpu, Duration::from_millis(measured * 16));
        assert_eq!(counts.apply_cpu, Duration::ZERO);
        assert!(heat.take().is_nothing(), "taken is taken");

        for _ in 0..1_600 {
            heat.apply(&*environment.processor_time, async {}).await;
        }
        let apply_ms = heat.take().apply_cpu.as_millis();
        assert!((1_500..=1_700).contains(&apply_ms), "{apply_ms} ms");
    }

    #[tokio::test]
    async fn only_what_is_refused_for_overload_is_shed() {
        let (_, environment) = environment();
        let heat = Heat::default();
        heat.track_keys(true);
        let exhausted =
            RequestError::Exhausted { problem: "too many", retry_after: Duration::ZERO };
        let throttled = RequestError::Throttled {
            partition: PartitionId(1),
            key: Bytes::new(),
            kind: "reads",
            under_way: 64,
            retry_after: Duration::ZERO,
        };
        for error in [exhausted, RequestError::Invalid(String::new()), throttled] {
            let refused = error.clone();
            let answer =
                heat.request(&environment, Some(b"hot"), async { Err::<(), _>(refused) }).await;
            assert_eq!(answer, Err(error));
        }
        assert_eq!(heat.take().shed, 2);
        heat.read(b"cold", 1);
        let hottest = heat.hottest_keys(1);
        assert_eq!(hottest[0].key_prefix.as_ref(), b"hot", "what is turned away is wanted");
        assert!((hottest[0].share - 2.0 / 3.0).abs() < 1e-9, "{hottest:?}");
    }

    #[test]
    fn keys_are_watched_only_while_they_shall_be() {
        let heat = Heat::default();
        heat.read(b"a", 10);
        assert!(heat.hottest_keys(4).is_empty());
        heat.track_keys(true);
        heat.read(b"a", 10);
        heat.wrote(b"a", 20);
        heat.listed(30);
        heat.track_keys(true);
        let hottest = heat.hottest_keys(4);
        assert_eq!(hottest.len(), 1);
        assert_eq!(hottest[0].key_prefix.as_ref(), b"a");
        assert!((hottest[0].share - 2.0 / 3.0).abs() < 1e-9, "a list is a request, too");
        heat.track_keys(false);
        assert!(heat.hottest_keys(4).is_empty());
        let counts = heat.take();
        let expected =
            Counts { reads: 3, writes: 1, bytes_read: 50, bytes_written: 20, ..Counts::default() };
        assert_eq!(counts, expected);
    }
}
