//! The database of one store, which is never opened or closed while the process ends.
//!
//! RocksDB has global mutexes in static memory, and opening and closing a database lock them. When a
//! process ends, C++ destroys them while other threads still run; a database that a thread closes at that
//! moment aborts the process ("pthread lock: Invalid argument"). So the end of the process first waits
//! for whoever opens or closes one, and from then on nobody begins to: a database that would be closed
//! later is left to the kernel, as by `kill -9`, which loses nothing that was synced.

use std::{
    ops::Deref,
    sync::{Condvar, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use rocksdb::{DB, Env};

/// How long the end of the process waits for databases that are being opened or closed.
const END_WAIT_MAX: Duration = Duration::from_secs(10);

static GATE: Gate =
    Gate { state: Mutex::new(State { inside: 0, ending: false }), left: Condvar::new() };
static HOOK: Once = Once::new();

/// An open database; closed when it is dropped, unless the process ends.
pub(super) struct Database {
    /// None only while dropping.
    database: Option<DB>,
}

impl Database {
    /// Calls `open`, or returns None if the process ends.
    pub(super) fn open<E>(open: impl FnOnce() -> Result<DB, E>) -> Option<Result<Self, E>> {
        watch_the_end();
        let _pass = GATE.enter()?;
        Some(open().map(|database| Self { database: Some(database) }))
    }
}

impl Deref for Database {
    type Target = DB;

    fn deref(&self) -> &DB {
        self.database.as_ref().expect("taken only by drop")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        match GATE.enter() {
            Some(_pass) => drop(self.database.take()),
            None => std::mem::forget(self.database.take()),
        }
    }
}

/// Many may be inside at once, until it is closed for good.
struct Gate {
    state: Mutex<State>,
    left: Condvar,
}

struct State {
    inside: usize,
    ending: bool,
}

/// Whoever has it is inside.
struct Pass(&'static Gate);

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole after each statement, so a panic elsewhere does not concern it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&'static self) -> Option<Pass> {
        let mut state = self.lock();
        if state.ending {
            return None;
        }
        state.inside += 1;
        Some(Pass(self))
    }

    /// Lets nobody in any more, and waits until nobody is inside.
    fn close(&self) {
        let mut state = self.lock();
        state.ending = true;
        let waited = self.left.wait_timeout_while(state, END_WAIT_MAX, |state| state.inside > 0);
        drop(waited);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.left.notify_all();
    }
}

/// Has the gate closed when the process ends.
#[expect(unsafe_code, reason = "the C library's call; the hook is a function that never panics")]
fn watch_the_end() {
    extern "C" fn close() {
        GATE.close();
    }
    HOOK.call_once(|| {
        // Hooks run in the opposite sequence to that in which they were registered. The first
        // environment registers the end of RocksDB's background threads, and a database that is being
        // closed waits for them: this hook has to run before that one.
        let environment = Env::new();
        // SAFETY: `close` is a function without preconditions.
        let registered = unsafe { nix::libc::atexit(close) };
        assert!(registered == 0 && environment.is_ok(), "a process can register 32 hooks at least");
    });
}
