//! What the harness did to the network and to the processes, as the network seam has to know it.
//!
//! turmoil answers a dial over a cut link with "connection refused" at once, and one to a crashed
//! host not at all. Reality does the opposite, and the zone decides by the difference: a refusal proves
//! that a process is gone. So the seam asks here before it passes turmoil's answer on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

/// What a link does to messages from one host to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// They are lost. Connections do not recover, since turmoil's TCP does not retransmit.
    Cut,
    /// They wait, and arrive when the trouble ends.
    Held,
}

/// Which way a dial across the present network ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It gets to a running process.
    Process,
    /// It gets to a machine on which the process does not run: refused.
    MachineOnly,
    /// It, or the answer, does not get through.
    Nothing,
}

#[derive(Debug, Default)]
struct State {
    /// By (from, to).
    troubles: BTreeMap<(String, String), Trouble>,
    stopped: BTreeSet<String>,
    without_power: BTreeSet<String>,
}

/// The present troubles, shared by the harness, which changes them, and the hosts' network seams.
#[derive(Clone, Debug, Default)]
pub struct Links {
    state: Arc<Mutex<State>>,
}

impl Links {
    pub fn new() -> Self {
        Self::default()
    }

    /// Which way a dial between two hosts ends now.
    pub fn reach(&self, from: &str, to: &str) -> Reach {
        self.with(|state| {
            let there = (from.to_owned(), to.to_owned());
            let back = (to.to_owned(), from.to_owned());
            if state.without_power.contains(to)
                || state.troubles.contains_key(&there)
                || state.troubles.contains_key(&back)
            {
                Reach::Nothing
            } else if state.stopped.contains(to) {
                Reach::MachineOnly
            } else {
                Reach::Process
            }
        })
    }

    /// The trouble of one direction of a link.
    pub fn trouble(&self, from: &str, to: &str) -> Option<Trouble> {
        self.with(|state| state.troubles.get(&(from.to_owned(), to.to_owned())).copied())
    }

    /// All troubles, by (from, to).
    pub fn troubles(&self) -> Vec<((String, String), Trouble)> {
        self.with(|state| {
            state.troubles.iter().map(|(link, trouble)| (link.clone(), *trouble)).collect()
        })
    }

    pub(crate) fn set_trouble(&self, from: &str, to: &str, trouble: Option<Trouble>) {
        self.with(|state| {
            let link = (from.to_owned(), to.to_owned());
            match trouble {
                Some(trouble) => state.troubles.insert(link, trouble),
                None => state.troubles.remove(&link),
            };
        });
    }

    pub(crate) fn process_stopped(&self, host: &str, power_lost: bool) {
        self.with(|state| {
            state.stopped.insert(host.to_owned());
            if power_lost {
                state.without_power.insert(host.to_owned());
            }
        });
    }

    pub(crate) fn process_started(&self, host: &str) {
        self.with(|state| {
            state.stopped.remove(host);
            state.without_power.remove(host);
        });
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_not_an_unreachable_machine() {
        let links = Links::new();
        assert_eq!(links.reach("a", "b"), Reach::Process);
        links.process_stopped("b", false);
        assert_eq!(links.reach("a", "b"), Reach::MachineOnly);
        links.set_trouble("b", "a", Some(Trouble::Cut));
        assert_eq!(links.reach("a", "b"), Reach::Nothing, "the refusal does not get back");
        links.set_trouble("b", "a", None);
        links.process_stopped("b", true);
        assert_eq!(links.reach("a", "b"), Reach::Nothing, "a machine without power says nothing");
        links.process_started("b");
        assert_eq!(links.reach("a", "b"), Reach::Process);
    }
}
