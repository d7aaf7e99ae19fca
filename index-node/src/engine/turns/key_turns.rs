//! Who has a turn, who waits for one, and who comes next.
//!
//! Invariants:
//! - A key waits only while the partition is crowded and the key has its share of turns: whenever a request
//!   waits, neither is the crowd smaller nor has its key less.
//! - A key that has been alone for long makes nobody wait, and has more turns until somebody else comes.
//! - So a key that has less than its share never waits, whatever other keys do.
//! - And with few requests under way nobody waits.
//! - Only keys with requests here are known.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// How many requests of one kind a partition may have under way at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnLimits {
    /// With so many under way the partition is crowded: others have to wait.
    pub crowd: usize,
    /// So many of one key have a turn in a crowd.
    pub of_one_key: usize,
    /// So many make a crowd while nobody asks for another key; never fewer than the first number. Whoever comes
    /// then waits for no more than these once.
    pub alone: usize,
    /// So many requests in a row for one key mean that nobody does.
    pub alone_after: usize,
    /// So many of one key may wait.
    pub waiting_of_one_key: usize,
}

impl TurnLimits {
    /// A key that is alone may have four crowds under way, and is alone after eight.
    pub fn new(crowd: usize, of_one_key: usize, waiting_of_one_key: usize) -> Self {
        let (alone, alone_after) = (crowd.saturating_mul(4), crowd.saturating_mul(8));
        Self { crowd, of_one_key, alone, alone_after, waiting_of_one_key }
    }
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self::new(128, 64, 256)
    }
}

/// Who waits. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What becomes of a request that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<R> {
    /// It has a turn.
    Admitted,
    /// It waits for one, and is told by what was made for it.
    Waits(Ticket, R),
    /// Too many of its key wait already; so many have a turn.
    Refused { under_way: usize },
}

#[derive(Debug, Default)]
struct OneKey {
    under_way: usize,
    waiting: VecDeque<Ticket>,
}

/// The turns of one partition. `W` is how one who waits is told.
#[derive(Debug)]
pub struct KeyTurns<W> {
    limits: TurnLimits,
    under_way: usize,
    keys: BTreeMap<Bytes, OneKey>,
    /// The longest wait first.
    waiting: BTreeMap<Ticket, (Bytes, W)>,
    next: u64,
    /// The key of the last request, and how many were for it in a row.
    last: Bytes,
    in_a_row: usize,
}

impl<W> KeyTurns<W> {
    pub fn new(limits: TurnLimits) -> Self {
        let (keys, waiting) = (BTreeMap::new(), BTreeMap::new());
        // Without a turn at all, a key would wait for ever.
        let of_one_key = limits.of_one_key.max(1);
        let limits = TurnLimits { of_one_key, alone: limits.alone.max(limits.crowd), ..limits };
        let (last, in_a_row) = (Bytes::new(), 0);
        Self { limits, under_way: 0, keys, waiting, next: 0, last, in_a_row }
    }

    fn is_crowded(&self) -> bool {
        let is_alone = self.in_a_row >= self.limits.alone_after;
        self.under_way >= if is_alone { self.limits.alone } else { self.limits.crowd }
    }

    fn note(&mut self, key: &Bytes) {
        if self.last == *key {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            (self.last, self.in_a_row) = (key.clone(), 1);
        }
    }

    /// A request comes in. If it has to wait, `channel` makes how it is told, and what it is told by.
    pub fn arrive<R>(&mut self, key: &Bytes, channel: impl FnOnce() -> (W, R)) -> Arrival<R> {
        self.note(key);
        let crowded = self.is_crowded();
        let Some(one) = self.keys.get_mut(key) else {
            self.keys.insert(key.clone(), OneKey { under_way: 1, waiting: VecDeque::new() });
            self.under_way += 1;
            return Arrival::Admitted;
        };
        if !crowded || one.under_way < self.limits.of_one_key {
            one.under_way += 1;
            self.under_way += 1;
            return Arrival::Admitted;
        }
        if one.waiting.len() >= self.limits.waiting_of_one_key {
            return Arrival::Refused { under_way: one.under_way };
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        one.waiting.push_back(ticket);
        let (waiter, told_by) = channel();
        self.waiting.insert(ticket, (key.clone(), waiter));
        Arrival::Waits(ticket, told_by)
    }

    /// A request that had a turn has ended. Who has its turn now: the next one of this key if the key has less
    /// than its share, and else, where there is room, whoever has waited the longest.
    pub fn leave(&mut self, key: &Bytes) -> Option<W> {
        let one = self.keys.get_mut(key)?;
        self.under_way = self.under_way.saturating_sub(1);
        one.under_way = one.under_way.saturating_sub(1);
        let of_this_key = one.under_way < self.limits.of_one_key;
        let next = one.waiting.front().filter(|_| of_this_key).copied();
        if one.under_way == 0 && next.is_none() {
            self.keys.remove(key);
        }
        let oldest = || self.waiting.first_key_value().map(|(ticket, _)| *ticket);
        let next = next.or_else(|| if self.is_crowded() { None } else { oldest() })?;
        let (key, waiter) = self.waiting.remove(&next)?;
        let one = self.keys.entry(key).or_default();
        // Whoever has waited the longest of all has waited the longest of its key.
        one.waiting.pop_front();
        one.under_way += 1;
        self.under_way += 1;
        Some(waiter)
    }

    /// A request waits no more: how many of its key have a turn. None: it was given one meanwhile, and has to
    /// [leave](Self::leave).
    pub fn give_up(&mut self, key: &Bytes, ticket: Ticket) -> Option<usize> {
        self.waiting.remove(&ticket)?;
        let one = self.keys.get_mut(key)?;
        one.waiting.retain(|waiting| *waiting != ticket);
        Some(one.under_way)
    }

    /// Requests that have a turn.
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Nobody is ever alone.
    const LIMITS: TurnLimits = TurnLimits {
        crowd: 6,
        of_one_key: 3,
        alone: 12,
        alone_after: usize::MAX,
        waiting_of_one_key: 4,
    };

    fn key(number: u8) -> Bytes {
        vec![number].into()
    }

    /// The turns, and a naive account of them.
    struct Account {
        turns: KeyTurns<u64>,
        /// The keys of requests that have a turn.
        admitted: Vec<u8>,
        /// Requests that wait, the oldest first: number, key, ticket.
        waiting: Vec<(u64, u8, Ticket)>,
        number: u64,
    }

    impl Account {
        fn new(limits: TurnLimits) -> Self {
            let (admitted, waiting) = (Vec::new(), Vec::new());
            Self { turns: KeyTurns::new(limits), admitted, waiting, number: 0 }
        }

        fn admitted_of(&self, of: u8) -> usize {
            self.admitted.iter().filter(|key| **key == of).count()
        }

        fn waiting_of(&self, of: u8) -> usize {
            self.waiting.iter().filter(|(_, key, _)| *key == of).count()
        }

        fn arrive(&mut self, of: u8) -> Arrival<()> {
            self.number += 1;
            let number = self.number;
            let arrival = self.turns.arrive(&key(of), || (number, ()));
            match arrival {
                Arrival::Admitted => self.admitted.push(of),
                Arrival::Waits(ticket, ()) => self.waiting.push((number, of, ticket)),
                Arrival::Refused { under_way } => assert_eq!(under_way, self.admitted_of(of)),
            }
            arrival
        }

        fn leave(&mut self, at: usize) -> Option<u8> {
            let of = self.admitted.remove(at);
            let told = self.turns.leave(&key(of))?;
            let at = self.waiting.iter().position(|(number, ..)| *number == told).unwrap();
            let (_, next, _) = self.waiting.remove(at);
            assert!(self.waiting[..at].iter().all(|(_, key, _)| *key != next), "in turn");
            self.admitted.push(next);
            Some(next)
        }

        fn give_up(&mut self, at: usize) {
            let (_, of, ticket) = self.waiting.remove(at);
            assert_eq!(self.turns.give_up(&key(of), ticket), Some(self.admitted_of(of)));
            assert_eq!(self.turns.give_up(&key(of), ticket), None, "once");
        }

        fn check(&self) {
            let limits = self.turns.limits;
            let most = if limits.alone_after == usize::MAX { limits.crowd } else { limits.alone };
            assert_eq!(self.turns.under_way(), self.admitted.len());
            assert_eq!(self.turns.waiting.len(), self.waiting.len());
            for of in 0..=u8::MAX {
                let (admitted, waiting) = (self.admitted_of(of), self.waiting_of(of));
                assert_eq!(self.turns.keys.contains_key(&key(of)), admitted + waiting > 0, "{of}");
                assert!(admitted <= most, "alone it makes a crowd, and no more");
                assert!(waiting <= limits.waiting_of_one_key, "bounded");
                if waiting > 0 {
                    assert!(self.admitted.len() >= limits.crowd, "{of} waits though there is room");
                    assert!(admitted >= limits.of_one_key, "{of} waits below its share");
                }
            }
        }
    }

    #[test]
    fn a_hot_key_makes_a_crowd_and_then_waits_while_others_pass_by() {
        let mut account = Account::new(LIMITS);
        for _ in 0..6 {
            assert_eq!(account.arrive(1), Arrival::Admitted, "there is room");
        }
        for _ in 0..4 {
            assert!(matches!(account.arrive(1), Arrival::Waits(..)));
        }
        assert_eq!(account.arrive(1), Arrival::Refused { under_way: 6 });
        for other in 2..100 {
            assert_eq!(account.arrive(other), Arrival::Admitted);
        }
        // It goes down to its share, and keeps that.
        for _ in 0..3 {
            assert_eq!(account.leave(0), None);
        }
        assert_eq!(account.leave(0), Some(1));
        account.check();
    }

    #[test]
    fn a_key_that_is_alone_has_more_turns_until_another_one_comes() {
        let mut account = Account::new(TurnLimits { alone_after: 8, ..LIMITS });
        for _ in 0..6 {
            assert_eq!(account.arrive(1), Arrival::Admitted);
        }
        // The seventh in a row waits; from the eighth on nobody else is there.
        assert!(matches!(account.arrive(1), Arrival::Waits(..)));
        for _ in 0..6 {
            assert_eq!(account.arrive(1), Arrival::Admitted);
        }
        assert!(matches!(account.arrive(1), Arrival::Waits(..)), "this is bounded, too");
        assert_eq!(account.arrive(2), Arrival::Admitted);
        for _ in 0..7 {
            assert_eq!(account.leave(0), None, "down to what makes a crowd");
        }
        assert_eq!(account.leave(0), Some(1));
        account.check();
    }

    #[test]
    fn room_goes_to_whoever_has_waited_the_longest() {
        let mut account = Account::new(TurnLimits { of_one_key: 2, ..LIMITS });
        for of in [1, 1, 1, 2, 2, 2] {
            assert_eq!(account.arrive(of), Arrival::Admitted);
        }
        assert!(matches!(account.arrive(2), Arrival::Waits(..)));
        assert!(matches!(account.arrive(1), Arrival::Waits(..)));
        assert_eq!(account.leave(0), Some(2), "not the key of which one has ended");
        account.check();
        assert_eq!(account.leave(0), Some(1), "it has less than its share");
        account.check();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever comes, ends and gives up in whatever order: nobody waits while there is room, nobody
        /// waits below its share, nobody has more than makes a crowd, queues are bounded, each key is served
        /// in turn, nothing is forgotten, and in the end everybody has had a turn.
        #[test]
        fn turns_are_fair_bounded_and_never_lost(
            crowd in 1_usize..8,
            of_one_key in 1_usize..8,
            waiting_of_one_key in 0_usize..5,
            alone_after in prop_oneof![Just(usize::MAX), 1_usize..6],
            steps in prop::collection::vec((0_u8..4, 0_u8..8, any::<prop::sample::Index>()), 1..200),
        ) {
            let of_one_key = of_one_key.min(crowd);
            let alone = 2 * crowd;
            let limits = TurnLimits { crowd, of_one_key, alone, alone_after, waiting_of_one_key };
            let mut account = Account::new(limits);
            let (mut last, mut in_a_row) = (None, 0);
            for (step, of, index) in steps {
                // Half of all requests are for one key.
                let of = of.saturating_sub(3);
                match step {
                    0 | 1 => {
                        in_a_row = if last == Some(of) { in_a_row + 1 } else { 1 };
                        last = Some(of);
                        let most = if in_a_row >= alone_after { alone } else { crowd };
                        let room = account.admitted.len() < most;
                        let below = account.admitted_of(of) < of_one_key;
                        let arrival = account.arrive(of);
                        prop_assert_eq!(arrival == Arrival::Admitted, room || below);
                    }
                    2 if !account.admitted.is_empty() => {
                        account.leave(index.index(account.admitted.len()));
                    }
                    3 if !account.waiting.is_empty() => {
                        account.give_up(index.index(account.waiting.len()));
                    }
                    _ => {}
                }
                account.check();
            }
            while !account.admitted.is_empty() {
                account.leave(0);
                account.check();
            }
            prop_assert!(account.waiting.is_empty(), "nobody is left behind");
            prop_assert!(account.turns.keys.is_empty());
        }
    }
}
