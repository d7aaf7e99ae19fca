//! When a node that looks for the control plane's leader asks the next member.
//!
//! Pure: what is given is what the member asked last has said, and what comes out is the pause before the next
//! one is asked. The caller jitters each pause (see [`runtime::seams::Environment::jittered`]), so that nodes
//! that lost their leader in one moment do not find the next one in one moment.

use std::time::Duration;

/// The pause before the next member is asked after all were asked in vain, at first and at most.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
pub const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// The pause after a refusal for good, which only an operator can change.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Why a member did not accept the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// The request itself is refused: asking again cannot help.
    ForGood,
    /// It says who leads.
    ToLeader,
    /// It is not there, or knows of no leader.
    Away,
}

/// The pauses of one search for the leader.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    members: usize,
    asked: usize,
    backoff: Duration,
}

impl Search {
    /// Among so many members, at least one.
    pub fn new(members: usize) -> Self {
        Self { members: members.max(1), asked: 0, backoff: BACKOFF_MIN }
    }

    /// The pause before the next member is asked. Members may have become more by hints.
    pub fn pause(&mut self, turned: Turned, members: usize) -> Duration {
        self.members = members.max(1);
        self.asked += 1;
        match turned {
            Turned::ForGood => REFUSED_PAUSE,
            // One with a hint, or one of a round: the next may well be the right one.
            Turned::ToLeader => BACKOFF_MIN,
            Turned::Away if !self.asked.is_multiple_of(self.members) => BACKOFF_MIN,
            Turned::Away => {
                self.backoff = doubled(self.backoff);
                self.backoff
            }
        }
    }
}

/// The next pause where the one before was in vain.
pub fn doubled(backoff: Duration) -> Duration {
    (backoff * 2).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use runtime::seams::{Environment, Randomness};

    use super::*;

    /// SplitMix64: numbers that look random and are the same in every run.
    struct Seeded(AtomicU64);

    impl Randomness for Seeded {
        fn next_u64(&self) -> u64 {
            let step = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    fn environment(seed: u64) -> Environment {
        let randomness = Arc::new(Seeded(AtomicU64::new(seed)));
        Environment { randomness, ..Environment::production() }
    }

    const NODES: usize = 10_000;
    const MEMBERS: usize = 3;
    /// The new leader, who is known to all members from then on.
    const LEADER: usize = 1;
    const KNOWN_AT: Duration = Duration::from_millis(800);
    /// For a question and its answer. The dead member refuses connections in the same time.
    const ROUND_TRIP: Duration = Duration::from_millis(1);

    /// Follows one node whose session with member 0 breaks at moment 0: when it has a session again, and how
    /// often it has asked.
    fn follow(environment: &Environment) -> (Duration, usize) {
        let mut search = Search::new(MEMBERS);
        let (mut member, mut asked) = (1, 0);
        let mut now = environment.jittered(BACKOFF_MIN);
        loop {
            asked += 1;
            now += ROUND_TRIP;
            let is_known = now >= KNOWN_AT && member != 0;
            if is_known && member == LEADER {
                return (now, asked);
            }
            let turned = if is_known { Turned::ToLeader } else { Turned::Away };
            member = if is_known { LEADER } else { (member + 1) % MEMBERS };
            now += environment.jittered(search.pause(turned, MEMBERS));
        }
    }

    #[test]
    fn pauses_grow_from_round_to_round_and_hints_are_followed_soon() {
        let mut search = Search::new(2);
        let pauses: Vec<u128> =
            (0..14).map(|_| search.pause(Turned::Away, 2).as_millis()).collect();
        assert_eq!(pauses, [20, 40, 20, 80, 20, 160, 20, 320, 20, 500, 20, 500, 20, 500]);
        assert_eq!(search.pause(Turned::ToLeader, 2), BACKOFF_MIN);
        assert_eq!(search.pause(Turned::ForGood, 2), REFUSED_PAUSE);
        assert_eq!(Search::new(0).pause(Turned::Away, 0), BACKOFF_MIN * 2);
    }

    /// No herd: while nobody leads, jittered pauses spread the nodes over the longest pause that any of them
    /// has come to, which is 320 ms after 800 ms; and nearly all of them are in that pause.
    #[test]
    fn ten_thousand_nodes_find_a_new_leader_one_after_the_other() {
        let seeded = environment(7);
        let mut found: Vec<(Duration, usize)> = (0..NODES).map(|_| follow(&seeded)).collect();
        found.sort_unstable();
        let mut crowds = vec![0_usize; 1_000];
        for (at, _) in &found {
            crowds[usize::try_from(at.as_millis() / 10).expect("soon")] += 1;
        }
        // Over 320 ms they would be 313 in each 10 ms if they were spread evenly. Twice as many are
        // granted for those that are between two short pauses when the leader becomes known.
        let most = crowds.iter().max().expect("some");
        assert!(*most <= NODES * 10 / 320 * 2, "{most} in 10 ms");
        // The longest pause with its jitter, and one more round of short ones.
        let (last, _) = found.last().expect("some");
        let latest = KNOWN_AT + BACKOFF_MAX * 3 / 2 + (BACKOFF_MIN * 3 / 2 + ROUND_TRIP) * 3;
        assert!(*last <= latest, "the last one has a session after {last:?}");
        // Five rounds while nobody leads, and one more in which the leader is found.
        let asked: usize = found.iter().map(|(_, asked)| asked).sum();
        assert!(asked <= NODES * MEMBERS * 6, "{asked} attempts");
        // And the same seed gives the same schedule.
        assert_eq!(follow(&environment(7)), follow(&environment(7)));
    }
}
