//! The changes that a search tries, each weighed before it is made.
//!
//! Each of them breaks no rule that is not broken already: a node gets only what it may have and has room
//! for, no two members of a group meet, and no group is spread over fewer fault domains than it must be.

use super::{problem::Problem, state::State};

/// A change of an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A replica goes to another node.
    Shift { replica: usize, to: usize },
    /// A replica takes the place of another one, which goes to `to`: to the first one's node (a swap),
    /// or to a third (a chain).
    Replace { replica: usize, other: usize, to: usize },
}

impl State<'_> {
    /// How the cost changes; none if a rule forbids it or nothing would change.
    #[inline]
    pub fn weigh(&self, change: Change) -> Option<i64> {
        match change {
            Change::Shift { replica, to } => self.weigh_shift(replica, to),
            Change::Replace { replica, other, to } => self.weigh_replace(replica, other, to),
        }
    }

    pub fn carry_out(&mut self, change: Change) {
        match change {
            Change::Shift { replica, to } => {
                self.take(replica);
                self.put(replica, to);
            }
            Change::Replace { replica, other, to } => {
                let Some(place) = self.node_of(other) else { return };
                self.take(replica);
                self.take(other);
                self.put(replica, place);
                self.put(other, to);
            }
        }
    }

    #[inline]
    fn weigh_shift(&self, replica: usize, to: usize) -> Option<i64> {
        let from = self.node_of(replica)?;
        if from == to || !self.may_go(replica, to) || !self.has_room(to, replica) {
            return None;
        }
        Some(
            self.gain_of_arrival(to, replica)
                + self.gain_of_departure(from, replica)
                + self.own_gain(replica, from, to)
                + self.groups.gain(self.problem, &[self.moved(replica, from, to)]),
        )
    }

    #[inline]
    fn weigh_replace(&self, replica: usize, other: usize, to: usize) -> Option<i64> {
        let (from, place) = (self.node_of(replica)?, self.node_of(other)?);
        let group = |replica: usize| self.problem.group[replica];
        let is_swap = to == from;
        // Two members of a group may swap, for the group is then where it was; nothing else is worth a look.
        let is_within = group(replica) == group(other);
        if from == place || place == to || (is_within && !is_swap) {
            return None;
        }
        if !self.has_room_without(place, replica, other) {
            return None;
        }
        let has_room = if is_swap {
            self.has_room_without(from, other, replica)
        } else {
            self.has_room(to, other)
        };
        let may_go = if is_within {
            self.problem.accepts(place, replica) && self.problem.accepts(to, other)
        } else {
            self.may_go(replica, place) && self.may_go(other, to)
        };
        if !has_room || !may_go {
            return None;
        }
        let gain = self.gain_of_exchange(place, replica, other)
            + if is_swap {
                self.gain_of_exchange(from, other, replica)
            } else {
                self.gain_of_departure(from, replica) + self.gain_of_arrival(to, other)
            };
        let (first, second) = (self.moved(replica, from, place), self.moved(other, place, to));
        let moved = if is_within {
            self.groups.gain(self.problem, &[(first.0, first.1 + second.1)])
        } else {
            self.groups.gain(self.problem, &[first, second])
        };
        Some(gain + self.own_gain(replica, from, place) + self.own_gain(other, place, to) + moved)
    }

    /// Whether a replica may be on a node, room aside.
    #[inline]
    pub fn may_go(&self, replica: usize, to: usize) -> bool {
        self.problem.accepts(to, replica)
            && !self.groups.conflicts(self.problem, replica, to)
            && self.groups.stays_spread(self.problem, replica, to)
    }

    fn own_gain(&self, replica: usize, from: usize, to: usize) -> i64 {
        self.own_cost(replica, to) - self.own_cost(replica, from)
    }

    /// The replica's group, and whether one more of its members is moved, or one less.
    fn moved(&self, replica: usize, from: usize, to: usize) -> (usize, i32) {
        let problem: &Problem = self.problem;
        let change =
            i32::from(problem.is_moved(replica, to)) - i32::from(problem.is_moved(replica, from));
        (problem.group[replica] as usize, change)
    }
}
