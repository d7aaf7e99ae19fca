//! The policy in words and tables for people.

use std::{fmt::Write, time::Duration};

use comfy_table::Cell;
use model::policy::{FIELDS, Field, Group, Unit, field_named};

use crate::{
    forms::{PolicyChangeForm, PolicyDiffForm, PolicyForm, PolicySetForm, policy_defaults},
    tables::{number, table},
    text::{count, show_bytes, show_duration},
};

/// Every field, by what it is for.
pub fn text(policy: &PolicyForm) -> String {
    let defaults = policy_defaults(policy);
    let changed = FIELDS.iter().filter(|field| policy.values[field.name] != defaults[field.name]);
    let changed = count(changed.count() as u64, "field differs", "fields differ");
    let mut text = format!("Policy, version {}: {changed} from the default.\n", policy.version);
    for group in Group::ALL {
        let mut table = table(&["field", "value", "unit", "default", "what it is"]);
        for field in FIELDS.iter().filter(|field| field.group == group) {
            let (value, default) = (policy.values[field.name], defaults[field.name]);
            let default = match value == default {
                _ if field.is_fixed() => "fixed".to_owned(),
                true => "default".to_owned(),
                false => format!("not {default}"),
            };
            table.add_row(vec![
                Cell::new(field.name),
                number(value),
                Cell::new(unit(field, value)),
                Cell::new(default),
                Cell::new(field.meaning),
            ]);
        }
        let _ = write!(text, "\n{}\n{table}\n", group.title());
    }
    text.trim_end().to_owned()
}

/// The unit, and large values once more in one that people use.
fn unit(field: &Field, value: u64) -> String {
    let unit = field.unit.as_str();
    match field.unit {
        Unit::Milliseconds if value >= 1_000 => {
            format!("{unit}, {}", show_duration(Duration::from_millis(value)))
        }
        Unit::Bytes if value >= 1_024 => format!("{unit}, {}", show_bytes(value)),
        Unit::BytesPerSecond if value >= 1_024 => format!("{unit}, {}/s", show_bytes(value)),
        Unit::Milliseconds
        | Unit::Bytes
        | Unit::BytesPerSecond
        | Unit::Count
        | Unit::Permille
        | Unit::PartsPerMillion
        | Unit::MicrosecondsPerSecond
        | Unit::Weight => unit.to_owned(),
    }
}

pub(crate) fn lines(changes: &[PolicyChangeForm]) -> String {
    let mut text = String::new();
    for PolicyChangeForm { field, from, to, .. } in changes {
        let words = |value| match field_named(field).map(|field| unit(field, value)) {
            Some(unit) if !unit.is_empty() => format!("{value} {unit}"),
            Some(_) | None => value.to_string(),
        };
        let _ = write!(text, "\n  {field}: {} → {}", words(*from), words(*to));
    }
    text
}

/// What a file would change.
pub fn diff(diff: &PolicyDiffForm) -> String {
    let PolicyDiffForm { version, file_version, changes } = diff;
    let fields = count(changes.len() as u64, "field", "fields");
    let mut text = match changes.is_empty() {
        true => format!("Nothing differs from the policy, version {version}."),
        false => {
            format!("{fields} of the policy, version {version}, would change:{}", lines(changes))
        }
    };
    if version != file_version {
        let _ = write!(
            text,
            "\nThe file was made from version {file_version}: `zonectl policy set` would refuse it."
        );
    }
    text
}

/// What was set.
pub fn set(set: &PolicySetForm) -> String {
    let PolicySetForm { version, dry_run, changes } = set;
    let (is, has) = if *dry_run { ("would be", "would change") } else { ("is", "changed") };
    if changes.is_empty() {
        return format!("The policy {is} as it was, version {version}.");
    }
    let fields = count(changes.len() as u64, "field", "fields");
    format!("The policy {is} version {version}; {fields} {has}:{}", lines(changes))
}

#[cfg(test)]
mod tests {
    use model::policy::WholePolicy;

    use super::*;

    fn form(changes: &[(&str, u64)]) -> PolicyForm {
        let mut values = WholePolicy::default_for(3).values();
        values.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        PolicyForm { version: 3, values }
    }

    #[test]
    fn every_field_is_shown_with_its_default_marked() {
        let text = text(&form(&[("replace_after_ms", 1_800_000)]));
        assert!(text.starts_with("Policy, version 3: 1 field differs from the default."), "{text}");
        for field in FIELDS {
            assert!(text.contains(&format!(" {} ", field.name)), "{} is missing", field.name);
        }
        for group in Group::ALL {
            assert!(text.contains(group.title()), "{}", group.title());
        }
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap().to_owned();
        for word in ["1800000", "ms, 30 min", "not 300000"] {
            assert!(line(" replace_after_ms ").contains(word), "{}", line("replace_after_ms"));
        }
        assert!(line("plan_bytes_max").contains("bytes, 64.0 GiB"), "{text}");
        assert!(line("replication_factor").contains("fixed"), "{text}");
        assert!(line("splits_max").contains("default"), "{text}");
    }

    #[test]
    fn changes_are_told_in_words() {
        let changes =
            form(&[]).changes(&form(&[("replace_after_ms", 60_000), ("events_max", 5_000)]));
        let words =
            "\n  replace_after_ms: 300000 ms, 5 min → 60000 ms, 1 min\n  events_max: 20000 → 5000";
        let told = set(&PolicySetForm { version: 4, dry_run: false, changes: changes.clone() });
        assert_eq!(told, format!("The policy is version 4; 2 fields changed:{words}"));
        let told = set(&PolicySetForm { version: 4, dry_run: true, changes: changes.clone() });
        assert_eq!(told, format!("The policy would be version 4; 2 fields would change:{words}"));
        let told = diff(&PolicyDiffForm { version: 3, file_version: 2, changes });
        assert!(told.starts_with("2 fields of the policy, version 3, would change:"), "{told}");
        assert!(
            told.ends_with("made from version 2: `zonectl policy set` would refuse it."),
            "{told}"
        );
        let same = PolicyDiffForm { version: 3, file_version: 3, changes: Vec::new() };
        assert_eq!(diff(&same), "Nothing differs from the policy, version 3.");
    }
}
