//! The model against histories, right and wrong ones.

use super::*;

const KEY: u64 = 1;

fn put(model: &mut Model, version: u64) -> u64 {
    let ticket = model.begin_write(KEY, WriteKind::Put);
    model.end_write(ticket, WriteEnd::Acknowledged(Version(version)));
    ticket.sequence
}

fn delete(model: &mut Model, version: u64) {
    let ticket = model.begin_write(KEY, WriteKind::Delete);
    model.end_write(ticket, WriteEnd::Acknowledged(Version(version)));
}

fn ours(version: u64, sequence: u64) -> Found {
    Found::Present { version: Version(version), content: Content::Ours { sequence } }
}

fn foreign(version: u64) -> Found {
    Found::Present { version: Version(version), content: Content::Foreign }
}

fn read(model: &mut Model, found: &Found) {
    let ticket = model.begin_read(KEY);
    model.end_read(ticket, found);
}

fn violations(model: &Model) -> u64 {
    assert_eq!(model.examples().len() as u64, model.violations(), "{:?}", model.examples());
    model.violations()
}

#[test]
fn a_right_history_passes() {
    let mut model = Model::default();
    read(&mut model, &Found::Absent);
    assert!(model.known_keys().is_empty());
    let first = put(&mut model, 3);
    read(&mut model, &ours(3, first));
    let second = put(&mut model, 7);
    read(&mut model, &ours(7, second));
    delete(&mut model, 8);
    read(&mut model, &Found::Absent);
    let third = put(&mut model, 12);
    read(&mut model, &ours(12, third));
    assert_eq!(violations(&model), 0);
    assert_eq!(model.acknowledged_writes(), 4);
    assert_eq!(model.known_keys(), [KEY]);
}

#[test]
fn a_lost_write_is_found() {
    let mut model = Model::default();
    put(&mut model, 3);
    read(&mut model, &Found::Absent);
    assert_eq!(violations(&model), 1);
    let mut model = Model::default();
    let first = put(&mut model, 3);
    put(&mut model, 7);
    read(&mut model, &ours(3, first));
    assert_eq!(violations(&model), 1, "rolled back to an older value");
}

#[test]
fn what_a_read_has_seen_cannot_vanish() {
    let mut model = Model::default();
    let ticket = model.begin_write(KEY, WriteKind::Put);
    read(&mut model, &ours(5, ticket.sequence));
    read(&mut model, &Found::Absent);
    assert_eq!(violations(&model), 1);
}

#[test]
fn an_unknown_write_may_be_there_or_not() {
    let mut model = Model::default();
    let first = put(&mut model, 3);
    let ticket = model.begin_write(KEY, WriteKind::Put);
    model.end_write(ticket, WriteEnd::Unknown);
    read(&mut model, &ours(3, first));
    read(&mut model, &ours(9, ticket.sequence));
    read(&mut model, &ours(9, ticket.sequence));
    assert_eq!(violations(&model), 0);
    assert_eq!(model.unknown_writes(), 1);
    read(&mut model, &ours(3, first));
    assert_eq!(violations(&model), 1, "but not come and go");
}

#[test]
fn an_unknown_delete_explains_absence() {
    let mut model = Model::default();
    put(&mut model, 3);
    let ticket = model.begin_write(KEY, WriteKind::Delete);
    read(&mut model, &Found::Absent);
    model.end_write(ticket, WriteEnd::Unknown);
    read(&mut model, &Found::Absent);
    assert_eq!(violations(&model), 0);
}

#[test]
fn an_acknowledged_delete_explains_absence_only_if_it_came_later() {
    let mut model = Model::default();
    delete(&mut model, 2);
    put(&mut model, 3);
    let ticket = model.begin_read(KEY);
    model.end_read(ticket, &Found::Absent);
    assert_eq!(violations(&model), 1);
    let ticket = model.begin_read(KEY);
    delete(&mut model, 5);
    model.end_read(ticket, &Found::Absent);
    assert_eq!(violations(&model), 1);
}

#[test]
fn a_failed_write_must_not_be_there() {
    let mut model = Model::default();
    let ticket = model.begin_write(KEY, WriteKind::Put);
    model.end_write(ticket, WriteEnd::Failed);
    read(&mut model, &Found::Absent);
    assert_eq!(violations(&model), 0);
    read(&mut model, &ours(4, ticket.sequence));
    assert_eq!(violations(&model), 1);
    let ticket = model.begin_write(KEY, WriteKind::Put);
    read(&mut model, &ours(9, ticket.sequence));
    model.end_write(ticket, WriteEnd::Failed);
    assert_eq!(violations(&model), 2, "seen first, failed afterwards");
}

#[test]
fn a_write_that_takes_effect_twice_is_found() {
    // An answered one comes back above a later one.
    let mut model = Model::default();
    let first = put(&mut model, 3);
    put(&mut model, 5);
    read(&mut model, &ours(8, first));
    assert_eq!(violations(&model), 1);
    // An unknown one has two versions.
    let mut model = Model::default();
    let ticket = model.begin_write(KEY, WriteKind::Put);
    model.end_write(ticket, WriteEnd::Unknown);
    read(&mut model, &ours(4, ticket.sequence));
    read(&mut model, &ours(6, ticket.sequence));
    assert_eq!(violations(&model), 1);
    // One was seen at another version than it is acknowledged with.
    let mut model = Model::default();
    let ticket = model.begin_write(KEY, WriteKind::Put);
    read(&mut model, &ours(4, ticket.sequence));
    model.end_write(ticket, WriteEnd::Acknowledged(Version(6)));
    assert_eq!(violations(&model), 1);
}

#[test]
fn a_read_may_be_overtaken() {
    let mut model = Model::default();
    let first = put(&mut model, 3);
    let reading = model.begin_read(KEY);
    put(&mut model, 7);
    model.end_read(reading, &ours(3, first));
    assert_eq!(violations(&model), 0);
}

#[test]
fn acknowledgements_may_arrive_out_of_order() {
    let mut model = Model::default();
    let one = model.begin_write(KEY, WriteKind::Put);
    let two = model.begin_write(KEY, WriteKind::Put);
    model.end_write(two, WriteEnd::Acknowledged(Version(9)));
    model.end_write(one, WriteEnd::Acknowledged(Version(4)));
    read(&mut model, &ours(9, two.sequence));
    assert_eq!(violations(&model), 0);
}

#[test]
fn a_later_write_has_a_higher_version() {
    let mut model = Model::default();
    put(&mut model, 9);
    put(&mut model, 4);
    assert_eq!(violations(&model), 1);
    let mut model = Model::default();
    let one = model.begin_write(KEY, WriteKind::Put);
    let two = model.begin_write(KEY, WriteKind::Put);
    model.end_write(one, WriteEnd::Acknowledged(Version(4)));
    model.end_write(two, WriteEnd::Acknowledged(Version(4)));
    assert_eq!(violations(&model), 1, "two writes with one version");
}

#[test]
fn what_was_there_before_the_run_is_foreign() {
    let mut model = Model::default();
    read(&mut model, &foreign(5));
    let mine = put(&mut model, 8);
    read(&mut model, &ours(8, mine));
    assert_eq!(violations(&model), 0);
    read(&mut model, &foreign(5));
    assert_eq!(violations(&model), 1, "the old value is back");
    read(&mut model, &foreign(11));
    assert_eq!(violations(&model), 2, "somebody else writes");
}

#[test]
fn a_foreign_value_cannot_vanish_without_a_delete() {
    let mut model = Model::default();
    read(&mut model, &foreign(5));
    read(&mut model, &Found::Absent);
    assert_eq!(violations(&model), 1);
}

#[test]
fn corruption_and_swapped_makers_are_found() {
    let mut model = Model::default();
    put(&mut model, 3);
    let content = Content::Corrupt("the value of another key");
    read(&mut model, &Found::Present { version: Version(3), content });
    assert_eq!(violations(&model), 1);
    let ticket = model.begin_write(KEY, WriteKind::Put);
    read(&mut model, &ours(3, ticket.sequence));
    assert_eq!(violations(&model), 2, "version 3 was another write");
}

#[test]
fn examples_are_bounded() {
    let mut model = Model::default();
    for _ in 0..100 {
        put(&mut model, 3);
        read(&mut model, &Found::Absent);
    }
    assert!(model.violations() >= 100);
    assert_eq!(model.examples().len(), EXAMPLES_MAX);
}
