//! `zonectl plan` for the live zone, `zonectl apply` and `zonectl rebalance`.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use client::AdminClient;
use model::apply::STEPS_MAX;
use proto::v1;

use super::{Context, operation};
use crate::{
    arguments::{ApplyArguments, OutputFormat, RebalanceArguments},
    failure::Failure,
    forms::{AppliedForm, LivePlanForm, PLAN_VERSION, RebalanceForm},
    live_plan,
};

/// Bytes of a plan that are read at most: a thousand steps need about a tenth of it.
const PLAN_BYTES_MAX: u64 = 16 << 20;

/// Plans for the zone, and shows it.
pub async fn plan(context: &Context, seed: u64, effort: Option<u64>) -> Result<(), Failure> {
    let request = v1::PlanBalanceRequest { seed, effort: effort.unwrap_or(0) };
    let plan = form(context.admin()?.plan_balance(request).await?)?;
    context.show(&plan, live_plan::plan)
}

fn form(plan: v1::BalancePlan) -> Result<LivePlanForm, Failure> {
    LivePlanForm::try_from(plan).map_err(Failure::Command)
}

pub async fn apply(context: &Context, arguments: &ApplyArguments) -> Result<(), Failure> {
    let name = match arguments.plan.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => arguments.plan.display().to_string(),
    };
    let plan = read(&name, &arguments.plan)?;
    let admin = context.admin()?;
    let v1::ApplyPlanResponse { operation_ids } = admin.apply_plan(plan.request()).await?;
    let applied = AppliedForm { zone_id: plan.zone_id, operation_ids };
    context.show(&applied, live_plan::applied)?;
    wait(context, &admin, arguments.wait.wait, &applied.operation_ids).await
}

/// Reads a plan. `name`: what it is called in errors.
fn read(name: &str, path: &Path) -> Result<LivePlanForm, Failure> {
    let cannot = || Failure::io(format!("cannot read the plan from {name}"));
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(cannot())?)
    };
    let mut text = Vec::new();
    reader.take(PLAN_BYTES_MAX + 1).read_to_end(&mut text).map_err(cannot())?;
    let wrong = |what: String| Failure::Command(format!("{name} {what}; nothing was begun"));
    if text.len() as u64 > PLAN_BYTES_MAX {
        return Err(wrong(format!("has more than {PLAN_BYTES_MAX} bytes: no plan is so large")));
    }
    let plan: LivePlanForm = serde_json::from_slice(&text).map_err(|error| {
        wrong(format!("is not a plan as `zonectl plan -o json` writes it: {error}"))
    })?;
    if plan.version != PLAN_VERSION {
        return Err(wrong(format!(
            "has version {}, and this zonectl knows version {PLAN_VERSION}: plan again with it",
            plan.version
        )));
    }
    if plan.steps.len() > STEPS_MAX {
        let steps = plan.steps.len();
        return Err(wrong(format!("has {steps} steps, and at most {STEPS_MAX} are taken at once")));
    }
    Ok(plan)
}

pub async fn rebalance(context: &Context, arguments: &RebalanceArguments) -> Result<(), Failure> {
    let admin = context.admin()?;
    let nodes = admin.list_nodes(v1::ListNodesRequest {}).await?.nodes;
    let (plan, operation_ids) = if arguments.dry_run {
        (admin.plan_balance(v1::PlanBalanceRequest::default()).await?, Vec::new())
    } else {
        let rebalanced = admin.rebalance().await?;
        (rebalanced.plan, rebalanced.operation_ids)
    };
    let done = RebalanceForm::new(arguments.dry_run, form(plan)?, operation_ids, &nodes);
    context.show(&done, live_plan::rebalance)?;
    wait(context, &admin, arguments.wait.wait, &done.operation_ids).await
}

/// Follows operations to their ends. If any fails, so does the command, when all have ended.
async fn wait(
    context: &Context,
    admin: &AdminClient,
    waits: bool,
    operation_ids: &[u64],
) -> Result<(), Failure> {
    if !waits {
        return Ok(());
    }
    let mut outcome = Ok(());
    for id in operation_ids {
        let ended = operation::follow(context, admin, *id).await;
        match ended {
            Err(failure @ Failure::Command(_)) => {
                if context.global.output == OutputFormat::Table {
                    super::print_line(&failure.to_string())?;
                }
                outcome = Err(failure);
            }
            Err(failure) => return Err(failure),
            Ok(()) => {}
        }
    }
    outcome
}
