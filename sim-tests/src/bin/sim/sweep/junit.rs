//! A sweep's end for what reads JUnit's XML: one test case for each run. A guarantee that is violated is a
//! failure, a run that could not be carried out an error, one that was not begun is skipped.
//!
//! The form is small and its only trap is escaping, so it is written here: everything that XML gives a
//! meaning is escaped, and what no XML document may hold at all becomes a question mark.

use std::fmt::{self, Write as _};

use super::results::{Done, Outcome, Results};
use crate::arguments::ZoneArguments;

pub fn xml(results: &Results, zone: &ZoneArguments) -> String {
    let mut text = String::new();
    document(&mut text, results, zone).expect("writing to a string does not fail");
    text
}

fn document(text: &mut String, results: &Results, zone: &ZoneArguments) -> fmt::Result {
    let totals = results.totals();
    let (tests, skipped) = (totals.planned, totals.planned - totals.done);
    let (failures, errors) = (totals.violated + totals.undecided, totals.harness_failed);
    let time = results.wall.as_secs_f64();
    let counts = format!(
        "tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{time:.3}\""
    );
    writeln!(text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(text, "<testsuites name=\"sim\" {counts}>")?;
    writeln!(text, "  <testsuite name=\"sim sweep\" {counts}>")?;
    for (case, done) in results.planned() {
        let class = case.scenario.as_deref().unwrap_or("drawn");
        let wall = done.map_or(0.0, |done| done.wall_ms as f64 / 1_000.0);
        write!(
            text,
            "    <testcase name=\"seed {}\" classname=\"sim.{}\" time=\"{wall:.3}\"",
            case.seed,
            Escaped(class)
        )?;
        match done {
            None => writeln!(text, "><skipped message=\"not begun\"/></testcase>")?,
            Some(done) => end(text, done, zone)?,
        }
    }
    writeln!(text, "  </testsuite>\n</testsuites>")
}

/// The rest of a test case that was begun.
fn end(text: &mut String, done: &Done, zone: &ZoneArguments) -> fmt::Result {
    let element = match done.outcome {
        Outcome::Passed => return writeln!(text, "/>"),
        Outcome::Violated | Outcome::Undecided => "failure",
        Outcome::HarnessFailed => "error",
    };
    let message = super::summary::what_went_wrong(&done.report);
    let again = done.case.reproduction(zone);
    writeln!(
        text,
        "><{element} message=\"{}\" type=\"{}\">{}\nto reproduce:\n  {}\n</{element}></testcase>",
        Escaped(&message),
        done.outcome.word(),
        Escaped(&done.report.to_string()),
        Escaped(&again)
    )
}

/// A text as it may stand between tags and in quoted attributes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\n' | '\t' => formatter.write_char(letter)?,
                // XML 1.0 has no place for these, not even escaped.
                '\0'..=' ' if letter != ' ' => formatter.write_char('?')?,
                '\u{fffe}' | '\u{ffff}' => formatter.write_char('?')?,
                letter => formatter.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_xml_gives_a_meaning_is_escaped() {
        let text = "a<b> & \"c\"\u{1b}[31m\n\tü\u{ffff}\r";
        assert_eq!(Escaped(text).to_string(), "a&lt;b&gt; &amp; &quot;c&quot;?[31m\n\tü??");
    }
}
