//! How evenly load is spread over nodes: each node's load for its capacity against the mean.
//!
//! Capacity is the node's processor cores: what else a node can take, nobody has told the control plane. The
//! dimension that counts is the one that is spread the least evenly, of those with load to speak of.

use super::NodeLoad;
use crate::ids::NodeId;

/// A node with its long-term load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadedNode {
    pub node: NodeId,
    pub cores: u32,
    pub load: NodeLoad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    Reads,
    Writes,
    Bytes,
    Cpu,
}

impl Dimension {
    pub const ALL: [Dimension; 4] =
        [Dimension::Reads, Dimension::Writes, Dimension::Bytes, Dimension::Cpu];

    pub fn name(self) -> &'static str {
        match self {
            Dimension::Reads => "reads",
            Dimension::Writes => "writes",
            Dimension::Bytes => "bytes",
            Dimension::Cpu => "cpu",
        }
    }

    fn of(self, load: &NodeLoad) -> f64 {
        match self {
            Dimension::Reads => load.long.reads_per_second,
            Dimension::Writes => load.long.writes_per_second,
            Dimension::Bytes => load.long.bytes_per_second,
            Dimension::Cpu => load.cpu_cores_long(),
        }
    }

    /// Below this in the whole zone its distribution is chance.
    fn load_min(self) -> f64 {
        match self {
            Dimension::Reads | Dimension::Writes => 10.0,
            Dimension::Bytes => 65_536.0,
            Dimension::Cpu => 0.01,
        }
    }
}

/// How evenly a zone's load is spread.
#[derive(Clone, Debug, PartialEq)]
pub struct Evenness {
    /// The least even.
    pub dimension: Dimension,
    pub hottest: NodeId,
    pub max_to_mean: f64,
    /// Each node's utilisation against the mean, in that dimension.
    pub to_mean: Vec<(NodeId, f64)>,
}

/// None if there is no load to speak of.
pub fn evenness(nodes: &[LoadedNode]) -> Option<Evenness> {
    let in_dimension = |dimension: Dimension| {
        let sum: f64 = nodes.iter().map(|node| dimension.of(&node.load)).sum();
        let cores: f64 = nodes.iter().map(|node| f64::from(node.cores.max(1))).sum();
        if sum < dimension.load_min() {
            return None;
        }
        let mean = sum / cores;
        let to_mean = nodes.iter().map(|node| {
            (node.node, dimension.of(&node.load) / f64::from(node.cores.max(1)) / mean)
        });
        let to_mean: Vec<(NodeId, f64)> = to_mean.collect();
        // Of two alike the first.
        let hottest = to_mean.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)).copied()?;
        let (hottest, max_to_mean) = hottest;
        Some(Evenness { dimension, hottest, max_to_mean, to_mean })
    };
    Dimension::ALL
        .into_iter()
        .rev()
        .filter_map(in_dimension)
        .max_by(|a, b| a.max_to_mean.total_cmp(&b.max_to_mean))
}

#[cfg(test)]
mod tests {
    use super::{super::Rates, *};

    fn node(id: u64, cores: u32, reads: f64, writes: f64) -> LoadedNode {
        let long = Rates { reads_per_second: reads, writes_per_second: writes, ..Rates::default() };
        LoadedNode { node: NodeId(id), cores, load: NodeLoad { long, ..NodeLoad::default() } }
    }

    #[test]
    fn the_least_even_dimension_counts_for_the_capacity_of_each() {
        assert_eq!(evenness(&[]), None);
        assert_eq!(evenness(&[node(1, 2, 4.0, 0.0), node(2, 2, 0.0, 0.0)]), None, "chance");
        // Node 2 has twice the cores, and may have twice the load.
        let nodes = [node(1, 2, 100.0, 30.0), node(2, 4, 200.0, 90.0), node(3, 0, 50.0, 10.0)];
        let found = evenness(&nodes).unwrap();
        assert_eq!((found.dimension, found.hottest), (Dimension::Writes, NodeId(2)));
        assert!((found.max_to_mean - 22.5 / (130.0 / 7.0)).abs() < 1e-9);
        assert!((found.to_mean[0].1 - 15.0 / (130.0 / 7.0)).abs() < 1e-9);
        assert!(nodes.iter().zip(&found.to_mean).all(|(node, (id, _))| node.node == *id));
    }
}
