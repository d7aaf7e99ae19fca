//! Load by node, as gauges: not by partition, of which there are too many for a metric each.

use std::collections::BTreeSet;

use model::heat::NodeLoad;

use crate::metrics;

/// The nodes whose load is shown, by name.
#[derive(Debug, Default)]
pub struct LoadGauges {
    shown: BTreeSet<String>,
}

impl LoadGauges {
    /// Shows these nodes, and zero for those that were shown before and are none any more.
    pub fn show(&mut self, loads: &[(String, NodeLoad)]) {
        let now: BTreeSet<String> = loads.iter().map(|(name, _)| name.clone()).collect();
        for gone in self.shown.difference(&now) {
            set(gone, &NodeLoad::default());
        }
        for (name, load) in loads {
            set(name, load);
        }
        self.shown = now;
    }

    pub fn clear(&mut self) {
        self.show(&[]);
    }
}

fn set(node: &str, load: &NodeLoad) {
    let gauges = [
        (metrics::NODE_READS, load.short.reads_per_second),
        (metrics::NODE_WRITES, load.short.writes_per_second),
        (metrics::NODE_BYTES, load.short.bytes_per_second),
        (metrics::NODE_CPU, load.cpu_cores_short()),
        (metrics::NODE_SHED, load.shed_per_second),
    ];
    for (name, value) in gauges {
        ::metrics::gauge!(name, "node" => node.to_owned()).set(value);
    }
}

#[cfg(test)]
mod tests {
    use model::heat::Rates;

    use super::*;
    use crate::metrics::tests::Recorded;

    #[test]
    fn a_node_that_is_gone_has_no_load() {
        let recorded = Recorded::default();
        ::metrics::with_local_recorder(&recorded, || {
            let load = |reads_per_second| NodeLoad {
                short: Rates { reads_per_second, ..Rates::default() },
                follower_cpu_cores_short: 0.5,
                ..NodeLoad::default()
            };
            let mut gauges = LoadGauges::default();
            gauges.show(&[("a".into(), load(10.0)), ("b".into(), load(20.0))]);
            let shown = recorded.gauges();
            assert_eq!(shown["isotherm_control_plane_node_reads_per_second{node=b}"], 20.0);
            assert_eq!(shown["isotherm_control_plane_node_cpu_cores{node=a}"], 0.5);
            assert_eq!(shown.len(), 10);
            gauges.show(&[("b".into(), load(30.0))]);
            let shown = recorded.gauges();
            assert_eq!(shown["isotherm_control_plane_node_reads_per_second{node=a}"], 0.0);
            assert_eq!(shown["isotherm_control_plane_node_reads_per_second{node=b}"], 30.0);
            gauges.clear();
            assert!(recorded.gauges().values().all(|value| *value == 0.0));
        });
    }
}
