//! Named figures of one size, and the table of all of them.

use std::fmt::{self, Write as _};

/// Names with values, in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Figures {
    rows: Vec<(String, String)>,
}

impl Figures {
    pub fn add(&mut self, name: &str, value: String) {
        self.rows.push((name.to_owned(), value));
    }

    /// What [`Figures::fmt`] has written.
    ///
    /// # Errors
    /// In words, if it is something else.
    pub fn read(text: &str) -> Result<Self, String> {
        let row = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let rows = text
            .lines()
            .map(|line| row(line).ok_or_else(|| format!("{line:?} is no figure")))
            .collect::<Result<_, _>>()?;
        Ok(Self { rows })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, value)| writeln!(formatter, "{name}\t{value}"))
    }
}

/// One column for each number of partitions.
pub fn table(nodes: u64, columns: &[(u64, Figures)]) -> String {
    let mut text = format!("{:<44}", format!("{nodes} nodes; partitions × 3:"));
    for (partitions, _) in columns {
        // Writing to a string cannot fail.
        let _ = write!(text, "{partitions:>14}");
    }
    text.push('\n');
    let Some((_, first)) = columns.first() else { return text };
    for (at, (name, _)) in first.rows.iter().enumerate() {
        let _ = write!(text, "{name:<44}");
        for (_, figures) in columns {
            let value = figures.rows.get(at).map_or("", |(_, value)| value.as_str());
            let _ = write!(text, "{value:>14}");
        }
        text.push('\n');
    }
    text
}
