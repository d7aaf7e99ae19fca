//! What the zone does, looked at every second: load as the control plane knows it, processor time as the kernel
//! counts it, and every change of who leads or holds what.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use client::{AdminClient, AdminOptions};
use futures_util::StreamExt;
use proto::v1;
use runtime::seams::{Environment, Moment};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::processor::processor_seconds;

/// Operations that are asked for each second: more than one plan begins.
const OPERATIONS_MAX: u32 = 200;

/// Between two watches of events, when one has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// The zone in one second.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Second {
    /// Since the load began.
    pub at_ms: u64,
    /// Each node's processor time for its cores, as the control plane knows it: an average with a half-life of 10 s.
    /// Empty where it did not say so of every node.
    pub utilisation: Vec<f64>,
    /// Processor time of each node's process since the second before, as the kernel counts it.
    pub processor_s: Vec<f64>,
    /// What the balancer thinks of it.
    pub balance: String,
    /// By its measure, the greatest share of a node in any dimension, stored bytes among them; 0: none matters.
    pub worst_share: f64,
    /// Operations that run.
    pub running: usize,
}

/// One change of who leads or holds a partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub operation_id: u64,
    pub kind: String,
    /// "heat" is the balancer.
    pub origin: String,
    pub partition_id: u64,
    pub from_node_id: u64,
    pub to_node_id: u64,
    pub succeeded: bool,
    /// Since the load began, on this program's clock: when it was told by the ledger.
    pub began_ms: u64,
    pub ended_ms: Option<u64>,
}

impl Change {
    pub fn is_for_heat(&self) -> bool {
        self.origin == "heat"
    }

    pub fn is_transfer(&self) -> bool {
        self.kind == "transfer-leader"
    }

    pub fn is_split(&self) -> bool {
        self.kind == "split"
    }
}

/// When the ledger told of an operation's begin, and of its end.
type Moments = BTreeMap<u64, (Moment, Option<Moment>)>;

pub struct Watch {
    environment: Environment,
    admin: AdminClient,
    began: Moment,
    /// Of the index nodes, in the sequence of their names.
    process_ids: Vec<u32>,
    processor_s: Vec<f64>,
    operations: BTreeMap<u64, v1::Operation>,
    moments: Arc<Mutex<Moments>>,
    ledger: JoinHandle<()>,
    pub seconds: Vec<Second>,
}

impl Watch {
    pub fn start(
        environment: &Environment,
        endpoints: &[String],
        process_ids: Vec<u32>,
        began: Moment,
    ) -> anyhow::Result<Self> {
        let admin = AdminClient::new(environment, endpoints, AdminOptions::default())?;
        let watcher = AdminClient::new(environment, endpoints, AdminOptions::default())?;
        let moments: Arc<Mutex<Moments>> = Arc::default();
        let ledger = tokio::spawn({
            let (environment, moments) = (environment.clone(), Arc::clone(&moments));
            async move { follow(&environment, &watcher, &moments).await }
        });
        let processor_s = used(&process_ids);
        Ok(Self {
            environment: environment.clone(),
            admin,
            began,
            process_ids,
            processor_s,
            operations: BTreeMap::new(),
            moments,
            ledger,
            seconds: Vec::new(),
        })
    }

    pub fn elapsed(&self) -> Duration {
        self.environment.now().since(self.began)
    }

    /// Looks once at the next full second.
    pub async fn second(&mut self) -> anyhow::Result<&Second> {
        let elapsed = self.elapsed();
        let next = Duration::from_secs(elapsed.as_secs() + 1);
        self.environment.sleep(next.saturating_sub(elapsed)).await;
        let at_ms = millis(self.elapsed());
        let used = used(&self.process_ids);
        let before = std::mem::replace(&mut self.processor_s, used);
        let now = self.processor_s.iter();
        let processor_s = now.zip(&before).map(|(now, before)| now - before).collect();
        let heat = self.admin.get_heat(v1::GetHeatRequest { top: 1 }).await?;
        let request = v1::ListOperationsRequest { include_ended: true, limit: OPERATIONS_MAX };
        let operations = self.admin.list_operations(request).await?.operations;
        let is_running = |it: &&v1::Operation| it.state() == v1::OperationState::Running;
        let running = operations.iter().filter(is_running).count();
        self.operations.extend(operations.into_iter().map(|it| (it.id, it)));
        let utilisation = utilisation(&heat);
        let v1::BalanceStatus { state: balance, worst_share, .. } =
            heat.balance.unwrap_or_default();
        let second = Second { at_ms, utilisation, processor_s, balance, worst_share, running };
        self.seconds.push(second);
        Ok(&self.seconds[self.seconds.len() - 1])
    }

    /// Every change of who leads or holds what since the load began, in the sequence of their beginnings.
    pub fn changes(&self) -> Vec<Change> {
        let moments = lock(&self.moments);
        let since = |moment: Moment| millis(moment.since(self.began));
        let changes = self.operations.values().filter_map(|it| {
            let (began, ended) = *moments.get(&it.id)?;
            (it.partition_id > 0 && began >= self.began).then(|| Change {
                operation_id: it.id,
                kind: it.kind.clone(),
                origin: it.origin.clone(),
                partition_id: it.partition_id,
                from_node_id: it.from_node_id,
                to_node_id: it.to_node_id,
                succeeded: it.state() == v1::OperationState::Succeeded,
                began_ms: since(began),
                ended_ms: ended.map(since),
            })
        });
        let mut changes: Vec<Change> = changes.collect();
        changes.sort_by_key(|change| (change.began_ms, change.operation_id));
        changes
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ledger.abort();
    }
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock(moments: &Mutex<Moments>) -> MutexGuard<'_, Moments> {
    moments.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processor time of each process so far. One that is gone has used none: the zone says that it is missing.
fn used(process_ids: &[u32]) -> Vec<f64> {
    process_ids.iter().map(|id| processor_seconds(*id).unwrap_or_default()).collect()
}

fn utilisation(heat: &v1::GetHeatResponse) -> Vec<f64> {
    if !heat.nodes.iter().all(|node| node.reported && node.cores > 0) {
        return Vec::new();
    }
    let of_node = |node: &v1::NodeHeat| {
        let cores = node.short_term.as_ref().map_or(0.0, |rates| rates.cpu_cores);
        cores / f64::from(node.cores)
    };
    heat.nodes.iter().map(of_node).collect()
}

/// Notes when the ledger tells of operations, from the first that it holds on.
async fn follow(environment: &Environment, admin: &AdminClient, moments: &Mutex<Moments>) {
    let mut after_sequence = 0;
    loop {
        let request = v1::WatchEventsRequest { after_sequence, follow: true };
        let mut events = std::pin::pin!(admin.watch_events(request));
        while let Some(Ok(event)) = events.next().await {
            after_sequence = event.sequence;
            let now = environment.now();
            match event.kind.as_str() {
                "operation-started" => {
                    lock(moments).entry(event.operation_id).or_insert((now, None));
                }
                "operation-ended" => {
                    lock(moments).entry(event.operation_id).or_insert((now, None)).1 = Some(now);
                }
                _ => {}
            }
        }
        environment.sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utilisation_is_processor_time_for_cores_and_told_of_all_or_none() {
        let node = |cores, cpu_cores, reported| v1::NodeHeat {
            cores,
            reported,
            short_term: Some(v1::HeatRates { cpu_cores, ..Default::default() }),
            ..Default::default()
        };
        let heat = |nodes| v1::GetHeatResponse { nodes, ..Default::default() };
        let whole = heat(vec![node(1, 0.25, true), node(2, 0.25, true)]);
        assert_eq!(utilisation(&whole), [0.25, 0.125]);
        let part = heat(vec![node(1, 0.25, true), node(1, 0.0, false)]);
        assert!(utilisation(&part).is_empty());
    }
}
