//! `zonectl load`.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use crate::{
    arguments::LoadArguments,
    failure::Failure,
    load::{self, LoadOptions, Progress, RunningLoad, table},
    text::show_duration,
};

/// How often the live line changes.
const LIVE_INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(context: &Context, arguments: &LoadArguments) -> Result<(), Failure> {
    let options = LoadOptions::from(arguments);
    options.check().map_err(Failure::Usage)?;
    let duration = options.duration;
    let client_options = context.client_options();
    let clients =
        load::connect(&context.environment, &context.global.endpoints, &client_options, &options)
            .await?;
    let running = load::start(&context.environment, clients, options)?;
    show_live(&running, duration).await;
    let report = running.finish().await?;
    context.show(&report, table)?;
    match report.failure() {
        Some(failure) => Err(Failure::Command(failure)),
        None => Ok(()),
    }
}

/// Shows how the run goes until all requests have ended. Ctrl-C ends it early, with its report.
async fn show_live(running: &RunningLoad, duration: Duration) {
    let bar = bar(duration);
    let mut interrupted = false;
    while !running.requests_ended() {
        let progress = running.progress();
        bar.set_position(position(progress.elapsed.min(duration)));
        bar.set_message(live_line(&progress));
        tokio::select! {
            biased;
            signal = tokio::signal::ctrl_c(), if !interrupted => {
                // If signals do not work, the run ends by itself.
                if signal.is_ok() {
                    interrupted = true;
                    running.stop();
                }
            }
            () = tokio::time::sleep(LIVE_INTERVAL) => {}
        }
    }
    bar.finish_and_clear();
}

fn position(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// A bar over the time of the run, on a terminal only.
fn bar(duration: Duration) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(position(duration));
    let style = ProgressStyle::with_template("{bar:24} {percent:>3} %, {eta} left: {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn live_line(progress: &Progress) -> String {
    let seconds = progress.elapsed.as_secs_f64().max(0.001);
    let or_none = |duration: Option<Duration>| duration.map_or("–".to_owned(), show_duration);
    let mut line = format!(
        "{:.0}/s, {} failed, {} unknown, {} outstanding, p99 {}, longest pause {}",
        progress.completed as f64 / seconds,
        progress.failed,
        progress.unknown,
        progress.outstanding,
        or_none(progress.p99),
        or_none(progress.longest_write_pause),
    );
    if progress.shed > 0 {
        line.push_str(&format!(", {} shed", progress.shed));
    }
    if progress.violations > 0 {
        line.push_str(&format!(", {} VIOLATIONS", progress.violations));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_names_what_is_wrong() {
        let mut progress = Progress {
            elapsed: Duration::from_secs(2),
            issued: 2_010,
            completed: 2_000,
            failed: 0,
            unknown: 0,
            shed: 0,
            outstanding: 10,
            violations: 0,
            p99: Some(Duration::from_micros(1_200)),
            longest_write_pause: None,
        };
        assert_eq!(
            live_line(&progress),
            "1000/s, 0 failed, 0 unknown, 10 outstanding, p99 1.2 ms, longest pause –"
        );
        progress.violations = 1;
        assert!(live_line(&progress).ends_with("1 VIOLATIONS"));
    }
}
