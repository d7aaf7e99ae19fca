//! Making the zone, and placing its partitions for the first time.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Applier, Draft};
use crate::{
    command::PlacementProposal,
    event::EventKind,
    heat::Summary,
    ids::{Generation, MemberId, RangeEpoch, Revision, Term, ZoneTime},
    key_range,
    outcome::{Applied, Outcome, Refusal},
    partition::{Partition, Replica},
    policy::{Policy, PolicyRecord, REPLACE_AFTER_DEFAULT_MS, SPLIT_KEYS_MAX, check_replace_after},
    zone::{Brake, Counters, Zone},
};

impl Applier<'_> {
    pub(super) fn initialize(
        &mut self,
        zone_id: Uuid,
        split_keys: &[Vec<u8>],
        replication_factor: u32,
        replace_after_ms: u64,
    ) -> Outcome {
        if let Some(zone_id) = self.state.zone_id() {
            return Err(Refusal::AlreadyInitialized { zone_id });
        }
        let ranges = check_initialization(split_keys, replication_factor)?;
        let factor = u8::try_from(replication_factor).expect("1, 3 or 5: checked above");
        let replace_after_ms =
            if replace_after_ms == 0 { REPLACE_AFTER_DEFAULT_MS } else { replace_after_ms };
        check_replace_after(replace_after_ms)?;
        let zone = Zone {
            zone_id,
            generation: Generation(1),
            policy: Policy::new(factor, replace_after_ms),
            revision: Revision(0),
            zone_time: ZoneTime(0),
            brake: Brake::default(),
            counters: Counters::default(),
        };
        self.state.zone.insert((), zone);
        self.state.policies.insert((), PolicyRecord::default());
        let partitions = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
        for range in ranges {
            let id = self.new_partition();
            let partition = Partition {
                range,
                range_epoch: RangeEpoch(1),
                targets: Vec::new(),
                retiring: Vec::new(),
                preferred_leader: None,
                observed: None,
                leader: None,
                change: None,
            };
            self.state.insert_partition(id, partition);
        }
        self.record(Draft::new(
            EventKind::ZoneInitialized,
            format!(
                "zone {zone_id} initialised with {partitions} partitions, {factor} replicas each"
            ),
            format!("asked by `init`; lost nodes are replaced after {replace_after_ms} ms"),
        ));
        Ok(Applied::ZoneInitialized { zone_id, partitions })
    }

    pub(super) fn place(&mut self, proposal: &PlacementProposal) -> Result<(), Refusal> {
        let PlacementProposal { partition: id, nodes, preferred_leader, reason } = proposal;
        let invalid = |why: String| Refusal::InvalidPlacement { partition: *id, why };
        if self.partition(*id)?.is_placed() {
            return Err(Refusal::PlacedAlready { partition: *id });
        }
        let factor = self.state.replication_factor();
        if nodes.len() != factor || nodes.iter().collect::<BTreeSet<_>>().len() != factor {
            return Err(invalid(format!("it needs {factor} distinct nodes")));
        }
        if !nodes.contains(preferred_leader) {
            return Err(invalid(format!("preferred leader {preferred_leader} is not among them")));
        }
        let mut domains = BTreeSet::new();
        for node in nodes {
            let record = self.node(*node)?;
            if let Some(why) = record.why_not_eligible() {
                return Err(Refusal::NodeNotEligible { node: *node, why });
            }
            domains.insert(record.fault_domain.as_str());
        }
        let eligible: BTreeSet<_> = self
            .state
            .nodes
            .iter()
            .filter(|(_, node)| node.is_eligible())
            .map(|(_, node)| node.fault_domain.as_str())
            .collect();
        let best = eligible.len().min(factor);
        if domains.len() < best {
            return Err(invalid(format!(
                "it uses {} fault domains, and {best} are possible",
                domains.len()
            )));
        }
        let targets: Vec<Replica> =
            nodes.iter().map(|node| Replica { id: self.new_replica(), node: *node }).collect();
        let preferred = targets.iter().find(|target| target.node == *preferred_leader);
        let preferred = preferred.map(|target| target.id);
        let names: Vec<_> = nodes.iter().map(ToString::to_string).collect();
        self.state.update_partition(*id, |partition| {
            partition.preferred_leader = preferred;
            partition.targets = targets;
        });
        self.record(Draft {
            partition: Some(*id),
            ..Draft::new(
                EventKind::PartitionPlaced,
                format!(
                    "partition {id} placed on nodes {}, to be led by node {preferred_leader}",
                    names.join(", ")
                ),
                reason.clone(),
            )
        });
        Ok(())
    }

    pub(super) fn announce_leader(
        &mut self,
        member: MemberId,
        address: &str,
        term: Term,
    ) -> Outcome {
        self.record(Draft::new(
            EventKind::ControlPlaneLeader,
            format!("member {member} at {address} leads the control plane in term {term}"),
            format!(
                "a majority of the members has elected it in term {term}; it gives orders since"
            ),
        ));
        Ok(Applied::Done)
    }
}

impl Applier<'_> {
    /// Not in the ledger: nobody has decided anything.
    pub(super) fn summarize_heat(&mut self, summary: &Summary) -> Outcome {
        summary.check()?;
        let mut summary = summary.clone();
        summary.retain(|partition| self.state.partitions.contains(&partition));
        self.state.heat.insert((), summary);
        Ok(Applied::Done)
    }
}

/// Checks what an `init` asks for; the ranges of its partitions.
pub fn check_initialization(
    split_keys: &[Vec<u8>],
    replication_factor: u32,
) -> Result<Vec<key_range::KeyRange>, Refusal> {
    if !matches!(replication_factor, 1 | 3 | 5) {
        return Err(Refusal::InvalidReplicationFactor { given: replication_factor });
    }
    if split_keys.len() > SPLIT_KEYS_MAX {
        let count = u64::try_from(split_keys.len()).unwrap_or(u64::MAX);
        let max = u64::try_from(SPLIT_KEYS_MAX).unwrap_or(u64::MAX);
        return Err(Refusal::TooManySplitKeys { count, max });
    }
    Ok(key_range::split(split_keys)?)
}
