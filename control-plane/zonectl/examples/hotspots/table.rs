//! The figures for people. Pure.

use std::fmt::Write;

use zonectl::{
    load::LatencyForm,
    tables::{number, table},
};

use crate::{
    bench::Phase,
    figures::{GOAL, Moved, Seen},
    options::Conditions,
    settling::Settling,
};

const NONE: &str = "–";

/// A row: what it is, what is shown of a phase, and what to hold it against.
struct Row {
    title: &'static str,
    of: fn(&Phase) -> String,
    beside: &'static str,
}

const ROWS: [Row; 13] = [
    Row {
        title: "max/mean utilisation, mean",
        of: |phase| share(phase.evenness.mean),
        beside: "goal 1.05 under a steady load; CockroachDB's simulator 1.03–1.50",
    },
    Row {
        title: "… 95th percentile, max",
        of: |phase| format!("{}, {}", share(phase.evenness.p95), share(phase.evenness.max)),
        beside: "",
    },
    Row {
        title: "… part of the time at most 1.05",
        of: |phase| percent(phase.evenness.within_goal),
        beside: "",
    },
    Row {
        title: "… in each 10 s after a jump",
        of: |phase| shares(&phase.evenness.after_jump),
        beside: "averages halve in 10 s, the policy acts after 30 s: about half of each minute",
    },
    Row {
        title: "the same, counted by the kernel",
        of: |phase| shares(&phase.evenness.processor_after_jump),
        beside: "whole processes, no averages",
    },
    Row {
        title: "(max − mean)/capacity, 95th percentile",
        of: |phase| percent(phase.evenness.excess_p95),
        beside: "Dicer: at most 4 %",
    },
    Row {
        title: "the best that pieces allow",
        of: |phase| share(phase.best_share),
        beside: "by requests, if leaders did all the work",
    },
    Row {
        title: "transfers, moves, splits; returns",
        of: |phase| moved(&phase.moved),
        beside: "off and at rest: none",
    },
    Row { title: "requests: p50, p99, max (ms)", of: |phase| latency(&phase.seen.all), beside: "" },
    Row {
        title: "p99 2 s before, during, 2 s after a change",
        of: |phase| around(&phase.seen),
        beside: "otherwise: the last figure",
    },
    Row {
        title: "failed, unknown, shed",
        of: |phase| format!("{}, {}, {}", phase.seen.failed, phase.seen.unknown, phase.shed),
        beside: "goal 0 failed",
    },
    Row {
        title: "utilisation, mean of nodes; cores of all, by the kernel",
        of: |phase| {
            let evenness = &phase.evenness;
            format!("{}; {:.2}", percent(evenness.utilisation), evenness.processor_cores)
        },
        beside: "of a node's configured cores; whole processes",
    },
    Row {
        title: "machine: busy, stolen; slowest sync",
        of: |phase| {
            let machine = &phase.machine;
            let (busy, stolen) = (machine.busy_percent, machine.stolen_percent);
            format!("{busy:.0} %, {stolen:.0} %; {:.0} ms", machine.slowest_sync_ms)
        },
        beside: "figures are of a machine at most half busy",
    },
];

fn share(share: f64) -> String {
    if share > 0.0 { format!("{share:.2}") } else { NONE.to_owned() }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

fn shares(all: &[Option<f64>]) -> String {
    let each = all.iter().map(|it| it.map_or_else(|| NONE.to_owned(), share));
    each.collect::<Vec<String>>().join(" ")
}

fn ms(latency: Option<f64>) -> String {
    match latency {
        Some(latency) if latency < 10.0 => format!("{latency:.1}"),
        Some(latency) => format!("{latency:.0}"),
        None => NONE.to_owned(),
    }
}

fn latency(form: &LatencyForm) -> String {
    format!("{}, {}, {}", ms(form.p50_ms), ms(form.p99_ms), ms(form.max_ms))
}

fn around(seen: &Seen) -> String {
    let each = [&seen.before, &seen.during, &seen.after, &seen.otherwise];
    each.map(|form| ms(form.p99_ms)).join(", ")
}

fn moved(moved: &Moved) -> String {
    let Moved { transfers, moves, splits, returns, failed, others } = moved;
    let mut text = format!("{transfers}, {moves}, {splits}; {returns}");
    for (count, word) in [(failed, "failed"), (others, "for other reasons")] {
        if *count > 0 {
            let _ = write!(text, "; {count} {word}");
        }
    }
    text
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.0} s"))
}

/// The last jump, in sentences.
fn settling(settling: &Settling) -> String {
    let Settling { goal, even_after_s, rest_after_s, watched_s, .. } = settling;
    format!(
        "After the last jump: max/mean at most {goal:.2} after {}, at rest after {} with {} until then (transfers, \
         moves, splits; returns).\nThen watched for {watched_s:.0} s: {}, goal 0; max/mean {} on average, goal {GOAL}.",
        seconds(*even_after_s),
        seconds(*rest_after_s),
        moved(&settling.moved),
        moved(&settling.moved_at_rest),
        settling.at_rest.map_or_else(|| NONE.to_owned(), share),
    )
}

fn heading(conditions: &Conditions) -> String {
    let Conditions { minutes, rate_per_second, reads_percent, idle_permille, seed, .. } =
        conditions;
    format!(
        "{} index nodes, {} partitions of 3 replicas, control plane of {}; {} cores for all of it and the clients.\n\
         {rate_per_second} requests/s, {reads_percent} % reads, popular by Zipf 0.99 over ranges of keys; all that is \
         hot is elsewhere each minute,\n{minutes} minutes under each policy, seed {seed}. Load counts from a mean \
         utilisation of {idle_permille} ‰ on. Utilisation is measured\nprocessor time of requests against a node's \
         configured cores (averages with a half-life of 10 s).",
        conditions.index_nodes, conditions.partitions, conditions.members, conditions.cores,
    )
}

pub fn show(
    conditions: &Conditions,
    phases: &[Phase],
    settled: Option<&Settling>,
    failures: &[String],
) -> String {
    let mut header = vec!["balancing"];
    header.extend(phases.iter().map(|phase| phase.title.as_str()));
    header.push("goal, bound or peer");
    let mut rows = table(&header);
    for row in &ROWS {
        let mut cells = vec![row.title.into()];
        cells.extend(phases.iter().map(|phase| number((row.of)(phase))));
        cells.push(row.beside.into());
        rows.add_row(cells);
    }
    let mut text = format!("{}\n{rows}", heading(conditions));
    if let Some(settled) = settled {
        let _ = write!(text, "\n{}", settling(settled));
    }
    for failure in failures {
        let _ = write!(text, "\nFAILED: {failure}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{figures::Evenness, noise::MachineNoise};

    fn conditions() -> Conditions {
        Conditions {
            minutes: 2,
            rate_per_second: 600,
            reads_percent: 50,
            idle_permille: 5,
            seed: 1,
            members: 1,
            index_nodes: 5,
            partitions: 40,
            cores: 2,
        }
    }

    fn phase(title: &str) -> Phase {
        Phase {
            title: title.into(),
            evenness: Evenness {
                mean: 1.234,
                after_jump: vec![Some(1.5), None],
                ..Evenness::default()
            },
            moved: Moved { transfers: 3, failed: 1, ..Moved::default() },
            seen: Seen::default(),
            shed: 0,
            machine: MachineNoise::default(),
            best_share: 1.0,
            seconds: Vec::new(),
            changes: Vec::new(),
        }
    }

    #[test]
    fn each_phase_is_a_column_and_what_was_not_seen_a_dash() {
        let settled = Settling {
            goal: 1.05,
            even_after_s: Some(41.4),
            rest_after_s: None,
            moved: Moved::default(),
            watched_s: 60.0,
            moved_at_rest: Moved { moves: 2, ..Moved::default() },
            at_rest: None,
        };
        let phases = [phase("off"), phase("on")];
        let text = show(&conditions(), &phases, Some(&settled), &["2 moves".into()]);
        for words in [
            "1.23",
            "1.50 –",
            "3, 0, 0; 0; 1 failed",
            "–, –, –",
            "after 41 s, at rest after never",
            "watched for 60 s: 0, 2, 0; 0, goal 0",
            "FAILED: 2 moves",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn an_interrupted_run_has_a_table() {
        assert!(show(&conditions(), &[], None, &[]).contains("goal, bound or peer"));
    }
}
