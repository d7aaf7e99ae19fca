//! The policy: an operator puts another one in its place.

use super::{Applier, Draft};
use crate::{
    event::EventKind,
    outcome::{Applied, Outcome},
    policy::{Change, PolicyRecord, PolicyValues, check_change},
    reason::check_reason,
};

impl Applier<'_> {
    /// Everything reads the policy from the state, so it takes effect with the next decision.
    pub(super) fn set_policy(
        &mut self,
        expected_version: u64,
        values: &PolicyValues,
        reason: &str,
    ) -> Outcome {
        check_reason(reason)?;
        let Change { policy, version, differences } =
            check_change(self.state, expected_version, values)?;
        if differences.is_empty() {
            return Ok(Applied::PolicySet { version });
        }
        let zone = self.state.zone.get_mut(&());
        zone.expect("only `init` is applied before there is a zone").policy = policy.zone;
        self.state.policies.insert((), PolicyRecord { version, balance: policy.balance });
        let changes: Vec<String> = differences.iter().map(|it| it.in_words()).collect();
        let message = format!("the policy is version {version}: {}", changes.join(", "));
        self.record(Draft::new(EventKind::PolicyChanged, message, reason.to_owned()));
        Ok(Applied::PolicySet { version })
    }
}
