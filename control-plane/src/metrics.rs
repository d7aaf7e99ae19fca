//! What a member counts and measures.
//!
//! Some series only the leader exports: those of `LEADER_GAUGES` are zero on every other member, and
//! what is counted of sessions, orders, proposals and takeovers grows on whoever leads. To see the zone,
//! sum over the members, or look at the one whose `isotherm_control_plane_leader` is 1.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use model::Revision;

pub const LEADER: &str = "isotherm_control_plane_leader";
pub const TERM: &str = "isotherm_control_plane_term";
pub const REVISION: &str = "isotherm_control_plane_revision";
pub const NODES: &str = "isotherm_control_plane_nodes";
pub const PARTITIONS: &str = "isotherm_control_plane_partitions";
pub const PARTITIONS_AVAILABLE: &str = "isotherm_control_plane_partitions_available";
pub const PARTITIONS_UNDER_REPLICATED: &str = "isotherm_control_plane_partitions_under_replicated";
pub const OPERATIONS_RUNNING: &str = "isotherm_control_plane_operations_running";
pub const OPERATIONS_FAILED: &str = "isotherm_control_plane_operations_failed";
pub const BRAKE: &str = "isotherm_control_plane_brake_engaged";
pub const BRAKE_OVERRIDDEN: &str = "isotherm_control_plane_brake_overridden";
pub const BRAKE_HELD_BACK: &str = "isotherm_control_plane_brake_held_back";
pub const NODE_READS: &str = "isotherm_control_plane_node_reads_per_second";
pub const NODE_WRITES: &str = "isotherm_control_plane_node_writes_per_second";
pub const NODE_BYTES: &str = "isotherm_control_plane_node_bytes_per_second";
pub const NODE_CPU: &str = "isotherm_control_plane_node_cpu_cores";
pub const NODE_SHED: &str = "isotherm_control_plane_node_shed_per_second";
pub const BALANCE_WORST_SHARE: &str = "isotherm_control_plane_balance_worst_share";
pub const BALANCE_PLANNED_SHARE: &str = "isotherm_control_plane_balance_planned_share";
pub const BALANCE_REALISED_GAIN: &str = "isotherm_control_plane_balance_realised_gain";
pub const BALANCE_SETTLING: &str = "isotherm_control_plane_balance_settling";
pub const BALANCE_OBSTACLES: &str = "isotherm_control_plane_balance_obstacles";
pub const SESSIONS: &str = "isotherm_control_plane_sessions";
pub const HEARTBEATS: &str = "isotherm_control_plane_heartbeats_total";
pub const HEARTBEAT_LATENESS: &str = "isotherm_control_plane_heartbeat_interval_seconds";
pub const ORDERS: &str = "isotherm_control_plane_orders_total";
pub const ORDERS_REFUSED: &str = "isotherm_control_plane_orders_refused_total";
pub const PROPOSALS: &str = "isotherm_control_plane_proposals_total";
pub const PROPOSAL_SECONDS: &str = "isotherm_control_plane_proposal_seconds";
pub const TAKEOVERS: &str = "isotherm_control_plane_takeovers_total";
pub const TAKEOVER_SECONDS: &str = "isotherm_control_plane_takeover_seconds";
pub const TICK_SECONDS: &str = "isotherm_control_plane_tick_seconds";
pub const TICK_LATENESS: &str = "isotherm_control_plane_tick_lateness_seconds";

/// The revision of the zone's state that this member has applied.
pub fn set_revision(revision: Revision) {
    // Revisions beyond 2^53 lose precision, which a gauge does not need.
    #[allow(clippy::cast_precision_loss)]
    ::metrics::gauge!(REVISION).set(revision.get() as f64);
}

/// The gauges that only the leader exports, and what they mean.
const LEADER_GAUGES: [(&str, &str); 20] = [
    (NODES, "Index nodes by the state that was concluded"),
    (PARTITIONS, "Partitions of the zone"),
    (PARTITIONS_AVAILABLE, "Partitions with a confirmed leader"),
    (PARTITIONS_UNDER_REPLICATED, "Partitions with fewer healthy replicas than they should have"),
    (OPERATIONS_RUNNING, "Operations that have not ended"),
    (OPERATIONS_FAILED, "Operations that have failed for good"),
    (
        BRAKE,
        "1 while the brake is engaged, which holds back repairs and moves unless it is overridden",
    ),
    (BRAKE_OVERRIDDEN, "1 while an operator overrides the brake"),
    (
        BRAKE_HELD_BACK,
        "Repairs, moves and transfers of leadership that the brake holds back, by kind",
    ),
    (
        BALANCE_WORST_SHARE,
        "The most loaded node's share of the mean utilisation: 1 is even, 0: there is too little load to go by",
    ),
    (BALANCE_PLANNED_SHARE, "The same with all done that the latest plan proposes"),
    (
        BALANCE_REALISED_GAIN,
        "What earlier plans gained of what they promised, on average: 1 is all of it",
    ),
    (BALANCE_SETTLING, "1 while load is being evened out"),
    (BALANCE_OBSTACLES, "Things that keep nodes above their share of load"),
    (SESSIONS, "Sessions with index nodes"),
    (
        NODE_READS,
        "Reads of the partitions that an index node leads, averaged with a half-life of 10 s",
    ),
    (NODE_WRITES, "Writes of the partitions that an index node leads, averaged alike"),
    (
        NODE_BYTES,
        "Bytes read and written of the partitions that an index node leads, averaged alike",
    ),
    (NODE_CPU, "Processor cores that all replicas of an index node use, averaged alike"),
    (
        NODE_SHED,
        "Requests that an index node refuses because too many are under way, as last reported",
    ),
];

/// Says what each metric means and how it is measured, those of the store included.
pub fn describe_metrics() {
    runtime::store::describe_metrics();
    describe_gauge!(LEADER, "1 while this member leads and gives orders");
    describe_gauge!(TERM, "Raft term of the control plane that this member knows");
    describe_gauge!(REVISION, "Revision of the zone's state that this member has applied");
    for (name, meaning) in LEADER_GAUGES {
        describe_gauge!(name, format!("{meaning} (leader only: 0 on other members)"));
    }
    describe_counter!(HEARTBEATS, "Heartbeats of index nodes");
    describe_histogram!(
        HEARTBEAT_LATENESS,
        Unit::Seconds,
        "Time between two heartbeats of one index node"
    );
    describe_counter!(ORDERS, "Orders that were sent to index nodes, by kind");
    describe_counter!(ORDERS_REFUSED, "Orders that index nodes refused");
    describe_counter!(PROPOSALS, "Commands that were proposed, by outcome");
    describe_histogram!(
        PROPOSAL_SECONDS,
        Unit::Seconds,
        "Time from proposing a command until it was applied"
    );
    describe_counter!(
        TAKEOVERS,
        "Takeovers that have ended, by outcome: \"led\" counts what the histogram measures, \"failed\" those of which all candidates have failed, once until the partition is led again"
    );
    describe_histogram!(
        TAKEOVER_SECONDS,
        Unit::Seconds,
        "Time from the moment at which a partition's need for a leader was seen until another one leads"
    );
    describe_histogram!(TICK_SECONDS, Unit::Seconds, "Time that one round of the judge took");
    describe_histogram!(
        TICK_LATENESS,
        Unit::Seconds,
        "How much later than intended a round of the judge began"
    );
}

#[cfg(test)]
pub mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Arc, Mutex,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
    };

    use ::metrics::{
        Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString,
    };

    use super::*;

    /// Remembers what is recorded, for tests. Names carry their labels: `name{label=value}`.
    #[derive(Default)]
    pub struct Recorded {
        described: Mutex<BTreeMap<String, String>>,
        counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
        gauges: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
        histograms: Mutex<BTreeMap<String, Arc<Samples>>>,
    }

    #[derive(Default)]
    struct Samples(Mutex<Vec<f64>>);

    impl HistogramFn for Samples {
        fn record(&self, value: f64) {
            self.0.lock().unwrap().push(value);
        }
    }

    fn name_of(key: &Key) -> String {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        if labels.is_empty() {
            return key.name().to_owned();
        }
        format!("{}{{{}}}", key.name(), labels.join(","))
    }

    impl Recorded {
        pub fn counter(&self, name: &str) -> u64 {
            self.counters.lock().unwrap().get(name).map_or(0, |counter| counter.load(Relaxed))
        }

        pub fn gauges(&self) -> BTreeMap<String, f64> {
            let gauges = self.gauges.lock().unwrap();
            let value = |gauge: &Arc<AtomicU64>| f64::from_bits(gauge.load(Relaxed));
            gauges.iter().map(|(name, gauge)| (name.clone(), value(gauge))).collect()
        }

        pub fn samples(&self, name: &str) -> Vec<f64> {
            let histograms = self.histograms.lock().unwrap();
            histograms.get(name).map_or_else(Vec::new, |samples| samples.0.lock().unwrap().clone())
        }

        fn describe(&self, name: &KeyName, description: &SharedString) {
            let mut described = self.described.lock().unwrap();
            described.insert(name.as_str().to_owned(), description.to_string());
        }
    }

    impl Recorder for Recorded {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
            self.describe(&name, &description);
        }

        fn describe_gauge(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
            self.describe(&name, &description);
        }

        fn describe_histogram(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
            self.describe(&name, &description);
        }

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let mut counters = self.counters.lock().unwrap();
            Counter::from_arc(Arc::clone(counters.entry(name_of(key)).or_default()))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            let mut gauges = self.gauges.lock().unwrap();
            Gauge::from_arc(Arc::clone(gauges.entry(name_of(key)).or_default()))
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            let mut histograms = self.histograms.lock().unwrap();
            Histogram::from_arc(Arc::clone(histograms.entry(name_of(key)).or_default()))
        }
    }

    #[test]
    fn the_stores_series_are_described_and_what_only_the_leader_exports_says_so() {
        let recorded = Recorded::default();
        ::metrics::with_local_recorder(&recorded, describe_metrics);
        let described = recorded.described.lock().unwrap();
        assert!(described.contains_key("isotherm_store_syncs_total"), "{described:?}");
        for (name, _) in LEADER_GAUGES {
            assert!(described[name].contains("leader only"), "{name}");
        }
        let left = described.iter().filter(|(_, text)| text.contains("leader only"));
        assert_eq!(left.count(), LEADER_GAUGES.len());
    }
}
