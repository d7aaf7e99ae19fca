//! Processor time in the simulation, where computing takes none: what is metered costs the same with each look.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use runtime::seams::ProcessorTime;

/// Each look at the time costs the thread that much of it. As it is looked at before and after each poll of what
/// is metered, each poll costs as much.
#[derive(Debug)]
pub struct SimulatedProcessor {
    cost_ns: u64,
    spent_ns: AtomicU64,
}

impl SimulatedProcessor {
    pub fn new(poll_cost: Duration) -> Self {
        let cost_ns = u64::try_from(poll_cost.as_nanos()).unwrap_or(u64::MAX);
        Self { cost_ns, spent_ns: AtomicU64::new(0) }
    }
}

impl ProcessorTime for SimulatedProcessor {
    fn of_thread(&self) -> Duration {
        Duration::from_nanos(self.spent_ns.fetch_add(self.cost_ns, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use runtime::metered::Metered;

    use super::*;

    #[tokio::test]
    async fn each_poll_costs_the_same() {
        let processor = SimulatedProcessor::new(Duration::from_micros(300));
        let work = async {
            tokio::task::yield_now().await;
        };
        let ((), used) = Metered::new(Some(&processor), work).await;
        assert_eq!(used, Duration::from_micros(600));
        let free = SimulatedProcessor::new(Duration::ZERO);
        assert_eq!(Metered::new(Some(&free), async {}).await.1, Duration::ZERO);
    }
}
