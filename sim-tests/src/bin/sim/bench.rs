//! How fast zones are simulated here: medians of several seeds, each in a process of its own, one after
//! the other.

use std::{io::Write as _, time::Duration};

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;
use sim_tests::report::exit;

use super::{
    arguments::{BenchArguments, BenchZone, Format},
    child,
};

/// A zone that is measured, and how fast it should be.
struct Measured {
    name: &'static str,
    flags: &'static [&'static str],
    /// Simulated seconds for each second, on the machine that the aims were set on: two cores.
    aim: f64,
}

const SMALL: Measured = Measured {
    name: "small (3 members, 3 nodes, 4 partitions)",
    flags: &["--members", "3", "--index-nodes", "3", "--partitions", "4"],
    aim: 20.0,
};

const STANDARD: Measured = Measured {
    name: "standard (3 members, 5 nodes, 16 partitions)",
    flags: &["--members", "3", "--index-nodes", "5", "--partitions", "16"],
    aim: 5.0,
};

/// The median of its runs.
#[derive(Serialize)]
struct Figures {
    zone: &'static str,
    runs: usize,
    simulated_seconds_per_second: f64,
    aim: f64,
    seeds_per_minute: f64,
    simulated_ms: u64,
    wall_ms: u64,
    /// Runs that did not pass: what they took says little.
    failed: usize,
}

pub fn bench(arguments: &BenchArguments) -> anyhow::Result<u8> {
    let zones = match arguments.zone {
        BenchZone::Small => vec![SMALL],
        BenchZone::Standard => vec![STANDARD],
        BenchZone::All => vec![SMALL, STANDARD],
    };
    let mut all = Vec::new();
    for zone in zones {
        all.push(measure(&zone, arguments.runs)?);
    }
    let text = match arguments.format {
        Format::Json => serde_json::to_string(&all)?,
        Format::Human => table(&all),
    };
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stdout(), "{text}");
    let failed = all.iter().any(|figures| figures.failed > 0);
    Ok(if failed { exit::VIOLATED } else { exit::PASSED })
}

fn measure(zone: &Measured, runs: u16) -> anyhow::Result<Figures> {
    let (mut speeds, mut walls, mut simulated, mut failed) = (vec![], vec![], vec![], 0);
    for seed in 0..u64::from(runs) {
        let mut flags = vec!["--seed".to_owned(), seed.to_string()];
        flags.extend(zone.flags.iter().map(|flag| (*flag).to_owned()));
        let done = child::run(&flags)?;
        let time = Duration::from_millis(done.report.simulated_ms);
        speeds.push(time.as_secs_f64() / done.wall.as_secs_f64());
        walls.push(done.wall.as_secs_f64());
        simulated.push(time.as_secs_f64());
        failed += usize::from(done.report.exit_code() != exit::PASSED);
    }
    let milliseconds = |seconds: f64| {
        u64::try_from(Duration::from_secs_f64(seconds).as_millis()).unwrap_or(u64::MAX)
    };
    let wall = median(&mut walls);
    Ok(Figures {
        zone: zone.name,
        runs: speeds.len(),
        simulated_seconds_per_second: median(&mut speeds),
        aim: zone.aim,
        seeds_per_minute: 60.0 / wall,
        simulated_ms: milliseconds(median(&mut simulated)),
        wall_ms: milliseconds(wall),
        failed,
    })
}

/// The middle one; of two in the middle, the greater.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(all: &[Figures]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners()).set_header([
        "zone",
        "runs",
        "simulated s/s",
        "aim",
        "seeds/min, one at a time",
        "one seed",
    ]);
    for figures in all {
        table.add_row([
            figures.zone.to_owned(),
            figures.runs.to_string(),
            format!("{:.1}", figures.simulated_seconds_per_second),
            format!("{:.0}", figures.aim),
            format!("{:.1}", figures.seeds_per_minute),
            format!(
                "{:.1} s simulated in {:.1} s",
                Duration::from_millis(figures.simulated_ms).as_secs_f64(),
                Duration::from_millis(figures.wall_ms).as_secs_f64()
            ),
        ]);
    }
    for column in 1..=4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let failed: usize = all.iter().map(|figures| figures.failed).sum();
    match failed {
        0 => table.to_string(),
        _ => format!("{table}\n{failed} runs did not pass: look at them before at these figures"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [9.0]) - 9.0).abs() < f64::EPSILON);
        assert!(median(&mut []).is_nan());
    }
}
