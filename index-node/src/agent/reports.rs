//! Replica reports, in messages of bounded size.

use prost::Message;
use proto::v1::{ReplicaReport, SessionReport};

/// The most bytes of reports in one message: a report can hold two keys of 4 KiB each.
const MESSAGE_BYTES: usize = 1 << 20;

/// The reports in as few messages as their size allows. With `full` they are all that there are, and
/// the last message says so; there is one even without any report.
pub fn messages(reports: Vec<ReplicaReport>, full: bool) -> Vec<SessionReport> {
    let mut messages = Vec::new();
    let mut message = SessionReport::default();
    let mut bytes = 0;
    for report in reports {
        let length = report.encoded_len();
        if bytes + length > MESSAGE_BYTES && !message.replicas.is_empty() {
            messages.push(std::mem::take(&mut message));
            bytes = 0;
        }
        bytes += length;
        message.replicas.push(report);
    }
    if full || !message.replicas.is_empty() {
        message.full_report_end = full;
        messages.push(message);
    }
    messages
}

#[cfg(test)]
mod tests {
    use proto::v1::KeyRange;

    use super::*;

    fn report(replica_id: u64, key_bytes: usize) -> ReplicaReport {
        let range = KeyRange { start: vec![1; key_bytes].into(), ..KeyRange::default() };
        ReplicaReport { replica_id, range: Some(range), ..ReplicaReport::default() }
    }

    #[test]
    fn a_full_report_says_where_it_ends() {
        let none = messages(Vec::new(), true);
        assert_eq!(none.len(), 1);
        assert!(none[0].full_report_end);
        assert!(messages(Vec::new(), false).is_empty());

        let many = messages((0..1_000).map(|id| report(id, 4_096)).collect(), true);
        assert!(many.len() > 1);
        assert!(many.iter().all(|message| message.encoded_len() < MESSAGE_BYTES + 10_000));
        let ends: Vec<bool> = many.iter().map(|message| message.full_report_end).collect();
        assert_eq!(ends.iter().filter(|end| **end).count(), 1);
        assert_eq!(ends.last(), Some(&true));
        let ids: Vec<u64> =
            many.iter().flat_map(|message| &message.replicas).map(|r| r.replica_id).collect();
        assert_eq!(ids, (0..1_000).collect::<Vec<u64>>());
    }
}
