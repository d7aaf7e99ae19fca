//! What people see: tables and sentences made from the forms.

use std::{collections::BTreeMap, fmt::Write};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED,
};

use crate::{
    brake,
    forms::{
        EventForm, ListForm, MemberForm, NodeDetailForm, NodeForm, OperationForm,
        PartitionDetailForm, PartitionForm, StatusForm,
    },
    text::{count, shorten, show_bound, show_bytes, show_duration},
};

fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED.with_rounded_corners())
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// An empty table with a header.
pub fn table(header: &[&str]) -> Table {
    let mut table = plain_table();
    table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    table
}

/// A cell for a number.
pub fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

fn rate(per_second: f64) -> Cell {
    number(format!("{per_second:.0}"))
}

/// A cell whose colour says how good its word is.
fn state(word: &str) -> Cell {
    let colour = match word {
        "up" | "active" | "leader" | "succeeded" | "yes" => Some(Color::Green),
        "recovering" | "slow" | "suspect" | "draining" | "drained" | "running" | "learner" => {
            Some(Color::Yellow)
        }
        "down" | "failed" | "unreachable" | "absent" | "no" => Some(Color::Red),
        _ => None,
    };
    match colour {
        Some(colour) => Cell::new(word).fg(colour),
        None => Cell::new(word),
    }
}

fn none_or<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

/// The zone. The first line answers "is it healthy?".
pub fn status(status: &StatusForm) -> String {
    let mut text = headline(status);
    text.push('\n');
    for problem in &status.problems {
        let _ = writeln!(text, "  • {problem}");
    }
    let Some(zone_id) = &status.zone_id else { return text };
    let partitions = &status.partitions;
    let _ = writeln!(
        text,
        "\nZone {zone_id}: {} × {} replicas, {} available, {} under-replicated, {} unavailable. \
         {} running, {} failed.{}",
        count(partitions.total.into(), "partition", "partitions"),
        status.replication_factor,
        partitions.available,
        partitions.under_replicated,
        partitions.unavailable,
        count(status.operations.running.into(), "operation", "operations"),
        status.operations.failed,
        if status.from_leader { "" } else { " (Not the leader's view: it may lag.)" },
    );
    if status.brake.engaged {
        let _ = writeln!(text, "{}", brake::line(&status.brake));
    }
    let mut members = table(&["member", "state", "entries behind", "id"]);
    // By address, as people know them; ids are random.
    let by_address: BTreeMap<&str, &MemberForm> =
        status.control_plane.members.iter().map(|it| (it.address.as_str(), it)).collect();
    for member in by_address.values() {
        members.add_row([
            Cell::new(&member.address),
            state(&member.state),
            number(member.lag_entries),
            number(member.id),
        ]);
    }
    let _ = writeln!(text, "\n{members}\n\n{}", nodes(&status.nodes));
    text
}

fn headline(status: &StatusForm) -> String {
    if status.zone_id.is_none() {
        return "NOT INITIALISED: there is no zone yet. `zonectl init` makes it.".to_owned();
    }
    if status.healthy {
        return "HEALTHY: every partition is available and fully replicated.".to_owned();
    }
    match status.problems.len() {
        0 => "NOT HEALTHY: the zone did not say why.".to_owned(),
        problems => {
            format!("NOT HEALTHY: {}, worst first:", count(problems as u64, "problem", "problems"))
        }
    }
}

/// `node list`.
pub fn nodes(nodes: &[NodeForm]) -> String {
    let mut table = table(&[
        "node", "name", "state", "mode", "rack", "leaders", "replicas", "stored", "capacity",
        "reads/s", "writes/s", "address",
    ]);
    for node in nodes {
        let mut stored = show_bytes(node.stored_bytes);
        if node.disk_below_reserve {
            stored.push_str(" (disk full)");
        }
        table.add_row([
            Cell::new(node.id),
            Cell::new(&node.name),
            state(node.state),
            state(node.administrative_state),
            Cell::new(&node.fault_domain),
            number(node.leaders),
            number(node.replicas),
            number(stored),
            number(show_bytes(node.capacity_bytes)),
            rate(node.reads_per_second),
            rate(node.writes_per_second),
            Cell::new(&node.address),
        ]);
    }
    table.to_string()
}

/// `node show`.
pub fn node_detail(detail: &NodeDetailForm) -> String {
    let node = &detail.node;
    let ids = |ids: &[u64]| {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
    };
    let mut table = plain_table();
    for (name, value) in [
        ("node", format!("{} ({})", node.name, node.id)),
        ("state", node.state.to_owned()),
        ("evidence", detail.evidence.clone()),
        ("mode", node.administrative_state.to_owned()),
        ("fault domain", node.fault_domain.clone()),
        ("address", node.address.clone()),
        ("identity", detail.identity.clone()),
        ("incarnation", node.incarnation.to_string()),
        ("software", node.software_version.clone()),
        (
            "stored",
            format!("{} of {}", show_bytes(node.stored_bytes), show_bytes(node.capacity_bytes)),
        ),
        ("leads partitions", ids(&detail.led_partition_ids)),
        ("holds partitions", ids(&detail.partition_ids)),
    ] {
        table.add_row([Cell::new(name).add_attribute(Attribute::Bold), Cell::new(value)]);
    }
    table.to_string()
}

/// `partition list`.
pub fn partitions(partitions: &[PartitionForm]) -> String {
    let mut table = table(&[
        "partition",
        "from",
        "to",
        "epoch",
        "leader",
        "replicas on",
        "available",
        "full",
        "keys",
        "stored",
        "reads/s",
        "writes/s",
    ]);
    for partition in partitions {
        let nodes: Vec<String> =
            partition.replicas.iter().map(|replica| replica.node_id.to_string()).collect();
        table.add_row([
            Cell::new(partition.id),
            Cell::new(show_bound(&partition.start_key, "(lowest)")),
            Cell::new(show_bound(&partition.end_key, "(highest)")),
            number(partition.range_epoch),
            number(none_or(partition.leader_node_id)),
            Cell::new(nodes.join(", ")),
            state(if partition.available { "yes" } else { "no" }),
            state(if partition.under_replicated { "no" } else { "yes" }),
            number(partition.keys),
            number(show_bytes(partition.stored_bytes)),
            rate(partition.reads_per_second),
            rate(partition.writes_per_second),
        ]);
    }
    table.to_string()
}

/// `partition show`.
pub fn partition_detail(detail: &PartitionDetailForm) -> String {
    let mut text = partitions(std::slice::from_ref(&detail.partition));
    let mut replicas =
        table(&["replica", "node", "role", "term", "applied", "behind", "what it says"]);
    for replica in &detail.replica_views {
        replicas.add_row([
            Cell::new(replica.replica_id),
            Cell::new(replica.node_id),
            state(&replica.role),
            number(replica.term),
            number(replica.applied_index),
            number(replica.lag_entries),
            Cell::new(replica.message.as_deref().unwrap_or("")),
        ]);
    }
    let _ = write!(text, "\n\n{replicas}");
    if let Some(membership) = &detail.membership {
        let sets: Vec<String> = membership
            .voter_sets
            .iter()
            .map(|set| {
                let nodes: Vec<String> =
                    set.iter().map(|voter| voter.node_id.to_string()).collect();
                format!("{{{}}}", nodes.join(", "))
            })
            .collect();
        let _ = write!(
            text,
            "\nVoters on nodes {}{} at log position {}.{}{}",
            sets.join(" and "),
            if sets.len() > 1 { " (joint)" } else { "" },
            membership.log_term,
            membership.log_index,
            if membership.committed { "" } else { " (not committed)" },
        );
    }
    if !detail.retiring.is_empty() {
        let nodes: Vec<String> =
            detail.retiring.iter().map(|replica| replica.node_id.to_string()).collect();
        let _ = write!(text, "\nOn its way out: the replica on node {}.", nodes.join(", "));
    }
    if !detail.operations.is_empty() {
        let _ = write!(text, "\n\n{}", operations(&detail.operations));
    }
    text
}

/// `operation list`.
pub fn operations(operations: &[OperationForm]) -> String {
    let mut table =
        table(&["operation", "kind", "state", "done", "left", "what", "step", "asked by"]);
    for operation in operations {
        let left =
            operation.remaining_ms.map(|ms| show_duration(std::time::Duration::from_millis(ms)));
        let step = match (&operation.step, &operation.last_error) {
            (Some(step), Some(error)) => format!("{step} ({error})"),
            (Some(step), None) => step.clone(),
            (None, Some(error)) => error.clone(),
            (None, None) => String::new(),
        };
        table.add_row([
            Cell::new(operation.id),
            Cell::new(&operation.kind),
            state(operation.state),
            number(format!("{} %", operation.progress_percent)),
            number(none_or(left)),
            Cell::new(&operation.summary),
            Cell::new(step),
            Cell::new(&operation.origin),
        ]);
    }
    table.to_string()
}

/// One line of `operation watch`.
pub fn operation_line(operation: &OperationForm) -> String {
    let mut line = format!(
        "operation {} ({}): {}, {} %",
        operation.id, operation.summary, operation.state, operation.progress_percent
    );
    if let Some(step) = &operation.step {
        let _ = write!(line, ", {step}");
    }
    if let Some(ms) = operation.remaining_ms {
        let left = show_duration(std::time::Duration::from_millis(ms));
        let _ = write!(line, ", about {left} left");
    }
    if let Some(error) = &operation.last_error {
        let _ = write!(line, " [{error}]");
    }
    line
}

/// One line of `events`.
pub fn event_line(event: &EventForm) -> String {
    let wall = std::time::UNIX_EPOCH + std::time::Duration::from_millis(event.wall_time_ms);
    let mut line = format!(
        "{:>6}  {}  {:<18}  {}",
        event.sequence,
        humantime::format_rfc3339_millis(wall),
        event.kind,
        event.message
    );
    if let Some(reason) = &event.reason {
        let _ = write!(line, "  — {reason}");
    }
    line
}

/// `list`.
pub fn list(list: &ListForm) -> String {
    let mut table = table(&["bucket", "key", "version", "size", "etag", "location", "payload"]);
    for item in &list.items {
        table.add_row([
            Cell::new(item.bucket.as_deref().unwrap_or("–")),
            Cell::new(&item.key),
            number(item.version),
            number(item.size_bytes),
            Cell::new(shorten(&item.etag, 24)),
            Cell::new(shorten(&item.location, 24)),
            Cell::new(shorten(&item.user_payload, 32)),
        ]);
    }
    let keys = count(list.items.len() as u64, "key", "keys");
    let more =
        if list.more { " There are more: go on with --start-after, or raise --limit." } else { "" };
    format!("{table}\n{keys}.{more}")
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    fn status_of(status: v1::ZoneStatus) -> String {
        super::status(&status.into())
    }

    #[test]
    fn the_first_line_says_whether_the_zone_is_healthy() {
        let zone = v1::ZoneStatus { zone_id: "z".into(), ..v1::ZoneStatus::default() };
        let healthy = status_of(v1::ZoneStatus { healthy: true, ..zone.clone() });
        assert!(healthy.lines().next().unwrap().starts_with("HEALTHY"));
        let problems = vec!["node-2 is down".to_owned()];
        let sick = status_of(v1::ZoneStatus { problems, ..zone });
        assert_eq!(sick.lines().next().unwrap(), "NOT HEALTHY: 1 problem, worst first:");
        assert_eq!(sick.lines().nth(1).unwrap(), "  • node-2 is down");
        let none = status_of(v1::ZoneStatus::default());
        assert!(none.starts_with("NOT INITIALISED"));
    }

    #[test]
    fn an_operation_is_one_line() {
        let operation = v1::Operation {
            id: 4,
            summary: "drain node-2".into(),
            state: v1::OperationState::Running.into(),
            progress_percent: 40,
            step: "moving partition 7".into(),
            remaining_ms: 4_200,
            ..v1::Operation::default()
        };
        assert_eq!(
            operation_line(&operation.into()),
            "operation 4 (drain node-2): running, 40 %, moving partition 7, about 4.2 s left"
        );
    }
}
