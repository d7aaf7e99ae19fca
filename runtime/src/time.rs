//! Local waiting: tokio's timers, which a simulation can put on a process's own clock.
//!
//! A process waits with these functions and not with `tokio::time`'s, whose names and meaning they have.
//! In production they are tokio's, at the price of one look at a flag. A simulation [`govern`]s the tokio
//! runtime on which a simulated process runs: its timers then follow a [`Timekeeper`], whose clock may
//! run too fast or too slowly, and which may stop the process for a while, as `SIGSTOP` or the pause of a
//! virtual machine does. Nothing that waits here goes on before the process does.
//!
//! **Invariant**: a wait never ends before the process's own clock says that it is over.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

/// A process's own clock, against tokio's.
pub trait Timekeeper: Send + Sync {
    /// What the process's clock says when tokio's says `moment`.
    fn local(&self, moment: Instant) -> Instant;

    /// When, by tokio's clock, the process's will say `local`, if nothing is done to it until then.
    fn due(&self, local: Instant) -> Instant;

    /// Whether the process runs. If it does not, the task is woken when it does again.
    fn poll_running(&self, context: &mut Context<'_>) -> Poll<()>;
}

/// Whether any runtime of this program was ever governed.
static GOVERNED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// By runtime. A simulation runs all of its processes in one thread.
    static KEEPERS: RefCell<Vec<(tokio::runtime::Id, Arc<dyn Timekeeper>)>> =
        const { RefCell::new(Vec::new()) };
}

/// As long as it lives, the runtime has its timekeeper.
#[derive(Debug)]
pub struct Governed {
    runtime: tokio::runtime::Id,
}

/// Puts all waiting on the present tokio runtime, in the present thread, under a timekeeper.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn govern(keeper: Arc<dyn Timekeeper>) -> Governed {
    GOVERNED.store(true, Ordering::Relaxed);
    let runtime = Handle::current().id();
    KEEPERS.with_borrow_mut(|keepers| {
        keepers.retain(|(governed, _)| *governed != runtime);
        keepers.push((runtime, keeper));
    });
    Governed { runtime }
}

impl Drop for Governed {
    fn drop(&mut self) {
        // Cannot fail, except when the thread is at its end.
        let _ = KEEPERS.try_with(|keepers| {
            keepers.borrow_mut().retain(|(governed, _)| *governed != self.runtime);
        });
    }
}

fn keeper() -> Option<Arc<dyn Timekeeper>> {
    if !GOVERNED.load(Ordering::Relaxed) {
        return None;
    }
    let runtime = Handle::try_current().ok()?.id();
    KEEPERS.with_borrow(|keepers| {
        let found = keepers.iter().find(|(governed, _)| *governed == runtime);
        found.map(|(_, keeper)| Arc::clone(keeper))
    })
}

/// What the process's monotonic clock says.
pub fn now() -> Instant {
    let now = Instant::now();
    keeper().map_or(now, |keeper| keeper.local(now))
}

pin_project_lite::pin_project! {
    /// See [`sleep`].
    pub struct Sleep {
        #[pin]
        timer: tokio::time::Sleep,
        wait: Option<GovernedWait>,
    }
}

struct GovernedWait {
    keeper: Arc<dyn Timekeeper>,
    /// By the process's clock.
    deadline: Instant,
}

impl fmt::Debug for Sleep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sleep").field("timer", &self.timer).finish_non_exhaustive()
    }
}

/// Waits for so long.
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    match keeper() {
        None => Sleep { timer: tokio::time::sleep(duration), wait: None },
        Some(keeper) => sleep_governed(after(keeper.local(Instant::now()), duration), keeper),
    }
}

/// Waits until the process's clock says `deadline`.
#[track_caller]
pub fn sleep_until(deadline: Instant) -> Sleep {
    match keeper() {
        None => Sleep { timer: tokio::time::sleep_until(deadline), wait: None },
        Some(keeper) => sleep_governed(deadline, keeper),
    }
}

/// Longer than any process lives, and short enough to be added to any moment.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

fn after(moment: Instant, duration: Duration) -> Instant {
    moment.checked_add(duration).unwrap_or_else(|| moment + FOREVER)
}

#[track_caller]
fn sleep_governed(deadline: Instant, keeper: Arc<dyn Timekeeper>) -> Sleep {
    let timer = tokio::time::sleep_until(keeper.due(deadline));
    Sleep { timer, wait: Some(GovernedWait { keeper, deadline }) }
}

impl Sleep {
    /// Waits until another moment of the process's clock.
    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        let this = self.project();
        let due = match this.wait {
            None => deadline,
            Some(wait) => {
                wait.deadline = deadline;
                wait.keeper.due(deadline)
            }
        };
        this.timer.reset(due);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(wait) = this.wait else { return this.timer.poll(context) };
        loop {
            ready!(this.timer.as_mut().poll(context));
            ready!(wait.keeper.poll_running(context));
            // The clock may have stood still, or have changed its rate.
            let due = wait.keeper.due(wait.deadline);
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            this.timer.as_mut().reset(due);
        }
    }
}

/// The time was over before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has elapsed")]
pub struct Elapsed;

pin_project_lite::pin_project! {
    /// See [`timeout`].
    #[derive(Debug)]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Sleep,
    }
}

/// The future's output, unless it takes longer than `limit`.
#[track_caller]
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(limit) }
}

/// The future's output, unless the process's clock says `deadline` before it is there.
#[track_caller]
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep_until(deadline) }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        // A future that has used up its task's turn must not outlive its limit by that.
        let sleep = std::pin::pin!(tokio::task::unconstrained(this.sleep));
        sleep.poll(context).map(|()| Err(Elapsed))
    }
}

/// How late a tick may be before the ones after it are put off.
const TICK_TOLERANCE: Duration = Duration::from_millis(5);

/// See [`interval`].
#[derive(Debug)]
pub struct Interval {
    sleep: Pin<Box<Sleep>>,
    next: Instant,
    period: Duration,
}

/// Ticks at once and then every `period`. A tick that was missed puts off those after it; it is not made
/// up for.
///
/// # Panics
/// If the period is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval has a length");
    let next = now();
    Interval { sleep: Box::pin(sleep_until(next)), next, period }
}

impl Interval {
    /// Waits for the next tick. Nothing is lost if it is dropped before.
    pub async fn tick(&mut self) {
        self.sleep.as_mut().await;
        let now = now();
        let is_late = now > self.next + TICK_TOLERANCE;
        self.next = after(if is_late { now } else { self.next }, self.period);
        self.sleep.as_mut().reset(self.next);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, atomic::AtomicU32},
        task::Waker,
    };

    use super::*;

    /// Half as fast as tokio's clock.
    struct Slow {
        origin: Instant,
        stopped: Mutex<Option<Vec<Waker>>>,
    }

    impl Slow {
        fn new() -> Arc<Self> {
            Arc::new(Self { origin: Instant::now(), stopped: Mutex::new(None) })
        }

        fn stop(&self) {
            *self.stopped.lock().unwrap() = Some(Vec::new());
        }

        fn go_on(&self) {
            for waker in self.stopped.lock().unwrap().take().into_iter().flatten() {
                waker.wake();
            }
        }
    }

    impl Timekeeper for Slow {
        fn local(&self, moment: Instant) -> Instant {
            self.origin + (moment - self.origin) / 2
        }

        fn due(&self, local: Instant) -> Instant {
            self.origin + (local - self.origin) * 2
        }

        fn poll_running(&self, context: &mut Context<'_>) -> Poll<()> {
            match &mut *self.stopped.lock().unwrap() {
                None => Poll::Ready(()),
                Some(wakers) => {
                    wakers.push(context.waker().clone());
                    Poll::Pending
                }
            }
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    async fn elapsed<F: Future>(future: F) -> (Duration, F::Output) {
        let start = Instant::now();
        let output = future.await;
        (start.elapsed(), output)
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_timekeeper_waiting_is_tokios() {
        assert_eq!(elapsed(sleep(SECOND)).await.0, SECOND);
        let (waited, output) = elapsed(timeout(SECOND, std::future::pending::<()>())).await;
        assert_eq!((waited, output), (SECOND, Err(Elapsed)));
        assert_eq!(elapsed(timeout(SECOND, std::future::ready(3))).await, (Duration::ZERO, Ok(3)));
        let mut interval = interval(SECOND);
        interval.tick().await;
        assert_eq!(elapsed(interval.tick()).await.0, SECOND);
        tokio::time::sleep(SECOND * 5).await;
        interval.tick().await;
        assert_eq!(elapsed(interval.tick()).await.0, SECOND, "no tick is made up for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_clock_makes_waiting_long() {
        let governed = govern(Slow::new());
        assert_eq!(elapsed(sleep(SECOND)).await.0, SECOND * 2);
        let start = now();
        let (waited, output) = elapsed(timeout(SECOND, std::future::pending::<()>())).await;
        assert_eq!((waited, output), (SECOND * 2, Err(Elapsed)));
        assert_eq!(now() - start, SECOND);
        let mut interval = interval(SECOND);
        interval.tick().await;
        assert_eq!(elapsed(interval.tick()).await.0, SECOND * 2);
        drop(governed);
        assert_eq!(elapsed(sleep(SECOND)).await.0, SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_goes_on_in_a_stopped_process() {
        let keeper = Slow::new();
        let _governed = govern(Arc::clone(&keeper) as Arc<dyn Timekeeper>);
        let ended = Arc::new(AtomicU32::new(0));
        for _ in 0..2 {
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                sleep(SECOND).await;
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        tokio::time::sleep(SECOND).await;
        keeper.stop();
        tokio::time::sleep(SECOND * 60).await;
        assert_eq!(ended.load(Ordering::Relaxed), 0);
        keeper.go_on();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(ended.load(Ordering::Relaxed), 2);
    }
}
