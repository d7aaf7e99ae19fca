//! A network namespace for one index node, joined to the machine by a pair of virtual devices.
//!
//! A direction is cut by a wrong neighbour: the sender's table says that the other end has a hardware
//! address that nobody has, so packets leave and reach no one. A blackhole route would lose them too, but
//! tell a sender who connects at once that something is wrong, which no cut cable does.

use super::{Missing, caretaker::Caretaker, run};

const PRIVILEGE: &str = "root, `ip` and network namespaces";

/// An address in the network that is kept free for benchmarks (RFC 2544).
fn address(process: u32, host: u32) -> String {
    // Networks of four addresses; two of each are hosts.
    format!("198.18.{}.{}", process / 64 % 256, process % 64 * 4 + host)
}

const NOBODY: &str = "02:00:00:00:00:99";

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the node sends.
    Outgoing,
    /// What is sent to the node.
    Incoming,
    Both,
}

#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// This machine's end of the link.
    outside: String,
    /// The node's end.
    inside: String,
    process: u32,
    _caretaker: Caretaker,
}

impl Namespace {
    pub fn new() -> Result<Self, Missing> {
        let process = std::process::id();
        let name = format!("isotherm-failover-{process}");
        let (outside, inside) = (format!("iso-o{process}"), format!("iso-i{process}"));
        let caretaker = Caretaker::new(&format!("ip link del {outside}; ip netns del {name}"))
            .map_err(|error| Missing(format!("cannot start a shell: {error}")))?;
        let namespace = Self { name, outside, inside, process, _caretaker: caretaker };
        namespace.make()?;
        Ok(namespace)
    }

    fn make(&self) -> Result<(), Missing> {
        let Self { name, outside, inside, .. } = self;
        let (this, node) = (format!("{}/30", self.outside_host()), format!("{}/30", self.host()));
        for command in [
            &["ip", "netns", "add", name][..],
            &["ip", "link", "add", outside, "type", "veth", "peer", "name", inside],
            &["ip", "link", "set", inside, "netns", name],
            &["ip", "addr", "add", &this, "dev", outside],
            &["ip", "link", "set", outside, "up"],
            &["ip", "-n", name, "addr", "add", &node, "dev", inside],
            &["ip", "-n", name, "link", "set", inside, "up"],
            &["ip", "-n", name, "link", "set", "lo", "up"],
            // The launcher's program has to be there as well.
            &["nsenter", &format!("--net=/run/netns/{name}"), "true"],
        ] {
            run(command, PRIVILEGE)?;
        }
        Ok(())
    }

    /// This machine's address, as seen from the node.
    pub fn outside_host(&self) -> String {
        address(self.process, 1)
    }

    /// The node's address.
    pub fn host(&self) -> String {
        address(self.process, 2)
    }

    /// The command in front of the node's own.
    pub fn launcher(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name)]
    }

    pub fn cut(&self, direction: Direction) -> Result<(), Missing> {
        let Self { name, outside, inside, .. } = self;
        let lose = ["lladdr", NOBODY, "nud", "permanent"];
        if matches!(direction, Direction::Incoming | Direction::Both) {
            let host = self.host();
            let neighbour = ["ip", "neigh", "replace", &host, "dev", outside];
            run(&[&neighbour[..], &lose].concat(), PRIVILEGE)?;
        }
        if matches!(direction, Direction::Outgoing | Direction::Both) {
            let host = self.outside_host();
            let neighbour = ["ip", "-n", name, "neigh", "replace", &host, "dev", inside];
            run(&[&neighbour[..], &lose].concat(), PRIVILEGE)?;
        }
        Ok(())
    }

    /// Undoes every cut. That there is none is no error.
    pub fn heal(&self) {
        let Self { name, outside, inside, .. } = self;
        let (host, outside_host) = (self.host(), self.outside_host());
        let _ = run(&["ip", "neigh", "del", &host, "dev", outside], PRIVILEGE);
        let _ = run(&["ip", "-n", name, "neigh", "del", &outside_host, "dev", inside], PRIVILEGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_two_hosts_of_a_network_of_four() {
        assert_eq!((address(0, 1), address(0, 2)), ("198.18.0.1".into(), "198.18.0.2".into()));
        assert_eq!(address(63, 2), "198.18.0.254");
        assert_eq!(address(64, 1), "198.18.1.1");
        assert_eq!(address(u32::MAX, 2), "198.18.255.254");
    }
}
