//! Bugs that are planted on purpose, to prove that the simulation finds such bugs.
//!
//! Production code asks [`is_planted`] at the place where a bug would be, and behaves wrongly if it is.
//! In every ordinary build that is a constant `false`, and the compiler leaves nothing of it. Only with
//! the feature `bugs`, which is given on the command line alone, one bug can be [planted](plant) when
//! the process starts; servers that were built so refuse to start ([`BUILT_IN`]), so that it can happen
//! in the simulation only.
//!
//! **Architecture invariant**: no dependencies, so that the feature rebuilds our own crates and nothing
//! else.

use std::{fmt, str::FromStr};

/// What can be wrong. The variants' documentation is also [`Bug::sentence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A replica that believes to lead answers reads without asking a quorum.
    CutOffLeaderReads,
    /// A partition takes writes of keys outside its range, and under any range epoch.
    RangeCheckMissing,
    /// Entries of the log count as durable before they were synced.
    AcknowledgedBeforeSync,
    /// A vote is given before it was synced.
    VoteNotSynced,
    /// A learner becomes a voter before it has caught up.
    LearnerPromotedEarly,
    /// A write that is tried again is applied again: its first outcome is not looked up.
    RetryAppliedTwice,
    /// The order to make a replica is given again in each session, and makes it anew each time.
    StepRepeated,
    /// A node carries out orders of a control plane's leader that was deposed.
    OrderWithoutTermCheck,
    /// Replicas that are added later get an id that was given before.
    ReplicaIdReused,
    /// A node that comes back with an empty disk keeps its old identity, and votes with it.
    WipedDiskVotes,
    /// The control plane never brakes, however many nodes are lost at once.
    BrakeRemoved,
    /// The partition map leaves the first key of each partition but one to nobody.
    RangeGap,
    /// A client asks the leader that it was told of, dead or alive, and nobody else.
    HintFollowedForEver,
    /// The reconciler is not woken by what is decided about a group, and looks at nothing by itself.
    WakeUpLost,
    /// A snapshot lacks what was written last when it is received.
    SnapshotWithoutLastEntries,
    /// A snapshot is received into the lineage that is in use.
    SnapshotOverLiveLineage,
    /// A node may get a second replica of a partition.
    TwoReplicasOnOneNode,
    /// The log is purged of entries that were not applied yet.
    PurgeBeforeApply,
    /// Leaderships are moved on although they are even.
    PingPongTransfers,
    /// A snapshot lacks the outcomes of writes that may be tried again.
    OutcomesNotInSnapshot,
    /// A replica is destroyed before its group has committed its removal.
    DestroyedBeforeRemoval,
    /// A command that is given again under its idempotency key is carried out again.
    IdempotencyKeyForgotten,
    /// A control plane's leader that has lost its quorum goes on giving orders.
    DeposedLeaderStays,
    /// A page of a list lacks its first key, unless it is the first page.
    ListSkipsKey,
    /// A write is applied although it has expired.
    ExpiredWriteApplied,
    /// A conditional write is applied whatever the key's version is.
    ConditionIgnored,
    /// Replicas with an odd id do not see that a deleted key existed.
    ApplyDiffers,
    /// A group whose leader was suspected in vain once is never looked at again.
    DismissedForEver,
    /// Load counts as it was when a partition was first looked at.
    StaleHeat,
    /// Leaderships are moved for load although it is as even as it can be.
    BalanceRestless,
    /// Where leadership has moved, load stays with the former leader, too.
    LoadCountedTwice,
    /// A slow node counts as one that may lead.
    SlowNodeKeepsLeading,
    /// A node is slow by its own word alone, however its peers are and however many are slow.
    EverybodySlow,
    /// A node that was slow never counts as up again.
    QuarantineForEver,
    /// A member that believes to lead refuses commands without asking a quorum.
    RefusedUnconfirmed,
    /// After a split the partition goes on serving the keys that it gave away.
    SplitParentKeepsAll,
    /// A child of a split is written after the state that says that it was split off.
    ChildWrittenApart,
    /// After a split nobody knows what became of the writes before it.
    OutcomesLostInSplit,
    /// Whoever of two halves leaves their lineage deletes all of it.
    SharedLineageDeleted,
    /// A request that has ended keeps the turn of its key.
    TurnKept,
}

impl Bug {
    pub const ALL: [Bug; 40] = [
        Bug::CutOffLeaderReads,
        Bug::RangeCheckMissing,
        Bug::AcknowledgedBeforeSync,
        Bug::VoteNotSynced,
        Bug::LearnerPromotedEarly,
        Bug::RetryAppliedTwice,
        Bug::StepRepeated,
        Bug::OrderWithoutTermCheck,
        Bug::ReplicaIdReused,
        Bug::WipedDiskVotes,
        Bug::BrakeRemoved,
        Bug::RangeGap,
        Bug::HintFollowedForEver,
        Bug::WakeUpLost,
        Bug::SnapshotWithoutLastEntries,
        Bug::SnapshotOverLiveLineage,
        Bug::TwoReplicasOnOneNode,
        Bug::PurgeBeforeApply,
        Bug::PingPongTransfers,
        Bug::OutcomesNotInSnapshot,
        Bug::DestroyedBeforeRemoval,
        Bug::IdempotencyKeyForgotten,
        Bug::DeposedLeaderStays,
        Bug::ListSkipsKey,
        Bug::ExpiredWriteApplied,
        Bug::ConditionIgnored,
        Bug::ApplyDiffers,
        Bug::DismissedForEver,
        Bug::StaleHeat,
        Bug::BalanceRestless,
        Bug::LoadCountedTwice,
        Bug::SlowNodeKeepsLeading,
        Bug::EverybodySlow,
        Bug::QuarantineForEver,
        Bug::RefusedUnconfirmed,
        Bug::SplitParentKeepsAll,
        Bug::ChildWrittenApart,
        Bug::OutcomesLostInSplit,
        Bug::SharedLineageDeleted,
        Bug::TurnKept,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Bug::CutOffLeaderReads => "cut-off-leader-reads",
            Bug::RangeCheckMissing => "range-check-missing",
            Bug::AcknowledgedBeforeSync => "acknowledged-before-sync",
            Bug::VoteNotSynced => "vote-not-synced",
            Bug::LearnerPromotedEarly => "learner-promoted-early",
            Bug::RetryAppliedTwice => "retry-applied-twice",
            Bug::StepRepeated => "step-repeated",
            Bug::OrderWithoutTermCheck => "order-without-term-check",
            Bug::ReplicaIdReused => "replica-id-reused",
            Bug::WipedDiskVotes => "wiped-disk-votes",
            Bug::BrakeRemoved => "brake-removed",
            Bug::RangeGap => "range-gap",
            Bug::HintFollowedForEver => "hint-followed-for-ever",
            Bug::WakeUpLost => "wake-up-lost",
            Bug::SnapshotWithoutLastEntries => "snapshot-without-last-entries",
            Bug::SnapshotOverLiveLineage => "snapshot-over-live-lineage",
            Bug::TwoReplicasOnOneNode => "two-replicas-on-one-node",
            Bug::PurgeBeforeApply => "purge-before-apply",
            Bug::PingPongTransfers => "ping-pong-transfers",
            Bug::OutcomesNotInSnapshot => "outcomes-not-in-snapshot",
            Bug::DestroyedBeforeRemoval => "destroyed-before-removal",
            Bug::IdempotencyKeyForgotten => "idempotency-key-forgotten",
            Bug::DeposedLeaderStays => "deposed-leader-stays",
            Bug::ListSkipsKey => "list-skips-key",
            Bug::ExpiredWriteApplied => "expired-write-applied",
            Bug::ConditionIgnored => "condition-ignored",
            Bug::ApplyDiffers => "apply-differs",
            Bug::DismissedForEver => "dismissed-for-ever",
            Bug::StaleHeat => "stale-heat",
            Bug::BalanceRestless => "balance-restless",
            Bug::LoadCountedTwice => "load-counted-twice",
            Bug::SlowNodeKeepsLeading => "slow-node-keeps-leading",
            Bug::EverybodySlow => "everybody-slow",
            Bug::QuarantineForEver => "quarantine-for-ever",
            Bug::RefusedUnconfirmed => "refused-unconfirmed",
            Bug::SplitParentKeepsAll => "split-parent-keeps-all",
            Bug::ChildWrittenApart => "child-written-apart",
            Bug::OutcomesLostInSplit => "outcomes-lost-in-split",
            Bug::SharedLineageDeleted => "shared-lineage-deleted",
            Bug::TurnKept => "turn-kept",
        }
    }

    /// What is wrong, in a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Bug::CutOffLeaderReads => {
                "A replica that believes to lead answers reads without asking a quorum."
            }
            Bug::RangeCheckMissing => {
                "A partition takes writes of keys outside its range, and under any range epoch."
            }
            Bug::AcknowledgedBeforeSync => {
                "Entries of the log count as durable before they were synced."
            }
            Bug::VoteNotSynced => "A vote is given before it was synced.",
            Bug::LearnerPromotedEarly => "A learner becomes a voter before it has caught up.",
            Bug::RetryAppliedTwice => {
                "A write that is tried again is applied again: its first outcome is not looked up."
            }
            Bug::StepRepeated => {
                "The order to make a replica is given again in each session, and makes it anew each time."
            }
            Bug::OrderWithoutTermCheck => {
                "A node carries out orders of a control plane's leader that was deposed."
            }
            Bug::ReplicaIdReused => {
                "Replicas that are added later get an id that was given before."
            }
            Bug::WipedDiskVotes => {
                "A node that comes back with an empty disk keeps its old identity, and votes with it."
            }
            Bug::BrakeRemoved => {
                "The control plane never brakes, however many nodes are lost at once."
            }
            Bug::RangeGap => {
                "The partition map leaves the first key of each partition but one to nobody."
            }
            Bug::HintFollowedForEver => {
                "A client asks the leader that it was told of, dead or alive, and nobody else."
            }
            Bug::WakeUpLost => {
                "The reconciler is not woken by what is decided about a group, and looks at nothing by itself."
            }
            Bug::SnapshotWithoutLastEntries => {
                "A snapshot lacks what was written last when it is received."
            }
            Bug::SnapshotOverLiveLineage => {
                "A snapshot is received into the lineage that is in use."
            }
            Bug::TwoReplicasOnOneNode => "A node may get a second replica of a partition.",
            Bug::PurgeBeforeApply => "The log is purged of entries that were not applied yet.",
            Bug::PingPongTransfers => "Leaderships are moved on although they are even.",
            Bug::OutcomesNotInSnapshot => {
                "A snapshot lacks the outcomes of writes that may be tried again."
            }
            Bug::DestroyedBeforeRemoval => {
                "A replica is destroyed before its group has committed its removal."
            }
            Bug::IdempotencyKeyForgotten => {
                "A command that is given again under its idempotency key is carried out again."
            }
            Bug::DeposedLeaderStays => {
                "A control plane's leader that has lost its quorum goes on giving orders."
            }
            Bug::ListSkipsKey => {
                "A page of a list lacks its first key, unless it is the first page."
            }
            Bug::ExpiredWriteApplied => "A write is applied although it has expired.",
            Bug::ConditionIgnored => {
                "A conditional write is applied whatever the key's version is."
            }
            Bug::ApplyDiffers => "Replicas with an odd id do not see that a deleted key existed.",
            Bug::DismissedForEver => {
                "A group whose leader was suspected in vain once is never looked at again."
            }
            Bug::StaleHeat => "Load counts as it was when a partition was first looked at.",
            Bug::BalanceRestless => {
                "Leaderships are moved for load although it is as even as it can be."
            }
            Bug::LoadCountedTwice => {
                "Where leadership has moved, load stays with the former leader, too."
            }
            Bug::SlowNodeKeepsLeading => "A slow node counts as one that may lead.",
            Bug::EverybodySlow => {
                "A node is slow by its own word alone, however its peers are and however many are slow."
            }
            Bug::QuarantineForEver => "A node that was slow never counts as up again.",
            Bug::RefusedUnconfirmed => {
                "A member that believes to lead refuses commands without asking a quorum."
            }
            Bug::SplitParentKeepsAll => {
                "After a split the partition goes on serving the keys that it gave away."
            }
            Bug::ChildWrittenApart => {
                "A child of a split is written after the state that says that it was split off."
            }
            Bug::OutcomesLostInSplit => {
                "After a split nobody knows what became of the writes before it."
            }
            Bug::SharedLineageDeleted => {
                "Whoever of two halves leaves their lineage deletes all of it."
            }
            Bug::TurnKept => "A request that has ended keeps the turn of its key.",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Bug::ALL.into_iter().find(|bug| bug.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
            format!("there is no bug {name:?}; there are {}", names.join(", "))
        })
    }
}

/// Whether bugs can be planted in this build. A server has to refuse to start if so.
pub const BUILT_IN: bool = cfg!(feature = "bugs");

/// What a server says then.
pub const REFUSAL: &str = "this program was built to have bugs planted in it (feature \
                           sim-tests/planted-bugs) and works in the simulation only: build it without \
                           that feature, with `make build`";

#[cfg(not(feature = "bugs"))]
mod chosen {
    use super::Bug;

    /// Whether the process has this bug: a constant `false` in this build.
    #[inline(always)]
    pub const fn is_planted(_: Bug) -> bool {
        false
    }

    /// Gives the process this bug.
    ///
    /// # Errors
    /// Always in this build, which has no bugs to plant.
    pub fn plant(bug: Bug) -> Result<(), String> {
        Err(format!("this build has no bug {bug} to plant"))
    }
}

#[cfg(feature = "bugs")]
mod chosen {
    use std::sync::OnceLock;

    use super::Bug;

    static CHOSEN: OnceLock<Bug> = OnceLock::new();

    /// Whether the process has this bug.
    pub fn is_planted(bug: Bug) -> bool {
        CHOSEN.get() == Some(&bug)
    }

    /// Gives the process this bug, for good.
    ///
    /// # Errors
    /// If it has another one already.
    pub fn plant(bug: Bug) -> Result<(), String> {
        let chosen = *CHOSEN.get_or_init(|| bug);
        if chosen == bug {
            Ok(())
        } else {
            Err(format!("the process has the bug {chosen} already"))
        }
    }
}

pub use chosen::{is_planted, plant};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Known to the compiler, which therefore leaves out what depends on it.
    #[cfg(not(feature = "bugs"))]
    const _: () = {
        let mut index = 0;
        while index < Bug::ALL.len() {
            assert!(!is_planted(Bug::ALL[index]));
            index += 1;
        }
        assert!(!BUILT_IN);
    };

    #[cfg(not(feature = "bugs"))]
    #[test]
    fn an_ordinary_build_has_nothing_to_plant() {
        for bug in Bug::ALL {
            assert!(plant(bug).is_err());
            assert!(!is_planted(bug));
        }
    }

    #[cfg(feature = "bugs")]
    #[test]
    fn a_process_has_one_bug_at_most() {
        assert!(!is_planted(Bug::RangeGap));
        plant(Bug::RangeGap).unwrap();
        plant(Bug::RangeGap).unwrap();
        assert!(plant(Bug::ListSkipsKey).is_err());
        assert!(is_planted(Bug::RangeGap) && !is_planted(Bug::ListSkipsKey));
    }

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            assert_eq!(bug.name().parse(), Ok(bug));
            assert!(bug.sentence().ends_with('.'), "{bug}");
        }
        assert!("range".parse::<Bug>().unwrap_err().contains("range-gap"));
    }
}
