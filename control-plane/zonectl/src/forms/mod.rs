//! The JSON forms of everything that `zonectl` shows, converted from the wire.
//!
//! Field names are stable: new ones may come, none is renamed or goes away. Enumerations are lower-case
//! words with hyphens, an absent value is `null`, keys and other bytes are text as
//! [`escape`](crate::text::escape) writes it. `docs/zonectl-json.md` says what each field means, and a test here that it
//! leaves none out.

mod brake;
#[cfg(test)]
mod documented;
mod heat;
mod live_plan;
mod node;
mod objects;
mod operation;
mod partition;
mod plan;
mod policy;
mod shadow;
mod status;

pub use brake::BrakeForm;
pub use heat::{
    BalanceForm, HeatForm, HeatRatesForm, MostLoadedForm, NodeHeatForm, PartitionHeatForm, Resource,
};
pub use live_plan::{
    AppliedForm, LivePlanForm, PLAN_VERSION, PlanChange, PlanOutlookForm, PlanStepForm,
    RebalanceForm,
};
pub use node::{NodeDetailForm, NodeExplanationForm, NodeForm};
pub use objects::{DeletedForm, ItemForm, ListForm, PutForm};
pub use operation::{EventForm, OperationForm};
pub use partition::{
    PartitionDetailForm, PartitionExplanationForm, PartitionForm, PlaceForm as ReplicaPlaceForm,
    PlacementForm,
};
pub use plan::{BoundForm, CostForm, PlaceForm, PlanForm, SearchForm, ViolationsForm};
pub use policy::{
    PolicyChangeForm, PolicyDiffForm, PolicyForm, PolicySetForm, defaults as policy_defaults,
};
pub use shadow::{ComparisonForm, ProposalsForm, ShadowForm, ShadowSetForm};
pub use status::{InitForm, MemberForm, StatusForm};

/// The wire says zero, or empty, for "none".
fn some_id(id: u64) -> Option<u64> {
    (id != 0).then_some(id)
}

fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
