//! What people see of load: first whether it is even, then who has how much of it.

use std::fmt::Write;

use comfy_table::Cell;
use model::heat::Rates;

use crate::{
    forms::{BalanceForm, HeatForm, HeatRatesForm, PartitionHeatForm, Resource},
    tables::{number, table},
    text::{shorten, show_bytes},
};

/// A bar of this many characters is as hot as the hottest.
const BAR_WIDTH: usize = 16;
const KEY_WIDTH: usize = 40;
const OBSTACLES_SHOWN: usize = 5;
/// Less than a request per second is no heat.
const WEIGHT_MIN: f64 = 1.0;
/// When so much came of what plans promised, there is nothing to be said.
const GAIN_REALISED_MIN: f64 = 0.995;

/// Load of the zone.
pub fn text(heat: &HeatForm) -> String {
    let mut text = headline(heat);
    if let Some(balance) = &heat.balance {
        let _ = write!(text, "\n{}", balancing(heat, balance));
    }
    let _ = writeln!(text, "\n\n{}", nodes(heat));
    if !heat.partitions.is_empty() {
        let _ = writeln!(text, "\n{}", partitions(heat));
        text.push_str(&throttled(heat));
    }
    text.trim_end().to_owned()
}

/// The balancer's judgement: what is said below of what it does follows from it.
fn headline(heat: &HeatForm) -> String {
    let Some(balance) = &heat.balance else {
        return "NOT JUDGED YET: the control plane's leader has not planned since it leads."
            .to_owned();
    };
    let (Some(share), Some(is_even)) = (balance.worst_share, heat.even) else {
        return "IDLE: there is no load to speak of.".to_owned();
    };
    let word = if is_even { "EVEN" } else { "UNEVEN" };
    let limit = format!("up to {} is even", heat.act_above_share);
    let Some(most_loaded) = heat.most_loaded else {
        return format!("{word}: the most loaded node has {share:.2} times the mean; {limit}.");
    };
    let name = name_of(heat, most_loaded.node_id);
    let (what, capacity) = match most_loaded.resource {
        Resource::ProcessorTime => ("processor time", "cores"),
        Resource::StoredBytes => ("stored bytes", "disk"),
    };
    format!(
        "{word}: {name} has the most {what}, {share:.2} times the mean for its {capacity}; {limit}."
    )
}

fn name_of(heat: &HeatForm, node: u64) -> &str {
    let known = heat.nodes.iter().find(|known| known.node_id == node);
    known.map_or("a node that is gone", |node| node.name.as_str())
}

/// What is being done about it, what is in the way, and what came of it before.
fn balancing(heat: &HeatForm, balance: &BalanceForm) -> String {
    let mut text = match balance.state.as_str() {
        "idle" => "Nothing is moved for load: there is too little of it.".to_owned(),
        "off" => "Nothing is moved for load: the policy's budgets are 0.".to_owned(),
        "even" if heat.even == Some(false) => {
            "Nothing is moved for evenness: not every node that takes part is up, so only overload is relieved."
                .to_owned()
        }
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
    for obstacle in balance.obstacles.iter().take(OBSTACLES_SHOWN) {
        let name = name_of(heat, obstacle.node_id);
        let said = obstacle_in_words(name, obstacle.partition_id, &obstacle.hindrance);
        let _ = write!(text, "\n  {said}");
    }
    if balance.obstacles.len() > OBSTACLES_SHOWN {
        let more = balance.obstacles.len() - OBSTACLES_SHOWN;
        let _ = write!(text, "\n  {more} more obstacles: `-o json` has them all.");
    }
    if balance.realised_gain < GAIN_REALISED_MIN {
        let percent = balance.realised_gain * 100.0;
        let _ = write!(
            text,
            "\nOf the evenness that the latest plans promised {percent:.0} % came about: new ones have to promise \
             more."
        );
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
        number(format!("{:.3}", rates.cpu_cores)),
        rate(rates.shed_per_second),
    ]
}

/// As long as something is hot, against the hottest.
fn bar(heat: f64, hottest: f64) -> String {
    let part = if hottest > 0.0 { heat / hottest } else { 0.0 };
    // Between nothing and the width: whatever the figures are, they fit.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let full = (part.clamp(0.0, 1.0) * BAR_WIDTH as f64).round() as usize;
    "█".repeat(full) + &"·".repeat(BAR_WIDTH - full)
}

/// The bars are the shares of the resource that the headline is about; where there is no load to speak of shares of it
/// are chance.
fn nodes(heat: &HeatForm) -> comfy_table::Table {
    let mut table = table(&[
        "node",
        "name",
        "processor",
        "disk",
        "",
        "leaders",
        "reads/s",
        "writes/s",
        "bytes/s",
        "cores used",
        "shed/s",
    ]);
    let judged = heat.most_loaded.map_or(Resource::ProcessorTime, |it| it.resource);
    let is_idle = heat.balance.as_ref().is_some_and(|balance| balance.worst_share.is_none());
    let shares = heat.nodes.iter().filter_map(|node| node.share(judged));
    let hottest = if is_idle { 0.0 } else { shares.fold(0.0, f64::max) };
    for node in &heat.nodes {
        let share = |share: Option<f64>| match share.filter(|_| !is_idle) {
            Some(share) => format!("{share:.2}"),
            None => "–".to_owned(),
        };
        let processor =
            if node.reported { share(node.processor_share) } else { "unknown".to_owned() };
        let mut row = vec![
            Cell::new(node.node_id),
            Cell::new(&node.name),
            number(processor),
            number(share(node.stored_share)),
            Cell::new(bar(node.share(judged).unwrap_or(0.0), hottest)),
            number(node.leaders),
        ];
        row.extend(rates(&node.short_term));
        table.add_row(row);
    }
    table
}

/// What a partition is called hot by, as the zone ranks them.
fn weight(partition: &PartitionHeatForm) -> f64 {
    let HeatRatesForm { reads_per_second, writes_per_second, bytes_per_second, cpu_cores, .. } =
        partition.short_term;
    let rates = Rates {
        reads_per_second,
        writes_per_second,
        bytes_per_second,
        request_cpu_cores: cpu_cores,
        apply_cpu_cores: 0.0,
    };
    rates.weight()
}

fn partitions(heat: &HeatForm) -> comfy_table::Table {
    let mut table = table(&[
        "hottest",
        "leader",
        "",
        "reads/s",
        "writes/s",
        "bytes/s",
        "cores used",
        "shed/s",
        "stored",
        "hottest key",
    ]);
    let hottest = heat.partitions.iter().map(weight).fold(0.0, f64::max);
    let hottest = if hottest < WEIGHT_MIN { 0.0 } else { hottest };
    for partition in &heat.partitions {
        let leader = partition.leader_node_id;
        let leader = heat.nodes.iter().find(|node| Some(node.node_id) == leader);
        let mut row = vec![
            Cell::new(partition.partition_id),
            Cell::new(leader.map_or("–", |node| node.name.as_str())),
            Cell::new(bar(weight(partition), hottest)),
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
    use crate::forms::NodeForm;

    const GIB: u64 = 1 << 30;

    /// Node 1 uses half of its cores, node 2 a sixth, node 3 says nothing.
    fn response() -> v1::GetHeatResponse {
        let rates = |reads_per_second, cpu_cores| {
            Some(v1::HeatRates { reads_per_second, cpu_cores, ..v1::HeatRates::default() })
        };
        let node = |node_id, reads, cpu_cores| v1::NodeHeat {
            node_id,
            name: format!("node-{node_id}"),
            leaders: 3,
            cores: 2,
            short_term: rates(reads, cpu_cores),
            long_term: rates(reads / 2.0, cpu_cores),
            to_mean: 2.0,
            reported: node_id != 3,
        };
        let key = |share_error| v1::HotKey {
            key_prefix: b"photos\0cat.jpg".to_vec().into(),
            share: 0.4,
            share_error,
        };
        let partition = |partition_id, reads, keys| v1::PartitionHeat {
            partition_id,
            leader_node_id: 1,
            short_term: rates(reads, 0.0),
            long_term: rates(1_000.0, 0.0),
            stored_bytes: 3 << 20,
            waiting: 2.0,
            hottest_keys: keys,
            throttled_per_second: if partition_id == 7 { 320.0 } else { 0.0 },
        };
        v1::GetHeatResponse {
            nodes: vec![node(1, 300.0, 1.0), node(2, 150.0, 1.0 / 3.0), node(3, 0.0, 0.0)],
            partitions: vec![
                partition(7, 1_234.0, vec![key(0.0)]),
                partition(8, 617.0, vec![key(0.1)]),
                partition(9, 0.0, Vec::new()),
            ],
            max_to_mean: 3.0,
            least_even: "writes".into(),
            hottest_node_id: 2,
            balance: Some(balance("settling", 2.25)),
        }
    }

    fn balance(state: &str, worst_share: f64) -> v1::BalanceStatus {
        v1::BalanceStatus {
            state: state.into(),
            worst_share,
            transfers: 1,
            moves: 2,
            waiting: 3,
            obstacles: Vec::new(),
            realised_gain: 1.0,
            splits: 0,
        }
    }

    /// Two of three disks are as full as each other, and node 3's is fuller.
    fn nodes() -> Vec<NodeForm> {
        let node = |id, stored_bytes| v1::NodeSummary {
            id,
            name: format!("node-{id}"),
            state: v1::NodeState::Up.into(),
            administrative_state: v1::AdministrativeState::Active.into(),
            stored_bytes,
            capacity_bytes: 100 * GIB,
            ..v1::NodeSummary::default()
        };
        [node(1, 20 * GIB), node(2, 20 * GIB), node(3, 35 * GIB)].map(NodeForm::from).into()
    }

    fn form(response: v1::GetHeatResponse) -> HeatForm {
        HeatForm::new(response, &nodes(), Some(1_050))
    }

    fn judged(state: &str, worst_share: f64) -> String {
        let balance = Some(balance(state, worst_share));
        text(&form(v1::GetHeatResponse { balance, ..response() }))
    }

    #[test]
    fn what_is_done_about_load_is_said_and_what_is_in_the_way() {
        let obstacle = |partition_id| v1::BalanceObstacle {
            node_id: 2,
            partition_id,
            hindrance: "hot-key".into(),
        };
        let obstacles = (7..15).map(obstacle).collect();
        let status = v1::BalanceStatus { obstacles, ..balance("settling", 2.25) };
        let response = v1::GetHeatResponse { balance: Some(status), ..response() };
        let said = text(&form(response.clone()));
        assert!(said.contains("1 transfer, 2 moves and 0 splits begun, 3 waiting.\n"), "{said}");
        assert!(said.contains("node-2 keeps more than its share: partition 7 is hot by"), "{said}");
        assert!(said.contains("\n  3 more obstacles: `-o json` has them all."), "{said}");
        let json = serde_json::to_value(form(response)).unwrap();
        assert_eq!(json["balance"]["obstacles"][0]["hindrance"], "hot-key");
        assert_eq!(json["balance"]["worst_share"], 2.25);
        for (state, words) in [
            ("at-rest", "nothing more is to be gained.\n"),
            ("off", "the policy's budgets are 0.\n"),
            ("uneven", "the unevenness is new.\n"),
        ] {
            let said = judged(state, 2.25);
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn what_became_of_promises_is_said_where_not_all_came_true() {
        let with_gain = |realised_gain| {
            let balance = v1::BalanceStatus { realised_gain, ..balance("at-rest", 1.2) };
            text(&form(v1::GetHeatResponse { balance: Some(balance), ..response() }))
        };
        let said = with_gain(0.87);
        assert!(
            said.contains("\nOf the evenness that the latest plans promised 87 % came"),
            "{said}"
        );
        assert!(!with_gain(1.0).contains("promised"));
    }

    #[test]
    fn a_throttled_key_is_named() {
        let said = text(&form(response()));
        let words = "Partition 7 throttles photos/cat.jpg: 320 requests/s wait or are refused";
        assert_eq!(said.matches(words).count(), 1, "{said}");
        assert_eq!(said.matches("throttles").count(), 1, "{said}");
        let json = serde_json::to_value(form(response())).unwrap();
        assert_eq!(json["partitions"][0]["throttled_per_second"], 320.0);
    }

    /// Whatever the averages of single rates are: here they are three times the mean.
    #[test]
    fn the_first_line_judges_as_the_balancer_does() {
        let first = |said: String| said.lines().next().unwrap().to_owned();
        assert_eq!(
            first(judged("settling", 2.25)),
            "UNEVEN: node-1 has the most processor time, 2.25 times the mean for its cores; up to 1.05 is even."
        );
        // Processor time does not matter, or the balancer would have said more.
        assert_eq!(
            first(judged("at-rest", 1.4)),
            "UNEVEN: node-3 has the most stored bytes, 1.40 times the mean for its disk; up to 1.05 is even."
        );
        assert_eq!(
            first(judged("even", 1.03)),
            "EVEN: the most loaded node has 1.03 times the mean; up to 1.05 is even."
        );
        assert!(judged("even", 1.03).contains("no node has more than its share"));
        let said = judged("even", 2.25);
        assert!(said.starts_with("UNEVEN: node-1") && said.contains("is relieved"), "{said}");
        assert!(!said.contains("no node has more"), "{said}");
        let coarse = HeatForm::new(response(), &nodes(), Some(3_000));
        assert!(text(&coarse).starts_with("EVEN: node-1 has the most processor time, 2.25"));
        let said = judged("idle", 0.0);
        assert!(!said.contains("2.25") && !said.contains("0.80"), "{said}");
        assert_eq!(first(said), "IDLE: there is no load to speak of.");
        let new = v1::GetHeatResponse { balance: None, ..response() };
        assert!(text(&form(new)).starts_with("NOT JUDGED YET: "));
    }

    #[test]
    fn bars_are_as_long_as_things_are_hot_and_keys_say_what_is_sure() {
        let text = text(&form(response()));
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap().to_owned();
        let node = line(" node-1 ┆");
        assert!(node.contains("2.25") && node.contains("0.80"), "{text}");
        assert!(node.contains(&"█".repeat(16)) && node.contains("300"), "{text}");
        let node = line(" node-2 ┆");
        assert!(node.contains("0.75") && node.contains(" █████···········"), "{text}");
        assert!(line(" node-3 ┆").contains("unknown"), "{text}");
        assert!(line("│ 7 ").contains("photos/cat.jpg (40 %)"), "{text}");
        assert!(line("│ 7 ").contains("3.0 MiB") && line("│ 7 ").contains("1234"), "{text}");
        assert!(line("│ 7 ").contains(&"█".repeat(16)), "{text}");
        assert!(line("│ 8 ").contains("(30 to 40 %)"), "{text}");
        assert!(line("│ 8 ").contains(" ████████········"), "{text}");
        assert!(line("│ 9 ").contains(&"·".repeat(16)), "{text}");
    }

    #[test]
    fn a_node_that_is_to_be_emptied_is_no_capacity_and_nobody_to_be_relieved() {
        let mut nodes = nodes();
        nodes[0].administrative_state = "draining";
        let response = v1::GetHeatResponse { balance: Some(balance("even", 0.93)), ..response() };
        let heat = HeatForm::new(response, &nodes, None);
        // The others' four cores bear what six did.
        let share = heat.nodes[1].processor_share.unwrap();
        assert!((share - 0.5).abs() < 1e-9, "{share}");
        assert!(heat.nodes[0].processor_share.unwrap() > 1.0);
        assert_eq!(heat.most_loaded.map(|it| it.node_id), Some(3));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let json = serde_json::to_value(form(response())).unwrap();
        assert_eq!(json["even"], false);
        assert_eq!(json["act_above_share"], 1.05);
        let most_loaded = serde_json::json!({ "node_id": 1, "resource": "processor-time" });
        assert_eq!(json["most_loaded"], most_loaded);
        assert_eq!(json["nodes"][0]["to_mean"], 2.0);
        assert_eq!(json["nodes"][2]["stored_bytes"], 35 * GIB);
        assert!(json["nodes"][2]["to_mean"].is_null());
        assert!(json["nodes"][2]["processor_share"].is_null());
        assert_eq!(json["partitions"][0]["hottest_keys"][0]["key_prefix"], "photos/cat.jpg");
        let idle = HeatForm::new(v1::GetHeatResponse::default(), &[], None);
        let idle = serde_json::to_value(idle).unwrap();
        assert!(idle["max_to_mean"].is_null() && idle["hottest_node_id"].is_null());
        assert!(idle["even"].is_null() && idle["most_loaded"].is_null());
    }
}
