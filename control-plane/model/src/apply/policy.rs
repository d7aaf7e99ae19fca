//! The policy: an operator puts another one in its place, or in its shadow.

use super::{Applier, Draft};
use crate::{
    event::EventKind,
    outcome::{Applied, Outcome},
    policy::{
        Change, Difference, PolicyRecord, PolicyValues, ShadowPolicy, check_change, check_shadow,
    },
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
        // What the policy before found not worth doing, this one may; also under the next leader.
        if *self.state.balance_policy() != policy.balance
            && let Some(memory) = self.state.balance_memory().cloned()
        {
            self.state.balance.insert((), memory.without_rest());
        }
        let zone = self.state.zone.get_mut(&());
        zone.expect("only `init` is applied before there is a zone").policy = policy.zone;
        self.state.policies.insert((), PolicyRecord { version, balance: policy.balance });
        let message = format!("the policy is version {version}: {}", in_words(&differences));
        self.record(Draft::new(EventKind::PolicyChanged, message, reason.to_owned()));
        Ok(Applied::PolicySet { version })
    }

    /// Nothing but plans that nobody carries out comes of it.
    pub(super) fn set_shadow_policy(
        &mut self,
        balance: Option<&PolicyValues>,
        reason: &str,
    ) -> Outcome {
        check_reason(reason)?;
        let Some(values) = balance else {
            if self.state.shadows.remove(&()).is_some() {
                let message = "no shadow policy is planned with any more".to_owned();
                let kind = EventKind::ShadowPolicyCleared;
                self.record(Draft::new(kind, message, reason.to_owned()));
            }
            return Ok(Applied::Done);
        };
        let shadow = ShadowPolicy {
            balance: check_shadow(self.state, values)?,
            set_by: self.state.revision(),
            set_at: self.now,
            wall_time: self.wall_time,
            reason: reason.to_owned(),
        };
        self.state.shadows.insert((), shadow);
        let differences = self.state.shadow_differences();
        let what =
            if differences.is_empty() { "nothing differs".into() } else { in_words(&differences) };
        let message = format!("a shadow policy is planned with: {what}");
        self.record(Draft::new(EventKind::ShadowPolicySet, message, reason.to_owned()));
        Ok(Applied::Done)
    }
}

fn in_words(differences: &[Difference]) -> String {
    let changes: Vec<String> = differences.iter().map(Difference::in_words).collect();
    changes.join(", ")
}
