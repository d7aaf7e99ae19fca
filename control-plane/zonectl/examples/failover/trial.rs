//! One trial in the zone, from its preparation to its verification.

use std::time::Duration;

use anyhow::Context;
use proto::v1::Event;
use zonectl::load::{LoadOptions, LoadReport};

use crate::{
    fault::Fault,
    noise::MachineNoise,
    record::{ErrorCount, EventLine, TrialRecord},
    sandbox::Disk,
    strike::{Struck, Target, strike},
    zone::Zone,
};

/// Load before the fault, so that there is something to lose, and what the last trial set off is over.
pub const LEAD: Duration = Duration::from_secs(1);

/// Load after the zone is healthy again.
pub const TAIL: Duration = Duration::from_millis(500);

/// Few enough to be read back after every trial.
const KEYS: u64 = 2_000;

/// How long a process may take to end when it is moved.
const GRACE: Duration = Duration::from_secs(15);

/// Moves the data of the node that leads most to a disk of its own. It stays there.
pub async fn prepare_disk(zone: &mut Zone) -> anyhow::Result<()> {
    if zone.disk.is_some() {
        return Ok(());
    }
    let disk = Disk::new(&zone.processes.layout().data)?;
    zone.wait_healthy().await?;
    let role = zone.busiest().await?.role;
    zone.processes.terminate(role, GRACE).await?;
    let moved = disk.take_in(&zone.processes.layout().data_directory(role));
    zone.disk = Some((role, disk));
    moved.with_context(|| format!("the data of {role} cannot be moved"))?;
    zone.processes.start(role)?;
    zone.wait_healthy().await
}

pub async fn run(
    zone: &mut Zone,
    fault: Fault,
    trial: u32,
    rate_per_second: f64,
) -> anyhow::Result<TrialRecord> {
    let began = zone.environment.now();
    zone.wait_healthy().await?;
    let options = LoadOptions {
        rate_per_second,
        keys: KEYS,
        bucket: "failover".to_owned(),
        ..LoadOptions::default()
    };
    let load = zone.load(options).await?;
    zone.wait_calm(LEAD).await?;
    let target = Target::choose(zone, fault).await?;
    zone.events.clear();
    let struck = strike(zone, fault, &target).await?;
    zone.wait_healthy().await?;
    zone.environment.sleep(TAIL).await;
    load.stop();
    let report = load.finish().await?;
    let Struck { since, again, succession, carried_out_ms } = struck;
    let first_ms = |fits: fn(&Target, &Event) -> bool| {
        let told = fault.has_ledger().then_some(&zone.events)?;
        told.first_ms(since, |event| fits(&target, event))
    };
    let noticed_ms = first_ms(Target::notices);
    let decided_ms = first_ms(Target::decides);
    let ago = zone.environment.now().since(since);
    let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    let record = TrialRecord {
        wall_time_ms: zone.environment.wall_ms().saturating_sub(ago_ms),
        noticed_ms: succession.map(|succession| succession.answered_ms).or(noticed_ms),
        decided_ms: succession.map(|succession| succession.committed_ms).or(decided_ms),
        carried_out_ms,
        again,
        events: zone.events.lines(since),
        took_seconds: zone.environment.now().since(began).as_secs_f64(),
        ..of_load(fault, trial, &report)
    };
    Ok(record)
}

/// What the load has shown.
fn of_load(fault: Fault, trial: u32, report: &LoadReport) -> TrialRecord {
    let longest = |side: fn(&LoadReport) -> Option<f64>| side(report).unwrap_or_default();
    let verification = report.verification.as_ref();
    TrialRecord {
        fault,
        trial,
        wall_time_ms: 0,
        noticed_ms: None,
        decided_ms: None,
        carried_out_ms: None,
        again: Vec::new(),
        completed: report.completed,
        failed: report.failed,
        unknown: report.unknown,
        shed: report.shed,
        longest_wait_ms: longest(|report| report.writes.latency.max_ms)
            .max(longest(|report| report.reads.latency.max_ms)),
        longest_pause_ms: longest(|report| report.longest_write_pause.map(|pause| pause.pause_ms))
            .max(longest(|report| report.longest_read_pause.map(|pause| pause.pause_ms))),
        acknowledged_writes: verification.map_or(0, |verified| verified.acknowledged_writes),
        lost: lost(report),
        lost_examples: verification.map(|verified| verified.examples.clone()).unwrap_or_default(),
        errors: report
            .errors
            .iter()
            .map(|error| ErrorCount { message: error.message.clone(), count: error.count })
            .collect(),
        events: Vec::<EventLine>::new(),
        machine: MachineNoise::default(),
        took_seconds: 0.0,
    }
}

/// Violations, and keys that could not be read back.
pub fn lost(report: &LoadReport) -> u64 {
    // A load that was not verified proves nothing.
    let verification = report.verification.as_ref();
    verification.map_or(1, |verified| verified.violations + verified.keys_unchecked)
}
