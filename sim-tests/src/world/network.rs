//! What can be done to the links between hosts.

use std::time::Duration;

use super::World;
use crate::links::{Links, Trouble};

/// A link by its ends, whichever comes first.
fn link_of(a: &str, b: &str) -> (String, String) {
    if a < b { (a.to_owned(), b.to_owned()) } else { (b.to_owned(), a.to_owned()) }
}

impl World {
    /// Loses every message from one host to another.
    pub fn cut_one_way(&mut self, from: &str, to: &str) {
        tracing::info!(from, to, "cut");
        self.change_link(from, to, |links| links.set_trouble(from, to, Some(Trouble::Cut)));
    }

    /// Loses every message between two hosts.
    pub fn cut(&mut self, a: &str, b: &str) {
        tracing::info!(a, b, "cut both ways");
        self.change_link(a, b, |links| {
            links.set_trouble(a, b, Some(Trouble::Cut));
            links.set_trouble(b, a, Some(Trouble::Cut));
        });
    }

    /// Holds every message between two hosts back until the link is healed.
    pub fn hold(&mut self, a: &str, b: &str) {
        tracing::info!(a, b, "hold");
        self.change_link(a, b, |links| {
            links.set_trouble(a, b, Some(Trouble::Held));
            links.set_trouble(b, a, Some(Trouble::Held));
        });
    }

    /// From now on messages between two hosts take up to `latency_max`.
    pub fn slow_link(&mut self, a: &str, b: &str, latency_max: Duration) {
        tracing::info!(a, b, ?latency_max, "slow link");
        self.slow_links.insert(link_of(a, b));
        self.simulation.set_link_max_message_latency(a, b, latency_max);
    }

    /// From now on messages between one host and all others take up to `latency_max`.
    pub fn slow_links_of(&mut self, host: &str, latency_max: Duration) {
        for other in self.others(host) {
            self.slow_link(host, &other, latency_max);
        }
    }

    /// From now on all messages take up to `latency_max`.
    pub fn slow_network(&mut self, latency_max: Duration) {
        let hosts = self.hosts.clone();
        for (number, a) in hosts.iter().enumerate() {
            for b in &hosts[number + 1..] {
                self.slow_link(a, b, latency_max);
            }
        }
    }

    /// All links are as fast as at the start.
    pub fn quicken_network(&mut self) {
        for (a, b) in std::mem::take(&mut self.slow_links) {
            self.quicken(&a, &b);
        }
    }

    /// Ends whatever trouble the link has.
    pub fn heal(&mut self, a: &str, b: &str) {
        tracing::info!(a, b, "heal");
        self.change_link(a, b, |links| {
            links.set_trouble(a, b, None);
            links.set_trouble(b, a, None);
        });
        if self.slow_links.remove(&link_of(a, b)) {
            self.quicken(a, b);
        }
    }

    /// Heals all links.
    pub(super) fn heal_network(&mut self) {
        for ((from, to), _) in self.links.troubles() {
            self.heal(&from, &to);
        }
        self.quicken_network();
    }

    fn quicken(&self, a: &str, b: &str) {
        // turmoil's only way to set the shortest latency of a link sets the longest as well.
        self.simulation.set_link_latency(a, b, self.options.latency_min);
        self.simulation.set_link_max_message_latency(a, b, self.options.latency_max);
    }

    /// All hosts but one.
    pub fn others(&self, host: &str) -> Vec<String> {
        self.hosts.iter().filter(|other| *other != host).cloned().collect()
    }

    fn change_link(&mut self, a: &str, b: &str, change: impl FnOnce(&Links)) {
        let was_held = self.links.trouble(a, b) == Some(Trouble::Held);
        change(&self.links);
        if was_held && self.links.trouble(a, b) != Some(Trouble::Held) {
            self.simulation.release(a, b);
        }
        self.apply_link(a, b);
    }

    pub(super) fn apply_links_of(&self, name: &str) {
        for other in self.hosts.iter().filter(|host| *host != name) {
            self.apply_link(name, other);
        }
    }

    /// Tells turmoil what the link between two hosts is to do.
    fn apply_link(&self, a: &str, b: &str) {
        let dark = self.without_power.iter().any(|host| host == a || host == b);
        if !dark && self.links.trouble(a, b) == Some(Trouble::Held) {
            return self.simulation.hold(a, b);
        }
        for (from, to) in [(a, b), (b, a)] {
            if dark || self.links.trouble(from, to) == Some(Trouble::Cut) {
                self.simulation.partition_oneway(from, to);
            } else {
                self.simulation.repair_oneway(from, to);
            }
        }
    }
}
