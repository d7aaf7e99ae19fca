//! `zonectl policy …`.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use client::AdminClient;
use model::policy::{Field, WholePolicy, field_named};
use proto::v1;

use super::Context;
use crate::{
    arguments::{PolicySetArguments, PolicyVerb, ShadowVerb},
    failure::Failure,
    forms::{PolicyDiffForm, PolicyForm, PolicySetForm, ShadowForm, ShadowSetForm},
    policy, shadow,
};

/// Bytes of a file that are read at most: a policy has about two thousand.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub async fn run(context: &Context, verb: PolicyVerb) -> Result<(), Failure> {
    match verb {
        PolicyVerb::Show => {
            let policy = current(&context.admin()?).await?;
            context.show(&policy, policy::text)
        }
        PolicyVerb::Diff { file } => diff(context, &file).await.map_err(as_trouble),
        PolicyVerb::Set(arguments) => set(context, arguments).await,
        PolicyVerb::Shadow(verb) => in_shadow(context, verb).await,
    }
}

/// The zone's policy.
async fn current(admin: &AdminClient) -> Result<PolicyForm, Failure> {
    let answer = admin.get_policy(v1::GetPolicyRequest {}).await?;
    let policy = PolicyForm::try_from(answer.policy.unwrap_or_default());
    policy.map_err(|error| Failure::Command(error.to_string()))
}

async fn diff(context: &Context, file: &Path) -> Result<(), Failure> {
    let (name, wanted) = read(file)?;
    WholePolicy::from_values(&wanted.values)
        .map_err(|error| Failure::Command(format!("{name} cannot be the policy: {error}")))?;
    let now = current(&context.admin()?).await?;
    let changes = now.changes(&wanted);
    let is_same = changes.is_empty();
    let form = PolicyDiffForm { version: now.version, file_version: wanted.version, changes };
    context.show(&form, policy::diff)?;
    if is_same { Ok(()) } else { Err(Failure::Different) }
}

/// Whoever asks for a difference learns from exit code 1 that there is one, so failures have another.
fn as_trouble(failure: Failure) -> Failure {
    match failure {
        Failure::Command(_) | Failure::Io { .. } => Failure::Usage(failure.to_string()),
        Failure::Usage(_)
        | Failure::Unreachable(_)
        | Failure::OutputClosed
        | Failure::Different => failure,
    }
}

/// What the command line asks for.
enum Wanted {
    Whole(PolicyForm),
    Fields(Vec<(&'static Field, u64)>),
}

impl Wanted {
    fn parse(changes: &[String]) -> Result<Self, Failure> {
        Ok(match changes {
            [file] if !file.contains('=') => Wanted::Whole(read(Path::new(file))?.1),
            fields => Wanted::Fields(assignments(fields).map_err(Failure::Usage)?),
        })
    }

    /// The policy that is asked for, in the place of the one that there is.
    fn of(self, now: &PolicyForm) -> PolicyForm {
        match self {
            Wanted::Whole(policy) => policy,
            Wanted::Fields(fields) => {
                let mut policy = now.clone();
                let fields = fields.into_iter();
                policy.values.extend(fields.map(|(field, value)| (field.name.to_owned(), value)));
                policy
            }
        }
    }
}

async fn in_shadow(context: &Context, verb: ShadowVerb) -> Result<(), Failure> {
    let (wanted, reason) = match verb {
        ShadowVerb::Set { changes, reason } => (Some(Wanted::parse(&changes)?), reason),
        ShadowVerb::Clear { reason } => (None, reason),
        ShadowVerb::Show => {
            let admin = context.admin()?;
            let policy = current(&admin).await?;
            let answer = admin.get_shadow_policy(v1::GetShadowPolicyRequest {}).await?;
            return context.show(&ShadowForm::new(answer, &policy), shadow::text);
        }
    };
    let admin = context.admin()?;
    let now = current(&admin).await?;
    let wanted = wanted.map(|wanted| wanted.of(&now));
    let changes = wanted.as_ref().map_or_else(Vec::new, |wanted| now.changes(wanted));
    if let Some(change) = changes.iter().find(|change| !change.field.starts_with("balance.")) {
        return Err(Failure::Usage(format!(
            "{} is {} in the policy, not {}: only fields of balance can be otherwise in a shadow policy",
            change.field, change.from, change.to
        )));
    }
    let is_set = wanted.is_some();
    let request = v1::SetShadowPolicyRequest {
        balance: wanted.and_then(|wanted| v1::Policy::from(&wanted).balance),
        reason,
        idempotency_key: String::new(),
    };
    admin.set_shadow_policy(request).await?;
    context.show(&ShadowSetForm { is_set, changes }, shadow::set)
}

async fn set(context: &Context, arguments: PolicySetArguments) -> Result<(), Failure> {
    let PolicySetArguments { changes, reason, dry_run } = arguments;
    let wanted = Wanted::parse(&changes)?;
    let admin = context.admin()?;
    let now = current(&admin).await?;
    let wanted = wanted.of(&now);
    let request = v1::SetPolicyRequest {
        policy: Some(v1::Policy::from(&wanted)),
        reason: reason.unwrap_or_default(),
        dry_run,
        idempotency_key: String::new(),
    };
    let version = admin.set_policy(request).await?.version;
    let form = PolicySetForm { version, dry_run, changes: now.changes(&wanted) };
    context.show(&form, policy::set)
}

/// Fields with their values, as `field=value`; fields of balance also without `balance.`.
fn assignments(texts: &[String]) -> Result<Vec<(&'static Field, u64)>, String> {
    let mut named = BTreeSet::new();
    let fields = texts.iter().map(|text| {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            format!("{text:?} is no field with its value; give one file, or fields as field=value")
        })?;
        let field = field_named(name).or_else(|| field_named(&format!("balance.{name}")));
        let field = field.ok_or_else(|| {
            format!("there is no field {name:?}; `zonectl policy show` lists those that there are")
        })?;
        let unit = field.unit.as_str();
        let value = value.parse().map_err(|_| {
            let unit = if unit.is_empty() { String::new() } else { format!(", in {unit}") };
            format!("{value:?} is no value of {}: it has to be a whole number{unit}", field.name)
        })?;
        if named.insert(field.name) {
            Ok((field, value))
        } else {
            Err(format!("{} is given twice", field.name))
        }
    });
    fields.collect()
}

/// A policy in a file, and what the file is called.
fn read(path: &Path) -> Result<(String, PolicyForm), Failure> {
    let is_input = path == Path::new("-");
    let name = if is_input { "standard input".into() } else { path.display().to_string() };
    let cannot = || Failure::io(format!("cannot read the policy from {name}"));
    let reader: Box<dyn Read> = match is_input {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(cannot())?),
    };
    let mut text = Vec::new();
    reader.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(cannot())?;
    let form = serde_json::from_slice(&text)
        .map_err(|error| Failure::Command(format!("{name} is no policy: {error}")))?;
    Ok((name, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Vec<(&'static str, u64)>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let fields = assignments(&texts)?;
        Ok(fields.into_iter().map(|(field, value)| (field.name, value)).collect())
    }

    #[test]
    fn fields_are_given_with_values() {
        let fields = parse(&["replace_after_ms=60000", "balance.splits_max=0", "transfers_max=3"]);
        let expected =
            [("replace_after_ms", 60_000), ("balance.splits_max", 0), ("balance.transfers_max", 3)];
        assert_eq!(fields.unwrap(), expected);
        for (texts, words) in [
            (&["events_max=5", "policy.json"][..], "no field with its value"),
            (&["frobs_max=5"], "there is no field \"frobs_max\""),
            (&["replace_after_ms=5m"], "a whole number, in ms"),
            (&["events_max=-1"], "\"-1\" is no value of events_max: it has to be a whole number"),
            (&["splits_max=1", "balance.splits_max=1"], "balance.splits_max is given twice"),
        ] {
            let error = parse(texts).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
