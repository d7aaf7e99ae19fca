//! What is done to the zone, and to etcd beside it: names, numbers of trials, goals. Pure.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One row of the table. The names are those of the command line, of the state file and of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing: what the other rows would show of this machine's own noise.
    Nothing,
    /// `kill -9` of the index node that leads most partitions.
    KillIndexNode,
    /// `kill -9` of the control plane's leader.
    KillLeader,
    /// SIGSTOP of the index node that leads most partitions, then SIGCONT.
    FreezeIndexNode,
    /// All members of the control plane are killed, and come back.
    ControlPlaneDown,
    /// The same, and while it is down the index node that leads most partitions is killed.
    ControlPlaneDownAndKill,
    /// What an index node sends is lost; it hears everybody.
    CutOutgoing,
    /// What is sent to an index node is lost; everybody hears it.
    CutIncoming,
    /// Everything between an index node and the rest of the world is lost.
    CutBothWays,
    /// An index node is asked to end, hands its leaderships over, ends, and comes back.
    Leave,
    /// An index node is drained, and then takes part again.
    Drain,
    /// All processors are busy with something else for a minute.
    Saturate,
    /// The file system under an index node stands still.
    StallDisk,
    /// It does so for a minute.
    StallDiskLong,
    /// `kill -9` of etcd's leader, with etcd's default timeouts.
    EtcdKill,
    /// SIGSTOP of etcd's leader, with etcd's default timeouts.
    EtcdFreeze,
    /// `kill -9` of etcd's leader, with a heartbeat of 10 ms and an election timeout of 100 ms.
    EtcdTunedKill,
    /// SIGSTOP of etcd's leader, with a heartbeat of 10 ms and an election timeout of 100 ms.
    EtcdTunedFreeze,
}

/// What DESIGN says that the zone should do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Every partition acknowledges writes again; the 99th percentile over trials and partitions.
    AgainWithin { p99_ms: f64 },
    /// Every partition acknowledges writes again, always.
    AlwaysAgainWithin { max_ms: f64 },
    /// Nobody notices: no failed request, and no request waits for longer.
    Unnoticed { wait_ms: f64 },
    /// No failed index request, and the control plane decides again.
    DecidingWithin { max_ms: f64 },
    /// No failed index request.
    NoneFailed,
    /// No failed index request; no node is called down that is alive, and no partition's leader changes more
    /// often than so: away from a node that seems lost, and back.
    NobodyDown { leader_changes_max: u64 },
}

/// The timeouts of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timers {
    Default,
    Tuned,
}

/// What must be there beyond the zone itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// A network namespace with a link of its own.
    Namespace,
    /// A file system of its own that can be frozen.
    Disk,
    /// etcd's program.
    Etcd(Timers),
}

impl Fault {
    /// All, in the sequence in which they are carried out. Drains leave nodes empty, and whoever needs a
    /// file system of its own keeps it: these two come last in the zone.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// For the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Nothing => "no fault: this machine's noise",
            Self::KillIndexNode => "kill -9 index node",
            Self::KillLeader => "kill -9 control plane's leader",
            Self::FreezeIndexNode => "SIGSTOP index node",
            Self::Leave => "SIGTERM index node, restart",
            Self::Drain => "drain, uncordon index node",
            Self::ControlPlaneDown => "control plane down",
            Self::ControlPlaneDownAndKill => "… and kill -9 index node",
            Self::CutOutgoing => "cut off, outgoing only",
            Self::CutIncoming => "cut off, incoming only",
            Self::CutBothWays => "cut off, both ways",
            Self::Saturate => "processors busy for a minute",
            Self::StallDisk => "disk stands still",
            Self::StallDiskLong => "… for a minute",
            Self::EtcdKill => "etcd: kill -9 leader",
            Self::EtcdFreeze => "etcd: SIGSTOP leader",
            Self::EtcdTunedKill => "etcd tuned: kill -9 leader",
            Self::EtcdTunedFreeze => "etcd tuned: SIGSTOP leader",
        }
    }

    pub fn default_trials(self) -> u32 {
        match self {
            Self::KillIndexNode | Self::KillLeader => 50,
            Self::Saturate | Self::StallDiskLong => 3,
            Self::Nothing
            | Self::FreezeIndexNode
            | Self::Leave
            | Self::Drain
            | Self::ControlPlaneDown
            | Self::ControlPlaneDownAndKill
            | Self::CutOutgoing
            | Self::CutIncoming
            | Self::CutBothWays
            | Self::StallDisk
            | Self::EtcdKill
            | Self::EtcdFreeze
            | Self::EtcdTunedKill
            | Self::EtcdTunedFreeze => 15,
        }
    }

    /// Trials of a run that is to be over soon.
    pub fn quick_trials(self) -> u32 {
        if matches!(self, Self::Saturate | Self::StallDiskLong) { 1 } else { 3 }
    }

    pub fn need(self) -> Need {
        match self {
            Self::Nothing
            | Self::KillIndexNode
            | Self::KillLeader
            | Self::FreezeIndexNode
            | Self::Leave
            | Self::Drain
            | Self::Saturate
            | Self::ControlPlaneDown
            | Self::ControlPlaneDownAndKill => Need::Nothing,
            Self::CutOutgoing | Self::CutIncoming | Self::CutBothWays => Need::Namespace,
            Self::StallDisk | Self::StallDiskLong => Need::Disk,
            Self::EtcdKill | Self::EtcdFreeze => Need::Etcd(Timers::Default),
            Self::EtcdTunedKill | Self::EtcdTunedFreeze => Need::Etcd(Timers::Tuned),
        }
    }

    pub fn is_etcd(self) -> bool {
        matches!(self.need(), Need::Etcd(_))
    }

    /// Whether it is what operators do on an ordinary day: then no request may fail.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Nothing | Self::Leave | Self::Drain)
    }

    /// Whether there is a control plane meanwhile whose ledger says when it noticed and decided.
    pub fn has_ledger(self) -> bool {
        !self.is_etcd() && !matches!(self, Self::ControlPlaneDown | Self::ControlPlaneDownAndKill)
    }

    pub fn goal(self) -> Option<Goal> {
        match self {
            Self::KillIndexNode => Some(Goal::AgainWithin { p99_ms: 100.0 }),
            Self::FreezeIndexNode
            | Self::CutOutgoing
            | Self::CutIncoming
            | Self::CutBothWays
            | Self::StallDisk => Some(Goal::AgainWithin { p99_ms: 1_000.0 }),
            Self::Saturate | Self::StallDiskLong => {
                Some(Goal::NobodyDown { leader_changes_max: 2 })
            }
            Self::Leave | Self::Drain => Some(Goal::Unnoticed { wait_ms: 20.0 }),
            Self::KillLeader => Some(Goal::DecidingWithin { max_ms: 1_000.0 }),
            Self::ControlPlaneDown => Some(Goal::NoneFailed),
            Self::ControlPlaneDownAndKill => Some(Goal::AlwaysAgainWithin { max_ms: 5_000.0 }),
            Self::Nothing
            | Self::EtcdKill
            | Self::EtcdFreeze
            | Self::EtcdTunedKill
            | Self::EtcdTunedFreeze => None,
        }
    }

    /// etcd's rows that this one is measured against: with default timeouts, and with tuned ones.
    pub fn etcd_rows(self) -> Option<(Self, Self)> {
        match self {
            Self::KillIndexNode | Self::KillLeader => Some((Self::EtcdKill, Self::EtcdTunedKill)),
            Self::FreezeIndexNode => Some((Self::EtcdFreeze, Self::EtcdTunedFreeze)),
            Self::Nothing
            | Self::Leave
            | Self::Drain
            | Self::ControlPlaneDown
            | Self::ControlPlaneDownAndKill
            | Self::CutOutgoing
            | Self::CutIncoming
            | Self::CutBothWays
            | Self::Saturate
            | Self::StallDisk
            | Self::StallDiskLong
            | Self::EtcdKill
            | Self::EtcdFreeze
            | Self::EtcdTunedKill
            | Self::EtcdTunedFreeze => None,
        }
    }

    /// How long a trial takes about, in seconds: for the estimate, until one was seen.
    pub fn usual_seconds(self) -> f64 {
        match self {
            Self::KillIndexNode | Self::Leave => 4.0,
            Self::Nothing | Self::KillLeader => 5.0,
            Self::FreezeIndexNode
            | Self::CutOutgoing
            | Self::CutIncoming
            | Self::CutBothWays
            | Self::Drain
            | Self::EtcdKill
            | Self::EtcdFreeze
            | Self::EtcdTunedKill
            | Self::EtcdTunedFreeze => 6.0,
            Self::ControlPlaneDown | Self::ControlPlaneDownAndKill | Self::StallDisk => 9.0,
            Self::Saturate | Self::StallDiskLong => 66.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_state_file() {
        for fault in Fault::all() {
            let json = serde_json::to_string(fault).unwrap();
            assert_eq!(json, format!("\"{}\"", fault.name()));
            assert_eq!(Fault::from_str(&fault.name(), false).unwrap(), *fault);
        }
    }

    #[test]
    fn the_zone_is_done_with_before_etcd_and_the_disk_comes_last_in_it() {
        let all = Fault::all();
        let zone = all.iter().filter(|fault| !fault.is_etcd()).count();
        assert!(all[..zone].iter().all(|fault| !fault.is_etcd()));
        assert_eq!(all[zone - 2..zone], [Fault::StallDisk, Fault::StallDiskLong]);
    }

    #[test]
    fn the_two_kills_have_fifty_trials_and_the_rest_fifteen_unless_they_last_a_minute() {
        let fifty: Vec<Fault> =
            Fault::all().iter().copied().filter(|fault| fault.default_trials() == 50).collect();
        assert_eq!(fifty, [Fault::KillIndexNode, Fault::KillLeader]);
        for fault in Fault::all() {
            assert!(fault.default_trials() >= 15 || fault.usual_seconds() > 60.0, "{fault:?}");
        }
    }
}
