//! Where the harness and its programs inside the world tell each other how far the run is.
//!
//! Programs look at it now and then instead of waiting on it: a wake-up from outside the world would
//! come at no simulated time.

use std::{cell::RefCell, rc::Rc, time::Duration};

use crate::checks::Problem;

/// What the run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The operator makes the zone.
    Building,
    /// Clients work, and things go wrong.
    Faults,
    /// Everything is mended, and clients work steadily: load has to be spread, and then be left alone. Only where
    /// requests cost anything.
    Steady,
    /// Everything is mended, clients have stopped: the zone has to settle.
    Settling,
    /// Everything is read once more.
    Verifying,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    available: bool,
    spread: bool,
    settled: bool,
    verified: bool,
    clients_working: u32,
    waiting_for: String,
    problems: Vec<Problem>,
}

/// Shared by everybody in one run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board {
    state: Rc<RefCell<State>>,
}

/// How often programs look at the board.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(10);

impl Default for Board {
    fn default() -> Self {
        let state = State {
            phase: Phase::Building,
            available: false,
            spread: false,
            settled: false,
            verified: false,
            clients_working: 0,
            waiting_for: "the zone to be made".into(),
            problems: Vec::new(),
        };
        Self { state: Rc::new(RefCell::new(state)) }
    }
}

impl Board {
    pub fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    pub fn enter(&self, phase: Phase) {
        tracing::info!(?phase, "phase");
        self.state.borrow_mut().phase = phase;
    }

    /// Waits until the run has come to a phase.
    pub async fn reached(&self, phase: Phase) {
        while self.phase() < phase {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The zone exists and every partition is available.
    pub fn set_available(&self) {
        self.state.borrow_mut().available = true;
    }

    pub fn is_available(&self) -> bool {
        self.state.borrow().available
    }

    /// Load is spread, and has been left alone.
    pub fn set_spread(&self) {
        self.state.borrow_mut().spread = true;
    }

    pub fn is_spread(&self) -> bool {
        self.state.borrow().spread
    }

    /// The zone is as it should be, after the faults.
    pub fn set_settled(&self) {
        self.state.borrow_mut().settled = true;
    }

    pub fn is_settled(&self) -> bool {
        self.state.borrow().settled
    }

    /// Everything was read once more.
    pub fn set_verified(&self) {
        self.state.borrow_mut().verified = true;
    }

    pub fn is_verified(&self) -> bool {
        self.state.borrow().verified
    }

    pub fn client_starts(&self) {
        self.state.borrow_mut().clients_working += 1;
    }

    pub fn client_ends(&self) {
        self.state.borrow_mut().clients_working -= 1;
    }

    pub fn clients_working(&self) -> u32 {
        self.state.borrow().clients_working
    }

    /// Says, for a report, what has not come true yet.
    pub fn wait_for(&self, what: impl Into<String>) {
        self.state.borrow_mut().waiting_for = what.into();
    }

    pub fn waiting_for(&self) -> String {
        self.state.borrow().waiting_for.clone()
    }

    /// Something that must not be.
    pub fn report(&self, problem: Problem) {
        tracing::error!(%problem, "violation");
        self.state.borrow_mut().problems.push(problem);
    }

    pub fn first_problem(&self) -> Option<Problem> {
        self.state.borrow().problems.first().cloned()
    }
}
