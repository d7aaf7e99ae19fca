//! What there is: scenarios, faults, coverage marks, and what can be broken on purpose.

use std::io::Write as _;

use serde::Serialize;
use sim_tests::{coverage::MARKS, sabotage::Sabotage, shipped};

use super::arguments::{Format, ListArguments, ListWhat};

#[derive(Serialize)]
struct Item {
    name: String,
    /// What it is, in a sentence.
    what: String,
    /// Of a mark: why a sweep may end without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    seldom: Option<&'static str>,
}

#[derive(Serialize)]
struct Section {
    name: &'static str,
    items: Vec<Item>,
}

const FAULT: &str = "fault: ";

fn section(what: ListWhat) -> anyhow::Result<Section> {
    let item = |name: &str, what: &str| Item { name: name.into(), what: what.into(), seldom: None };
    let (name, items) = match what {
        ListWhat::Scenarios => {
            let read = |name| Ok(item(name, &shipped::find(name)?.title));
            ("scenarios", shipped::names().map(read).collect::<anyhow::Result<_>>()?)
        }
        ListWhat::Faults => {
            let faults = MARKS
                .iter()
                .filter_map(|mark| Some(item(mark.name.strip_prefix(FAULT)?, mark.meaning)));
            ("faults", faults.collect())
        }
        ListWhat::Marks => {
            let marks = MARKS
                .iter()
                .map(|mark| Item { seldom: mark.seldom, ..item(mark.name, mark.meaning) });
            ("marks", marks.collect())
        }
        ListWhat::Sabotages => {
            let all = Sabotage::ALL.into_iter().map(|sabotage| match sabotage {
                Sabotage::AcknowledgeBeforeSync => {
                    item(sabotage.name(), "Stores say that something is durable before it is.")
                }
            });
            ("sabotages", all.collect())
        }
    };
    Ok(Section { name, items })
}

pub fn list(arguments: &ListArguments) -> anyhow::Result<u8> {
    let all = [ListWhat::Scenarios, ListWhat::Faults, ListWhat::Sabotages, ListWhat::Marks];
    let wanted = arguments.what.map_or(all.to_vec(), |what| vec![what]);
    let sections = wanted.into_iter().map(section).collect::<anyhow::Result<Vec<_>>>()?;
    let text = match arguments.format {
        Format::Json => {
            let by_name: std::collections::BTreeMap<_, _> =
                sections.into_iter().map(|section| (section.name, section.items)).collect();
            serde_json::to_string(&by_name)?
        }
        Format::Human => {
            let shown: Vec<String> = sections.iter().map(show).collect();
            shown.join("\n\n")
        }
    };
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(0)
}

fn show(section: &Section) -> String {
    let mut lines = vec![format!("{} ({}):", section.name, section.items.len())];
    for Item { name, what, seldom } in &section.items {
        lines.push(format!("  {name}\n      {what}"));
        lines.extend(seldom.map(|why| format!("      seldom: {why}")));
    }
    lines.join("\n")
}
