//! A line that says how it goes, with how long the rest will take.

use std::{io::IsTerminal, time::Duration};

use zonectl::text::show_duration;

/// Where nobody watches a terminal, a line comes so often.
const LINE_EVERY_S: u64 = 30;

/// What making a zone usually takes, and coming to rest in the end.
const MAKING: Duration = Duration::from_secs(15);
pub const SETTLING: Duration = Duration::from_secs(120);

pub struct Progress {
    terminal: bool,
    /// Of whole parts that are still to come.
    left: Duration,
}

impl Progress {
    /// For so many zones, with `lasting` in each and once more at rest.
    pub fn new(zones: u32, lasting: Duration) -> Self {
        let left = (MAKING + lasting) * zones + SETTLING + lasting;
        Self { terminal: std::io::stderr().is_terminal(), left }
    }

    /// A part begins that usually takes so long.
    fn begin(&mut self, title: &str, usual: Duration) {
        self.left = self.left.saturating_sub(usual);
        self.line(&format!("{title} · about {} left", show_duration(self.left + usual)));
    }

    pub fn making(&mut self, title: &str) {
        self.begin(&format!("{title}: making the zone"), MAKING);
    }

    pub fn phase(&mut self, title: &str, lasting: Duration) {
        self.begin(title, lasting);
    }

    pub fn settling(&mut self, title: &str) {
        self.begin(title, SETTLING);
    }

    /// A second has passed.
    pub fn second(&self, title: &str, elapsed: Duration, of: Duration, share: Option<f64>) {
        if self.terminal || elapsed.as_secs().is_multiple_of(LINE_EVERY_S) {
            self.line(&second(title, elapsed, of, share, self.left));
        }
    }

    fn line(&self, text: &str) {
        if self.terminal {
            // Over the last one.
            eprint!("\r\x1b[2K{text}");
        } else {
            eprintln!("{text}");
        }
    }

    /// The table comes next.
    pub fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}

fn second(
    title: &str,
    elapsed: Duration,
    of: Duration,
    share: Option<f64>,
    left: Duration,
) -> String {
    let whole = |duration: Duration| show_duration(Duration::from_secs(duration.as_secs()));
    let share = share.map_or_else(|| "–".to_owned(), |share| format!("{share:.2}"));
    let rest = of.saturating_sub(elapsed) + left;
    format!(
        "{title}: {} of {} · max/mean {share} · about {} left",
        whole(elapsed),
        whole(of),
        whole(rest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_the_rest_of_this_part_and_all_others() {
        let seconds = Duration::from_secs;
        let text = second("off", seconds(30), seconds(120), Some(1.234), seconds(300));
        assert_eq!(text, "off: 30 s of 2 min · max/mean 1.23 · about 6 min 30 s left");
        let mut progress = Progress::new(3, seconds(120));
        assert_eq!(progress.left, seconds(3 * 135 + 240));
        progress.making("off");
        progress.phase("off", seconds(120));
        assert_eq!(progress.left, seconds(2 * 135 + 240));
    }
}
