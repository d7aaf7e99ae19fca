//! What goes wrong in a run, and when: a schedule that follows from a seed alone, made before the run, or
//! that was written down.

mod episodes;
mod schedule;
mod text;

use std::{collections::BTreeSet, time::Duration};

use runtime::store::simulated::Side;

pub use self::{
    schedule::{Cast, Schedule},
    text::timed,
};
use crate::{
    ambush::{Ambush, Ambushes},
    gate::FrozenClock,
    trace::Trace,
    world::{Crash, SeamCall, World},
};

/// One thing done to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash {
        process: String,
        crash: Crash,
    },
    /// The process crashes at a call that is still to come, unless it is restarted before.
    CrashAtCall {
        process: String,
        crash: Crash,
        /// Whether the call has its effect.
        side: Side,
        call: SeamCall,
        /// The next one is the first.
        number: u64,
    },
    Restart {
        process: String,
    },
    /// Whoever leads the control plane crashes in the middle of the next operation of a kind.
    LoseLeader {
        ambush: Ambush,
    },
    /// No leader is waited for any more, and who was lost starts again.
    RestoreLeader,
    /// The process does nothing, and its connections stay.
    Freeze {
        process: String,
        clock: FrozenClock,
    },
    Thaw {
        process: String,
    },
    /// The process's connections with members work, and nothing passes over its others.
    Mute {
        process: String,
    },
    Unmute {
        process: String,
    },
    /// Orders come late, more than once, not in their sequence, or not at all.
    JumbleOrders {
        process: String,
    },
    StraightenOrders {
        process: String,
    },
    /// Messages both ways are lost.
    Cut {
        a: String,
        b: String,
    },
    /// Messages one way are lost.
    CutOneWay {
        from: String,
        to: String,
    },
    /// Messages both ways wait for the link to heal.
    Hold {
        a: String,
        b: String,
    },
    /// Messages both ways take long.
    SlowLink {
        a: String,
        b: String,
    },
    Heal {
        a: String,
        b: String,
    },
    /// Messages between one host and all others are lost.
    Isolate {
        host: String,
    },
    /// Messages between one host and all others take long.
    SlowLinksOf {
        host: String,
    },
    Rejoin {
        host: String,
    },
    /// All messages take long.
    SlowNetwork,
    QuickenNetwork,
    /// Syncs take long.
    SlowDisk {
        process: String,
    },
    /// No sync ends.
    StallDisk {
        process: String,
    },
    /// Syncs fail: the process has to stop by itself.
    BreakDisk {
        process: String,
    },
    /// Writes fail for lack of space: the process has to stop by itself.
    FillDisk {
        process: String,
    },
    /// The disk has less space left than the reserve.
    LowDisk {
        process: String,
    },
    /// The process finds one record damaged when it starts again.
    CorruptDisk {
        process: String,
    },
    /// The disk is as it was, without what a failed sync may have lost; a process that stopped because
    /// of it starts again.
    MendDisk {
        process: String,
    },
    /// The process is killed, and will find an empty disk.
    WipeDisk {
        process: String,
    },
    /// A copy of the disk is made, for later.
    CopyDisk {
        process: String,
    },
    /// The process is killed, and will find its disk as it was when it was copied. Never drawn: no
    /// guarantee holds with such a disk.
    RestoreDisk {
        process: String,
    },
    JumpWallClock {
        process: String,
        seconds: i64,
    },
}

/// Whether a fault makes something worse, or mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Impairs,
    Mends,
    /// There is nothing to mend afterwards.
    Passes,
}

/// A fault and its time since the start of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedFault {
    pub at: Duration,
    pub fault: Fault,
}

/// How long a sync takes on a slow disk.
const SLOW_SYNC_MIN: Duration = Duration::from_millis(20);
const SLOW_SYNC_MAX: Duration = Duration::from_millis(250);

/// How long a message takes at most over a slow link, and where everything is slow.
const SLOW_LINK_MAX: Duration = Duration::from_millis(200);
const SLOW_NETWORK_MAX: Duration = Duration::from_millis(60);

/// Below every reserve.
const LOW_FREE_BYTES: u64 = 1 << 20;

/// How the names of the hosts start with which a muted process still talks.
const MEMBERS: &str = "member-";

impl Fault {
    /// Does it.
    pub fn apply(&self, world: &mut World, ambushes: &mut Ambushes, trace: &Trace) {
        match self {
            Fault::LoseLeader { ambush } => ambushes.lay(ambush.clone(), trace),
            Fault::RestoreLeader => ambushes.lift(world),
            Fault::Crash { process, crash } => world.crash(process, *crash),
            Fault::CrashAtCall { process, crash, side, call, number } => {
                world.crash_at(process, *crash, *side, *call, *number);
            }
            Fault::Restart { process } => world.restart(process),
            Fault::Freeze { process, clock } => world.freeze(process, *clock),
            Fault::Thaw { process } => world.thaw(process),
            Fault::Mute { process } => {
                let members = world.hosts().iter().filter(|host| host.starts_with(MEMBERS));
                let members: BTreeSet<String> = members.cloned().collect();
                world.mute(process, members);
            }
            Fault::Unmute { process } => world.unmute(process),
            Fault::JumbleOrders { process } => world.jumble_orders(process),
            Fault::StraightenOrders { process } => world.straighten_orders(process),
            Fault::Cut { a, b } => world.cut(a, b),
            Fault::CutOneWay { from, to } => world.cut_one_way(from, to),
            Fault::Hold { a, b } => world.hold(a, b),
            Fault::SlowLink { a, b } => world.slow_link(a, b, SLOW_LINK_MAX),
            Fault::Heal { a, b } => world.heal(a, b),
            Fault::Isolate { host } => {
                for other in world.others(host) {
                    world.cut(host, &other);
                }
            }
            Fault::SlowLinksOf { host } => world.slow_links_of(host, SLOW_LINK_MAX),
            Fault::Rejoin { host } => {
                for other in world.others(host) {
                    world.heal(host, &other);
                }
            }
            Fault::SlowNetwork => world.slow_network(SLOW_NETWORK_MAX),
            Fault::QuickenNetwork => world.quicken_network(),
            Fault::SlowDisk { process } => world.slow_disk(process, SLOW_SYNC_MIN, SLOW_SYNC_MAX),
            Fault::StallDisk { process } => world.stall_disk(process),
            Fault::BreakDisk { process } => world.break_disk(process),
            Fault::FillDisk { process } => world.fill_disk(process),
            Fault::LowDisk { process } => world.set_free_bytes(process, LOW_FREE_BYTES),
            Fault::CorruptDisk { process } => world.corrupt_disk(process),
            Fault::MendDisk { process } => world.mend_disk(process),
            Fault::WipeDisk { process } => world.wipe_disk(process),
            Fault::CopyDisk { process } => world.copy_disk(process),
            Fault::RestoreDisk { process } => world.restore_disk(process),
            Fault::JumpWallClock { process, seconds } => {
                world.jump_wall_clock(process, seconds.saturating_mul(1_000));
            }
        }
    }

    /// The hosts that it names.
    pub fn hosts(&self) -> Vec<&str> {
        match self {
            Fault::Crash { process, .. }
            | Fault::CrashAtCall { process, .. }
            | Fault::Restart { process }
            | Fault::Freeze { process, .. }
            | Fault::Thaw { process }
            | Fault::Mute { process }
            | Fault::Unmute { process }
            | Fault::JumbleOrders { process }
            | Fault::StraightenOrders { process }
            | Fault::SlowDisk { process }
            | Fault::StallDisk { process }
            | Fault::BreakDisk { process }
            | Fault::FillDisk { process }
            | Fault::LowDisk { process }
            | Fault::CorruptDisk { process }
            | Fault::MendDisk { process }
            | Fault::WipeDisk { process }
            | Fault::CopyDisk { process }
            | Fault::RestoreDisk { process }
            | Fault::JumpWallClock { process, .. } => vec![process],
            Fault::CutOneWay { from: a, to: b }
            | Fault::Cut { a, b }
            | Fault::Hold { a, b }
            | Fault::SlowLink { a, b }
            | Fault::Heal { a, b } => vec![a, b],
            Fault::Isolate { host } | Fault::SlowLinksOf { host } | Fault::Rejoin { host } => {
                vec![host]
            }
            Fault::SlowNetwork
            | Fault::QuickenNetwork
            | Fault::LoseLeader { .. }
            | Fault::RestoreLeader => Vec::new(),
        }
    }

    /// Whether it is about whichever member leads.
    pub fn is_of_leader(&self) -> bool {
        matches!(self, Fault::LoseLeader { .. } | Fault::RestoreLeader)
    }

    pub fn effect(&self) -> Effect {
        match self {
            Fault::Crash { .. }
            | Fault::CrashAtCall { .. }
            | Fault::Freeze { .. }
            | Fault::LoseLeader { .. }
            | Fault::Mute { .. }
            | Fault::JumbleOrders { .. }
            | Fault::Cut { .. }
            | Fault::CutOneWay { .. }
            | Fault::Hold { .. }
            | Fault::SlowLink { .. }
            | Fault::Isolate { .. }
            | Fault::SlowLinksOf { .. }
            | Fault::SlowNetwork
            | Fault::SlowDisk { .. }
            | Fault::StallDisk { .. }
            | Fault::BreakDisk { .. }
            | Fault::FillDisk { .. }
            | Fault::LowDisk { .. }
            | Fault::CorruptDisk { .. }
            | Fault::WipeDisk { .. }
            | Fault::RestoreDisk { .. } => Effect::Impairs,
            Fault::Restart { .. }
            | Fault::RestoreLeader
            | Fault::Thaw { .. }
            | Fault::Unmute { .. }
            | Fault::StraightenOrders { .. }
            | Fault::Heal { .. }
            | Fault::Rejoin { .. }
            | Fault::QuickenNetwork
            | Fault::MendDisk { .. } => Effect::Mends,
            Fault::CopyDisk { .. } | Fault::JumpWallClock { .. } => Effect::Passes,
        }
    }
}
