//! The shadow policy in words for people: how it does against the zone's own.

use std::{fmt::Write, time::Duration};

use comfy_table::Cell;

use crate::{
    forms::{ComparisonForm, ProposalsForm, ShadowForm, ShadowSetForm},
    policy::lines,
    tables::{number, table},
    text::{count, show_bytes, show_duration},
};

/// What it is, and how it does.
pub fn text(shadow: &ShadowForm) -> String {
    if !shadow.is_set {
        return "There is no shadow policy.".to_owned();
    }
    let reason = shadow.reason.as_deref().unwrap_or_default();
    let differs = match shadow.changes.is_empty() {
        true => "\n  nothing differs".to_owned(),
        false => lines(&shadow.changes),
    };
    let mut text = format!("Shadow policy against the zone's own ({reason}):{differs}\n\n");
    match &shadow.comparison {
        None => text.push_str("No plan has been made with both yet."),
        Some(comparison) => text.push_str(&compared(comparison)),
    }
    text
}

fn compared(comparison: &ComparisonForm) -> String {
    let ComparisonForm { plans, better, equal, worse, .. } = comparison;
    let span = comparison.planned_zone_time_ms.saturating_sub(comparison.began_zone_time_ms);
    let mut text = format!(
        "{} in {}, since it was set or the control plane's leader leads: the shadow policy's would leave a \
         lower worst share in {better}, the same in {equal}, a higher one in {worse}.\n",
        count(*plans, "plan", "plans"),
        show_duration(Duration::from_millis(span)),
    );
    let mut table = table(&["", "zone's policy", "shadow policy"]);
    let mut row = |name: &str, show: &dyn Fn(&ProposalsForm) -> String| {
        let cells = [show(&comparison.active), show(&comparison.shadow)];
        let [active, shadow] = cells.map(number);
        table.add_row(vec![Cell::new(name), active, shadow]);
    };
    row("transfers proposed", &|it| it.transfers.to_string());
    row("moves proposed", &|it| it.moves.to_string());
    row("bytes to copy", &|it| show_bytes(it.bytes));
    row("splits proposed", &|it| it.splits.to_string());
    row("worst share, latest", &|it| format!("{:.3}", it.worst_share_last));
    row("worst share, mean", &|it| format!("{:.3}", it.worst_share_mean));
    row("worst share, greatest", &|it| format!("{:.3}", it.worst_share_max));
    let _ = write!(
        text,
        "{table}\nShares are what the most loaded node would have of the mean with a plan done. Nothing of the \
         shadow policy's plans is done: one plan at a time is compared, from the same zone."
    );
    text
}

/// What was set, or cleared.
pub fn set(set: &ShadowSetForm) -> String {
    match (set.is_set, set.changes.is_empty()) {
        (false, _) => "No shadow policy is planned with any more.".to_owned(),
        (true, true) => {
            "A shadow policy is planned with that is the same as the policy.".to_owned()
        }
        (true, false) => format!("A shadow policy is planned with:{}", lines(&set.changes)),
    }
}

#[cfg(test)]
mod tests {
    use model::policy::WholePolicy;
    use proto::v1;

    use super::*;
    use crate::forms::PolicyForm;

    #[test]
    fn it_is_told_how_it_does() {
        let policy = PolicyForm { version: 1, values: WholePolicy::default_for(3).values() };
        let none = ShadowForm::new(v1::GetShadowPolicyResponse::default(), &policy);
        assert_eq!(text(&none), "There is no shadow policy.");
        assert!(none.changes.is_empty() && none.reason.is_none());
        let mut balance = v1::Policy::from(&policy).balance.unwrap();
        balance.transfers_max = Some(3);
        let mut shadow = v1::GetShadowPolicyResponse {
            balance: Some(balance),
            reason: "fewer at a time".into(),
            ..v1::GetShadowPolicyResponse::default()
        };
        let told = text(&ShadowForm::new(shadow.clone(), &policy));
        assert!(told.contains("(fewer at a time):\n  balance.transfers_max: 64 → 3\n"), "{told}");
        assert!(told.ends_with("No plan has been made with both yet."), "{told}");
        shadow.comparison = Some(v1::ShadowComparison {
            began_zone_time_ms: 1_000,
            planned_zone_time_ms: 301_000,
            plans: 290,
            better: 7,
            equal: 280,
            worse: 3,
            shadow: Some(v1::PolicyProposals {
                moves: 5,
                bytes: 3 << 30,
                worst_share_max: 1.25,
                ..v1::PolicyProposals::default()
            }),
            ..v1::ShadowComparison::default()
        });
        let told = text(&ShadowForm::new(shadow, &policy));
        for words in ["290 plans in 5 min", "in 7, the same in 280", "3.0 GiB", "1.250"] {
            assert!(told.contains(words), "{words} is not in: {told}");
        }
    }
}
