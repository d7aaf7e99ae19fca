//! The engine, as the executor wants it.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use proto::v1::Order;

use super::executor::OrderHost;
use crate::engine::{
    host::ReplicaHost,
    transport::Fence,
    types::{NodeId, PartitionId},
};

/// The replicas of this node. Shared, since orders are carried out on tasks of their own.
pub struct EngineOrders(pub Arc<ReplicaHost>);

impl OrderHost for EngineOrders {
    fn accept_term(&self, fence: Fence) -> BoxFuture<'_, Result<(), String>> {
        async move { self.0.accept_term(fence).await.map_err(|error| error.to_string()) }.boxed()
    }

    fn accept_orders<'a>(
        &'a self,
        fence: Fence,
        partitions: &'a [PartitionId],
    ) -> BoxFuture<'a, Vec<Result<(), String>>> {
        async move {
            let verdicts = self.0.accept_orders(fence, partitions).await;
            verdicts.into_iter().map(|verdict| verdict.map_err(|error| error.to_string())).collect()
        }
        .boxed()
    }

    fn carry_out(&self, order: Order) -> BoxFuture<'static, Result<(), String>> {
        let host = Arc::clone(&self.0);
        async move {
            host.carry_out(&order).await.map_err(|error| {
                runtime::mark!("order not carried out", error);
                error.to_string()
            })
        }
        .boxed()
    }

    fn learn_addresses<'a>(
        &'a self,
        directory: &'a [(NodeId, String)],
    ) -> BoxFuture<'a, Result<(), String>> {
        async move { self.0.directory().set(directory).await.map_err(|error| error.to_string()) }
            .boxed()
    }
}
