//! What people see of load: first whether it is even, then who has how much of it.

use std::fmt::Write;

use comfy_table::Cell;

use crate::{
    forms::{BalanceForm, HeatForm, HeatRatesForm, NodeHeatForm},
    tables::{number, table},
    text::{shorten, show_bytes},
};

/// Up to here a zone's load is called even.
const EVEN_MAX: f64 = 1.05;
/// A bar of this many characters is as hot as the hottest node.
const BAR_WIDTH: usize = 16;
const KEY_WIDTH: usize = 40;
const OBSTACLES_SHOWN: usize = 5;

/// Load of the zone.
pub fn text(heat: &HeatForm) -> String {
    let mut text = headline(heat);
    let _ = writeln!(text, "\n\n{}", nodes(heat));
    if let Some(balance) = &heat.balance {
        let _ = writeln!(text, "\n{}", balancing(heat, balance));
    }
    if !heat.partitions.is_empty() {
        let _ = writeln!(text, "\n{}", partitions(heat));
        text.push_str(&throttled(heat));
    }
    text.trim_end().to_owned()
}

fn headline(heat: &HeatForm) -> String {
    let (Some(max_to_mean), Some(least_even)) = (heat.max_to_mean, &heat.least_even) else {
        return "IDLE: there is no load to speak of.".to_owned();
    };
    let name = heat.nodes.iter().find(|node| Some(node.node_id) == heat.hottest_node_id);
    let name = name.map_or("a node that is gone", |node| node.name.as_str());
    let what = match least_even.as_str() {
        "cpu" => "processor time",
        "bytes" => "bytes per second",
        other => other,
    };
    let word = if max_to_mean <= EVEN_MAX { "EVEN" } else { "UNEVEN" };
    format!("{word}: {name} has the most {what}, {max_to_mean:.2} times the mean for its cores.")
}

/// What is being done about it, and what is in the way.
fn balancing(heat: &HeatForm, balance: &BalanceForm) -> String {
    let mut text = match balance.state.as_str() {
        "idle" => "Nothing is moved for load: there is too little of it.".to_owned(),
        "off" => "Nothing is moved for load: the policy's budgets are 0.".to_owned(),
        "even" => "Nothing is moved for load: no node has more than its share.".to_owned(),
        "uneven" => "Nothing is moved for load yet: the unevenness is new.".to_owned(),
        "settling" => format!(
            "Load is being spread: {}, {} and {} begun, {} waiting.",
            counted(balance.transfers, "transfer"),
            counted(balance.moves, "move"),
            counted(balance.splits, "split"),
            balance.waiting
        ),
        "at-rest" => "Nothing is moved for load: nothing more is to be gained.".to_owned(),
        other => format!("Balance: {other}."),
    };
    if let Some(share) = balance.worst_share {
        let _ = write!(
            text,
            " In the last seconds the most loaded node had {share:.2} times the mean."
        );
    }
    for obstacle in balance.obstacles.iter().take(OBSTACLES_SHOWN) {
        let name = heat.nodes.iter().find(|node| node.node_id == obstacle.node_id);
        let name = name.map_or("a node that is gone", |node| node.name.as_str());
        let said = obstacle_in_words(name, obstacle.partition_id, &obstacle.hindrance);
        let _ = write!(text, "\n  {said}");
    }
    text
}

/// Why a node keeps more than its share.
pub fn obstacle_in_words(node: &str, partition: Option<u64>, hindrance: &str) -> String {
    let what = match partition {
        Some(partition) => format!("partition {partition}"),
        None => "what it holds".to_owned(),
    };
    let why = match hindrance {
        "hot-key" => "is hot by one key, which would be as hot elsewhere",
        "indivisible" => "is too large a piece, and no point is known to split it at",
        "waiting" => "waits: something runs, rests, or is out of budget",
        "nothing-gains" => "cannot be moved for a gain that is worth its cost",
        "no-place" => "has no place to go: no node that may take it has room",
        other => other,
    };
    format!("{node} keeps more than its share: {what} {why}.")
}

/// Which keys are slowed down so that others need not wait.
fn throttled(heat: &HeatForm) -> String {
    let mut text = String::new();
    for partition in heat.partitions.iter().filter(|it| it.throttled_per_second > 0.0) {
        let key = match partition.hottest_keys.first() {
            Some(key) => shorten(&key.key_prefix, KEY_WIDTH),
            None => "its hottest key".to_owned(),
        };
        let _ = writeln!(
            text,
            "Partition {} throttles {key}: {:.0} requests/s wait or are refused, so that its other keys \
             need not wait.",
            partition.partition_id, partition.throttled_per_second
        );
    }
    text
}

fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn rate(per_second: f64) -> Cell {
    number(format!("{per_second:.0}"))
}

fn bytes(per_second: f64) -> Cell {
    // A rate is never negative, and a fraction of a byte is none.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    number(show_bytes(per_second.max(0.0) as u64))
}

fn rates(rates: &HeatRatesForm) -> [Cell; 5] {
    [
        rate(rates.reads_per_second),
        rate(rates.writes_per_second),
        bytes(rates.bytes_per_second),
        number(format!("{:.2}", rates.cpu_cores)),
        rate(rates.shed_per_second),
    ]
}

/// As long as the node is hot, against the hottest.
fn bar(node: &NodeHeatForm, hottest: f64) -> String {
    let part = if hottest > 0.0 { node.to_mean.unwrap_or(0.0) / hottest } else { 0.0 };
    // Between nothing and the width: whatever the figures are, they fit.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let full = (part.clamp(0.0, 1.0) * BAR_WIDTH as f64).round() as usize;
    "█".repeat(full) + &"·".repeat(BAR_WIDTH - full)
}

fn nodes(heat: &HeatForm) -> comfy_table::Table {
    let mut table = table(&[
        "node",
        "name",
        "to the mean",
        "",
        "leaders",
        "reads/s",
        "writes/s",
        "bytes/s",
        "cores used",
        "shed/s",
    ]);
    let hottest = heat.max_to_mean.unwrap_or(0.0);
    for node in &heat.nodes {
        let to_mean = match (node.reported, node.to_mean) {
            (true, Some(to_mean)) if hottest > 0.0 => format!("{to_mean:.2}"),
            (true, _) => "–".to_owned(),
            (false, _) => "unknown".to_owned(),
        };
        let mut row = vec![
            Cell::new(node.node_id),
            Cell::new(&node.name),
            number(to_mean),
            Cell::new(bar(node, hottest)),
            number(node.leaders),
        ];
        row.extend(rates(&node.long_term));
        table.add_row(row);
    }
    table
}

fn partitions(heat: &HeatForm) -> comfy_table::Table {
    let mut table = table(&[
        "hottest",
        "leader",
        "reads/s",
        "writes/s",
        "bytes/s",
        "cores used",
        "shed/s",
        "stored",
        "hottest key",
    ]);
    for partition in &heat.partitions {
        let leader = partition.leader_node_id;
        let leader = heat.nodes.iter().find(|node| Some(node.node_id) == leader);
        let mut row = vec![
            Cell::new(partition.partition_id),
            Cell::new(leader.map_or("–", |node| node.name.as_str())),
        ];
        row.extend(rates(&partition.short_term));
        row.push(number(show_bytes(partition.stored_bytes)));
        row.push(Cell::new(partition.hottest_keys.first().map_or_else(
            || "–".to_owned(),
            |key| {
                let least = (key.share - key.share_error).max(0.0) * 100.0;
                let most = key.share * 100.0;
                let share = if most - least < 1.0 {
                    format!("{most:.0} %")
                } else {
                    format!("{least:.0} to {most:.0} %")
                };
                format!("{} ({share})", shorten(&key.key_prefix, KEY_WIDTH))
            },
        )));
        table.add_row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    fn response() -> v1::GetHeatResponse {
        let rates = |reads_per_second| {
            Some(v1::HeatRates { reads_per_second, cpu_cores: 0.25, ..v1::HeatRates::default() })
        };
        let node = |node_id, reads, to_mean| v1::NodeHeat {
            node_id,
            name: format!("node-{node_id}"),
            leaders: 3,
            cores: 2,
            short_term: rates(reads),
            long_term: rates(reads),
            to_mean,
            reported: node_id != 3,
        };
        let key = |share_error| v1::HotKey {
            key_prefix: b"photos\0cat.jpg".to_vec().into(),
            share: 0.4,
            share_error,
        };
        let partition = |partition_id, keys| v1::PartitionHeat {
            partition_id,
            leader_node_id: 1,
            short_term: rates(1_234.0),
            long_term: rates(1_000.0),
            stored_bytes: 3 << 20,
            waiting: 2.0,
            hottest_keys: keys,
            throttled_per_second: if partition_id == 7 { 320.0 } else { 0.0 },
        };
        v1::GetHeatResponse {
            nodes: vec![node(1, 300.0, 2.0), node(2, 150.0, 1.0), node(3, 0.0, 0.0)],
            partitions: vec![
                partition(7, vec![key(0.0)]),
                partition(8, vec![key(0.1)]),
                partition(9, Vec::new()),
            ],
            max_to_mean: 2.0,
            least_even: "reads".into(),
            hottest_node_id: 1,
            balance: Some(v1::BalanceStatus {
                state: "settling".into(),
                worst_share: 1.5,
                transfers: 1,
                moves: 2,
                waiting: 3,
                obstacles: vec![v1::BalanceObstacle {
                    node_id: 2,
                    partition_id: 7,
                    hindrance: "hot-key".into(),
                }],
                realised_gain: 0.9,
                splits: 0,
            }),
        }
    }

    #[test]
    fn what_is_done_about_load_is_said_and_what_is_in_the_way() {
        let said = text(&HeatForm::from(response()));
        assert!(
            said.contains("1 transfer, 2 moves and 0 splits begun, 3 waiting. In the last"),
            "{said}"
        );
        assert!(said.contains("node-2 keeps more than its share: partition 7 is hot by"), "{said}");
        let rest = v1::BalanceStatus { state: "at-rest".into(), ..v1::BalanceStatus::default() };
        let rest = v1::GetHeatResponse { balance: Some(rest), ..response() };
        let said = text(&HeatForm::from(rest));
        assert!(said.contains("nothing more is to be gained.\n"), "{said}");
        let off = v1::BalanceStatus { state: "off".into(), ..v1::BalanceStatus::default() };
        let off = v1::GetHeatResponse { balance: Some(off), ..response() };
        let said = text(&HeatForm::from(off));
        assert!(said.contains("the policy's budgets are 0.\n"), "{said}");
        let json = serde_json::to_value(HeatForm::from(response())).unwrap();
        assert_eq!(json["balance"]["obstacles"][0]["hindrance"], "hot-key");
        assert_eq!(json["balance"]["worst_share"], 1.5);
    }

    #[test]
    fn a_throttled_key_is_named() {
        let said = text(&HeatForm::from(response()));
        let words = "Partition 7 throttles photos/cat.jpg: 320 requests/s wait or are refused";
        assert_eq!(said.matches(words).count(), 1, "{said}");
        assert_eq!(said.matches("throttles").count(), 1, "{said}");
        let json = serde_json::to_value(HeatForm::from(response())).unwrap();
        assert_eq!(json["partitions"][0]["throttled_per_second"], 320.0);
    }

    #[test]
    fn the_first_line_says_whether_load_is_even() {
        let first = |response: v1::GetHeatResponse| {
            let text = text(&HeatForm::from(response));
            text.lines().next().unwrap().to_owned()
        };
        assert_eq!(
            first(response()),
            "UNEVEN: node-1 has the most reads, 2.00 times the mean for its cores."
        );
        let even = v1::GetHeatResponse {
            max_to_mean: 1.04,
            least_even: "cpu".into(),
            hottest_node_id: 2,
            ..response()
        };
        assert_eq!(
            first(even),
            "EVEN: node-2 has the most processor time, 1.04 times the mean for its cores."
        );
        let idle = v1::GetHeatResponse::default();
        assert_eq!(first(idle), "IDLE: there is no load to speak of.");
    }

    #[test]
    fn bars_are_as_long_as_nodes_are_hot_and_keys_say_what_is_sure() {
        let text = text(&HeatForm::from(response()));
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap().to_owned();
        assert!(line(" node-2 ").contains("████████········"), "{text}");
        let hottest = text.lines().find(|line| line.contains(&"█".repeat(16))).unwrap();
        assert!(hottest.contains("node-1") && hottest.contains("300"), "{text}");
        assert!(line(" node-3 ").contains("unknown"), "{text}");
        assert!(line("│ 7 ").contains("photos/cat.jpg (40 %)"), "{text}");
        assert!(line("│ 7 ").contains("3.0 MiB") && line("│ 7 ").contains("1234"), "{text}");
        assert!(line("│ 8 ").contains("(30 to 40 %)"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_null() {
        let json = serde_json::to_value(HeatForm::from(response())).unwrap();
        assert_eq!(json["nodes"][0]["to_mean"], 2.0);
        assert!(json["nodes"][2]["to_mean"].is_null());
        assert_eq!(json["partitions"][0]["hottest_keys"][0]["key_prefix"], "photos/cat.jpg");
        let idle = serde_json::to_value(HeatForm::from(v1::GetHeatResponse::default())).unwrap();
        assert!(idle["max_to_mean"].is_null() && idle["hottest_node_id"].is_null());
    }
}
