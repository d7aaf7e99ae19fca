//! The seams: everything through which a process reaches the outside world, except the store.
//!
//! Production code takes an [`Environment`] and uses nothing else: no `tokio::net`, no system clock, no
//! entropy of the operating system. So the same code runs in production and in the simulation.
//! Tasks are spawned with `tokio::spawn` and local waiting is [`crate::time`]'s, whose clock the
//! simulation drives; *decisions* take their time from [`Clock`].

use std::{
    future::Future,
    io,
    net::SocketAddr,
    ops::{Add, Sub},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes to a peer.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// A connection of whichever network.
pub type BoxConnection = Box<dyn Connection>;

/// A bound listening socket.
pub trait Listener: Send + 'static {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>>;
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// Connects and listens.
pub trait Network: Send + Sync + 'static {
    /// `address` is host:port.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<BoxConnection>>;
    /// `address` is host:port; port 0 picks a free one.
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// After which delays copies of an order that has just arrived are handed on. In production it is
    /// handed on once and at once; a simulation may delay and repeat it, so that orders overtake each
    /// other and come after the session that they came through.
    fn deliveries(&self) -> Vec<Duration> {
        vec![Duration::ZERO]
    }
}

/// A point on a process's monotonic clock. Means nothing in another process, or after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    pub const fn from_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Time since the clock's origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// Time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;
    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(duration))
    }
}

/// Tells the time, and waits.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic: never goes backwards.
    fn now(&self) -> Moment;
    /// For display only. Nothing may be decided by it.
    fn wall(&self) -> SystemTime;
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Draws random numbers.
pub trait Randomness: Send + Sync + 'static {
    fn next_u64(&self) -> u64;
}

/// Tells how much of a processor's time the calling thread has had.
pub trait ProcessorTime: Send + Sync + 'static {
    /// Since some point in the thread's life: only the difference between two calls on one thread means
    /// anything.
    fn of_thread(&self) -> Duration;
}

/// Where work costs nothing that could be told: a simulation must not depend on how fast it is simulated.
#[derive(Clone, Copy, Debug)]
pub struct NoProcessorTime;

impl ProcessorTime for NoProcessorTime {
    fn of_thread(&self) -> Duration {
        Duration::ZERO
    }
}

/// The seams of one process.
#[derive(Clone)]
pub struct Environment {
    pub network: Arc<dyn Network>,
    pub clock: Arc<dyn Clock>,
    pub randomness: Arc<dyn Randomness>,
    pub processor_time: Arc<dyn ProcessorTime>,
}

impl Environment {
    /// The real world.
    pub fn production() -> Self {
        Self {
            network: Arc::new(production::TcpNetwork),
            clock: Arc::new(production::SystemClock::new()),
            randomness: Arc::new(production::SystemRandomness),
            processor_time: Arc::new(production::ThreadTime),
        }
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Milliseconds since 1970 by the wall clock, for display only.
    pub fn wall_ms(&self) -> u64 {
        let since = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    pub async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    /// The future's output, or none if it takes longer than `limit`.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let sleep = self.clock.sleep(limit);
        tokio::select! {
            biased;
            output = future => Some(output),
            () = sleep => None,
        }
    }

    /// 16 random bytes.
    pub fn random_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.randomness.next_u64().to_le_bytes());
        bytes[8..].copy_from_slice(&self.randomness.next_u64().to_le_bytes());
        bytes
    }

    /// A random (version 4) UUID.
    pub fn random_uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.random_bytes()).into_uuid()
    }

    /// A number in `0..bound`, very nearly uniform.
    ///
    /// # Panics
    /// If `bound` is zero.
    pub fn random_below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "a random number below zero does not exist");
        // 64 random bits scaled by a widening product: the bias is at most bound / 2^64.
        let product = u128::from(self.randomness.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }

    /// A duration between half of `base` and one and a half times it.
    pub fn jittered(&self, base: Duration) -> Duration {
        let nanos = u64::try_from(base.as_nanos()).unwrap_or(u64::MAX / 2).max(1);
        Duration::from_nanos(nanos / 2 + self.random_below(nanos))
    }
}

/// The real world's implementations.
#[expect(clippy::disallowed_methods, reason = "these are the seams")]
pub mod production {
    use super::*;

    /// TCP by the operating system.
    #[derive(Clone, Copy, Debug)]
    pub struct TcpNetwork;

    struct TcpListener(tokio::net::TcpListener);

    impl Listener for TcpListener {
        fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>> {
            async move {
                let (stream, peer) = self.0.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream) as BoxConnection, peer))
            }
            .boxed()
        }

        fn local_address(&self) -> io::Result<SocketAddr> {
            self.0.local_addr()
        }
    }

    impl Network for TcpNetwork {
        fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<BoxConnection>> {
            let address = address.to_owned();
            async move {
                let stream = tokio::net::TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as BoxConnection)
            }
            .boxed()
        }

        fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
            let address = address.to_owned();
            async move {
                let listener = tokio::net::TcpListener::bind(address).await?;
                Ok(Box::new(TcpListener(listener)) as Box<dyn Listener>)
            }
            .boxed()
        }
    }

    /// The operating system's clocks.
    #[derive(Clone, Copy, Debug)]
    pub struct SystemClock {
        origin: std::time::Instant,
    }

    impl SystemClock {
        pub fn new() -> Self {
            Self { origin: std::time::Instant::now() }
        }
    }

    impl Default for SystemClock {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Clock for SystemClock {
        fn now(&self) -> Moment {
            Moment::from_origin(self.origin.elapsed())
        }

        fn wall(&self) -> SystemTime {
            SystemTime::now()
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            tokio::time::sleep(duration).boxed()
        }
    }

    /// The operating system's entropy, through the thread's generator.
    #[derive(Clone, Copy, Debug)]
    pub struct SystemRandomness;

    impl Randomness for SystemRandomness {
        fn next_u64(&self) -> u64 {
            rand::random()
        }
    }

    /// What the operating system has charged the thread for.
    #[derive(Clone, Copy, Debug)]
    pub struct ThreadTime;

    impl ProcessorTime for ThreadTime {
        /// Zero where the system does not tell.
        fn of_thread(&self) -> Duration {
            nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
        }
    }
}
