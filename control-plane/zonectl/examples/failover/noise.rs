//! What the machine itself does to everybody meanwhile: how long its disk takes for one sync, and how late
//! a thread wakes up. A fault that took long while the disk stood still for everybody shows the machine.

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
}

/// Looks at the machine from a thread of its own, until it is dropped.
pub struct NoiseWatch {
    worst: Arc<Mutex<MachineNoise>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn lock(worst: &Mutex<MachineNoise>) -> MutexGuard<'_, MachineNoise> {
    worst.lock().unwrap_or_else(PoisonError::into_inner)
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
        Ok(Self { worst, stop, thread: Some(thread) })
    }

    /// The worst since the last time.
    pub fn take(&self) -> MachineNoise {
        std::mem::take(&mut *lock(&self.worst))
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
