//! What people see while the demo runs: a bar for the whole, and a live line of traffic.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use runtime::seams::Environment;
use tokio_util::task::AbortOnDropHandle;

use super::workload::{Counters, Counts};

/// How often the live line changes.
const REFRESH: Duration = Duration::from_millis(500);

/// Phases of the demo, for the bar.
const PHASES: u64 = 9;

/// Progress on standard error: bars on a terminal, else a line for each phase.
pub struct Display {
    environment: Environment,
    terminal: bool,
    lines: MultiProgress,
    whole: ProgressBar,
    live: ProgressBar,
    ticker: Mutex<Option<AbortOnDropHandle<()>>>,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Display {
    pub fn new(environment: Environment) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let lines = MultiProgress::with_draw_target(target);
        let whole = lines.add(ProgressBar::new(PHASES));
        whole.set_style(style("{bar:24.cyan/blue} {msg} ({elapsed}, about {eta} left)"));
        whole.enable_steady_tick(Duration::from_millis(200));
        let live = lines.add(ProgressBar::new(0));
        live.set_style(style("{msg:.dim}"));
        Self { environment, terminal, lines, whole, live, ticker: Mutex::new(None) }
    }

    /// A new phase begins.
    pub fn phase(&self, what: &str) {
        self.whole.inc(1);
        self.whole.set_message(what.to_owned());
        if !self.terminal {
            eprintln!("{what} …");
        }
    }

    /// Something worth keeping on the screen.
    pub fn note(&self, what: &str) {
        if self.terminal {
            // A terminal that cannot be written to is no reason to stop.
            let _ = self.lines.println(format!("  {what}"));
        } else {
            eprintln!("  {what}");
        }
    }

    /// Shows rates and outcomes from now on.
    pub fn follow(&self, counters: Arc<Counters>, total: u64) {
        let (environment, live) = (self.environment.clone(), self.live.clone());
        let task = tokio::spawn(async move {
            let mut before = counters.look();
            let mut looked_at = environment.now();
            loop {
                environment.sleep(REFRESH).await;
                let now = environment.now();
                let counts = counters.look();
                let seconds = now.since(looked_at).as_secs_f64().max(0.001);
                live.set_message(line(counts, before, seconds, total));
                (before, looked_at) = (counts, now);
            }
        });
        let mut ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        *ticker = Some(AbortOnDropHandle::new(task));
    }

    pub fn finish(&self) {
        self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.live.finish_and_clear();
        self.whole.finish_and_clear();
    }
}

fn line(counts: Counts, before: Counts, seconds: f64, total: u64) -> String {
    let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
    let share = if counts.writes < total {
        format!("{:.0}% filled, ", 100.0 * counts.writes as f64 / total as f64)
    } else {
        String::new()
    };
    format!(
        "{share}{:.0} reads/s, {:.0} writes/s, {} failed, {} unknown, {} wrong",
        rate(counts.reads, before.reads),
        rate(counts.writes, before.writes),
        counts.failed,
        counts.unknown,
        counts.wrong,
    )
}
