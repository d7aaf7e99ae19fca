//! The node's metrics: their descriptions, and the gauges that are read off now and then.

use std::{sync::Arc, time::Duration};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use runtime::seams::Environment;

use crate::{agent::Contact, engine::host::ReplicaHost, peer::ConnectionWatch};

const OBSERVE_INTERVAL: Duration = Duration::from_secs(1);

/// Describes every metric that the node itself records.
pub fn describe() {
    crate::engine::instruments::describe();
    describe_gauge!("isotherm_node_replicas", "Replicas on this node");
    describe_gauge!("isotherm_node_leaders", "Replicas on this node that believe to lead");
    describe_gauge!("isotherm_node_failed_replicas", "Replicas that were stopped by an error");
    describe_gauge!(
        "isotherm_node_disk_free_bytes",
        Unit::Bytes,
        "Bytes that can still be written to the device"
    );
    describe_histogram!(
        "isotherm_node_runtime_lag_seconds",
        Unit::Seconds,
        "How late tasks get their turn"
    );
    describe_counter!(
        "isotherm_node_orders_total",
        "Orders of the control plane, by kind and outcome"
    );
    describe_counter!(
        "isotherm_node_order_batches_dropped_total",
        "Messages with orders that were dropped because too many waited"
    );
    describe_counter!(
        "isotherm_node_peer_takeovers_total",
        "Groups that this node found a leader for while the control plane was silent"
    );
    describe_gauge!(
        "isotherm_node_control_plane_silence_seconds",
        Unit::Seconds,
        "Since when no leader of the control plane has acknowledged anything"
    );
    describe_counter!(
        "isotherm_node_peer_messages_total",
        "Messages to peers; each carries a batch of frames"
    );
    describe_counter!(
        "isotherm_node_peer_frames_total",
        "Frames to peers: requests and answers of the groups"
    );
    describe_gauge!("isotherm_node_lost_peers", "Nodes that this one has lost by its own watch");
}

/// Reads the gauges off, until dropped.
pub async fn observe(
    environment: Environment,
    host: Arc<ReplicaHost>,
    watch: Arc<ConnectionWatch>,
    contact: Arc<Contact>,
) {
    loop {
        let replicas = host.replicas();
        let leaders = replicas.iter().filter(|replica| replica.is_leader()).count();
        let failed = replicas.iter().filter(|replica| replica.failure().is_some()).count();
        metrics::gauge!("isotherm_node_replicas").set(replicas.len() as f64);
        metrics::gauge!("isotherm_node_leaders").set(leaders as f64);
        metrics::gauge!("isotherm_node_failed_replicas").set(failed as f64);
        metrics::gauge!("isotherm_node_lost_peers").set(watch.lost().len() as f64);
        metrics::gauge!("isotherm_node_control_plane_silence_seconds")
            .set(contact.silence().as_secs_f64());
        environment.sleep(OBSERVE_INTERVAL).await;
    }
}
