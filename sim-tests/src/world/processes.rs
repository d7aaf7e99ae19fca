//! What can be done to processes, their clocks and their disks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use runtime::store::simulated::{Interrupt, InterruptedCall, Side};

use super::{Crash, Process, World};
use crate::gate::FrozenClock;

/// A call to a seam at which a process can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeamCall {
    /// A batch is written to the store.
    Write,
    /// The device syncs.
    Sync,
    /// A connection is dialled.
    Dial,
}

impl World {
    fn process_mut(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).expect("faults name processes that exist")
    }

    /// Stops a process; its disk keeps what was synced and a seeded part of what was written after.
    /// One that does not run stays as it is.
    pub fn crash(&mut self, name: &str, crash: Crash) {
        if !self.process(name).running {
            return;
        }
        tracing::info!(process = name, ?crash, "crash");
        let power_lost = crash == Crash::PowerLost;
        self.links.process_stopped(name, power_lost);
        if power_lost {
            self.without_power.push(name.to_owned());
            self.apply_links_of(name);
        }
        // So that a frozen process's connections end with it.
        self.process(name).gate.reset();
        self.simulation.crash(name);
        self.process_mut(name).running = false;
        self.crash_disk(name);
    }

    fn crash_disk(&mut self, name: &str) {
        let seed = self.seed.derive(name, 0);
        let process = self.process_mut(name);
        process.disk.crash(seed.derive("crash", process.crashes).0);
        process.crashes += 1;
    }

    /// Crashes the process at its `number`th call of a kind from now, the next one being the first: on the
    /// spot nothing passes any more, and the call has had its effect or not, by its `side`. Takes the
    /// place of a crash at a call of the disk, or of a dial, that has not come yet.
    pub fn crash_at(&mut self, name: &str, crash: Crash, side: Side, call: SeamCall, number: u64) {
        let process = self.process(name);
        if !process.running {
            return;
        }
        tracing::info!(process = name, ?side, ?call, number, "is to crash");
        let call = match call {
            SeamCall::Dial => return process.gate.doom_at_dial(side, number, crash),
            SeamCall::Write => InterruptedCall::Write,
            SeamCall::Sync => InterruptedCall::Sync,
        };
        let gate = process.gate.clone();
        let act = Arc::new(move || gate.doom(crash));
        process.disk.interrupt(Interrupt { side, call, number, act });
    }

    /// Ends the processes that came to the call at which they had to crash.
    pub(super) fn end_the_doomed(&mut self) {
        let doomed = |(name, process): (&String, &Process)| {
            process.gate.doomed().map(|crash| (name.clone(), crash))
        };
        let doomed: Vec<(String, Crash)> = self.processes.iter().filter_map(doomed).collect();
        for (name, crash) in doomed {
            self.crash(&name, crash);
        }
    }

    /// Starts a process again, from its disk. One that runs goes on, and does not crash at a call any more.
    pub fn restart(&mut self, name: &str) {
        let process = self.process_mut(name);
        process.gate.disarm();
        process.disk.disarm();
        if process.running {
            return;
        }
        process.running = true;
        // It may have ended by itself, as part of what was done to it.
        process.gate.reset();
        tracing::info!(process = name, "restart");
        self.links.process_started(name);
        if self.without_power.iter().any(|host| host == name) {
            self.without_power.retain(|host| host != name);
            self.apply_links_of(name);
        }
        self.simulation.bounce(name);
    }

    /// Freezes a process: it does nothing, while its connections stay. One that does not run stays as
    /// it is.
    pub fn freeze(&mut self, name: &str, clock: FrozenClock) {
        let now = self.now();
        let process = self.process(name);
        if process.running {
            tracing::info!(process = name, ?clock, "freeze");
            process.gate.freeze(now, clock);
        }
    }

    /// Lets a frozen process go on.
    pub fn thaw(&mut self, name: &str) {
        let now = self.now();
        let process = self.process(name);
        if process.gate.is_frozen() {
            tracing::info!(process = name, "thaw");
            process.gate.thaw(now);
        }
    }

    /// From now on nothing passes between the process and any host but these, although its connections
    /// stay.
    pub fn mute(&mut self, name: &str, except_to: BTreeSet<String>) {
        tracing::info!(process = name, ?except_to, "mute");
        self.process(name).gate.hear_only(Some(except_to));
    }

    pub fn unmute(&mut self, name: &str) {
        self.process(name).gate.hear_only(None);
    }

    /// From now on orders to the process come late, more than once, not in their sequence, or not at all.
    pub fn jumble_orders(&mut self, name: &str) {
        tracing::info!(process = name, "orders are jumbled");
        let now_ms = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        let seed = self.seed.derive(name, 0).derive("orders", now_ms);
        self.process(name).gate.jumble_orders(Some(seed));
    }

    pub fn straighten_orders(&mut self, name: &str) {
        self.process(name).gate.jumble_orders(None);
    }

    /// Sets the process's wall clock forward or back.
    pub fn jump_wall_clock(&mut self, name: &str, by_ms: i64) {
        tracing::info!(process = name, by_ms, "the wall clock jumps");
        self.process(name).gate.jump_wall_clock(by_ms);
    }

    /// From now on each sync of the process fails: it has to stop.
    pub fn break_disk(&mut self, name: &str) {
        tracing::info!(process = name, "the disk breaks");
        let process = self.process_mut(name);
        process.may_end = true;
        process.disk.fail_syncs(true);
    }

    /// From now on each write of the process fails for lack of space: it has to stop.
    pub fn fill_disk(&mut self, name: &str) {
        tracing::info!(process = name, "the disk is full");
        let process = self.process_mut(name);
        process.may_end = true;
        process.disk.set_full(true);
    }

    /// From now on the process's disk says that it has so little space left. Writes succeed.
    pub fn set_free_bytes(&mut self, name: &str, bytes: u64) {
        tracing::info!(process = name, bytes, "the disk has little space left");
        self.process(name).disk.set_free_bytes(bytes);
    }

    /// Kills the process, damages one record on its disk, drawn by the seed, and starts it again: it has
    /// to notice, and must not start, or has to stop when it comes to read it.
    pub fn corrupt_disk(&mut self, name: &str) {
        self.crash(name, Crash::ProcessKilled);
        let seed = self.seed.derive(name, 0).derive("corrupt", self.process(name).crashes);
        let process = self.process_mut(name);
        if let Some((family, key)) = process.disk.any_value(seed.0)
            && process.disk.corrupt(family, &key)
            && let Ok(Some(damaged)) = process.disk.value(family, &key)
        {
            process.may_end = true;
            tracing::info!(process = name, family = family.0, ?key, "a record is damaged");
            process.damage = Some((family, key, damaged));
        }
        self.restart(name);
    }

    /// Kills the process and puts an empty disk in the place of its own.
    pub fn wipe_disk(&mut self, name: &str) {
        self.crash(name, Crash::ProcessKilled);
        tracing::info!(process = name, "the disk is wiped");
        self.process(name).disk.wipe();
    }

    /// Keeps a copy of what a crash would leave on the process's disk now.
    pub fn copy_disk(&mut self, name: &str) {
        tracing::info!(process = name, "the disk is copied");
        let seed = self.seed.derive(name, 0);
        let process = self.process_mut(name);
        process.disk_copy = Some(process.disk.crash_image(seed.derive("copy", process.crashes).0));
    }

    /// Kills the process and puts the copy in the place of its disk, if there is one.
    pub fn restore_disk(&mut self, name: &str) {
        self.crash(name, Crash::ProcessKilled);
        let process = self.process(name);
        if let Some(copy) = &process.disk_copy {
            tracing::info!(process = name, "the disk is as it was when it was copied");
            process.disk.restore(copy);
        }
    }

    /// The disk works as at the start, and a damaged record is whole again. If the process may have
    /// stopped because of its disk, it loses what it had not synced, and starts again: a store whose sync
    /// has failed stays failed.
    pub fn mend_disk(&mut self, name: &str) {
        tracing::info!(process = name, "the disk is mended");
        let process = self.process_mut(name);
        process.disk.mend();
        if let Some((family, key, damaged)) = process.damage.take()
            && process.disk.value(family, &key) == Ok(Some(damaged))
        {
            // What was flipped is flipped back.
            process.disk.corrupt(family, &key);
        }
        if !std::mem::take(&mut process.may_end) {
            return;
        }
        if process.running {
            self.crash(name, Crash::ProcessKilled);
        } else {
            // It has stopped by itself.
            self.crash_disk(name);
        }
        self.restart(name);
    }

    /// How long syncs of the process's disk take from now on.
    pub fn slow_disk(&mut self, name: &str, min: Duration, max: Duration) {
        tracing::info!(process = name, "the disk becomes slow");
        self.process(name).disk.set_sync_delay(min, max);
    }

    /// No sync of the process's disk ends from now on.
    pub fn stall_disk(&mut self, name: &str) {
        tracing::info!(process = name, "the disk stalls");
        self.process(name).disk.stall_syncs(true);
    }
}
