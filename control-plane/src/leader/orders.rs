//! Sending orders: when it is time, in which messages, and with which addresses.
//!
//! Orders are levels. Those of one partition to one node are sent when they change, when the node's
//! session is new, and again every second until the reconciler wants nothing any more; so a lost or
//! repeated message does no harm, nor one that was refused. Whoever has a book looks at [`OrderBook::outstanding`] now
//! and then: nothing else needs to happen to these partitions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{Fence, NodeId, PartitionId, order::Order, partition_set::PartitionSet};
use proto::v1::{NodeAddress, SessionOrder};

use super::sessions::{SessionNumber, Sessions};
use crate::{metrics, services::to_wire};

/// How often an order that has not been carried out is repeated.
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Orders in one message.
const ORDERS_PER_MESSAGE_MAX: usize = 256;

/// Addresses that are sent at once, before others have a turn; all of a zone of a hundred nodes. A new leader of a
/// thousand owes them a million: sent in one go, they would keep it from everything else.
const ADDRESSES_AT_ONCE_MAX: usize = 10_000;
/// How long the others wait then.
const ADDRESSES_PAUSE: Duration = Duration::from_millis(20);

/// Which orders were sent when, and which addresses each session knows.
#[derive(Default)]
pub struct OrderBook {
    sent: BTreeMap<PartitionId, BTreeMap<NodeId, Sent>>,
    /// Partitions that something was wanted of, of a node with a session, when they were looked at last.
    outstanding: PartitionSet,
    directory: Directory,
}

struct Sent {
    orders: Vec<Order>,
    session: SessionNumber,
    at: Duration,
}

/// The nodes' addresses, numbered by their changes.
#[derive(Default)]
struct Directory {
    version: u64,
    addresses: BTreeMap<NodeId, (String, u64)>,
    known: BTreeMap<NodeId, (SessionNumber, u64)>,
    /// The node that was the last to be told something.
    told: Option<NodeId>,
    /// When to go on, if there was more to tell than could be told at once.
    go_on_at: Duration,
}

impl OrderBook {
    /// Takes note of where the nodes are now.
    pub fn set_addresses<'a>(&mut self, addresses: impl Iterator<Item = (NodeId, &'a str)>) {
        let directory = &mut self.directory;
        let version = directory.version + 1;
        let mut changed = false;
        for (node, address) in addresses {
            let same = directory.addresses.get(&node).is_some_and(|(known, _)| known == address);
            if !same {
                directory.addresses.insert(node, (address.to_owned(), version));
                changed = true;
            }
        }
        if changed {
            directory.version = version;
        }
    }

    /// Tells sessions that do not know them yet the addresses of all nodes, so many at once, in turn.
    pub fn send_directory(&mut self, sessions: &Sessions, now: Duration) {
        let directory = &mut self.directory;
        if now < directory.go_on_at {
            return;
        }
        let mut nodes: Vec<NodeId> = directory.addresses.keys().copied().collect();
        let told_before = nodes.partition_point(|node| Some(*node) <= directory.told);
        nodes.rotate_left(told_before);
        let mut sent = 0;
        for node in nodes {
            let Some(session) = sessions.number(node) else { continue };
            let known = match directory.known.get(&node) {
                Some((known_in, version)) if *known_in == session => *version,
                Some(_) | None => 0,
            };
            if known == directory.version {
                continue;
            }
            let news = directory.addresses.iter().filter(|(_, (_, version))| *version > known);
            let news: Vec<NodeAddress> = news
                .map(|(node, (address, _))| NodeAddress {
                    node_id: node.get(),
                    address: address.clone(),
                })
                .collect();
            if sent > 0 && sent + news.len() > ADDRESSES_AT_ONCE_MAX {
                directory.go_on_at = now + ADDRESSES_PAUSE;
                return;
            }
            sent += news.len();
            directory.told = Some(node);
            let message = SessionOrder { directory: news, ..SessionOrder::default() };
            if sessions.send(node, message) {
                directory.known.insert(node, (session, directory.version));
            }
        }
    }

    /// Sends what is due of the orders for the given partitions: all that the reconciler wants of
    /// them. Partitions that it wants nothing of are forgotten.
    pub fn send(
        &mut self,
        sessions: &Sessions,
        fence: Fence,
        partitions: &BTreeSet<PartitionId>,
        orders: Vec<Order>,
        now: Duration,
    ) {
        let mut wanted: BTreeMap<(PartitionId, NodeId), Vec<Order>> = BTreeMap::new();
        for order in orders {
            wanted.entry((order.partition, order.node)).or_default().push(order);
        }
        for partition in partitions {
            if let Some(sent) = self.sent.get_mut(partition) {
                sent.retain(|node, _| wanted.contains_key(&(*partition, *node)));
                if sent.is_empty() {
                    self.sent.remove(partition);
                }
            }
        }
        for partition in partitions {
            self.outstanding.remove(*partition);
        }
        let mut due: BTreeMap<NodeId, Vec<(PartitionId, Vec<Order>)>> = BTreeMap::new();
        for ((partition, node), orders) in wanted {
            let Some(session) = sessions.number(node) else { continue };
            self.outstanding.insert(partition);
            let sent = self.sent.get(&partition).and_then(|sent| sent.get(&node));
            let is_due = sent.is_none_or(|sent| {
                sent.session != session
                    || sent.orders != orders
                    || now.saturating_sub(sent.at) >= REPEAT_INTERVAL
            });
            if is_due {
                due.entry(node).or_default().push((partition, orders));
            }
        }
        for (node, groups) in due {
            self.send_to(sessions, fence, node, groups, now);
        }
    }

    /// Partitions of which orders were not carried out yet, whether they could be sent or not.
    pub fn outstanding(&self) -> impl Iterator<Item = PartitionId> {
        self.outstanding.iter()
    }

    fn send_to(
        &mut self,
        sessions: &Sessions,
        fence: Fence,
        node: NodeId,
        groups: Vec<(PartitionId, Vec<Order>)>,
        now: Duration,
    ) {
        let Some(session) = sessions.number(node) else { return };
        for chunk in groups.chunks(ORDERS_PER_MESSAGE_MAX) {
            let orders = || chunk.iter().flat_map(|(_, orders)| orders);
            let message = SessionOrder {
                fence: Some(to_wire::fence(fence)),
                orders: orders().map(to_wire::order).collect(),
                ..SessionOrder::default()
            };
            if !sessions.send(node, message) {
                // The node is too slow to take more: they stay due.
                return;
            }
            for order in orders() {
                tracing::debug!(node = node.get(), ?order, "order sent");
                runtime::mark!("order sent", kind(order));
                ::metrics::counter!(metrics::ORDERS, "kind" => kind(order)).increment(1);
            }
            for (partition, orders) in chunk {
                let sent = Sent { orders: orders.clone(), session, at: now };
                self.sent.entry(*partition).or_default().insert(node, sent);
            }
        }
    }
}

fn kind(order: &Order) -> &'static str {
    use model::order::OrderKind;
    match order.kind {
        OrderKind::Ensure { .. } => "ensure-replica",
        OrderKind::AddLearner { .. } => "add-learner",
        OrderKind::ChangeMembers { .. } => "change-members",
        OrderKind::TransferLeader { .. } => "transfer-leader",
        OrderKind::Split { .. } => "split-partition",
        OrderKind::Destroy => "destroy-replica",
    }
}

#[cfg(test)]
mod tests {
    use model::{ReplicaId, order::OrderKind};

    use super::*;
    use crate::leader::sessions::OpenSession;

    const NODE: NodeId = NodeId(1);
    const PARTITION: PartitionId = PartitionId(5);

    fn transfer(to: u64) -> Order {
        Order {
            node: NODE,
            partition: PARTITION,
            replica: ReplicaId(9),
            membership_log: None,
            kind: OrderKind::TransferLeader { to: ReplicaId(to) },
        }
    }

    struct Fixture {
        sessions: Sessions,
        book: OrderBook,
        session: OpenSession,
    }

    impl Fixture {
        fn new() -> Self {
            let sessions = Sessions::default();
            let session = sessions.open(NODE);
            Self { sessions, book: OrderBook::default(), session }
        }

        /// How many orders reach the node.
        fn send(&mut self, orders: Vec<Order>, at_ms: u64) -> usize {
            let partitions = BTreeSet::from([PARTITION]);
            let now = Duration::from_millis(at_ms);
            self.book.send(&self.sessions, Fence::default(), &partitions, orders, now);
            let mut count = 0;
            while let Ok(message) = self.session.receiver.try_recv() {
                count += message.unwrap().orders.len();
            }
            count
        }
    }

    #[test]
    fn an_order_is_sent_at_once_when_it_changes_and_again_after_a_while() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.send(vec![transfer(2)], 0), 1);
        assert_eq!(fixture.send(vec![transfer(2)], 500), 0);
        assert_eq!(fixture.send(vec![transfer(3)], 510), 1);
        assert_eq!(fixture.send(vec![transfer(3)], 1_509), 0);
        assert_eq!(fixture.send(vec![transfer(3)], 1_510), 1);
        assert_eq!(fixture.send(vec![], 1_520), 0);
        assert_eq!(fixture.send(vec![transfer(3)], 1_530), 1, "it was forgotten in between");
    }

    #[test]
    fn what_is_wanted_is_outstanding_until_it_is_not_also_if_it_could_not_be_sent() {
        let mut fixture = Fixture::new();
        let outstanding = |fixture: &Fixture| fixture.book.outstanding().collect::<Vec<_>>();
        assert_eq!(fixture.send(vec![transfer(2)], 0), 1);
        assert_eq!(outstanding(&fixture), [PARTITION]);
        assert_eq!(fixture.send(vec![], 10), 0);
        assert_eq!(outstanding(&fixture), []);
        // Somebody does not take its messages.
        let mut number = 0;
        while fixture.sessions.send(NODE, SessionOrder::default()) {
            number += 1;
            assert!(number < 10_000, "a session's queue is bounded");
        }
        let partitions = BTreeSet::from([PARTITION]);
        let now = Duration::from_secs(1);
        let fence = Fence::default();
        fixture.book.send(&fixture.sessions, fence, &partitions, vec![transfer(2)], now);
        assert_eq!(outstanding(&fixture), [PARTITION]);
        // Without a session it begins with that.
        assert!(fixture.sessions.close(NODE, fixture.session.number));
        fixture.book.send(&fixture.sessions, fence, &partitions, vec![transfer(2)], now);
        assert_eq!(outstanding(&fixture), []);
    }

    #[test]
    fn a_new_session_gets_everything_again() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.send(vec![transfer(2)], 0), 1);
        fixture.session = fixture.sessions.open(NODE);
        assert_eq!(fixture.send(vec![transfer(2)], 10), 1);
    }

    #[test]
    fn addresses_are_sent_once_to_each_session_and_when_they_change() {
        let mut fixture = Fixture::new();
        let directory = |fixture: &mut Fixture, address: &'static str| {
            let addresses = [(NODE, "a:1"), (NodeId(2), address)];
            fixture.book.set_addresses(addresses.into_iter());
            fixture.book.send_directory(&fixture.sessions, Duration::ZERO);
            let mut entries = Vec::new();
            while let Ok(message) = fixture.session.receiver.try_recv() {
                entries.extend(message.unwrap().directory.into_iter().map(|entry| entry.node_id));
            }
            entries
        };
        assert_eq!(directory(&mut fixture, "b:1"), [1, 2]);
        assert_eq!(directory(&mut fixture, "b:1"), [0; 0]);
        assert_eq!(directory(&mut fixture, "b:2"), [2]);
        fixture.session = fixture.sessions.open(NODE);
        assert_eq!(directory(&mut fixture, "b:2"), [1, 2]);
    }

    #[test]
    fn of_very_many_addresses_a_part_is_sent_at_a_time_and_each_session_has_its_turn() {
        let sessions = Sessions::default();
        let names: Vec<(NodeId, String)> =
            (1..=300).map(|id| (NodeId(id), format!("node-{id}:1"))).collect();
        let mut open: Vec<OpenSession> = names.iter().map(|(id, _)| sessions.open(*id)).collect();
        let mut book = OrderBook::default();
        book.set_addresses(names.iter().map(|(id, name)| (*id, name.as_str())));
        let mut told = vec![0; 300];
        let mut round = |book: &mut OrderBook, ms: u64| {
            book.send_directory(&sessions, Duration::from_millis(ms));
            let mut sent = 0;
            for (session, told) in open.iter_mut().zip(&mut told) {
                while let Ok(message) = session.receiver.try_recv() {
                    sent += message.unwrap().directory.len();
                    *told += 1;
                }
            }
            sent
        };
        assert_eq!(round(&mut book, 0), 9_900, "33 sessions");
        assert_eq!(round(&mut book, 19), 0);
        // One more node: whoever was told already does not go before those who were not.
        book.set_addresses([(NodeId(301), "node-301:1")].into_iter());
        let rounds = (1..=9).map(|number| round(&mut book, number * 20)).collect::<Vec<_>>();
        assert!(rounds.iter().all(|sent| (1..=10_000).contains(sent)), "{rounds:?}");
        assert_eq!(round(&mut book, 1_000), 0, "all know all");
        assert!(told.iter().all(|times| (1..=2).contains(times)), "{told:?}");
    }
}
