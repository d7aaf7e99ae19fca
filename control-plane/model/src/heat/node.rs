//! What is kept of one node: sums over the partitions that it leads, and what its other replicas cost.

use std::time::Duration;

use super::{
    DIMENSIONS, Rates,
    average::{Averages, Decay},
    cell::{SessionCount, Sight},
};
use crate::ids::{Incarnation, NodeId};

/// Load on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeLoad {
    /// Of the partitions that it leads.
    pub short: Rates,
    pub long: Rates,
    /// Processor time of applying entries for partitions that others lead.
    pub follower_cpu_cores_short: f64,
    pub follower_cpu_cores_long: f64,
    pub shed_per_second: f64,
    /// Whether it has a session now, and has said something in it.
    pub reported: bool,
}

impl NodeLoad {
    /// All processor time that is known of.
    pub fn cpu_cores_short(&self) -> f64 {
        self.short.cpu_cores() + self.follower_cpu_cores_short
    }

    pub fn cpu_cores_long(&self) -> f64 {
        self.long.cpu_cores() + self.follower_cpu_cores_long
    }
}

/// One node and its present session.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub id: NodeId,
    pub incarnation: Incarnation,
    /// Rises with each session: what came by an earlier one is no part of the sums.
    pub session: SessionCount,
    /// Until when what it reported counts as going on; none as long as the session lasts.
    closed_at: Option<Duration>,
    /// When the session before this one ended.
    previous_ended_at: Duration,
    reported: bool,
    /// Sums of what it leads, as of that moment.
    led: Sight,
    led_at: Duration,
    shed_per_second: f64,
    /// Cells that are part of the sums.
    cells: u64,
    /// Of processor time alone, with the input, as of that moment; none before it was told.
    follower: Option<(Averages, f64)>,
    follower_at: Duration,
}

impl Node {
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            incarnation: Incarnation::default(),
            session: 0,
            closed_at: Some(Duration::ZERO),
            previous_ended_at: Duration::ZERO,
            reported: false,
            led: Sight::default(),
            led_at: Duration::ZERO,
            shed_per_second: 0.0,
            cells: 0,
            follower: None,
            follower_at: Duration::ZERO,
        }
    }

    /// A session begins, in which all is told again: the sums start anew, so that no error of arithmetic
    /// outlives a session.
    pub fn open(&mut self, incarnation: Incarnation, now: Duration) {
        *self = Self {
            incarnation,
            session: self.session.wrapping_add(1),
            closed_at: None,
            previous_ended_at: self.closed_at.unwrap_or(now),
            led_at: now,
            follower_at: now,
            ..Self::new(self.id)
        };
    }

    pub fn close(&mut self, now: Duration) {
        self.closed_at.get_or_insert(now);
    }

    pub fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// Until when what it said by its present session counts as going on.
    fn lasted_until(&self) -> Duration {
        self.closed_at.unwrap_or(Duration::MAX)
    }

    /// Until when what it said by some session counts as going on. Of sessions before the last two nobody
    /// remembers when they ended: what came by one counts up to its last word.
    pub fn lasted_in(&self, session: SessionCount) -> Duration {
        match self.session.wrapping_sub(session) {
            0 => self.lasted_until(),
            1 => self.previous_ended_at,
            _ => Duration::ZERO,
        }
    }

    /// How long, from some moment on, the load was as reported, and how long there has been none since.
    fn spans(&self, from: Duration, now: Duration) -> (Duration, Duration) {
        let until = self.lasted_until().min(now).max(from);
        (until.saturating_sub(from), now.saturating_sub(until))
    }

    fn led_now(&self, now: Duration) -> Sight {
        let (lasted, silent) = self.spans(self.led_at, now);
        let led = self.led.after(lasted);
        if silent.is_zero() { led } else { led.without_input().after(silent) }
    }

    /// One of its partitions has other figures now: none before it was a part of the sums, none after it is
    /// one no more. Both are as of now.
    pub fn change(
        &mut self,
        before: Option<(Sight, f32)>,
        after: Option<(Sight, f32)>,
        now: Duration,
    ) {
        self.led = self.led_now(now);
        self.led_at = self.led_at.max(now);
        self.reported = true;
        match (&before, &after) {
            (None, Some(_)) => self.cells += 1,
            (Some(_), None) => self.cells = self.cells.saturating_sub(1),
            (None, None) | (Some(_), Some(_)) => {}
        }
        let (before, shed_before) = before.unwrap_or_default();
        let (after, shed_after) = after.unwrap_or_default();
        for index in 0..DIMENSIONS {
            let sum = &mut self.led.averages[index];
            let (gone, new) = (before.averages[index], after.averages[index]);
            sum.short = moved(sum.short, gone.short, new.short);
            sum.long = moved(sum.long, gone.long, new.long);
            let input = &mut self.led.input[index];
            *input = moved(*input, before.input[index], after.input[index]);
        }
        self.shed_per_second =
            moved(self.shed_per_second, f64::from(shed_before), f64::from(shed_after));
        if self.cells == 0 {
            // Nothing is led: what is left is rounding.
            self.led = Sight::default();
            self.shed_per_second = 0.0;
        }
    }

    /// What its other replicas cost in an interval that ends now.
    pub fn follow(&mut self, cpu_cores: f64, now: Duration) {
        let averages = match self.follower {
            None => Averages::of(cpu_cores),
            Some((before, _)) => {
                // What it was since the last time is known now.
                before.after(Decay::over(now.saturating_sub(self.follower_at)), cpu_cores)
            }
        };
        self.follower = Some((averages, cpu_cores));
        self.follower_at = self.follower_at.max(now);
        self.reported = true;
    }

    pub fn load(&self, now: Duration) -> NodeLoad {
        let led = self.led_now(now);
        let (lasted, silent) = self.spans(self.follower_at, now);
        let (follower, input) = self.follower.unwrap_or_default();
        let follower = follower.after(Decay::over(lasted), input).after(Decay::over(silent), 0.0);
        NodeLoad {
            short: led.short(),
            long: led.long(),
            follower_cpu_cores_short: follower.short,
            follower_cpu_cores_long: follower.long,
            shed_per_second: if self.is_open() { self.shed_per_second } else { 0.0 },
            reported: self.reported && self.is_open(),
        }
    }
}

/// A sum in which one part has changed; never below nothing, whatever rounding does.
fn moved(sum: f64, gone: f64, new: f64) -> f64 {
    (sum - gone + new).max(0.0)
}
