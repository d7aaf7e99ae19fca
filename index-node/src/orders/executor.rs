//! The executor: from the session's messages to the engine.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use proto::v1::{Order, OrderRefusal};
use tokio::sync::mpsc;

use super::{
    OrderBatch,
    slots::{Fenced, Slots, kind},
};
use crate::engine::{
    transport::Fence,
    types::{NodeId, PartitionId},
};

/// Partitions whose orders are carried out at the same time.
const WORKING_MAX: usize = 64;

/// What the executor needs of the node. An error is the reason, in a sentence.
pub trait OrderHost: Send + Sync + 'static {
    /// Accepts whoever speaks under this fence, durably.
    fn accept_term(&self, fence: Fence) -> BoxFuture<'_, Result<(), String>>;

    /// Accepts orders of this fence for each of the partitions, durably, or says why not.
    fn accept_orders<'a>(
        &'a self,
        fence: Fence,
        partitions: &'a [PartitionId],
    ) -> BoxFuture<'a, Vec<Result<(), String>>>;

    /// Makes the replica what the order says, or finds that it is so already.
    fn carry_out(&self, order: Order) -> BoxFuture<'static, Result<(), String>>;

    /// Learns where nodes are.
    fn learn_addresses<'a>(
        &'a self,
        directory: &'a [(NodeId, String)],
    ) -> BoxFuture<'a, Result<(), String>>;
}

struct Executor<H> {
    host: Arc<H>,
    slots: Slots,
    /// Partitions whose orders wait because enough others are worked on.
    held_back: BTreeSet<PartitionId>,
    refusals: mpsc::Sender<OrderRefusal>,
}

/// Carries out what comes through `batches`, until all senders are gone. What is refused goes to
/// `refusals`, without waiting: an order that is repeated is refused again.
pub async fn execute<H: OrderHost>(
    host: Arc<H>,
    mut batches: mpsc::Receiver<OrderBatch>,
    refusals: mpsc::Sender<OrderRefusal>,
) {
    let slots = Slots::default();
    let mut executor = Executor { host, slots, held_back: BTreeSet::new(), refusals };
    let mut working: FuturesUnordered<BoxFuture<'static, (Fenced, Result<(), String>)>> =
        FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some((fenced, outcome)) = working.next(), if !working.is_empty() => {
                executor.finish(&fenced, outcome);
            }
            batch = batches.recv() => {
                let Some(batch) = batch else { return };
                executor.accept(batch).await;
            }
        }
        while working.len() < WORKING_MAX
            && let Some(partition) = executor.held_back.pop_first()
        {
            if let Some(work) = executor.begin(partition) {
                working.push(work);
            }
        }
    }
}

impl<H: OrderHost> Executor<H> {
    /// Checks and remembers the batch's fence, and puts its orders into the slots.
    async fn accept(&mut self, batch: OrderBatch) {
        if let Err(error) = self.host.learn_addresses(&batch.directory).await {
            tracing::error!(error, "the addresses of other nodes cannot be remembered");
        }
        if let Some(fence) = batch.welcome
            && let Err(error) = self.host.accept_term(fence).await
        {
            tracing::warn!(error, "the session's leader is not accepted");
            return;
        }
        if batch.orders.is_empty() {
            return;
        }
        let Some(fence) = batch.fence else {
            tracing::warn!("orders without a fence are not carried out");
            return;
        };
        let partitions: Vec<PartitionId> =
            batch.orders.iter().map(|order| PartitionId(order.partition_id)).collect();
        let verdicts = self.host.accept_orders(fence, &partitions).await;
        for (order, verdict) in batch.orders.into_iter().zip(verdicts) {
            let fenced = Fenced { fence, order };
            match verdict {
                Ok(()) => {
                    self.held_back.insert(PartitionId(fenced.order.partition_id));
                    self.slots.put(fenced);
                }
                Err(error) => self.refuse(&fenced, error),
            }
        }
    }

    /// Begins the partition's next order, if there is one and none is in work.
    fn begin(
        &mut self,
        partition: PartitionId,
    ) -> Option<BoxFuture<'static, (Fenced, Result<(), String>)>> {
        let fenced = self.slots.take(partition)?;
        // On a task of its own, so that a heavy one does not hold up the others.
        let work = tokio::spawn(self.host.carry_out(fenced.order.clone()));
        Some(Box::pin(async move {
            let outcome = work.await.unwrap_or_else(|error| Err(error.to_string()));
            (fenced, outcome)
        }))
    }

    fn finish(&mut self, fenced: &Fenced, outcome: Result<(), String>) {
        let order = &fenced.order;
        let partition = PartitionId(order.partition_id);
        self.slots.done(partition);
        self.held_back.insert(partition);
        match outcome {
            Ok(()) => {
                metrics::counter!("isotherm_node_orders_total", "kind" => kind(order), "outcome" => "done")
                    .increment(1);
            }
            Err(error) => self.refuse(fenced, error),
        }
    }

    fn refuse(&self, fenced: &Fenced, message: String) {
        let Fenced { fence, order } = fenced;
        metrics::counter!("isotherm_node_orders_total", "kind" => kind(order), "outcome" => "refused")
            .increment(1);
        tracing::debug!(
            partition = order.partition_id,
            replica = order.replica_id,
            kind = kind(order),
            message,
            "order refused"
        );
        let refusal = OrderRefusal {
            partition_id: order.partition_id,
            fence: Some((*fence).into()),
            message: format!("{} of replica {}: {message}", kind(order), order.replica_id),
        };
        // Nobody may listen: the order is repeated, and refused again.
        let _ = self.refusals.try_send(refusal);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use proto::v1::{DestroyReplica, order::Kind};
    use tokio::sync::Semaphore;

    use super::*;

    /// Notes what it is asked, and carries out only as many orders as it has permits.
    struct Fake {
        carried_out: Arc<Mutex<Vec<(u64, u64)>>>,
        permits: Arc<Semaphore>,
        refuse_replica: u64,
    }

    impl OrderHost for Fake {
        fn accept_term(&self, fence: Fence) -> BoxFuture<'_, Result<(), String>> {
            async move { if fence.term < 5 { Err("stale".into()) } else { Ok(()) } }.boxed()
        }

        fn accept_orders<'a>(
            &'a self,
            fence: Fence,
            partitions: &'a [PartitionId],
        ) -> BoxFuture<'a, Vec<Result<(), String>>> {
            let verdict = if fence.term < 5 { Err("stale".to_owned()) } else { Ok(()) };
            async move { partitions.iter().map(|_| verdict.clone()).collect() }.boxed()
        }

        fn carry_out(&self, order: Order) -> BoxFuture<'static, Result<(), String>> {
            let (permits, noted) = (Arc::clone(&self.permits), Arc::clone(&self.carried_out));
            let refuse = order.replica_id == self.refuse_replica;
            async move {
                permits.acquire().await.expect("never closed").forget();
                noted.lock().unwrap().push((order.partition_id, order.replica_id));
                if refuse { Err("not now".into()) } else { Ok(()) }
            }
            .boxed()
        }

        fn learn_addresses<'a>(
            &'a self,
            _: &'a [(NodeId, String)],
        ) -> BoxFuture<'a, Result<(), String>> {
            async { Ok(()) }.boxed()
        }
    }

    fn batch(term: u64, orders: &[(u64, u64)]) -> OrderBatch {
        let order = |&(partition_id, replica_id): &(u64, u64)| Order {
            partition_id,
            replica_id,
            kind: Some(Kind::Destroy(DestroyReplica {})),
            ..Order::default()
        };
        OrderBatch {
            fence: Some(Fence { zone_generation: 1, term, revision: 1 }),
            orders: orders.iter().map(order).collect(),
            ..OrderBatch::default()
        }
    }

    #[tokio::test]
    async fn accepted_orders_are_carried_out_and_others_refused() {
        let (sink, batches) = super::super::sink();
        let (refusals, mut refused) = mpsc::channel(16);
        let carried_out = Arc::new(Mutex::new(Vec::new()));
        let permits = Arc::new(Semaphore::new(0));
        let fake = Fake {
            carried_out: Arc::clone(&carried_out),
            permits: Arc::clone(&permits),
            refuse_replica: 9,
        };
        let executor = tokio::spawn(execute(Arc::new(fake), batches, refusals));

        sink.give(batch(4, &[(1, 1)]));
        let refusal = refused.recv().await.unwrap();
        assert_eq!((refusal.partition_id, refusal.fence.unwrap().term), (1, 4));
        assert!(refusal.message.contains("stale"), "{}", refusal.message);

        sink.give(batch(5, &[(1, 1), (1, 2), (2, 9)]));
        permits.add_permits(3);
        let refusal = refused.recv().await.unwrap();
        assert_eq!(refusal.partition_id, 2);
        drop(sink);
        executor.await.unwrap();
        let first: Vec<(u64, u64)> = carried_out.lock().unwrap().clone();
        assert!(first.contains(&(1, 1)) && first.contains(&(2, 9)), "{first:?}");
    }

    #[tokio::test]
    async fn a_slow_partition_holds_up_nobody_else() {
        let (sink, batches) = super::super::sink();
        let (refusals, mut refused) = mpsc::channel(16);
        let permits = Arc::new(Semaphore::new(0));
        let fake =
            Fake { carried_out: Arc::default(), permits: Arc::clone(&permits), refuse_replica: 9 };
        tokio::spawn(execute(Arc::new(fake), batches, refusals));
        sink.give(batch(5, &[(1, 1)]));
        sink.give(batch(5, &[(2, 9)]));
        // Both wait for a permit; the first one in the queue has the first permit.
        permits.add_permits(2);
        assert_eq!(refused.recv().await.unwrap().partition_id, 2);
        // A stale order is refused although a slow one is in work.
        sink.give(batch(5, &[(1, 1)]));
        sink.give(batch(3, &[(3, 3)]));
        assert_eq!(refused.recv().await.unwrap().partition_id, 3);
    }
}
