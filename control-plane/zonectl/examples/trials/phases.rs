//! The phases, one after the other on one zone.

use std::time::Duration;

use anyhow::Context;
use futures_util::TryStreamExt;
use proto::v1;
use runtime::seams::Environment;
use serde::Serialize;
use zonectl::{
    load::{LoadOptions, LoadReport, RunningLoad},
    zone_process::ZoneProcesses,
};

use crate::{Arguments, PhaseReport, figures::Spread, zone::Trial};

/// Load before a fault, so that there is something to lose.
const LEAD: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
pub struct Outcome {
    pub phases: Vec<PhaseReport>,
    pub throughput: Vec<Throughput>,
    /// What moved when nothing should have.
    pub moved: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Throughput {
    pub kind: &'static str,
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub failed: u64,
    pub unknown: u64,
    /// Of all servers of the zone together.
    pub processor_us_per_request: f64,
}

pub async fn all(
    environment: &Environment,
    processes: &mut ZoneProcesses,
    arguments: &Arguments,
) -> anyhow::Result<Outcome> {
    let mut trial = Trial::new(environment, processes).await?;
    let mut outcome = Outcome { phases: Vec::new(), throughput: Vec::new(), moved: Vec::new() };
    let mut add = |report: PhaseReport| {
        report.print();
        outcome.phases.push(report);
    };
    if !arguments.skip_throughput {
        for (kind, read_ratio, rate, outstanding) in [
            ("writes", 0.0, 20_000.0, 256),
            ("reads", 1.0, 20_000.0, 256),
            ("writes at 1,000/s", 0.0, 1_000.0, 4_096),
        ] {
            let figures = throughput(&mut trial, kind, read_ratio, rate, outstanding).await?;
            println!(
                "{kind:<18} {:>7.0}/s, p50 {:.1} ms, p99 {:.1} ms, {} failed, {} unknown, {:.0} µs of processor each",
                figures.requests_per_second,
                figures.p50_ms,
                figures.p99_ms,
                figures.failed,
                figures.unknown,
                figures.processor_us_per_request,
            );
            outcome.throughput.push(figures);
        }
    }
    add(blackouts(&mut trial, arguments).await?);
    if !arguments.skip_operations {
        add(operations(&mut trial, arguments).await?);
        outcome.moved = quiet(&trial, arguments.quiet).await?;
    }
    Ok(outcome)
}

fn phase(
    name: &str,
    trials: u32,
    recoveries: &[Vec<f64>],
    load: &LoadReport,
    note: String,
) -> PhaseReport {
    let worst = recoveries.iter().filter_map(|trial| trial.iter().copied().reduce(f64::max));
    for error in &load.errors {
        println!("    {} × {}", error.count, error.message);
    }
    let verification = load.verification.as_ref();
    for example in verification.iter().flat_map(|verification| &verification.examples) {
        println!("    {example}");
    }
    PhaseReport {
        phase: name.to_owned(),
        trials,
        recovery_ms: Spread::of(recoveries.iter().flatten().copied().collect()),
        worst_ms: Spread::of(worst.collect()),
        completed: load.completed,
        failed: load.failed,
        unknown: load.unknown,
        longest_write_pause_ms: load.longest_write_pause.map_or(0.0, |pause| pause.pause_ms),
        violations: verification.map_or(u64::MAX, |verification| {
            verification.violations + u64::from(!verification.passed)
        }),
        note,
    }
}

async fn end(load: RunningLoad) -> anyhow::Result<LoadReport> {
    load.stop();
    Ok(load.finish().await?)
}

async fn blackouts(trial: &mut Trial<'_>, arguments: &Arguments) -> anyhow::Result<PhaseReport> {
    let load = trial.load("blackouts", arguments.rate).await?;
    let mut recoveries = Vec::new();
    for _ in 0..arguments.blackouts {
        trial.wait_healthy().await?;
        trial.environment.sleep(LEAD).await;
        let all: Vec<u64> = trial.placement().await?.into_keys().collect();
        let began = trial.environment.now();
        trial.processes.kill_all()?;
        trial.processes.start_all()?;
        recoveries.push(trial.probe(&all, began).await?);
    }
    trial.wait_healthy().await?;
    let load = end(load).await?;
    Ok(phase("blackouts", arguments.blackouts, &recoveries, &load, String::new()))
}

async fn operations(trial: &mut Trial<'_>, arguments: &Arguments) -> anyhow::Result<PhaseReport> {
    trial.wait_healthy().await?;
    let load = trial.load("operations", arguments.rate).await?;
    let mut note = Vec::new();

    // A move.
    let partitions = trial.partitions().await?;
    let partition = partitions.first().context("the zone has no partitions")?;
    let holders: Vec<u64> = partition.replicas.iter().map(|replica| replica.node_id).collect();
    let status = trial.status().await?;
    let node = |id: u64| Some(v1::NodeReference { id, name: String::new() });
    let spare = status.nodes.iter().find(|node| !holders.contains(&node.id));
    let spare = spare.context("no node is left for a move")?.id;
    let request = v1::MoveReplicaRequest {
        partition_id: partition.id,
        from: node(holders[0]),
        to: node(spare),
        ..Default::default()
    };
    let operation = trial.admin.move_replica(request).await?.operation;
    note.push(format!("move {:.1} s", watch(trial, operation).await?));

    // A drain and its end.
    let (_, id, _) = trial.busiest().await?;
    let request = v1::DrainNodeRequest { node: node(id), ..Default::default() };
    let operation = trial.admin.drain_node(request).await?.operation;
    note.push(format!("drain {:.1} s", watch(trial, operation).await?));
    let request = v1::UncordonNodeRequest { node: node(id), ..Default::default() };
    trial.admin.uncordon_node(request).await?;

    // A rebalance by hand.
    let rebalance = trial.admin.rebalance().await?;
    note.push(format!("rebalance {} steps", rebalance.operation_ids.len()));

    // Re-replication, since a node stays away.
    let (victim, id, _) = trial.busiest().await?;
    trial.processes.kill(victim)?;
    let began = trial.environment.now();
    trial
        .wait_for("the replicas were not made again", |status| {
            status.partitions.under_replicated == 0
                && status.partitions.unavailable == 0
                && status.nodes.iter().any(|node| node.id == id && node.replicas == 0)
        })
        .await?;
    let took = trial.environment.now().since(began).as_secs_f64();
    note.push(format!("re-replication {took:.1} s after the loss"));
    trial.processes.start(victim)?;
    trial.wait_healthy().await?;
    let load = end(load).await?;
    Ok(phase("operations", 1, &[], &load, note.join(", ")))
}

/// Follows an operation to its end; how long that took.
async fn watch(trial: &Trial<'_>, operation: Option<v1::Operation>) -> anyhow::Result<f64> {
    let began = trial.environment.now();
    let operation = operation.context("no operation was started")?;
    let last = trial
        .admin
        .watch_operation(operation.id)
        .try_fold(operation, |_, operation| async move { Ok(operation) })
        .await?;
    let ended = last.state() == v1::OperationState::Succeeded;
    anyhow::ensure!(ended, "{} did not succeed: {}", last.summary, last.last_error);
    Ok(trial.environment.now().since(began).as_secs_f64())
}

/// Watches for a while that nothing moves under steady load.
async fn quiet(trial: &Trial<'_>, lasting: Duration) -> anyhow::Result<Vec<String>> {
    let load = trial.load("quiet", 200.0).await?;
    // What the last operation set off may still settle.
    trial
        .wait_for("operations do not end", |status| {
            status.healthy && status.operations.running == 0
        })
        .await?;
    trial.environment.sleep(Duration::from_secs(5)).await;
    let before = trial.placement().await?;
    trial.environment.sleep(lasting).await;
    let after = trial.placement().await?;
    let moved: Vec<String> = before
        .iter()
        .filter(|(id, placement)| after.get(id) != Some(placement))
        .map(|(id, placement)| format!("partition {id}: {placement:?} → {:?}", after.get(id)))
        .collect();
    let leaders: Vec<u32> = trial.status().await?.nodes.iter().map(|node| node.leaders).collect();
    let report = end(load).await?;
    println!(
        "quiet        {lasting:?}: {} partitions moved, leaders {leaders:?}, {} requests, {} failed, {} unknown",
        moved.len(),
        report.completed,
        report.failed,
        report.unknown
    );
    for line in &moved {
        println!("    {line}");
    }
    Ok(moved)
}

async fn throughput(
    trial: &mut Trial<'_>,
    kind: &'static str,
    read_ratio: f64,
    rate: f64,
    outstanding: u32,
) -> anyhow::Result<Throughput> {
    trial.wait_healthy().await?;
    let options = LoadOptions {
        rate_per_second: rate,
        duration: Duration::from_secs(10),
        read_ratio,
        outstanding_max: outstanding,
        connections: 2,
        bucket: "throughput".to_owned(),
        ..LoadOptions::default()
    };
    let before = trial.processor_seconds();
    let report = trial.load_with(options).await?.finish().await?;
    let used = trial.processor_seconds() - before;
    let requests = if read_ratio > 0.5 { &report.reads } else { &report.writes };
    Ok(Throughput {
        kind,
        requests_per_second: report.throughput_per_second,
        p50_ms: requests.latency.p50_ms.unwrap_or_default(),
        p99_ms: requests.latency.p99_ms.unwrap_or_default(),
        failed: report.failed,
        unknown: report.unknown,
        processor_us_per_request: used * 1e6 / report.completed.max(1) as f64,
    })
}
