//! The runtime that openraft runs on: tokio, with randomness that can be seeded, and with the timers of
//! [`crate::time`], which a simulation can put on a process's own clock.
//!
//! openraft draws election timeouts from its runtime. In the simulation they must come from the seed, in
//! production from the operating system, and one type configuration has to serve both. So
//! [`RaftRuntime`] looks for a seed in the task that asks: inside a [`scope`](RaftRuntime::scope) there
//! is one, and every task that openraft spawns there gets one of its own, derived from its parent's;
//! outside of a scope the operating system's entropy is used.
//!
//! Production code opens the scope around `Raft::new` with a number from its randomness seam, and is
//! then right in both worlds. A task that is spawned with `tokio::spawn` is outside its parent's scope.
//!
//! The derivation is that of `openraft_rt::deterministic_rng`, which panics outside of a scope and so
//! cannot be used itself.

use std::{
    cell::Cell,
    future::Future,
    io,
    ops::{Add, AddAssign, Sub, SubAssign},
    time::Duration,
};

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use rand::{SeedableRng, rngs::SmallRng};

use crate::time;

/// Fractional bits of the golden ratio: for a child's seed.
const CHILD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Fractional bits of the square root of two: for a task's own next seed.
const NEXT: u64 = 0x6a09_e667_f3bc_c908;

tokio::task_local! {
    static SEED: Cell<u64>;
}

/// Tokio with seedable randomness.
#[derive(Debug)]
pub struct RaftRuntime {
    tokio: TokioRuntime,
}

impl RaftRuntime {
    /// Runs a future with randomness from `seed`, for itself and for what openraft spawns in it.
    pub fn scope<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
        SEED.scope(Cell::new(seed), future)
    }
}

/// SplitMix64 with a choice of its constant: a bijection, so that different seeds stay different.
fn mix(seed: u64, constant: u64) -> u64 {
    let mixed = seed.wrapping_add(constant);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The task's seed, which is another one afterwards; none outside of a scope.
fn take_seed() -> Option<u64> {
    SEED.try_with(|seed| seed.replace(mix(seed.get(), NEXT))).ok()
}

/// A moment of the process's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RaftInstant(tokio::time::Instant);

impl openraft_rt::Instant for RaftInstant {
    fn now() -> Self {
        Self(time::now())
    }
}

impl Add<Duration> for RaftInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for RaftInstant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for RaftInstant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for RaftInstant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub for RaftInstant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

impl AsyncRuntime for RaftRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = time::Sleep;
    type Instant = RaftInstant;
    type TimeoutError = time::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = time::Timeout<T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match take_seed() {
            Some(seed) => TokioRuntime::spawn(SEED.scope(Cell::new(mix(seed, CHILD)), future)),
            None => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        time::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        time::sleep_until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        time::timeout_at(deadline.0, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the simulation has a seed, and so never comes here"
    )]
    fn thread_rng() -> Self::ThreadLocalRng {
        match take_seed() {
            Some(seed) => SmallRng::seed_from_u64(seed),
            None => SmallRng::from_rng(&mut rand::rng()),
        }
    }

    fn new(threads: usize) -> Self {
        Self { tokio: TokioRuntime::new(threads) }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.tokio.block_on(future)
    }

    fn spawn_blocking<F, T>(function: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        TokioRuntime::spawn_blocking(function)
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    async fn draws() -> [u64; 4] {
        let here = RaftRuntime::thread_rng().next_u64();
        let child = RaftRuntime::spawn(async {
            let grandchild = RaftRuntime::spawn(async { RaftRuntime::thread_rng().next_u64() });
            [RaftRuntime::thread_rng().next_u64(), grandchild.await.expect("does not panic")]
        });
        let [child, grandchild] = child.await.expect("does not panic");
        [here, child, grandchild, RaftRuntime::thread_rng().next_u64()]
    }

    #[tokio::test]
    async fn a_seed_decides_everything_in_its_scope() {
        let first = RaftRuntime::scope(7, draws()).await;
        assert_eq!(first, RaftRuntime::scope(7, draws()).await);
        assert_ne!(first, RaftRuntime::scope(8, draws()).await);
    }

    #[tokio::test]
    async fn tasks_of_one_scope_differ() {
        let mut drawn = RaftRuntime::scope(7, draws()).await.to_vec();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 4);
    }

    #[tokio::test]
    async fn outside_of_a_scope_there_is_entropy() {
        assert_ne!(draws().await, draws().await);
    }

    #[test]
    fn it_is_a_complete_runtime() {
        openraft_rt::testing::Suite::<RaftRuntime>::test_all();
    }
}
