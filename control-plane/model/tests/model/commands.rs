//! Random commands: whatever decodes is carried out or refused, never a panic and never half of an
//! effect; and the records that were handed to the store are the state.

use std::collections::BTreeMap;

use model::{
    Action, Applied, Command, Incarnation, LogPosition, MemberId, NodeId, OperationId, PartitionId,
    RangeEpoch, ReplicaId, Revision, Term, WallTime, ZoneState, ZoneTime,
    balance::Memory,
    command::{
        BrakeChange, ChangeProposal, ChangePurpose, Conclusion, EndResult, GroupObservation,
        LeaderObservation, OperationEnd, PlacementProposal, PlannedChange, PlannedStep,
        Registration, SplitOff, TakeoverOutcome, TakeoverRecord, TransferProposal,
    },
    heat::{Rates, Summary, summary::SummaryEntry},
    key_range::KeyRange,
    node::NodeState,
    operation::{Origin, SplitPoint},
    partition::{Membership, Replica},
    policy::{FIELDS, WholePolicy},
    state::LoadError,
};
use proptest::{collection::vec, option, prelude::*};

use crate::world::{registration, split_keys, zone_id};

fn node() -> impl Strategy<Value = NodeId> + Clone {
    (0_u64..7).prop_map(NodeId)
}

fn partition() -> impl Strategy<Value = PartitionId> + Clone {
    (0_u64..5).prop_map(PartitionId)
}

fn replica() -> impl Strategy<Value = ReplicaId> + Clone {
    (0_u64..20).prop_map(ReplicaId)
}

fn operation() -> impl Strategy<Value = OperationId> + Clone {
    (0_u64..25).prop_map(OperationId)
}

fn text() -> impl Strategy<Value = String> {
    "[a-z]{0,6}"
}

fn planned_step() -> impl Strategy<Value = PlannedStep> {
    let change =
        prop_oneof![
            (node(), node()).prop_map(|(from, to)| PlannedChange::TransferLeader { from, to }),
            (replica(), node(), node())
                .prop_map(|(replica, from, to)| PlannedChange::MoveReplica { replica, from, to }),
        ];
    // As they are at first, too.
    let targets = prop_oneof![
        vec(replica(), 0..4),
        (0_u64..4).prop_map(|at| { (1..=3).map(|replica| ReplicaId(3 * at + replica)).collect() })
    ];
    (partition(), targets, node(), change, text(), option::weighted(0.1, partition())).prop_map(
        |(partition, targets, leader, change, reason, exchanged_with)| PlannedStep {
            partition,
            targets,
            leader,
            change,
            reason,
            exchanged_with,
        },
    )
}

fn membership() -> impl Strategy<Value = Membership> {
    let member = (replica(), node()).prop_map(|(id, node)| Replica { id, node });
    let set = vec(member.clone(), 0..4);
    (0_u64..6, vec(set, 0..4), vec(member, 0..2)).prop_map(|(index, voter_sets, learners)| {
        Membership {
            log_position: LogPosition { term: Term(1), leader_id: 1, index },
            voter_sets,
            learners,
        }
    })
}

fn leader() -> impl Strategy<Value = LeaderObservation> {
    (replica(), 0_u64..9)
        .prop_map(|(replica, term)| LeaderObservation { replica, term: Term(term) })
}

fn registering() -> impl Strategy<Value = Registration> {
    (1_u64..6, "[abc]", 0_u64..4, any::<bool>(), option::of(node()), any::<bool>()).prop_map(
        |(number, domain, incarnation, foreign, known, renamed)| {
            let mut registration = registration(number, &domain);
            registration.incarnation = Incarnation(incarnation);
            registration.node = known;
            registration.zone_id = known.map(|_| zone_id());
            if foreign && known.is_some() {
                registration.zone_id = Some(uuid::Uuid::from_u128(77));
            }
            if renamed {
                registration.name = "node-1".into();
            }
            registration
        },
    )
}

fn conclusion() -> impl Strategy<Value = Conclusion> {
    let state = prop_oneof![
        Just(NodeState::Up),
        Just(NodeState::Up),
        Just(NodeState::Suspect),
        Just(NodeState::Down)
    ];
    (node(), 0_u64..4, state, text(), any::<(bool, bool)>()).prop_map(
        |(node, incarnation, state, evidence, (by_own_account, forgets))| Conclusion {
            node,
            incarnation: Incarnation(incarnation),
            state,
            evidence,
            by_own_account,
            forgets,
        },
    )
}

fn transfer() -> impl Strategy<Value = TransferProposal> {
    (partition(), node(), node(), text(), option::of(operation())).prop_map(
        |(partition, from, to, reason, parent)| TransferProposal {
            partition,
            from,
            to,
            reason,
            parent,
        },
    )
}

fn change() -> impl Strategy<Value = ChangeProposal> {
    let purpose = prop_oneof![
        Just(ChangePurpose::Repair),
        Just(ChangePurpose::ReplaceFailed),
        Just(ChangePurpose::Spread),
        Just(ChangePurpose::SpreadLoad),
        Just(ChangePurpose::EvenCounts),
        operation().prop_map(|parent| ChangePurpose::Drain { parent })
    ];
    (partition(), purpose, option::of(replica()), option::of(node()), text()).prop_map(
        |(partition, purpose, remove, add, reason)| ChangeProposal {
            partition,
            purpose,
            remove,
            add,
            reason,
        },
    )
}

fn end() -> impl Strategy<Value = OperationEnd> {
    let result = prop_oneof![
        Just(EndResult::Succeeded),
        text().prop_map(|reason| EndResult::Failed { reason }),
        text().prop_map(|reason| EndResult::Cancelled { reason })
    ];
    (operation(), result).prop_map(|(operation, result)| OperationEnd { operation, result })
}

fn takeover() -> impl Strategy<Value = TakeoverRecord> {
    let group = (partition(), option::of(leader()), text())
        .prop_map(|(partition, leader, reason)| TakeoverOutcome { partition, leader, reason });
    (option::of(node()), text(), vec(group, 0..4))
        .prop_map(|(lost, reason, groups)| TakeoverRecord { lost, reason, groups })
}

fn action() -> impl Strategy<Value = Action> {
    let range = (vec(any::<u8>(), 0..2), vec(any::<u8>(), 0..2))
        .prop_filter_map("a range", |(start, end)| KeyRange::new(start, end).ok());
    let split_off = (range, 0_u64..4)
        .prop_map(|(range, epoch)| SplitOff { range, range_epoch: RangeEpoch(epoch) });
    let observed =
        (partition(), option::of(membership()), option::of(leader()), option::of(split_off));
    let groups = observed.prop_map(|(partition, membership, leader, split_off)| GroupObservation {
        partition,
        membership,
        leader,
        split_off,
    });
    let split_point = prop_oneof![
        vec(any::<u8>(), 0..3).prop_map(|key| SplitPoint::Key(key.into())),
        Just(SplitPoint::MiddleOfLoad),
        Just(SplitPoint::MiddleOfSize),
    ];
    let placement = (partition(), vec(node(), 0..5), node(), text()).prop_map(
        |(partition, nodes, preferred_leader, reason)| PlacementProposal {
            partition,
            nodes,
            preferred_leader,
            reason,
        },
    );
    let brake = option::of(
        (any::<bool>(), text()).prop_map(|(engaged, reason)| BrakeChange { engaged, reason }),
    );
    prop_oneof![
        1 => (0_u32..6, vec(vec(any::<u8>(), 0..3), 0..4)).prop_map(|(factor, split_keys)| {
            Action::InitializeZone {
                zone_id: zone_id(),
                split_keys,
                replication_factor: factor,
                replace_after_ms: 0,
            }
        }),
        4 => registering().prop_map(Action::RegisterNode),
        3 => (vec(conclusion(), 0..3), brake)
            .prop_map(|(conclusions, brake)| Action::SetLiveness { conclusions, brake }),
        2 => vec(placement, 0..3)
            .prop_map(|placements| Action::CommitPlacements { placements }),
        4 => vec(groups, 0..3).prop_map(|groups| Action::ObserveGroups { groups }),
        2 => (partition(), node())
            .prop_map(|(partition, to)| Action::TransferLeader { partition, to }),
        3 => (partition(), node(), node())
            .prop_map(|(partition, from, to)| Action::MoveReplica { partition, from, to }),
        3 => (partition(), split_point, text()).prop_map(|(partition, at, reason)| {
            Action::SplitPartition { partition, at, origin: Origin::Operator, reason }
        }),
        1 => (node(), any::<bool>()).prop_map(|(node, accept_data_loss_risk)| {
            Action::DrainNode { node, accept_data_loss_risk }
        }),
        1 => node().prop_map(|node| Action::UncordonNode { node }),
        1 => node().prop_map(|node| Action::RemoveNode { node }),
        3 => vec(planned_step(), 0..3).prop_map(|steps| Action::ApplyPlan { steps }),
        1 => operation().prop_map(|operation| Action::CancelOperation { operation }),
        1 => (prop_oneof![Just(0_u64), 1_u64..5_000, any::<u64>()], text())
            .prop_map(|(for_ms, reason)| Action::OverrideBrake { for_ms, reason }),
        1 => vec(transfer(), 0..3).prop_map(|transfers| Action::StartTransfers {
            origin: Origin::Balance,
            transfers
        }),
        3 => vec(change(), 0..3).prop_map(|changes| Action::StartReplicaChanges { changes }),
        1 => takeover().prop_map(Action::RecordTakeover),
        1 => (operation(), text())
            .prop_map(|(operation, error)| Action::NoteOperationError { operation, error }),
        2 => vec(end(), 0..3).prop_map(|ends| Action::EndOperations { ends }),
        2 => vec((partition(), replica()), 0..3)
            .prop_map(|replicas| Action::DropRetired { replicas }),
        1 => Just(Action::Tick),
        1 => (any::<u64>(), text(), any::<u64>()).prop_map(|(member, address, term)| {
            Action::AnnounceLeader { member: MemberId(member), address, term: Term(term) }
        }),
        1 => vec((partition(), 0.0..1e6), 0..4).prop_map(|loads| {
            let entries = loads.into_iter().map(|(partition, reads_per_second)| {
                let rates = Rates { reads_per_second, ..Rates::default() };
                SummaryEntry::new(partition, &rates)
            });
            Action::SummarizeHeat { summary: Summary::of_hottest(entries) }
        }),
        1 => any::<u32>().prop_map(|realised_gain_permille| {
            let memory = Memory { realised_gain_permille, ..Memory::default() };
            Action::RememberBalance { memory }
        }),
        1 => (0_u64..4, 0..FIELDS.len(), any::<u16>(), text()).prop_map(|given| {
            let (expected_version, field, value, reason) = given;
            let mut policy = WholePolicy::default_for(3).values();
            policy.insert(FIELDS[field].name.to_owned(), value.into());
            Action::SetPolicy { expected_version, values: policy, reason }
        }),
        1 => (option::of(0..FIELDS.len()), any::<u16>(), text()).prop_map(|(field, value, reason)| {
            let balance = field.map(|field| {
                let mut policy = WholePolicy::default_for(3).values();
                policy.retain(|name, _| name.starts_with("balance."));
                policy.insert(FIELDS[field].name.to_owned(), value.into());
                policy
            });
            Action::SetShadowPolicy { balance, reason }
        }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let key = prop_oneof![
        8 => Just(String::new()),
        2 => "[ab]",
        1 => Just("x".repeat(65))
    ];
    (any::<u16>(), key, action()).prop_map(|(time, key, action)| {
        Command::new(ZoneTime(u64::from(time)), WallTime(1), action).of_request(key, 0)
    })
}

/// A state with nodes, placed and founded partitions, so that random commands hit something.
fn prepared() -> ZoneState {
    let mut state = ZoneState::default();
    let mut revision = 0;
    let mut apply = |state: &mut ZoneState, action| {
        revision += 1;
        let command = Command::new(ZoneTime(revision * 10), WallTime(1), action);
        state.apply(Revision(revision), &command).expect("well-formed")
    };
    apply(
        &mut state,
        Action::InitializeZone {
            zone_id: zone_id(),
            split_keys: split_keys(4),
            replication_factor: 3,
            replace_after_ms: 500,
        },
    );
    for number in 1..=5 {
        let domain = ["a", "b", "c", "d", "a"][number - 1];
        let number = u64::try_from(number).expect("few");
        apply(&mut state, Action::RegisterNode(registration(number, domain)));
    }
    for partition in 1..=3_u64 {
        let nodes: Vec<_> = (0..3).map(|shift| NodeId((partition + shift - 1) % 4 + 1)).collect();
        let placement = PlacementProposal {
            partition: PartitionId(partition),
            preferred_leader: nodes[0],
            nodes,
            reason: String::new(),
        };
        apply(&mut state, Action::CommitPlacements { placements: vec![placement] });
        let targets = state.partition(PartitionId(partition)).expect("placed").targets.clone();
        let leader = LeaderObservation { replica: targets[0].id, term: Term(1) };
        let membership = Membership {
            log_position: LogPosition { term: Term(0), leader_id: 0, index: 0 },
            voter_sets: vec![targets],
            learners: Vec::new(),
        };
        let group = GroupObservation {
            partition: PartitionId(partition),
            membership: Some(membership),
            leader: Some(leader),
            split_off: None,
        };
        apply(&mut state, Action::ObserveGroups { groups: vec![group] });
    }
    state
}

type Store = BTreeMap<Vec<u8>, Vec<u8>>;

fn persist(state: &mut ZoneState, store: &mut Store) {
    for (key, value) in state.take_changes().records {
        match value {
            Some(value) => store.insert(key, value),
            None => store.remove(&key),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_are_applied_or_refused_and_nothing_else(
        commands in vec(command(), 1..60),
        from_nothing in prop::bool::weighted(0.1),
    ) {
        let mut state = if from_nothing { ZoneState::default() } else { prepared() };
        let mut store = Store::new();
        persist(&mut state, &mut store);
        let mut twin = state.clone();
        for (command, revision) in commands.iter().zip(1_000..) {
            let time = state.zone_time();
            let bytes = postcard::to_stdvec(command).expect("encodes");
            let command: Command = postcard::from_bytes(&bytes).expect("decodes");
            let outcome = state.apply(Revision(revision), &command);
            prop_assert_eq!(&twin.apply(Revision(revision), &command), &outcome, "deterministic");
            twin.take_changes();
            prop_assert!(state.check().is_ok());
            prop_assert!(state.is_consistent());
            prop_assert!(state.zone_time() >= time);
            prop_assert!(state.zone_time().get() <= time.get() + 1_000);
            let mut peek = state.clone();
            let changes = peek.take_changes();
            if let Err(refusal) = &outcome {
                prop_assert!(!refusal.to_string().is_empty());
                let _ = refusal.category();
                prop_assert!(changes.nodes.is_empty() && changes.partitions.is_empty(), "{:?}", refusal);
                prop_assert!(changes.operations.is_empty() && changes.events.is_empty(), "{:?}", refusal);
            }
            if let Ok(Applied::Batch { accepted: 0, .. }) = &outcome {
                prop_assert!(changes.nodes.is_empty() && changes.partitions.is_empty());
            }
            // G10: no change of intent without an event.
            if !changes.nodes.is_empty() || !changes.operations.is_empty() {
                prop_assert!(!changes.events.is_empty(), "{:?}", command);
            }
            persist(&mut state, &mut store);
        }
        let loaded = ZoneState::from_records(&store).expect("its own records");
        prop_assert!(loaded.is_consistent());
        let records: Store = loaded.records().collect();
        prop_assert_eq!(&records, &store);
        prop_assert_eq!(state.records().collect::<Store>(), store);
    }

    #[test]
    fn garbage_is_no_state(
        records in vec((vec(any::<u8>(), 0..12), vec(any::<u8>(), 0..40)), 1..4),
    ) {
        // Whatever it is: an error, never a panic.
        let _ = ZoneState::from_records(records).map(|state| state.is_consistent());
    }
}

#[test]
fn records_that_break_the_cover_or_belong_to_no_table_are_refused() {
    let mut state = prepared();
    let mut store = Store::new();
    persist(&mut state, &mut store);
    let mut holed = store.clone();
    holed.remove([4, 0, 0, 0, 0, 0, 0, 0, 2].as_slice()).expect("partition 2");
    assert!(matches!(ZoneState::from_records(&holed), Err(LoadError::Cover(_))));
    let mut foreign = store.clone();
    foreign.insert(vec![99, 1], vec![]);
    assert!(matches!(ZoneState::from_records(&foreign), Err(LoadError::UnknownTable { .. })));
    let mut torn = store.clone();
    torn.insert(vec![4, 0, 0, 0, 0, 0, 0, 0, 2], vec![1]);
    assert!(matches!(ZoneState::from_records(&torn), Err(LoadError::Malformed { .. })));
    let mut headless = store;
    headless.remove([1].as_slice()).expect("the zone");
    assert!(matches!(ZoneState::from_records(&headless), Err(LoadError::NoZone { .. })));
}

#[test]
fn a_command_persists_only_what_it_touched() {
    let mut state = prepared();
    state.take_changes();
    let mut revision = 100;
    let mut apply = |state: &mut ZoneState, action| {
        revision += 1;
        let command = Command::new(state.zone_time(), WallTime(1), action);
        state.apply(Revision(revision), &command).expect("well-formed");
        state.take_changes()
    };
    assert_eq!(apply(&mut state, Action::Tick).records.len(), 1);
    let transfer = Action::TransferLeader { partition: PartitionId(1), to: NodeId(2) };
    let changes = apply(&mut state, transfer);
    // The zone, the partition, the operation, one event.
    assert_eq!(changes.records.len(), 4, "{changes:?}");
    assert_eq!(changes.partitions, vec![PartitionId(1)]);
}

#[test]
fn the_ledger_says_once_for_each_term_who_leads() {
    let mut state = prepared();
    let mut revision = 100;
    let mut announce = |state: &mut ZoneState, member, term| {
        revision += 1;
        let action = Action::AnnounceLeader {
            member: MemberId(member),
            address: "127.0.0.1:7400".into(),
            term: Term(term),
        };
        let command = Command::new(state.zone_time(), WallTime(1), action)
            .of_request(format!("leader-{member}-{term}"), 0);
        state.apply(Revision(revision), &command).expect("told");
    };
    announce(&mut state, 7, 3);
    announce(&mut state, 7, 3);
    announce(&mut state, 8, 4);
    let told: Vec<_> = state
        .events()
        .iter()
        .filter(|(_, event)| event.kind.as_str() == "control-plane-leader")
        .map(|(_, event)| event.message.clone())
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], "member 7 at 127.0.0.1:7400 leads the control plane in term 3");
    assert!(told[1].contains("member 8") && told[1].contains("term 4"), "{told:?}");
}

#[test]
fn the_ledger_and_what_has_ended_are_bounded() {
    let mut state = prepared();
    let mut revision = 100;
    for round in 0..21_500_u64 {
        revision += 1;
        let state_of = if round % 2 == 0 { NodeState::Down } else { NodeState::Up };
        let conclusion = Conclusion {
            node: NodeId(5),
            incarnation: Incarnation(1),
            state: state_of,
            evidence: String::new(),
            by_own_account: false,
            forgets: false,
        };
        let action = Action::SetLiveness { conclusions: vec![conclusion], brake: None };
        let command = Command::new(ZoneTime(0), WallTime(0), action);
        state.apply(Revision(revision), &command).expect("a batch");
    }
    assert_eq!(state.events().len(), 20_000);
    for _ in 0..2_500 {
        revision += 1;
        let partition = PartitionId(1);
        let to = state.partition(partition).expect("there").leader.expect("led").node;
        // A transfer to where the leader is ends at once.
        let action = Action::TransferLeader { partition, to };
        state
            .apply(Revision(revision), &Command::new(ZoneTime(0), WallTime(0), action))
            .expect("possible");
    }
    assert_eq!(state.operations().len(), 2_000);
    // What was lost and taken over meanwhile pushes nothing of that out.
    for round in 0..2_500_u64 {
        revision += 1;
        let partition = PartitionId(1);
        let replica = state.partition(partition).expect("there").leader.expect("led").replica;
        let leader = LeaderObservation { replica, term: Term(2 + round) };
        let outcome = TakeoverOutcome { partition, leader: Some(leader), reason: String::new() };
        let record = TakeoverRecord { lost: None, reason: String::new(), groups: vec![outcome] };
        let action = Action::RecordTakeover(record);
        state
            .apply(Revision(revision), &Command::new(ZoneTime(0), WallTime(0), action))
            .expect("a batch");
    }
    let operations = || state.operations().iter().map(|(_, operation)| operation);
    assert_eq!(operations().count(), 4_000);
    assert_eq!(operations().filter(|operation| operation.is_meant()).count(), 2_000);
    // A week later the ledger is empty: each command forgets so many, and no more.
    for _ in 0..=(7 * 24 * 3_600_u64 + 10) {
        revision += 1;
        let time = ZoneTime(state.zone_time().get() + 1_000);
        let command = Command::new(time, WallTime(0), Action::Tick);
        state.apply(Revision(revision), &command).expect("a tick");
        state.take_changes();
    }
    assert!(state.events().is_empty());
}
