//! Brings a zone up, waits for Ctrl-C, and takes it down.

use std::{collections::BTreeSet, io::IsTerminal, path::PathBuf, time::Duration};

use bytes::Bytes;
use client::{AdminClient, AdminError, AdminOptions};
use indicatif::{ProgressBar, ProgressStyle};
use proto::v1;
use runtime::seams::Environment;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::record;
use crate::{
    arguments::DevUpArguments,
    commands::{Context, split_keys},
    failure::Failure,
    forms::StatusForm,
    text::show_duration,
    zone_process::{Binaries, Exit, Layout, Role, ZoneProcesses},
};

/// How long the zone may take to be made and to become healthy.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long a process may take to end when it is asked to.
pub const GRACE: Duration = Duration::from_secs(10);

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

const REGISTER_INTERVAL: Duration = Duration::from_millis(20);

/// How a zone is made, if it is not there yet.
#[derive(Clone, Debug)]
pub struct Making {
    pub split_keys: Vec<Bytes>,
    pub replication_factor: u32,
    pub replace_after: Duration,
}

/// `zonectl dev up -o json`, once the zone is ready.
#[derive(Debug, Serialize)]
struct ReadyForm {
    zone_id: String,
    /// For `--endpoints`.
    endpoints: Vec<String>,
    data_directory: PathBuf,
    processes: Vec<ProcessForm>,
}

#[derive(Debug, Serialize)]
struct ProcessForm {
    name: String,
    process_id: Option<u32>,
    address: String,
    metrics_address: String,
    log_file: PathBuf,
}

/// Starts the zone and runs it until Ctrl-C or SIGTERM.
///
/// # Errors
/// If it cannot be started, or does not become healthy.
pub async fn up(context: &Context, arguments: &DevUpArguments) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::io("no signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::io("no signals"))?;
    let stop = async {
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => default_data_directory()?,
    };
    let data = std::path::absolute(&data)
        .map_err(Failure::io(format!("cannot use the directory {}", data.display())))?;
    let layout = Layout::new(arguments.members, arguments.index_nodes, arguments.base_port, data);
    if arguments.replication_factor > arguments.index_nodes {
        return Err(Failure::Usage(format!(
            "{} index nodes cannot hold {} replicas of each partition; use --index-nodes {} or more, \
             or a smaller --replication-factor",
            arguments.index_nodes, arguments.replication_factor, arguments.replication_factor
        )));
    }
    let making = Making {
        split_keys: split_keys(&arguments.split)?,
        replication_factor: arguments.replication_factor,
        replace_after: arguments.replace_after,
    };
    let mut zone = ZoneProcesses::new(layout, Binaries::beside_this_program()?)?;
    record::check(zone.layout())?;
    zone.check_ports()?;

    let mut stop = std::pin::pin!(stop);
    let outcome = tokio::select! {
        biased;
        () = &mut stop => Ok(()),
        outcome = run(context, &mut zone, &making) => outcome,
    };
    if std::io::stderr().is_terminal() {
        eprintln!("\nStopping the zone …");
    }
    for role in zone.stop_all(GRACE).await {
        eprintln!("zonectl: {role} did not end within {} and was killed", show_duration(GRACE));
    }
    outcome
}

/// Runs the zone until this future is dropped.
async fn run(context: &Context, zone: &mut ZoneProcesses, making: &Making) -> Result<(), Failure> {
    let status = bring_up(&context.environment, zone, making).await?;
    let ready = ready_form(zone, &status);
    context.show_line(&ready, |ready| usage(zone.layout(), ready))?;
    // Whoever tries what happens when a process is killed wants the rest to go on.
    loop {
        for (role, exit) in zone.take_ended() {
            eprintln!("zonectl: {role} has ended ({exit}); the zone goes on without it");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Starts all processes, makes the zone if it is not there yet, and waits until it is healthy.
///
/// # Errors
/// If a process ends, the zone cannot be made, or it does not become healthy in time.
pub async fn bring_up(
    environment: &Environment,
    zone: &mut ZoneProcesses,
    making: &Making,
) -> Result<StatusForm, Failure> {
    let progress = progress();
    progress.set_message("starting the control plane");
    let endpoints = zone.layout().endpoints();
    let options = AdminOptions {
        deadline: READY_WITHIN,
        unreachable_after: READY_WITHIN,
        ..AdminOptions::default()
    };
    let admin = AdminClient::new(environment, &endpoints, options)
        .map_err(|error| Failure::Command(error.to_string()))?;
    let members: Vec<Role> = zone.layout().member_roles().collect();
    for role in members {
        zone.start(role)?;
    }
    unless_one_ends(zone, make(&admin, &endpoints, making, &progress)).await?;

    let nodes: Vec<Role> = zone.layout().index_node_roles().collect();
    let known = unless_one_ends(zone, node_names(&admin)).await?;
    for role in &nodes {
        zone.start(*role)?;
        // New nodes register one after the other, so that node-3 gets the id 3.
        if !known.contains(&role.name()) {
            unless_one_ends(zone, registered(environment, &admin, &role.name())).await?;
        }
    }
    let status =
        unless_one_ends(zone, wait_ready(environment, &admin, nodes.len(), &progress)).await?;
    progress.finish_and_clear();
    Ok(status)
}

/// What the future says, unless a process ends before it does.
async fn unless_one_ends<T>(
    zone: &mut ZoneProcesses,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        failure = first_to_end(zone) => Err(failure),
        outcome = future => outcome,
    }
}

async fn node_names(admin: &AdminClient) -> Result<BTreeSet<String>, Failure> {
    let status = admin.status().await?;
    Ok(status.nodes.into_iter().map(|node| node.name).collect())
}

/// Waits until the zone knows the node.
async fn registered(
    environment: &Environment,
    admin: &AdminClient,
    name: &str,
) -> Result<(), Failure> {
    let started = environment.now();
    while !node_names(admin).await?.contains(name) {
        if environment.now().since(started) > READY_WITHIN {
            let waited = show_duration(READY_WITHIN);
            return Err(Failure::Command(format!("{name} did not register within {waited}")));
        }
        environment.sleep(REGISTER_INTERVAL).await;
    }
    Ok(())
}

/// A process that ends now says why in its log.
async fn first_to_end(zone: &mut ZoneProcesses) -> Failure {
    loop {
        if let Some((role, exit)) = zone.take_ended().into_iter().next() {
            return ended_early(zone, role, exit);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn ended_early(zone: &ZoneProcesses, role: Role, exit: Exit) -> Failure {
    let log = zone.layout().log_file(role);
    Failure::Command(format!(
        "{role} has ended ({exit}) instead of starting. The last lines of {}:\n{}",
        log.display(),
        zone.log_tail(role, 15)
    ))
}

async fn make(
    admin: &AdminClient,
    endpoints: &[String],
    making: &Making,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    progress.set_message("making the zone");
    let request = v1::InitRequest {
        member_addresses: endpoints.to_vec(),
        split_keys: making.split_keys.clone(),
        replication_factor: making.replication_factor,
        replace_after_ms: u64::try_from(making.replace_after.as_millis()).unwrap_or(u64::MAX),
    };
    match admin.init(request).await {
        Ok(_) => Ok(()),
        // Made when the directory was new.
        Err(AdminError::Refused(status)) if status.code() == tonic::Code::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the zone is healthy with all of its `nodes`.
async fn wait_ready(
    environment: &Environment,
    admin: &AdminClient,
    nodes: usize,
    progress: &ProgressBar,
) -> Result<StatusForm, Failure> {
    let started = environment.now();
    let mut last = "the zone does not answer".to_owned();
    while environment.now().since(started) < READY_WITHIN {
        if let Ok(status) = admin.status().await {
            let status = StatusForm::from(status);
            let up = status.nodes.iter().filter(|node| node.state == "up").count();
            if status.healthy && status.from_leader && up >= nodes {
                return Ok(status);
            }
            last = format!(
                "{up} of {nodes} nodes up, {} of {} partitions available",
                status.partitions.available, status.partitions.total
            );
            progress.set_message(last.clone());
            if !status.problems.is_empty() {
                last = format!("{last}: {}", status.problems.join("; "));
            }
        }
        environment.sleep(LOOK_INTERVAL).await;
    }
    let waited = show_duration(READY_WITHIN);
    Err(Failure::Command(format!("the zone did not become healthy within {waited}: {last}")))
}

/// A line that turns, on a terminal only.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner();
    progress.set_style(
        ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

fn ready_form(zone: &mut ZoneProcesses, status: &StatusForm) -> ReadyForm {
    let roles: Vec<Role> = zone.layout().roles().collect();
    let processes = roles
        .into_iter()
        .map(|role| ProcessForm {
            name: role.name(),
            process_id: zone.process_id(role),
            address: zone.layout().address(role),
            metrics_address: zone.layout().metrics_address(role),
            log_file: zone.layout().log_file(role),
        })
        .collect();
    ReadyForm {
        zone_id: status.zone_id.clone().unwrap_or_default(),
        endpoints: zone.layout().endpoints(),
        data_directory: zone.layout().data.clone(),
        processes,
    }
}

fn usage(layout: &Layout, ready: &ReadyForm) -> String {
    let endpoints = ready.endpoints.join(",");
    // The default endpoints find the default zone by themselves.
    let hint = if layout.base_port == 7_400 && layout.members == 3 {
        String::new()
    } else {
        format!("\n  export ZONECTL_ENDPOINTS={endpoints}\n")
    };
    let mut processes = crate::tables::table(&["process", "pid", "address", "metrics"]);
    for process in &ready.processes {
        processes.add_row([
            process.name.clone(),
            process.process_id.map(|id| id.to_string()).unwrap_or_default(),
            process.address.clone(),
            format!("http://{}/metrics", process.metrics_address),
        ]);
    }
    format!(
        "The zone is ready.\n{processes}\nData and logs are in {data}.\n\nIn another terminal:\n{hint}
  zonectl status
  zonectl put --bucket photos cat.jpg --size 1234
  zonectl load --rate 500 --duration 30s --verify
  kill -9 <the pid of a node>        and watch: zonectl events --follow

Ctrl-C stops it; the same command starts it again with the same data.",
        data = ready.data_directory.display(),
    )
}

/// isotherm/dev-zone in the state directory of this user.
fn default_data_directory() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local").join("state")))
        .ok_or_else(|| {
            Failure::Usage("neither --data nor the variable HOME says where to put the zone".into())
        })?;
    Ok(state.join("isotherm").join("dev-zone"))
}
