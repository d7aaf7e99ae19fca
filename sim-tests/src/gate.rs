//! One gate for each host, which all of its seams pass: a process behind a closed gate does nothing.
//!
//! turmoil runs the tasks of every host in every step. So a process is frozen from outside: its streams
//! neither take nor give, its dials and accepts do not return, no wait ends, and its disk gives no answers.
//! What its tasks still do between two seams reaches nobody. When the gate opens, everything that waited
//! goes on where it was, over the same connections.
//!
//! What libraries wait for by tokio's own timers still elapses: HTTP/2's keep-alive, which gives a
//! connection up after some four seconds, so that only shorter freezes leave all connections as they were.
//!
//! The kernel of a frozen process lives: it acknowledges what arrives, takes connections into its backlog,
//! and ends the syncs that were begun.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use rand::{RngExt, rngs::StdRng};
use runtime::store::simulated::{Side, SimulatedDisk};

use crate::{
    clock::{HostClock, Rate},
    seed::Seed,
    world::Crash,
};

/// How often and how late an order is delivered where orders are jumbled. It may be lost: it is repeated.
const ORDER_COPIES: Range<u32> = 0..4;
const ORDER_DELAY_MS: Range<u64> = 0..2_000;

/// What the monotonic clock of a frozen process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrozenClock {
    /// It goes on, and has jumped when the process does: `SIGSTOP`.
    GoesOn,
    /// It stands still: the pause of a virtual machine.
    StandsStill,
}

/// A process's end at a dial that is still to come.
#[derive(Clone, Copy, Debug)]
struct DialInterrupt {
    side: Side,
    left: u64,
    crash: Crash,
}

#[derive(Debug, Default)]
struct State {
    clock: HostClock,
    frozen: bool,
    /// If there is one: only streams to these hosts pass.
    hears_only: Option<BTreeSet<String>>,
    /// How the process is to end as soon as somebody can end it. It is frozen until then.
    doomed: Option<Crash>,
    dial_interrupt: Option<DialInterrupt>,
    /// If there is one: orders come late, twice, and not in their sequence.
    jumble: Option<StdRng>,
    /// Of tasks that found the gate closed, in the sequence in which they came.
    waiting: Vec<Waker>,
}

/// A host's gate. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    state: Arc<Mutex<State>>,
    /// None for a host without a process.
    disk: Option<SimulatedDisk>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gate").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Gate {
    /// An open one.
    pub fn new(disk: Option<SimulatedDisk>) -> Self {
        Self { state: Arc::default(), disk }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host's clocks, as they are now.
    pub fn clock(&self) -> HostClock {
        self.state().clock.clone()
    }

    /// Starts the host's monotonic clock anew, right at this moment. The wall clock stays as wrong as it
    /// is.
    pub fn start_clock(&self, now: Duration, rate: Rate) {
        self.state().clock.start(now, rate);
    }

    pub fn jump_wall_clock(&self, by_ms: i64) {
        self.state().clock.jump_wall(by_ms);
    }

    pub fn is_frozen(&self) -> bool {
        self.state().frozen
    }

    /// Freezes the process. One that is frozen stays as it is.
    pub fn freeze(&self, now: Duration, clock: FrozenClock) {
        let mut state = self.state();
        if state.frozen {
            return;
        }
        state.frozen = true;
        if clock == FrozenClock::StandsStill {
            state.clock.stand_still(now, true);
        }
        drop(state);
        self.hold_disk(true);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self, now: Duration) {
        let mut state = self.state();
        if !state.frozen || state.doomed.is_some() {
            return;
        }
        state.frozen = false;
        state.clock.stand_still(now, false);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.hold_disk(false);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Lets nothing pass but streams to some hosts; or everything again.
    pub fn hear_only(&self, hosts: Option<BTreeSet<String>>) {
        let mut state = self.state();
        state.hears_only = hosts;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Delivers orders late, more than once and not in their sequence, as the seed says; or as they came.
    pub fn jumble_orders(&self, seed: Option<Seed>) {
        self.state().jumble = seed.map(Seed::generator);
    }

    /// After which delays copies of an order that has arrived are handed on.
    pub fn deliveries(&self) -> Vec<Duration> {
        let mut state = self.state();
        let Some(generator) = &mut state.jumble else { return vec![Duration::ZERO] };
        let copies = generator.random_range(ORDER_COPIES);
        let delay = |_| Duration::from_millis(generator.random_range(ORDER_DELAY_MS));
        (0..copies).map(delay).collect()
    }

    /// Freezes the process for good: somebody has to end it.
    pub fn doom(&self, crash: Crash) {
        let mut state = self.state();
        state.frozen = true;
        state.doomed.get_or_insert(crash);
        drop(state);
        if let Some(disk) = &self.disk {
            disk.cut_off();
        }
        self.hold_disk(true);
    }

    /// How the process has to be ended, if it has.
    pub fn doomed(&self) -> Option<Crash> {
        self.state().doomed
    }

    /// Dooms the process at its `number`th dial from now, before or after the dial has gone out.
    pub fn doom_at_dial(&self, side: Side, number: u64, crash: Crash) {
        self.state().dial_interrupt = Some(DialInterrupt { side, left: number, crash });
    }

    /// Takes back [`doom_at_dial`](Self::doom_at_dial).
    pub fn disarm(&self) {
        self.state().dial_interrupt = None;
    }

    /// Open, for the next process: the last one has ended. Nobody is woken.
    pub fn reset(&self) {
        let mut state = self.state();
        let (clock, jumble) = (state.clock.clone(), state.jumble.take());
        *state = State { clock, jumble, ..State::default() };
        drop(state);
        self.hold_disk(false);
    }

    fn hold_disk(&self, held: bool) {
        if let Some(disk) = &self.disk {
            disk.hold_answers(held);
        }
    }

    /// Takes note of a dial; if the process is to end at it, freezes it, and says on which side.
    pub fn note_dial(&self) -> Option<Side> {
        let mut state = self.state();
        let interrupt = state.dial_interrupt.as_mut()?;
        interrupt.left = interrupt.left.saturating_sub(1);
        if interrupt.left > 0 {
            return None;
        }
        let DialInterrupt { side, crash, .. } = *interrupt;
        state.dial_interrupt = None;
        drop(state);
        self.doom(crash);
        Some(side)
    }

    /// Whether the process runs; if not, the task is woken when it does.
    pub fn poll_running(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.frozen { state.wait(context) } else { Poll::Ready(()) }
    }

    /// Whether anything passes between the process and a peer; if not, the task is woken when it does.
    pub fn poll_passes(&self, peer: &str, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.passes(peer) { Poll::Ready(()) } else { state.wait(context) }
    }

    pub fn passes(&self, peer: &str) -> bool {
        self.state().passes(peer)
    }

    /// Waits until the process runs.
    pub async fn running(&self) {
        std::future::poll_fn(|context| self.poll_running(context)).await;
    }

    /// Waits until something passes between the process and a peer.
    pub async fn passage(&self, peer: &str) {
        std::future::poll_fn(|context| self.poll_passes(peer, context)).await;
    }
}

impl State {
    fn passes(&self, peer: &str) -> bool {
        !self.frozen && self.hears_only.as_ref().is_none_or(|hosts| hosts.contains(peer))
    }

    fn wait(&mut self, context: &Context<'_>) -> Poll<()> {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}
