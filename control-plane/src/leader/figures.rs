//! What the leader's gauges show.

use std::collections::BTreeMap;

use model::{node::NodeState, status};

use super::Reign;
use crate::metrics;

/// Sets the gauges to what is known now.
pub fn record(reign: &Reign) {
    let (figures, nodes, revision, braked) = reign.zone().read(|state| {
        let figures = status::figures(state, Some(&reign.view()), reign.now());
        let mut nodes =
            BTreeMap::from([(NodeState::Up, 0_u32), (NodeState::Suspect, 0), (NodeState::Down, 0)]);
        for (_, node) in state.nodes().iter() {
            *nodes.entry(node.liveness.state).or_default() += 1;
        }
        (figures, nodes, state.revision().get(), state.brake().is_some())
    });
    for (state, count) in nodes {
        ::metrics::gauge!(metrics::NODES, "state" => state.to_string()).set(f64::from(count));
    }
    let gauge = |name: &'static str, value: u32| ::metrics::gauge!(name).set(f64::from(value));
    gauge(metrics::PARTITIONS, figures.partitions.total);
    gauge(metrics::PARTITIONS_AVAILABLE, figures.partitions.available);
    gauge(metrics::PARTITIONS_UNDER_REPLICATED, figures.partitions.under_replicated);
    gauge(metrics::OPERATIONS_RUNNING, figures.operations_running);
    gauge(metrics::OPERATIONS_FAILED, figures.operations_failed);
    gauge(metrics::BRAKE, u32::from(braked));
    // Revisions beyond 2^53 lose precision, which a gauge does not need.
    #[allow(clippy::cast_precision_loss)]
    ::metrics::gauge!(metrics::REVISION).set(revision as f64);
}
