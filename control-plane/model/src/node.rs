//! An index node as the replicated state knows it: identity and address, what the operator wants of it,
//! and the last *conclusion* about its health. Sessions and heartbeats are not here (see
//! [`crate::observation`]).

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    command::Conclusion,
    ids::{Incarnation, NodeId, OperationId, ZoneTime},
    table::{Record, decode_number, encode_number},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Drawn when its data directory was created.
    pub identity: Uuid,
    pub name: String,
    /// host:port of its gRPC server.
    pub address: String,
    /// What fails as one: a rack.
    pub fault_domain: String,
    pub capacity: Capacity,
    /// Rises at each start of its process.
    pub incarnation: Incarnation,
    pub software_version: String,
    pub administrative: Administrative,
    pub liveness: Liveness,
    pub registered_at: ZoneTime,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Bytes that partitions may use there.
    pub stored_bytes: u64,
    /// Processor cores.
    pub cores: u32,
}

/// What the operator wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Administrative {
    Active,
    /// Being emptied by this operation.
    Draining {
        operation: OperationId,
        /// The operator has accepted that partitions may be left with fewer replicas.
        accept_data_loss_risk: bool,
    },
    /// Empty, and kept so.
    Drained,
}

/// The last committed conclusion about a node's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    pub state: NodeState,
    /// Since when it is in this state.
    pub since: ZoneTime,
    /// Why, in a sentence.
    pub evidence: String,
    /// It is suspect by its own account: no peer has to confirm that.
    pub by_own_account: bool,
    /// How often it has been lost or slow, since it was last well for so long that this is forgotten.
    pub lapses: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeState {
    Up,
    /// Alive and well, but not for long enough after it was slow, or was lost again and again: what goes
    /// for a slow node goes for it, too.
    Recovering,
    /// Alive, but worse than its peers: leadership moves off it in order, and nothing new is placed there.
    Slow,
    /// Late, or its session broke: leadership may move away, data stays.
    Suspect,
    /// Gone by evidence: after `replace_after` its replicas are made again elsewhere.
    Down,
}

impl fmt::Display for NodeState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            NodeState::Up => "up",
            NodeState::Recovering => "recovering",
            NodeState::Slow => "slow",
            NodeState::Suspect => "suspect",
            NodeState::Down => "down",
        })
    }
}

impl NodeState {
    /// Alive, and heard of.
    pub fn is_up(self) -> bool {
        self <= NodeState::Slow
    }

    /// Alive, and not to lead.
    pub fn is_impaired(self) -> bool {
        matches!(self, NodeState::Recovering | NodeState::Slow)
    }
}

impl Liveness {
    /// Whether a conclusion says anything that is not known already. The same one may be committed twice,
    /// and one may come after what it was concluded from is over.
    pub fn is_news(&self, conclusion: &Conclusion) -> bool {
        let Conclusion { state, by_own_account, forgets, .. } = *conclusion;
        if forgets {
            return state == NodeState::Up && self.state == NodeState::Up && self.lapses > 0;
        }
        match (self.state, state) {
            // A node that is down comes back by heartbeats only, not by a weaker suspicion.
            (NodeState::Down, NodeState::Suspect) => false,
            // It was late, and now says itself that it is stuck.
            (NodeState::Suspect, NodeState::Suspect) => by_own_account && !self.by_own_account,
            (before, after) => before != after,
        }
    }

    /// What it becomes by a conclusion that says something new of it: see [`Liveness::is_news`].
    #[must_use]
    pub fn concluded(&self, conclusion: &Conclusion, now: ZoneTime) -> Self {
        let Conclusion { state, ref evidence, by_own_account, forgets, .. } = *conclusion;
        // From suspect to down it is still the same lapse.
        let lapses = if forgets {
            0
        } else if state > self.state && self.state.is_up() {
            self.lapses.saturating_add(1)
        } else {
            self.lapses
        };
        let since = if self.state == state { self.since } else { now };
        Self { state, since, evidence: evidence.clone(), by_own_account, lapses }
    }
}

impl Node {
    pub fn is_up(&self) -> bool {
        self.liveness.state.is_up()
    }

    /// Heard of, and not to lead for what it says of itself.
    pub fn is_impaired(&self) -> bool {
        self.liveness.state.is_impaired() || self.liveness.by_own_account
    }

    /// Alive, and not to be emptied: its room and its replicas count.
    pub fn is_serving(&self) -> bool {
        self.is_up() && self.administrative == Administrative::Active
    }

    /// Takes part in placement and may be given leaderships.
    pub fn is_eligible(&self) -> bool {
        self.is_serving() && self.liveness.state == NodeState::Up
    }

    pub fn is_draining(&self) -> bool {
        matches!(self.administrative, Administrative::Draining { .. })
    }

    /// Why it cannot take a replica or a leadership; none if it can.
    pub fn why_not_eligible(&self) -> Option<String> {
        match self.administrative {
            Administrative::Draining { .. } => return Some("it is being drained".into()),
            Administrative::Drained => {
                return Some("it is drained: uncordon it first".into());
            }
            Administrative::Active => {}
        }
        match self.liveness.state {
            NodeState::Up => None,
            state @ (NodeState::Recovering
            | NodeState::Slow
            | NodeState::Suspect
            | NodeState::Down) => Some(format!("it is {state}: {}", self.liveness.evidence)),
        }
    }
}

impl Record for Node {
    const TAG: u8 = 2;
    type Key = NodeId;
    fn encode_key(key: &NodeId) -> Vec<u8> {
        encode_number(key.get())
    }
    fn decode_key(bytes: &[u8]) -> Option<NodeId> {
        decode_number(bytes).map(NodeId)
    }
}

/// An identity that was removed and is never accepted again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedNode {
    pub node: NodeId,
    pub name: String,
    pub removed_at: ZoneTime,
}

impl Record for RemovedNode {
    const TAG: u8 = 3;
    type Key = Uuid;
    fn encode_key(key: &Uuid) -> Vec<u8> {
        key.as_bytes().to_vec()
    }
    fn decode_key(bytes: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(bytes).ok()
    }
}

/// Checks a name or a fault domain: 1 to 63 of `[a-z0-9-.]`.
pub fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// Checks that an address is `host:port` with a port that can be dialled.
pub fn is_address(address: &str) -> bool {
    address.len() <= 261
        && address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_addresses() {
        for good in ["a", "rack-1.b", &"x".repeat(63)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "A", "a b", "a_b", "ä", &"x".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        for good in ["127.0.0.1:7500", "[::1]:1", "node.example:65535"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", ":1", "host", "host:", "host:0", "host:65536", "http://host:1", "a b:1"] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn lapses_are_counted_until_they_are_forgotten() {
        let mut liveness = Liveness {
            state: NodeState::Up,
            since: ZoneTime(0),
            evidence: String::new(),
            by_own_account: false,
            lapses: 0,
        };
        let mut counts = Vec::new();
        for (state, forgets) in [
            (NodeState::Suspect, false),
            (NodeState::Down, false),
            (NodeState::Recovering, false),
            (NodeState::Up, false),
            (NodeState::Slow, false),
            (NodeState::Suspect, false),
            (NodeState::Up, false),
            (NodeState::Up, false),
            (NodeState::Up, true),
            (NodeState::Down, false),
        ] {
            let conclusion = Conclusion {
                node: NodeId(1),
                incarnation: Incarnation(1),
                state,
                evidence: "why".into(),
                by_own_account: false,
                forgets,
            };
            liveness = liveness.concluded(&conclusion, ZoneTime(1));
            counts.push(liveness.lapses);
        }
        assert_eq!(counts, [1, 1, 1, 1, 2, 3, 3, 3, 0, 1]);
    }
}
