//! Coverage marks: what a sweep has to have seen once.
//!
//! A sweep without a finding says something only about what its runs got into. So paths that only a fault
//! in the right moment leads to carry [marks](runtime::coverage), each run reports which ones it reached,
//! and a sweep prints those that none of its runs did: a schedule that is not drawn, an operation that
//! nobody asks for, an error that is never given.
//!
//! Marks come from three sides, all of them here in one [list](MARKS):
//! - lines of the production code, caught by the [trace](crate::trace) without becoming a part of it;
//! - the harness: which faults it applied, and what its clients were told ([`of_faults`], [`of_history`]);
//! - the zone's own ledger, read at the end of a run ([`of_event`], [`of_operation`]). The planner and
//!   everything else that decides is pure and marks nothing, but the ledger gives its reasons.
//!
//! **Invariant**: a mark that is reached and not listed fails the run, so the list stays true. A mark that
//! a sweep of some hundred drawn zones need not reach says why.

mod history;
mod ledger;
mod list;

use std::{collections::BTreeSet, fmt};

use tracing::{
    Event,
    field::{Field, Visit},
};

pub use history::{of_faults, of_history};
pub use ledger::{of_event, of_operation};
pub use list::MARKS;
pub use runtime::coverage::TARGET;

/// Something that a run can get into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub name: &'static str,
    /// What has happened if it is reached, in a sentence.
    pub meaning: &'static str,
    /// Why a sweep of drawn zones may end without it; none: it has to be reached.
    pub seldom: Option<&'static str>,
}

/// Marks something from within a run.
pub fn reached(mark: &str) {
    tracing::trace!(target: TARGET, mark);
}

/// The marks of [`MARKS`] that are not among `reached`.
pub fn never_reached(reached: &BTreeSet<String>) -> Vec<&'static Mark> {
    MARKS.iter().filter(|mark| !reached.contains(mark.name)).collect()
}

/// Those of the reached marks that [`MARKS`] does not hold.
pub fn unlisted(reached: &BTreeSet<String>) -> Vec<&str> {
    let listed: BTreeSet<&str> = MARKS.iter().map(|mark| mark.name).collect();
    reached.iter().map(String::as_str).filter(|mark| !listed.contains(mark)).collect()
}

/// The name of the mark that a log event of [`TARGET`] stands for.
pub(crate) fn mark_of(event: &Event<'_>) -> String {
    let mut visitor = MarkVisitor::default();
    event.record(&mut visitor);
    match visitor.variant {
        Some(variant) => format!("{}: {}", visitor.mark, variant_of(&variant)),
        None => visitor.mark,
    }
}

#[derive(Default)]
struct MarkVisitor {
    mark: String,
    variant: Option<String>,
}

impl Visit for MarkVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "mark" {
            value.clone_into(&mut self.mark);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "variant" {
            self.variant = Some(format!("{value:?}"));
        }
    }
}

/// The variant in the debug form of a value: `Refused` of `Refused`, of `Refused { by: 3 }` and of
/// `Refused("why")`; `Change(Behind)` of `Change(Behind { lag: 7 })`; a text is its own variant.
fn variant_of(debug: &str) -> String {
    let identifier = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    if let Some(text) = debug.strip_prefix('"') {
        return text.trim_end_matches('"').to_owned();
    }
    let outer = identifier(debug);
    let inner = debug[outer.len()..].strip_prefix('(').map(identifier).filter(|inner| {
        let is_type = inner.chars().next().is_some_and(|first| first.is_uppercase());
        // What an id stands for is no variant.
        is_type && *inner != outer && !inner.ends_with("Id")
    });
    match inner {
        Some(inner) => format!("{outer}({inner})"),
        None => outer,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_variant_is_found_in_its_debug_form() {
        for (debug, variant) in [
            ("Refused", "Refused"),
            ("Refused { by: Node(3) }", "Refused"),
            ("Refused(\"no\")", "Refused"),
            ("Silent(6s)", "Silent"),
            ("Change(Behind { lag: 7 })", "Change(Behind)"),
            ("Change(Lost(ReplicaId(7)))", "Change(Lost)"),
            ("Lost(NodeId(7))", "Lost"),
            ("Status(Status { code: 3 })", "Status"),
            ("\"in words: so\"", "in words: so"),
            ("true", "true"),
        ] {
            assert_eq!(variant_of(debug), variant);
        }
    }

    #[test]
    fn each_mark_is_listed_once_and_says_what_it_means() {
        let names: BTreeSet<&str> = MARKS.iter().map(|mark| mark.name).collect();
        assert_eq!(names.len(), MARKS.len(), "a mark is listed twice");
        for mark in MARKS {
            assert!(mark.meaning.len() > 10 && mark.meaning.ends_with('.'), "{mark:?}");
            assert!(mark.seldom.is_none_or(|why| why.len() > 10), "{mark:?}");
        }
    }

    #[test]
    fn what_is_not_listed_is_told() {
        let first = MARKS[0].name.to_owned();
        let reached = BTreeSet::from([first.clone(), "no such mark".to_owned()]);
        assert_eq!(unlisted(&reached), ["no such mark"]);
        let never = never_reached(&reached);
        assert_eq!(never.len(), MARKS.len() - 1);
        assert!(never.iter().all(|mark| mark.name != first));
    }

    /// All Rust files of the production crates.
    fn sources(directory: &Path, texts: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).expect("a directory of the workspace") {
            let path = entry.expect("listed").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                sources(&path, texts);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(std::fs::read_to_string(&path).expect("a source file"));
            }
        }
    }

    /// The name in each use of the macro, and whether it has variants.
    fn marks_in(text: &str) -> Vec<(String, bool)> {
        text.split("runtime::mark!(")
            .skip(1)
            .filter_map(|rest| {
                let (name, after) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
                Some((name.to_owned(), after.trim_start().starts_with(',')))
            })
            .collect()
    }

    #[test]
    fn the_marks_in_the_production_code_are_those_of_the_list() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut texts = Vec::new();
        for part in ["control-plane", "index-node"] {
            sources(&workspace.join(part), &mut texts);
        }
        let marks: Vec<(String, bool)> = texts.iter().flat_map(|text| marks_in(text)).collect();
        assert!(marks.len() > 50, "{marks:?}");
        for (name, has_variants) in &marks {
            let prefix = format!("{name}: ");
            let listed = |mark: &&Mark| {
                if *has_variants { mark.name.starts_with(&prefix) } else { mark.name == name }
            };
            assert!(MARKS.iter().any(|mark| listed(&mark)), "{name:?} is not listed");
        }
    }
}
