//! Where requests wait for their turn, and give it back however they end.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use planted::Bug;
use tokio::sync::{Semaphore, oneshot};

use super::key_turns::{Arrival, KeyTurns, Ticket, TurnLimits};

type Turns = KeyTurns<oneshot::Sender<()>>;

/// The turns of one partition's requests of one kind.
pub struct TurnGate {
    turns: Mutex<Turns>,
}

/// A request's turn, until it is dropped.
pub struct Turn<'a> {
    gate: &'a TurnGate,
    key: &'a Bytes,
}

/// What came of asking for a turn.
pub enum Turned<'a> {
    AtOnce(Turn<'a>),
    Waited(Turn<'a>),
    /// Not in time; so many of its key have one.
    Refused {
        under_way: usize,
    },
}

/// One who waits, until it has its turn or is dropped.
struct Place<'a> {
    gate: &'a TurnGate,
    key: &'a Bytes,
    /// None: it was taken care of.
    ticket: Option<Ticket>,
}

impl TurnGate {
    pub fn new(limits: TurnLimits) -> Self {
        Self { turns: Mutex::new(KeyTurns::new(limits)) }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a turn, and waits for it, but not for longer than `limit`, and not at all where `places` has
    /// no permit left.
    pub async fn enter<'a>(
        &'a self,
        key: &'a Bytes,
        places: &Semaphore,
        limit: Duration,
    ) -> Turned<'a> {
        let arrival = self.turns().arrive(key, oneshot::channel);
        let (mut place, receiver) = match arrival {
            Arrival::Admitted => return Turned::AtOnce(Turn { gate: self, key }),
            Arrival::Refused { under_way } => return Turned::Refused { under_way },
            Arrival::Waits(ticket, receiver) => {
                (Place { gate: self, key, ticket: Some(ticket) }, receiver)
            }
        };
        let told = match places.try_acquire() {
            Ok(_permit) => matches!(runtime::time::timeout(limit, receiver).await, Ok(Ok(()))),
            Err(_) => false,
        };
        if !told && let Some(under_way) = place.give_up() {
            return Turned::Refused { under_way };
        }
        place.ticket = None;
        Turned::Waited(Turn { gate: self, key })
    }

    /// Requests that have a turn.
    pub fn under_way(&self) -> usize {
        self.turns().under_way()
    }

    fn leave(&self, key: &Bytes) {
        let next = self.turns().leave(key);
        if let Some(waiter) = next {
            // Who has gone meanwhile gives the turn back when its place is dropped.
            let _ = waiter.send(());
        }
    }
}

impl Place<'_> {
    /// How many of its key have a turn; none if it has one itself.
    fn give_up(&mut self) -> Option<usize> {
        let under_way = self.gate.turns().give_up(self.key, self.ticket?)?;
        self.ticket = None;
        Some(under_way)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let has_turn = self.ticket.is_some() && self.give_up().is_none();
        if has_turn {
            self.gate.leave(self.key);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !planted::is_planted(Bug::TurnKept) {
            self.gate.leave(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;

    const LIMITS: TurnLimits = TurnLimits {
        crowd: 2,
        of_one_key: 1,
        alone: 2,
        alone_after: usize::MAX,
        waiting_of_one_key: 2,
    };
    const LIMIT: Duration = Duration::from_millis(50);

    fn hot() -> Bytes {
        Bytes::from_static(b"hot")
    }

    fn at_once<'a>(gate: &'a TurnGate, key: &'a Bytes, places: &Semaphore) -> Turn<'a> {
        match gate.enter(key, places, LIMIT).now_or_never() {
            Some(Turned::AtOnce(turn)) => turn,
            _ => panic!("it has to wait"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_and_who_waits_for_long_is_refused() {
        let (gate, places, key) = (TurnGate::new(LIMITS), Semaphore::new(9), hot());
        let first = at_once(&gate, &key, &places);
        let second = at_once(&gate, &key, &places);
        let began = tokio::time::Instant::now();
        let third = gate.enter(&key, &places, LIMIT).await;
        assert!(matches!(third, Turned::Refused { under_way: 2 }));
        assert!(began.elapsed() >= LIMIT);

        let other = Bytes::from_static(b"other");
        drop(at_once(&gate, &other, &places));
        let waits = gate.enter(&key, &places, LIMIT);
        let ends = async { drop(first) };
        let (third, ()) = tokio::join!(biased; waits, ends);
        assert!(matches!(third, Turned::Waited(_)));
        drop((second, third));
        assert_eq!(gate.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_and_a_full_node_refuse_at_once() {
        let (gate, places, key) = (TurnGate::new(LIMITS), Semaphore::new(1), hot());
        let _turns = [at_once(&gate, &key, &places), at_once(&gate, &key, &places)];
        let mut waits = Box::pin(gate.enter(&key, &places, LIMIT));
        assert!(waits.as_mut().now_or_never().is_none());
        let refused = gate.enter(&key, &places, LIMIT).now_or_never();
        assert!(matches!(refused, Some(Turned::Refused { under_way: 2 })), "no place on the node");
        let places = Semaphore::new(9);
        let mut also = Box::pin(gate.enter(&key, &places, LIMIT));
        assert!(also.as_mut().now_or_never().is_none());
        let refused = gate.enter(&key, &places, LIMIT).now_or_never();
        assert!(matches!(refused, Some(Turned::Refused { under_way: 2 })), "the queue is full");
    }

    /// A turn that is given to somebody who has just gone goes on to the next.
    #[tokio::test(start_paused = true)]
    async fn whoever_is_dropped_gives_its_turn_back() {
        let (gate, places, key) = (TurnGate::new(LIMITS), Semaphore::new(9), hot());
        let (first, second) = (at_once(&gate, &key, &places), at_once(&gate, &key, &places));
        let mut gone = Box::pin(gate.enter(&key, &places, LIMIT));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut next = Box::pin(gate.enter(&key, &places, LIMIT));
        assert!(next.as_mut().now_or_never().is_none());
        drop(first);
        assert!(next.as_mut().now_or_never().is_none(), "it is another one's");
        drop(gone);
        let Some(Turned::Waited(third)) = next.as_mut().now_or_never() else {
            panic!("nobody else waits")
        };
        let mut early = Box::pin(gate.enter(&key, &places, LIMIT));
        assert!(early.as_mut().now_or_never().is_none());
        drop(early);
        drop((second, third));
        drop(next);
        assert_eq!(gate.under_way(), 0);
    }

    /// Many at once, a part of which gives up: in the end nobody has a turn.
    #[tokio::test(start_paused = true)]
    async fn nothing_leaks() {
        let gate = Arc::new(TurnGate::new(LIMITS));
        let places = Arc::new(Semaphore::new(3));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..500_u64 {
            let (gate, places) = (Arc::clone(&gate), Arc::clone(&places));
            tasks.spawn(async move {
                let key = if number % 3 == 0 { Bytes::from_static(b"cold") } else { hot() };
                let work = async {
                    let turned = gate.enter(&key, &places, LIMIT).await;
                    tokio::time::sleep(Duration::from_millis(number % 7)).await;
                    drop(turned);
                };
                let patience = Duration::from_millis(number % 11);
                let _ = tokio::time::timeout(patience, work).await;
            });
        }
        tasks.join_all().await;
        assert_eq!(gate.under_way(), 0);
        assert_eq!(places.available_permits(), 3);
    }
}
