//! What goes over the wire when something is refused: one status code and, where a program can use it,
//! one detail for each reason.

use model::{Category, Refusal};
use proto::v1::{GuaranteeAtRisk, NodeAddress, PlanChanged, WrongLeader, error_detail::Kind};
use runtime::grpc::detail;
use tonic::{Code, Status};

use crate::raft::group::{Peer, ProposeError};

/// The asked member does not lead; here is who does.
pub fn wrong_leader(leader: Option<Peer>) -> Status {
    let variant = if leader.is_some() { "with a hint" } else { "without a hint" };
    runtime::mark!("asked a member that does not lead", variant);
    let message = match &leader {
        Some(leader) => {
            format!("this member does not lead: ask member {} at {}", leader.id, leader.address)
        }
        None => "this member does not lead, and does not know who does: ask again, or another one"
            .to_owned(),
    };
    let leader =
        leader.map(|leader| NodeAddress { node_id: leader.id.get(), address: leader.address });
    detail::status(Code::FailedPrecondition, message, Kind::WrongLeader(WrongLeader { leader }))
}

/// The model has refused a command.
pub fn status(refusal: &Refusal) -> Status {
    runtime::mark!("command refused", refusal);
    let code = match refusal.category() {
        Category::InvalidArgument => Code::InvalidArgument,
        Category::NotFound => Code::NotFound,
        Category::AlreadyExists => Code::AlreadyExists,
        Category::FailedPrecondition => Code::FailedPrecondition,
        Category::ResourceExhausted => Code::ResourceExhausted,
    };
    if let Refusal::PlanChanged { changed, more } = refusal {
        let partition_ids = changed.iter().map(|(partition, _)| partition.get()).collect();
        let changed = PlanChanged { partition_ids, more: *more };
        return detail::status(code, refusal.to_string(), Kind::PlanChanged(changed));
    }
    match refusal.guarantee_at_risk() {
        Some((guarantee, partitions)) => {
            let partition_ids = partitions.iter().map(|partition| partition.get()).collect();
            let at_risk = GuaranteeAtRisk { guarantee: guarantee.to_owned(), partition_ids };
            detail::status(code, refusal.to_string(), Kind::GuaranteeAtRisk(at_risk))
        }
        None => Status::new(code, refusal.to_string()),
    }
}

/// A command was not carried out.
pub fn propose_status(error: &ProposeError) -> Status {
    match error {
        ProposeError::NotLeader { leader } => wrong_leader(leader.clone()),
        ProposeError::Refused(refusal) => status(refusal),
        ProposeError::Unknown(_) => {
            runtime::mark!("command: its outcome was not known");
            let message = format!(
                "{error}: look whether it took effect, or repeat it with the same idempotency key"
            );
            Status::new(Code::Unknown, message)
        }
    }
}
