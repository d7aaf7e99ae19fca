//! The simulation's store: a disk in memory that loses what was not synced.
//!
//! A [`SimulatedDisk`] outlives the processes that use it. [`open`](SimulatedDisk::open) gives the store
//! of one process; a write shows at once, and becomes durable when a sync that began after it has ended,
//! some simulated time later. [`crash`](SimulatedDisk::crash) is the end of that process by `kill -9` or
//! a power loss: what was synced stays, and after it a prefix, drawn by the seed, of the batches that
//! were not.
//!
//! What can go wrong with it: syncs that are slow, stall or fail, no space, a value that rots, an empty
//! disk; a process that is [stopped for a while](SimulatedDisk::hold_answers) and gets no answers; and an
//! end [in the middle of a call](SimulatedDisk::interrupt).
//!
//! **Invariants**: the same calls with the same randomness give the same disk. A store that was opened
//! before a crash, or before the disk was opened again, changes nothing afterwards: all its calls fail.

mod image;
mod interrupt;
mod store;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::sync::watch;

pub use self::interrupt::{Interrupt, InterruptedCall, Side};
use self::{image::Image, interrupt::Countdown, store::SimulatedStore};
use super::{Batch, Family, Reader, Scan, Store, StoreError};
use crate::seams::Environment;

const SYNC_DELAY_MIN: Duration = Duration::from_micros(200);
const SYNC_DELAY_MAX: Duration = Duration::from_millis(6);
const FREE_BYTES: u64 = 1 << 40;

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    stalled: watch::Sender<bool>,
    answers_held: watch::Sender<bool>,
}

struct State {
    /// Rises whenever older stores lose the disk.
    generation: u64,
    /// What a crash cannot take.
    durable: Image,
    /// The disk after each batch that is not yet durable.
    unsynced: VecDeque<Image>,
    /// Batches before the first of `unsynced`, ever.
    synced_through: u64,
    syncs: u64,
    faults: Faults,
    countdown: Option<Countdown>,
    /// Batches, counted like `synced_through`, after which nothing is durable any more: the process has
    /// ended there, whatever it still does until somebody ends it.
    cut_off: Option<u64>,
}

struct Faults {
    sync_delay_min: Duration,
    sync_delay_max: Duration,
    fail_syncs: bool,
    full: bool,
    free_bytes: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            sync_delay_min: SYNC_DELAY_MIN,
            sync_delay_max: SYNC_DELAY_MAX,
            fail_syncs: false,
            full: false,
            free_bytes: FREE_BYTES,
        }
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// An empty disk without faults. A sync takes 0.2 to 6 ms.
    pub fn new() -> Self {
        Self::holding(Image::default())
    }

    fn holding(durable: Image) -> Self {
        let faults = Faults::default();
        let state = State {
            generation: 0,
            durable,
            unsynced: VecDeque::new(),
            synced_through: 0,
            syncs: 0,
            faults,
            countdown: None,
            cut_off: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            stalled: watch::Sender::new(false),
            answers_held: watch::Sender::new(false),
        }
    }

    /// Opens the disk for a process whose randomness sets how long its syncs take. Stores that were
    /// opened before lose the disk. Like a database that recovers, opening makes durable what it finds.
    ///
    /// The store's [`sync`](Store::sync) must be called within a tokio runtime.
    pub fn open(&self, families: &[Family], environment: &Environment) -> Arc<dyn Store> {
        let generation = {
            let mut state = self.lock();
            state.generation += 1;
            let mut image = state.view().clone();
            for family in families {
                image.add_family(*family);
            }
            state.settle(image);
            state.generation
        };
        Arc::new(SimulatedStore::new(self.clone(), generation, environment.clone()))
    }

    /// Kills the process that uses the disk. What was synced stays, and of the batches after that a
    /// prefix, drawn by `seed`. Stores that were opened before lose the disk.
    pub fn crash(&self, seed: u64) {
        let mut state = self.lock();
        state.generation += 1;
        let image = state.after_crash(seed);
        state.settle(image);
    }

    /// Loses everything, as a new disk in the place of the old one. Stores that were opened before lose
    /// the disk.
    pub fn wipe(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.settle(Image::default());
    }

    /// Becomes what another disk is, as if it were put in this one's place. Stores that were opened before
    /// lose the disk.
    pub fn restore(&self, other: &Self) {
        let image = other.lock().view().clone();
        let mut state = self.lock();
        state.generation += 1;
        state.settle(image);
    }

    /// Another disk, with what [`crash`](Self::crash) with this seed would leave now.
    pub fn crash_image(&self, seed: u64) -> Self {
        Self::holding(self.lock().after_crash(seed))
    }

    /// How many syncs have ended.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// How many batches would be lost by the worst crash now.
    pub fn unsynced_batches(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// From now on a sync takes between `min` and `max`.
    pub fn set_sync_delay(&self, min: Duration, max: Duration) {
        assert!(min <= max, "the shortest delay is not above the longest");
        let mut state = self.lock();
        state.faults.sync_delay_min = min;
        state.faults.sync_delay_max = max;
    }

    /// While stalled no sync ends.
    pub fn stall_syncs(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Whether syncs fail from now on. The store whose sync failed stays failed.
    pub fn fail_syncs(&self, fail: bool) {
        self.lock().faults.fail_syncs = fail;
    }

    /// Whether the process is stopped: syncs end, and it hears of it when it goes on.
    pub fn hold_answers(&self, held: bool) {
        self.answers_held.send_replace(held);
    }

    /// Ends the process at a call that is still to come, as far as the disk is concerned: nothing that it
    /// writes after that survives its crash, and no sync ends. `interrupt.act` is called at that moment;
    /// to end the process, and to [`crash`](Self::crash) the disk, is its caller's part. Takes the place
    /// of an interrupt that has not come yet; a crash or a new start of the process ends it too.
    pub fn interrupt(&self, interrupt: Interrupt) {
        self.lock().countdown = Some(Countdown::new(interrupt));
    }

    /// Takes back an interrupt that has not come yet.
    pub fn disarm(&self) {
        self.lock().countdown = None;
    }

    /// The process ends here, as by an interrupt.
    pub fn cut_off(&self) {
        self.lock().cut_off();
    }

    /// A value on the disk that [`corrupt`](Self::corrupt) could damage, drawn by `seed`; none if there is
    /// no value.
    pub fn any_value(&self, seed: u64) -> Option<(Family, Bytes)> {
        let image = self.lock().view().clone();
        let mut keys = Vec::new();
        for family in image.families() {
            let entries = image.clone().into_scan(family, Scan::prefix(Bytes::new()));
            let with_value = entries.filter_map(Result::ok).filter(|(_, value)| !value.is_empty());
            keys.extend(with_value.map(|(key, _)| (family, key)));
        }
        if keys.is_empty() {
            return None;
        }
        Some(keys.swap_remove(SmallRng::seed_from_u64(seed).random_range(0..keys.len())))
    }

    /// What a reader would find now.
    ///
    /// # Errors
    /// If the family is unknown.
    pub fn value(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.lock().view().get(family, key)
    }

    /// Ends every fault: a sync takes as long as at first, none stalls or fails, and there is space. A
    /// store that has failed stays failed.
    pub fn mend(&self) {
        self.lock().faults = Faults::default();
        self.stall_syncs(false);
    }

    /// Whether the disk is full from now on. The store whose write failed stays failed.
    pub fn set_full(&self, full: bool) {
        self.lock().faults.full = full;
    }

    /// What [`Store::free_bytes`] says. Writes do not change it.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.lock().faults.free_bytes = bytes;
    }

    /// Flips a bit in the middle of a value, durably. False if there is no such value, or an empty one.
    /// Snapshots and scans that have begun see the old value.
    pub fn corrupt(&self, family: Family, key: &[u8]) -> bool {
        let mut state = self.lock();
        let found = state.view().get(family, key);
        let Ok(Some(value)) = found else { return false };
        let mut value = value.to_vec();
        let middle = value.len() / 2;
        let Some(byte) = value.get_mut(middle) else { return false };
        *byte ^= 0x10;
        let mut damage = Batch::new();
        damage.put(family, Bytes::copy_from_slice(key), value);
        let State { durable, unsynced, .. } = &mut *state;
        for image in std::iter::once(durable).chain(unsynced) {
            // Only where the key exists, so that damage creates nothing.
            if matches!(image.get(family, key), Ok(Some(_))) {
                image.apply(&damage).expect("the family has the key");
            }
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the disk")
    }
}

impl State {
    /// What a reader sees.
    fn view(&self) -> &Image {
        self.unsynced.back().unwrap_or(&self.durable)
    }

    /// Makes `image` the disk's whole and durable content.
    fn settle(&mut self, image: Image) {
        self.synced_through += written(&self.unsynced);
        self.unsynced.clear();
        self.durable = image;
        self.countdown = None;
        self.cut_off = None;
    }

    fn after_crash(&self, seed: u64) -> Image {
        let all = self.unsynced.len();
        let survivors = match self.cut_off {
            // Nothing was synced after it.
            Some(through) => {
                usize::try_from(through - self.synced_through).map_or(all, |it| it.min(all))
            }
            None => all,
        };
        let kept = SmallRng::seed_from_u64(seed).random_range(0..=survivors);
        match kept.checked_sub(1) {
            Some(last) => self.unsynced[last].clone(),
            None => self.durable.clone(),
        }
    }

    /// Writes. Whom to tell if the process ends at this call.
    fn write(&mut self, batch: &Batch) -> Result<Option<interrupt::Act>, StoreError> {
        if self.faults.full {
            return Err(StoreError::NoSpace);
        }
        let mut image = self.view().clone();
        image.apply(batch)?;
        let ends = self.ends_at(InterruptedCall::Write);
        if let Some((Side::Before, _)) = ends {
            self.cut_off();
        }
        self.unsynced.push_back(image);
        if let Some((Side::After, _)) = ends {
            self.cut_off();
        }
        Ok(ends.map(|(_, act)| act))
    }

    /// The number of batches written so far: what a sync that begins now covers.
    fn written_through(&self) -> u64 {
        self.synced_through + written(&self.unsynced)
    }

    /// Ends a sync that began when `through` batches had been written.
    fn complete_sync(&mut self, through: u64) -> Result<Synced, StoreError> {
        if self.faults.fail_syncs {
            return Err(StoreError::Failed {
                action: "sync",
                message: "the simulated device failed".to_owned(),
            });
        }
        if self.cut_off.is_some() {
            return Ok(Synced::Never(None));
        }
        let ends = self.ends_at(InterruptedCall::Sync);
        if let Some((Side::Before, act)) = ends {
            self.cut_off();
            return Ok(Synced::Never(Some(act)));
        }
        while self.synced_through < through
            && let Some(image) = self.unsynced.pop_front()
        {
            self.durable = image;
            self.synced_through += 1;
        }
        self.syncs += 1;
        match ends {
            None => Ok(Synced::Now),
            Some((_, act)) => {
                self.cut_off();
                Ok(Synced::Never(Some(act)))
            }
        }
    }

    fn cut_off(&mut self) {
        let through = self.written_through();
        self.cut_off.get_or_insert(through);
    }

    /// On which side of this call the process ends, if it does.
    fn ends_at(&mut self, call: InterruptedCall) -> Option<(Side, interrupt::Act)> {
        let ends = self.countdown.as_mut()?.count(call)?;
        self.countdown = None;
        Some(ends)
    }
}

/// What comes of a sync.
enum Synced {
    Now,
    /// The process has ended before it could hear of it; if just now, with whom to tell.
    Never(Option<interrupt::Act>),
}

fn written(unsynced: &VecDeque<Image>) -> u64 {
    u64::try_from(unsynced.len()).expect("a length has at most 64 bits")
}
