//! A future whose processor time is measured: that of its own polls, not of what it waits for.
//!
//! Deliberately not here: what it spawns, and what other threads do for it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;

use crate::seams::ProcessorTime;

pin_project! {
    /// Completes with the future's output and the processor time of its polls.
    pub struct Metered<'a, F> {
        #[pin]
        work: F,
        meter: Option<&'a dyn ProcessorTime>,
        used: Duration,
    }
}

impl<'a, F: Future> Metered<'a, F> {
    /// Without a meter nothing is measured, and the time is zero.
    pub fn new(meter: Option<&'a dyn ProcessorTime>, work: F) -> Self {
        Self { work, meter, used: Duration::ZERO }
    }
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = (F::Output, Duration);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(meter) = this.meter else {
            return Poll::Ready((ready!(this.work.poll(context)), Duration::ZERO));
        };
        // A poll runs on one thread from its beginning to its end.
        let before = meter.of_thread();
        let polled = this.work.poll(context);
        *this.used += meter.of_thread().saturating_sub(before);
        Poll::Ready((ready!(polled), *this.used))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;
    use crate::seams::{NoProcessorTime, production::ThreadTime};

    /// Every question costs a millisecond.
    #[derive(Default)]
    struct Counting(AtomicU64);

    impl ProcessorTime for Counting {
        fn of_thread(&self) -> Duration {
            Duration::from_millis(self.0.fetch_add(1, Relaxed))
        }
    }

    #[tokio::test]
    async fn each_poll_counts_and_nothing_in_between() {
        let meter = Counting::default();
        let work = async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            "done"
        };
        let (output, used) = Metered::new(Some(&meter), work).await;
        assert_eq!(output, "done");
        assert_eq!(used, Duration::from_millis(5), "four times it waited: five polls");
        assert_eq!(meter.0.load(Relaxed), 10);
    }

    #[tokio::test]
    async fn without_a_meter_and_in_a_simulation_it_is_zero() {
        assert_eq!(Metered::new(None, async { 7 }).await, (7, Duration::ZERO));
        assert_eq!(Metered::new(Some(&NoProcessorTime), async { 7 }).await, (7, Duration::ZERO));
    }

    #[test]
    fn a_threads_time_rises_while_it_works() {
        let before = ThreadTime.of_thread();
        while ThreadTime.of_thread() == before {
            std::hint::spin_loop();
        }
        assert!(ThreadTime.of_thread() > before);
    }
}
