//! Keeping the ledger, the ended operations and the remembered outcomes within their bounds.

use std::time::Duration;

use super::Applier;

/// The most that one command forgets of each kind, so that none takes long.
const FORGOTTEN_AT_ONCE_MAX: usize = 4_096;

impl Applier<'_> {
    pub(super) fn forget(&mut self) {
        if self.state.is_initialized() {
            self.forget_events();
            self.forget_operations();
            self.forget_outcomes();
        }
    }

    fn forget_events(&mut self) {
        let (count_max, age_max) = (self.policy().events_max, self.policy().events_age_max_ms);
        for _ in 0..FORGOTTEN_AT_ONCE_MAX {
            let Some((sequence, event)) = self.state.events.first() else { break };
            let too_many = u64::try_from(self.state.events.len()).unwrap_or(u64::MAX) > count_max;
            let too_old = self.now.since(event.zone_time) > Duration::from_millis(age_max);
            if !too_many && !too_old {
                break;
            }
            let sequence = *sequence;
            self.state.events.remove(&sequence);
        }
    }

    /// What has failed is kept apart, so that successes do not push it out; and so is what was moved for its own sake,
    /// which is not to go back for a while, so that a drain or a loss in between does not.
    fn forget_operations(&mut self) {
        let max = usize::try_from(self.policy().ended_operations_max).unwrap_or(usize::MAX);
        let indices = &self.state.indices;
        let (failed, meant) = (indices.failed.len(), indices.meant.len());
        let others = indices.ended.len() - failed - meant;
        let mut excesses = [failed, meant, others].map(|count| count.saturating_sub(max));
        if excesses == [0; 3] {
            return;
        }
        let mut forgotten = Vec::new();
        for (_, id) in &indices.ended {
            let [failed, meant, others] = &mut excesses;
            let excess = if indices.failed.contains(id) {
                failed
            } else if indices.meant.contains(id) {
                meant
            } else {
                others
            };
            if *excess > 0 {
                *excess -= 1;
                forgotten.push(*id);
            }
            if excesses == [0; 3] || forgotten.len() == FORGOTTEN_AT_ONCE_MAX {
                break;
            }
        }
        for id in forgotten {
            self.state.remove_operation_record(id);
        }
    }

    fn forget_outcomes(&mut self) {
        let age_max = Duration::from_millis(self.policy().idempotency_age_max_ms);
        for _ in 0..FORGOTTEN_AT_ONCE_MAX {
            let Some((at, _)) = self.state.indices.remembered.first() else { break };
            if self.now.since(*at) <= age_max {
                break;
            }
            if let Some((_, key)) = self.state.indices.remembered.pop_first() {
                self.state.remembered.remove(&key);
            }
        }
    }
}
