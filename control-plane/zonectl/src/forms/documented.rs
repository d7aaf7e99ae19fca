//! The fields that are documented, in `zonectl --help` and in `docs/zonectl-json.md`, are those that are written.
//!
//! Each name has one sample that has everything. What is documented of it is read as a list of fields, and has to
//! fit the sample exactly: names, lists, and objects within.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{policy::WholePolicy, reassignment};
use proto::v1;
use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::arguments::fields::FIELDS;

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/zonectl-json.md"));

/// What is documented, by name.
type Documented<'a> = BTreeMap<&'a str, Fields>;

/// Fields, and names whose fields belong to it.
#[derive(Debug, Default)]
struct Fields {
    /// With `[]` for each list around it.
    own: Vec<(String, usize, Shape)>,
    from: Vec<String>,
    /// The whole is a list of so many levels.
    lists: usize,
}

#[derive(Debug)]
enum Shape {
    Plain,
    Object(Fields),
    Named(String),
}

/// Reads `name, name[], name {…}, name <name>, <name>`.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn takes(&mut self, sign: &str) -> bool {
        let rest = self.0.trim_start();
        let found = rest.strip_prefix(sign);
        self.0 = found.unwrap_or(rest);
        found.is_some()
    }

    fn levels(&mut self) -> usize {
        std::iter::from_fn(|| self.takes("[]").then_some(())).count()
    }

    fn named(&mut self) -> Option<String> {
        if !self.takes("<") {
            return None;
        }
        let (name, rest) = self.0.split_once('>').expect("a name ends");
        self.0 = rest;
        Some(format!("<{name}>"))
    }

    fn fields(&mut self) -> Fields {
        let mut fields = Fields { lists: self.levels(), ..Fields::default() };
        loop {
            if let Some(name) = self.named() {
                fields.from.push(name);
            } else {
                let end = self.0.trim_start();
                let length = end.find(|it: char| !it.is_ascii_alphanumeric() && it != '_');
                let (name, rest) = end.split_at(length.unwrap_or(end.len()));
                assert!(!name.is_empty(), "no field at {end:?}");
                self.0 = rest;
                let levels = self.levels();
                let shape = if self.takes("{") {
                    let within = self.fields();
                    assert!(self.takes("}"), "an object ends at {:?}", self.0);
                    Shape::Object(within)
                } else {
                    self.named().map_or(Shape::Plain, Shape::Named)
                };
                fields.own.push((name.to_owned(), levels, shape));
            }
            if !self.takes(",") {
                return fields;
            }
        }
    }
}

fn read(text: &str) -> Fields {
    let mut reader = Reader(text);
    let fields = reader.fields();
    assert_eq!(reader.0.trim(), "", "not read to its end: {text}");
    fields
}

/// Each heading of the page with a name in backquotes, and the first block below it.
fn page() -> Documented<'static> {
    let sections = PAGE.split("\n## ").skip(1).flat_map(|section| section.split("\n### "));
    let named = sections.filter_map(|section| {
        let heading = section.lines().next()?;
        let name = heading.split('`').nth(1)?;
        let block = section.split("```text\n").nth(1)?.split("```").next()?;
        Some((name.strip_prefix("zonectl ").unwrap_or(name), read(block)))
    });
    named.collect()
}

/// Holds what is documented against a sample; `at` says where.
fn hold(documented: &Documented<'_>, fields: &Fields, sample: &Value, at: &str) {
    let element = inner(sample, fields.lists, at);
    let object = element.as_object().unwrap_or_else(|| panic!("{at} is no object: {element}"));
    let mut expected = BTreeSet::new();
    collect(documented, fields, &mut |name, levels, shape| {
        assert!(expected.insert(name.to_owned()), "{at}.{name} is documented twice");
        let at = format!("{at}.{name}");
        let value = object.get(name).unwrap_or_else(|| panic!("{at} is documented, not written"));
        let value = inner(value, levels, &at);
        match shape {
            Shape::Plain => {
                let is_plain = !value.is_object() && !value.is_array();
                assert!(is_plain, "{at} has fields that are not documented: {value}");
            }
            Shape::Object(within) => hold(documented, within, value, &at),
            Shape::Named(name) => hold(documented, &documented[name.as_str()], value, &at),
        }
    });
    let undocumented: Vec<&String> =
        object.keys().filter(|name| !expected.contains(*name)).collect();
    assert_eq!(undocumented, Vec::<&String>::new(), "{at} has fields that are not documented");
}

/// All fields of something, with those that are listed under other names.
fn collect(
    documented: &Documented<'_>,
    fields: &Fields,
    take: &mut impl FnMut(&str, usize, &Shape),
) {
    for name in &fields.from {
        collect(documented, &documented[name.as_str()], take);
    }
    for (name, levels, shape) in &fields.own {
        take(name, *levels, shape);
    }
}

/// The first of a list of so many levels: samples have one at least.
fn inner<'a>(value: &'a Value, levels: usize, at: &str) -> &'a Value {
    (0..levels).fold(value, |value, _| {
        let list = value.as_array().unwrap_or_else(|| panic!("{at} is no list: {value}"));
        assert!(!list.is_empty(), "the sample's {at} is empty");
        &list[0]
    })
}

fn written(form: impl Serialize) -> Value {
    serde_json::to_value(form).unwrap()
}

fn node() -> v1::NodeSummary {
    v1::NodeSummary { id: 1, name: "node-1".into(), ..v1::NodeSummary::default() }
}

fn node_detail() -> NodeDetailForm {
    let signals = v1::NodeSignals {
        cannot_reach_node_ids: vec![2],
        unreachable_for_node_ids: vec![3],
        ..v1::NodeSignals::default()
    };
    let detail = v1::NodeDetail {
        summary: Some(node()),
        partition_ids: vec![1],
        led_partition_ids: vec![1],
        signals: Some(signals),
        ..v1::NodeDetail::default()
    };
    detail.into()
}

fn event() -> EventForm {
    v1::Event { kind: "leader-changed".into(), ..v1::Event::default() }.into()
}

fn operation() -> v1::Operation {
    v1::Operation {
        kind: "move-replica".into(),
        state: v1::OperationState::Succeeded.into(),
        partition_id: 1,
        to_node_id: 1,
        ..v1::Operation::default()
    }
}

fn partition() -> v1::PartitionSummary {
    let replicas = vec![v1::ReplicaPlacement { replica_id: 1, node_id: 1 }];
    v1::PartitionSummary { id: 1, replicas, ..v1::PartitionSummary::default() }
}

fn partition_detail() -> PartitionDetailForm {
    let placement = v1::ReplicaPlacement { replica_id: 1, node_id: 1 };
    let membership = v1::Membership {
        voter_sets: vec![v1::VoterSet { voters: vec![placement] }],
        learners: vec![placement],
        ..v1::Membership::default()
    };
    let detail = v1::PartitionDetail {
        summary: Some(partition()),
        membership: Some(membership),
        replicas: vec![v1::ReplicaView {
            placement: Some(placement),
            ..v1::ReplicaView::default()
        }],
        retiring: vec![placement],
        operations: vec![operation()],
    };
    detail.into()
}

fn obstacle() -> v1::BalanceObstacle {
    v1::BalanceObstacle { node_id: 1, partition_id: 1, hindrance: "waiting".into() }
}

fn heat() -> HeatForm {
    let rates = Some(v1::HeatRates { cpu_cores: 1.0, ..v1::HeatRates::default() });
    let balance = v1::BalanceStatus {
        worst_share: 1.0,
        obstacles: vec![obstacle()],
        ..v1::BalanceStatus::default()
    };
    let loaded = v1::NodeHeat {
        node_id: 1,
        cores: 1,
        short_term: rates,
        long_term: rates,
        reported: true,
        ..v1::NodeHeat::default()
    };
    let partition = v1::PartitionHeat {
        short_term: rates,
        long_term: rates,
        hottest_keys: vec![v1::HotKey::default()],
        ..v1::PartitionHeat::default()
    };
    let heat = v1::GetHeatResponse {
        nodes: vec![loaded],
        partitions: vec![partition],
        balance: Some(balance),
        ..v1::GetHeatResponse::default()
    };
    let node =
        v1::NodeSummary { administrative_state: v1::AdministrativeState::Active.into(), ..node() };
    HeatForm::new(heat, &[node.into()], None)
}

fn status() -> StatusForm {
    let control_plane =
        v1::ControlPlaneStatus { members: vec![v1::MemberStatus::default()], ..Default::default() };
    let status = v1::ZoneStatus {
        problems: vec!["one".into()],
        control_plane: Some(control_plane),
        nodes: vec![node()],
        ..v1::ZoneStatus::default()
    };
    status.into()
}

fn item() -> Value {
    let value = client::ObjectMetadata::default();
    let item = client::Item { key: "b\0k".into(), value, version: client::Version(1) };
    written(ItemForm::from(item))
}

fn live_plan() -> LivePlanForm {
    let transfer = v1::PlannedTransfer { from_node_id: 1, to_node_id: 2 };
    let step = v1::PlanStep {
        target_replica_ids: vec![1],
        change: Some(v1::plan_step::Change::Transfer(transfer)),
        effect: Some(v1::PlanEffect::default()),
        ..v1::PlanStep::default()
    };
    let moved = v1::PlannedMove { replica_id: 1, from_node_id: 1, to_node_id: 2 };
    let other = v1::PlanStep { change: Some(v1::plan_step::Change::Move(moved)), ..step.clone() };
    let plan = v1::BalancePlan {
        steps: vec![step, other],
        nodes: vec![v1::NodeOutlook::default()],
        obstacles: vec![obstacle()],
        held_back: vec!["the brake".into()],
        ..v1::BalancePlan::default()
    };
    LivePlanForm::try_from(plan).unwrap()
}

/// Of a problem that has no answer: it names what is broken.
fn answer() -> PlanForm {
    let problem = json!({
        "version": 1,
        "resources": [{ "name": "bytes" }],
        "nodes": [{ "name": "a", "fault_domain": "r", "capacity": [1], "target": [1] }],
        "groups": [{ "name": "g" }],
        "replicas": [{ "name": "g/1", "group": "g", "demand": [2] }],
    });
    let problem = serde_json::from_value(problem).unwrap();
    let problem = reassignment::Problem::new(&problem).unwrap();
    let solution = reassignment::solve(&problem, 1, reassignment::Effort { rounds: 1, lanes: 1 });
    let search = SearchForm::new(&solution, 1, 1, Duration::ZERO);
    PlanForm::new("zone.json".into(), &problem, &solution, search)
}

fn policy() -> PolicyForm {
    PolicyForm { version: 1, values: WholePolicy::default_for(3).values() }
}

fn shadow() -> ShadowForm {
    let mut balance = v1::Policy::from(&policy()).balance.unwrap();
    balance.splits_max = Some(0);
    let shadow = v1::GetShadowPolicyResponse {
        balance: Some(balance),
        comparison: Some(v1::ShadowComparison::default()),
        ..v1::GetShadowPolicyResponse::default()
    };
    ShadowForm::new(shadow, &policy())
}

/// One of everything.
fn samples() -> BTreeMap<&'static str, Value> {
    let brake = || written(BrakeForm::from(v1::Brake::default()));
    let nodes = [NodeForm::from(node())];
    let operations = vec![OperationForm::from(operation())];
    let explained =
        PartitionExplanationForm::new(partition_detail(), &nodes, operations, vec![event()]);
    let plan = live_plan();
    let empty = v1::NodeSummary {
        state: v1::NodeState::Up.into(),
        administrative_state: v1::AdministrativeState::Active.into(),
        ..node()
    };
    let rebalanced = RebalanceForm::new(false, plan.clone(), vec![1], &[empty]);
    let applied = AppliedForm { zone_id: "z".into(), operation_ids: vec![1] };
    let mut changed = policy();
    changed.values.insert("events_max".into(), 1_000);
    let changes = || policy().changes(&changed);
    let set = PolicySetForm { version: 2, dry_run: false, changes: changes() };
    let diff = PolicyDiffForm { version: 2, file_version: 1, changes: changes() };
    let rates = HeatRatesForm::default();
    let init = InitForm::from(v1::InitResponse::default());
    let detail = NodeExplanationForm { detail: node_detail(), events: vec![event()] };
    [
        ("init", written(init)),
        ("status", written(status())),
        ("node list", written([NodeForm::from(node())])),
        ("node show", written(node_detail())),
        ("node uncordon", written(NodeForm::from(node()))),
        ("explain node", written(detail)),
        ("partition list", written([PartitionForm::from(partition())])),
        ("partition show", written(partition_detail())),
        ("explain partition", written(explained)),
        ("operation list", written([OperationForm::from(operation())])),
        ("operation watch", written(OperationForm::from(operation()))),
        ("events", written(event())),
        ("heat", written(heat())),
        ("plan", written(&plan)),
        ("plan --problem", written(answer())),
        ("apply", written(applied)),
        ("rebalance", written(rebalanced)),
        ("brake override", brake()),
        ("policy show", written(policy())),
        ("policy diff", written(diff)),
        ("policy set", written(set)),
        ("policy shadow show", written(shadow())),
        ("policy shadow set", written(ShadowSetForm { is_set: true, changes: changes() })),
        ("put", written(PutForm { version: 1 })),
        ("delete", written(DeletedForm { version: 1, existed: true })),
        ("get", item()),
        ("list", json!({ "items": [item()], "more": false })),
        ("<node>", written(NodeForm::from(node()))),
        ("<node detail>", written(node_detail())),
        ("<partition>", written(PartitionForm::from(partition()))),
        ("<partition detail>", written(partition_detail())),
        ("<operation>", written(OperationForm::from(operation()))),
        ("<event>", written(event())),
        ("<rates>", written(rates)),
        ("<brake>", brake()),
    ]
    .into()
}

#[test]
fn the_page_has_every_field_that_is_written_and_no_other() {
    let (documented, samples) = (page(), samples());
    let names: Vec<&str> = documented.keys().copied().collect();
    assert_eq!(names, samples.keys().copied().collect::<Vec<_>>());
    for (name, sample) in &samples {
        hold(&documented, &documented[name], sample, name);
    }
}

#[test]
fn the_help_lists_the_same_fields() {
    let listed: Documented<'_> =
        FIELDS.iter().map(|(name, fields)| (*name, read(fields))).collect();
    assert_eq!(listed.len(), FIELDS.len(), "a name is listed twice");
    let samples = samples();
    for (name, fields) in &listed {
        hold(&listed, fields, &samples[name], name);
    }
    let elsewhere = ["plan", "apply", "rebalance", "brake", "policy"];
    for name in samples.keys().filter(|name| !listed.contains_key(*name)) {
        assert!(elsewhere.iter().any(|verb| name.starts_with(verb)), "{name} is not listed");
    }
}

#[test]
fn what_is_documented_wrongly_is_found() {
    let found = |fields: &str, sample: Value| {
        let fields = read(fields);
        std::panic::catch_unwind(|| hold(&Documented::new(), &fields, &sample, "x")).is_err()
    };
    let sample = || json!({ "a": 1, "b": [{ "c": 2 }] });
    assert!(!found("a, b[] {c}", sample()));
    for wrong in ["a", "a, b[]", "a, b[] {c, d}", "a, b {c}", "a, b[] {c}, e", "[] a, b[] {c}"] {
        assert!(found(wrong, sample()), "{wrong}");
    }
}
