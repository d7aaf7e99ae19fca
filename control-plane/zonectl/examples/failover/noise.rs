//! What the machine itself does to everybody meanwhile: how long its disk takes for one sync, how late a thread
//! wakes up, how busy its processors are, and how much of them other machines on the same host have taken. A fault
//! that took long while the disk stood still for everybody shows the machine.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use runtime::seams::Environment;
use serde::{Deserialize, Serialize};

/// Between two looks: few enough to cost nothing, often enough to see what lasts for a tenth of a second.
const INTERVAL: Duration = Duration::from_millis(50);

/// As much as the log of a quiet partition writes at a time.
const BLOCK: [u8; 4096] = [0x5a; 4096];

/// The worst since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineNoise {
    pub slowest_sync_ms: f64,
    pub latest_wake_ms: f64,
    /// Parts of all processors' time, on average.
    #[serde(default)]
    pub busy_percent: f64,
    #[serde(default)]
    pub stolen_percent: f64,
}

/// What all processors have done since the machine was started, in ticks of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ticks {
    busy: u64,
    stolen: u64,
    all: u64,
}

impl Ticks {
    /// From `/proc/stat`; nothing where the kernel does not say.
    fn now() -> Self {
        std::fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// The first line: user, nice, system, idle, waiting for disks, interrupts of two kinds, stolen.
    fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let each: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        let [user, nice, system, idle, waiting, hard, soft, stolen] = each[..] else {
            return Self::default();
        };
        let busy = user + nice + system + hard + soft;
        Self { busy, stolen, all: busy + stolen + idle + waiting }
    }

    /// Busy and stolen since then, in percent.
    fn since(self, earlier: Self) -> (f64, f64) {
        let all = self.all.saturating_sub(earlier.all).max(1) as f64;
        let part = |now: u64, then: u64| now.saturating_sub(then) as f64 * 100.0 / all;
        (part(self.busy, earlier.busy), part(self.stolen, earlier.stolen))
    }
}

/// Looks at the machine from a thread of its own, until it is dropped.
pub struct NoiseWatch {
    worst: Arc<Mutex<MachineNoise>>,
    ticks: Mutex<Ticks>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NoiseWatch {
    /// Writes to a file in the directory, over and over again.
    pub fn start(environment: &Environment, directory: &Path) -> io::Result<Self> {
        let file = File::create(directory.join("noise"))?;
        let worst: Arc<Mutex<MachineNoise>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let thread = thread::Builder::new().name("noise".into()).spawn({
            let (environment, worst, stop) =
                (environment.clone(), Arc::clone(&worst), Arc::clone(&stop));
            move || watch(&environment, file, &worst, &stop)
        })?;
        Ok(Self { worst, ticks: Mutex::new(Ticks::now()), stop, thread: Some(thread) })
    }

    /// The worst, and the average, since the last time.
    pub fn take(&self) -> MachineNoise {
        let now = Ticks::now();
        let before = std::mem::replace(&mut *lock(&self.ticks), now);
        let (busy_percent, stolen_percent) = now.since(before);
        let worst = std::mem::take(&mut *lock(&self.worst));
        MachineNoise { busy_percent, stolen_percent, ..worst }
    }
}

impl Drop for NoiseWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn watch(
    environment: &Environment,
    mut file: File,
    worst: &Mutex<MachineNoise>,
    stop: &AtomicBool,
) {
    let since = |moment| environment.now().since(moment).as_secs_f64() * 1e3;
    while !stop.load(Ordering::Relaxed) {
        let asleep = environment.now();
        // A clock for real processes: the benchmark does not run in the simulation.
        #[allow(clippy::disallowed_methods)]
        thread::sleep(INTERVAL);
        let late_ms = since(asleep) - INTERVAL.as_secs_f64() * 1e3;
        let writing = environment.now();
        let mut write = || {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&BLOCK)?;
            file.sync_data()
        };
        // A disk that refuses has other ways to be noticed.
        let written: io::Result<()> = write();
        let sync_ms = if written.is_ok() { since(writing) } else { 0.0 };
        let mut worst = lock(worst);
        worst.latest_wake_ms = worst.latest_wake_ms.max(late_ms);
        worst.slowest_sync_ms = worst.slowest_sync_ms.max(sync_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_busy_idle_or_stolen() {
        let before = Ticks::parse("cpu  100 0 50 800 40 5 5 0 0 0\ncpu0 1 2 3\n");
        assert_eq!(before, Ticks { busy: 160, stolen: 0, all: 1_000 });
        let after = Ticks::parse("cpu  130 0 60 850 40 10 10 100 7 7\n");
        assert_eq!(after.since(before), (25.0, 50.0));
        assert_eq!(Ticks::parse("cpu 1 2 three"), Ticks::default());
        assert_eq!(Ticks::default().since(after), (0.0, 0.0));
    }

    #[test]
    fn it_sees_syncs_and_forgets_what_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let watch = NoiseWatch::start(&Environment::production(), directory.path()).unwrap();
        while watch.take().slowest_sync_ms == 0.0 {
            thread::yield_now();
        }
        drop(watch);
        assert_eq!(std::fs::metadata(directory.path().join("noise")).unwrap().len(), 4096);
    }
}
