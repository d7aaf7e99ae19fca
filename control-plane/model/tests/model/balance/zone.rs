//! A zone that carries plans out at once, and notes whatever it should not have to do.

use model::{
    balance::{
        Amounts, BalanceAction, BalancePlan, BalancePolicy, Change, Departed, Departure, Memory,
        NodeView, PartitionView, STORED_BYTES, Snapshot, Tool,
    },
    ids::{NodeId, PartitionId, ZoneTime},
    seeded::{FRACTION_BITS, Seeded},
};

/// Time that passes between two plans.
const ROUND_MS: u64 = 10_000;

pub struct Zone {
    pub snapshot: Snapshot,
    /// Each partition's heat without noise: its leader's and a follower's.
    pub heat: Vec<(Amounts, Amounts)>,
    pub transfers: usize,
    pub moves: usize,
    pub splits: usize,
    /// Leaderships and replicas that went back to where they had been.
    pub returns: Vec<String>,
    /// Where each partition's replicas and leadership have been, ever.
    been: Vec<Vec<(Departed, u32)>>,
}

/// What a zone is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub nodes: usize,
    pub domains: usize,
    pub partitions: usize,
    pub replicas: usize,
    /// Of nodes of one and of more sizes.
    pub sizes: usize,
    /// Mean utilisation in percent.
    pub load_percent: u64,
}

impl Layout {
    fn nodes(&self) -> Vec<NodeView> {
        let node = |index: usize| {
            let size = 1 + (index % self.sizes) as u64;
            NodeView {
                id: NodeId(index as u64 + 1),
                fault_domain: (index % self.domains) as u32,
                capacity: [10_000, 5_000, 2 << 30, 4_000_000, 1 << 40].map(|each| each * size),
                may_receive: true,
                may_lead: true,
                ..NodeView::default()
            }
        };
        (0..self.nodes).map(node).collect()
    }

    /// All is on the first third of the nodes and what follows them.
    pub fn skewed(self, seed: u64) -> Zone {
        self.drawn(seed, self.nodes.div_ceil(3))
    }

    /// Anywhere, one replica beside the next.
    pub fn spread(self, seed: u64) -> Zone {
        self.drawn(seed, self.nodes)
    }

    fn drawn(self, seed: u64, first_nodes: usize) -> Zone {
        let mut seeded = Seeded::new(seed);
        let nodes = self.nodes();
        // Half of the bytes, so that there is room for what moves.
        let all: Amounts = std::array::from_fn(|dimension| {
            let capacity = nodes.iter().map(|node| node.capacity[dimension]).sum::<u64>();
            let percent = if dimension == STORED_BYTES { 25 } else { self.load_percent };
            capacity * percent / 100
        });
        let mut shares = || -> Vec<u64> {
            let quarter = (1 << FRACTION_BITS) / 4;
            (0..self.partitions).map(|_| quarter + seeded.exponential()).collect()
        };
        // Reads come to other partitions than writes and bytes.
        let (reads, writes) = (shares(), shares());
        let part = |shares: &[u64], index: usize, dimension: usize| -> u64 {
            let sum: u64 = shares.iter().sum();
            (u128::from(all[dimension]) * u128::from(shares[index]) / u128::from(sum)) as u64
        };
        let copies = self.replicas as u64;
        let partition = |index: usize| {
            let of = |shares: &[u64], dimension: usize| part(shares, index, dimension);
            // Leaders bear the reads, and half of the other work; the rest is done by every replica.
            let follower: Amounts = [
                0,
                of(&writes, 1) / copies,
                of(&writes, 2) / (2 * copies),
                of(&writes, 3) / (2 * copies),
                of(&writes, 4) / copies,
            ];
            let leader: Amounts = [
                of(&reads, 0),
                follower[1],
                of(&reads, 2) / 2 + follower[2],
                of(&reads, 3) / 2 + follower[3],
                follower[4],
            ];
            let first = (index * 7 + seed as usize % 13) % first_nodes;
            let mut view = PartitionView {
                id: PartitionId(index as u64 + 1),
                replica_count: self.replicas as u8,
                replicas_wanted: self.replicas as u8,
                leader_heat: leader,
                follower_heat: follower,
                ..PartitionView::default()
            };
            for replica in 0..self.replicas {
                view.nodes[replica] = ((first + replica) % self.nodes) as u32;
            }
            view
        };
        let partitions = (0..self.partitions).map(partition).collect();
        Zone::new(Snapshot {
            time: ZoneTime(1_000_000_000),
            nodes,
            partitions,
            // It has been like that for long.
            memory: Memory { above_since: Some(ZoneTime(0)), ..Memory::default() },
        })
    }
}

impl Zone {
    pub fn new(snapshot: Snapshot) -> Self {
        let heat = snapshot.partitions.iter();
        Self {
            heat: heat.map(|view| (view.leader_heat, view.follower_heat)).collect(),
            been: vec![Vec::new(); snapshot.partitions.len()],
            snapshot,
            transfers: 0,
            moves: 0,
            splits: 0,
            returns: Vec::new(),
        }
    }

    /// Lets time pass. Returns what a planner that goes on has to be told.
    pub fn pass(&mut self) -> Change {
        self.snapshot.time = ZoneTime(self.snapshot.time.get() + ROUND_MS);
        Change::Time { time: self.snapshot.time }
    }

    /// Carries a plan out; returns what changed, for a planner that goes on.
    pub fn carry_out(&mut self, plan: &BalancePlan, policy: &BalancePolicy) -> Vec<Change> {
        self.snapshot.memory = plan.memory.clone();
        let mut changes = vec![Change::Memory { memory: plan.memory.clone() }];
        for action in &plan.actions {
            self.carry_out_one(action, policy);
            let (index, place) = (action.index, action.index as usize);
            let partition = self.snapshot.partitions[place].clone();
            changes.push(Change::Partition { index, partition });
        }
        changes
    }

    fn carry_out_one(&mut self, action: &BalanceAction, policy: &BalancePolicy) {
        let (from, to, at) = (action.from.index, action.to.index, self.snapshot.time);
        let view = &mut self.snapshot.partitions[action.index as usize];
        let led = view.leader_node() == Some(from);
        let find = |node: u32| view.replicas().iter().position(|other| *other == node);
        let mut departed = Vec::new();
        match action.tool {
            Tool::TransferLeadership => {
                assert!(led, "only the leader hands over");
                view.leader = find(to).expect("leadership goes to a replica") as u8;
                departed.push(Departed::Leadership);
                self.transfers += 1;
            }
            Tool::MoveReplica => {
                assert_eq!(find(to), None, "replicas are on distinct nodes");
                let replica = find(from).expect("a replica is there to be moved");
                view.nodes[replica] = to;
                departed.push(Departed::Replica);
                if led {
                    departed.push(Departed::Leadership);
                }
                self.moves += 1;
            }
            Tool::AddReplica => {
                assert_eq!(find(to), None, "replicas are on distinct nodes");
                view.nodes[usize::from(view.replica_count)] = to;
                view.replica_count += 1;
            }
            Tool::Split { left_permille } => {
                assert_eq!(left_permille, view.split_left_permille);
                view.split_left_permille = 0;
                self.splits += 1;
                return;
            }
            Tool::Throttle { .. } => return,
        }
        view.cooldown_until = ZoneTime(at.get() + policy.cooldown_ms);
        for what in departed {
            view.depart(Departure { from, at, what });
            let been = &mut self.been[action.index as usize];
            if been.contains(&(what, to)) {
                let returned = format!("{what:?} to node {to}: {}", action.reason());
                self.returns.push(returned);
            }
            been.push((what, from));
        }
    }

    /// Reports of all heat that are up to so many percent wrong.
    pub fn disturb(&mut self, seeded: &mut Seeded, percent: usize) {
        for (view, heat) in self.snapshot.partitions.iter_mut().zip(&self.heat) {
            (view.leader_heat, view.follower_heat) = *heat;
            for dimension in 0..STORED_BYTES {
                let factor = (100 - percent + seeded.below(2 * percent + 1)) as u64;
                view.leader_heat[dimension] = heat.0[dimension] * factor / 100;
                view.follower_heat[dimension] = heat.1[dimension] * factor / 100;
            }
        }
    }

    /// In how many fault domains a partition is.
    pub fn domains(&self, view: &PartitionView) -> usize {
        let domain = |node: &u32| self.snapshot.nodes[*node as usize].fault_domain;
        view.replicas().iter().map(domain).collect::<std::collections::BTreeSet<_>>().len()
    }
}
