//! The JSON forms of everything that `zonectl` shows, converted from the wire.
//!
//! Field names are stable: new ones may come, none is renamed or goes away. Enumerations are lower-case
//! words with hyphens, an absent value is `null`, keys and other bytes are text as
//! [`escape`](crate::text::escape) writes it.

mod brake;
mod heat;
mod node;
mod objects;
mod operation;
mod partition;
mod plan;
mod status;

pub use brake::BrakeForm;
pub use heat::{BalanceForm, HeatForm, HeatRatesForm, NodeHeatForm, PartitionHeatForm};
pub use node::{NodeDetailForm, NodeExplanationForm, NodeForm};
pub use objects::{DeletedForm, ItemForm, ListForm, PutForm};
pub use operation::{EventForm, OperationForm, RebalanceForm};
pub use partition::{
    PartitionDetailForm, PartitionExplanationForm, PartitionForm, PlaceForm as ReplicaPlaceForm,
    PlacementForm,
};
pub use plan::{BoundForm, CostForm, PlaceForm, PlanForm, SearchForm, ViolationsForm};
pub use status::{InitForm, MemberForm, StatusForm};

/// The wire says zero, or empty, for "none".
fn some_id(id: u64) -> Option<u64> {
    (id != 0).then_some(id)
}

fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
