//! What the control plane orders of this node.

use proto::v1::{self, order::Kind, split_partition::Point};

use super::{
    fences::FenceError,
    host::{EnsureReplica, PlacementError, ReplicaHost},
    membership::ChangeError,
    replica::Replica,
    service::KEY_BYTES_MAX,
    split::{SplitError, SplitOrder, SplitPoint},
    transport::Fence,
    types::{self, PartitionId, RaftLogId, ReplicaId},
};
use std::sync::Arc;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error(transparent)]
    Fence(#[from] FenceError),
    #[error("the order is malformed: {0}")]
    Malformed(&'static str),
    #[error("replica {0} is not on this node")]
    UnknownReplica(ReplicaId),
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Split(#[from] SplitError),
}

fn split_order(
    split: &v1::SplitPartition,
    based_on: Option<RaftLogId>,
) -> Result<SplitOrder, OrderError> {
    let point = match split.point.as_ref() {
        Some(Point::At(key)) if key.len() > KEY_BYTES_MAX => {
            return Err(OrderError::Malformed("the key to split at is too long"));
        }
        Some(Point::At(key)) => SplitPoint::Key(key.clone()),
        Some(Point::By(by)) => match v1::SplitBy::try_from(*by) {
            Ok(v1::SplitBy::Load) => SplitPoint::MiddleOfLoad,
            Ok(v1::SplitBy::Size) => SplitPoint::MiddleOfSize,
            Ok(v1::SplitBy::Unspecified) | Err(_) => {
                return Err(OrderError::Malformed("it does not say by what to split"));
            }
        },
        None => return Err(OrderError::Malformed("it does not say where to split")),
    };
    if split.child_partition_id == 0 || split.replicas.iter().any(|it| it.replica_id == 0) {
        return Err(OrderError::Malformed("it names no child, or a replica without an id"));
    }
    Ok(SplitOrder {
        point,
        range_epoch: split.range_epoch,
        child: PartitionId(split.child_partition_id),
        replicas: split.replicas.iter().map(|replica| (*replica).into()).collect(),
        based_on,
    })
}

impl ReplicaHost {
    /// Accepts or refuses orders for these partitions by their fence; what is accepted is durable when
    /// this returns. To be called before [`carry_out`](Self::carry_out).
    pub async fn accept_orders(
        &self,
        fence: Fence,
        partitions: &[PartitionId],
    ) -> Vec<Result<(), OrderError>> {
        match self.fences.accept(fence, partitions).await {
            Ok(answers) => {
                answers.into_iter().map(|answer| answer.map_err(OrderError::from)).collect()
            }
            Err(error) => {
                partitions.iter().map(|_| Err(OrderError::Fence(error.clone()))).collect()
            }
        }
    }

    /// The same for one partition.
    pub async fn accept_order(
        &self,
        fence: Fence,
        partition: PartitionId,
    ) -> Result<(), OrderError> {
        self.accept_orders(fence, &[partition]).await.pop().unwrap_or(Ok(()))
    }

    /// Accepts or refuses what is asked by a leader of this generation and term.
    pub async fn accept_term(&self, fence: Fence) -> Result<(), FenceError> {
        self.fences.accept_term(fence).await
    }

    /// The highest generation and term that were accepted.
    pub fn highest_fence(&self) -> Fence {
        self.fences.highest()
    }

    /// Carries out one order that was accepted. Idempotent. It returns when the order is done or cannot
    /// be done now, which takes seconds where a group has to commit something.
    pub async fn carry_out(&self, order: &v1::Order) -> Result<(), OrderError> {
        if order.partition_id == 0 || order.replica_id == 0 {
            return Err(OrderError::Malformed("it names no partition or no replica"));
        }
        let partition = PartitionId(order.partition_id);
        let replica = ReplicaId(order.replica_id);
        let based_on = order.membership_log.as_ref().map(types::from_position);
        match order.kind.as_ref().ok_or(OrderError::Malformed("it has no kind"))? {
            Kind::Ensure(ensure) => {
                let range = ensure.range.clone().unwrap_or_default().into();
                let founders = ensure.founders.iter().map(|founder| (*founder).into()).collect();
                self.ensure(EnsureReplica {
                    partition,
                    replica,
                    range,
                    range_epoch: ensure.range_epoch,
                    founders,
                    campaign: ensure.campaign,
                })
                .await?;
            }
            Kind::AddLearner(add) => {
                let learner = add.learner.ok_or(OrderError::Malformed("it names no learner"))?;
                self.addressed(partition, replica)?.add_learner(learner.into(), based_on).await?;
            }
            Kind::ChangeMembers(change) => {
                let voters: Vec<_> = change.voters.iter().map(|voter| (*voter).into()).collect();
                self.addressed(partition, replica)?.change_members(&voters, based_on).await?;
            }
            Kind::TransferLeader(transfer) => {
                let to = ReplicaId(transfer.to_replica_id);
                // Never closed: an error would only mean that there are no turns to wait for.
                let _turn = self.shared.hand_overs.acquire().await.ok();
                self.addressed(partition, replica)?.transfer_leader(to).await?;
            }
            Kind::Split(split) => {
                let order = split_order(split, based_on)?;
                self.addressed(partition, replica)?.split(&order).await?;
            }
            Kind::Destroy(_) => self.destroy(partition, replica, based_on).await?,
        }
        Ok(())
    }

    fn addressed(
        &self,
        partition: PartitionId,
        replica: ReplicaId,
    ) -> Result<Arc<Replica>, OrderError> {
        let present = self.replica_by_id(replica);
        present
            .filter(|present| present.partition() == partition)
            .ok_or(OrderError::UnknownReplica(replica))
    }
}
