//! Marks of what the harness did, and of what its clients were told.

use std::collections::BTreeSet;

use crate::{
    faults::{Fault, TimedFault},
    history::{Call, Operation, Outcome},
    world::Crash,
};

/// One mark for each kind of fault.
pub fn of_faults(faults: &[TimedFault]) -> BTreeSet<String> {
    faults.iter().map(|timed| format!("fault: {}", kind(&timed.fault))).collect()
}

/// The words of a fault without the names of hosts.
fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Crash { crash: Crash::ProcessKilled, .. } => "kill",
        Fault::Crash { crash: Crash::PowerLost, .. } => "power off",
        Fault::Restart { .. } => "restart",
        Fault::Cut { .. } => "cut",
        Fault::CutOneWay { .. } => "cut from",
        Fault::Hold { .. } => "hold",
        Fault::Heal { .. } => "heal",
        Fault::Isolate { .. } => "isolate",
        Fault::Rejoin { .. } => "rejoin",
        Fault::SlowDisk { .. } => "slow disk",
        Fault::StallDisk { .. } => "stalled disk",
        Fault::BreakDisk { .. } => "broken disk",
        Fault::MendDisk { .. } => "mended disk",
    }
}

/// One mark for each way in which a call of a client ended.
pub fn of_history(operations: &[Operation]) -> BTreeSet<String> {
    let marks = operations.iter().map(|operation| {
        let call = match operation.call {
            Call::Get => "get",
            Call::Put { condition: None, .. } => "put",
            Call::Put { condition: Some(_), .. } => "conditional put",
            Call::Delete { condition: None } => "delete",
            Call::Delete { condition: Some(_) } => "conditional delete",
        };
        let end = match operation.outcome {
            Outcome::Written { .. } => "written",
            Outcome::Deleted { existed: true, .. } => "deleted",
            Outcome::Deleted { existed: false, .. } => "was absent",
            Outcome::ConditionFailed { .. } => "condition failed",
            Outcome::Found { .. } => "found",
            Outcome::Missing => "absent",
            Outcome::Refused { .. } => "given up",
            Outcome::Unknown => "unknown",
        };
        format!("call: {call}, {end}")
    });
    marks.collect()
}
