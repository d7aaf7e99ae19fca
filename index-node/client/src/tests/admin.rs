//! Commands find the leader.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, TryStreamExt, stream};
use proto::v1::{
    self,
    admin_service_server::{AdminService, AdminServiceServer},
    error_detail::Kind,
};
use runtime::{grpc::detail, seams::Environment};
use tonic::{Code, Request, Response, Status, service::Routes};

use super::fake::{Server, dead_address, serve};
use crate::{AdminClient, AdminError, AdminOptions};

/// A member that leads, or names who does.
#[derive(Clone, Default)]
struct Member(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// None: this member leads. Empty: nobody is known.
    leader: Option<String>,
    keys: Vec<String>,
    /// Fails so many calls as unavailable.
    unavailable: u32,
    /// How often the status was asked for.
    status_calls: u32,
    /// The stream of events breaks after so many.
    break_after: Option<usize>,
    /// So many plans are outrun by the zone before they are applied.
    plans_outrun: u32,
    plans: u64,
    /// The first partitions of the plans that were applied.
    applied: Vec<u64>,
}

impl Member {
    fn check(&self) -> Result<(), Status> {
        let mut state = self.0.lock().unwrap();
        if state.unavailable > 0 {
            state.unavailable -= 1;
            return Err(Status::unavailable("electing"));
        }
        match &state.leader {
            None => Ok(()),
            Some(address) => {
                let leader = Some(v1::NodeAddress { node_id: 1, address: address.clone() });
                let kind = Kind::WrongLeader(v1::WrongLeader { leader });
                Err(detail::status(Code::FailedPrecondition, "not the leader", kind))
            }
        }
    }

    async fn serve(&self) -> Server {
        serve(Routes::new(AdminServiceServer::new(self.clone()))).await
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;
type Lines = Pin<Box<dyn Stream<Item = Result<v1::SignalLogLine, Status>> + Send>>;
type Operations = Pin<Box<dyn Stream<Item = Result<v1::Operation, Status>> + Send>>;

macro_rules! unused {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl AdminService for Member {
            $(
                async fn $name(
                    &self,
                    _: Request<v1::$request>,
                ) -> Result<Response<v1::$response>, Status> {
                    Err(Status::unimplemented("not in this test"))
                }
            )*

            async fn get_zone_status(
                &self,
                _: Request<v1::GetZoneStatusRequest>,
            ) -> Result<Response<v1::ZoneStatus>, Status> {
                self.0.lock().unwrap().status_calls += 1;
                let from_leader = self.check().is_ok();
                let leader = self.0.lock().unwrap().leader.clone();
                let member = |address| v1::MemberStatus { address, ..Default::default() };
                let members = leader.into_iter().map(member).collect();
                let control_plane = Some(v1::ControlPlaneStatus { members, ..Default::default() });
                Ok(Response::new(v1::ZoneStatus {
                    from_leader,
                    zone_id: "z".into(),
                    control_plane,
                    ..v1::ZoneStatus::default()
                }))
            }

            async fn get_node(
                &self,
                _: Request<v1::GetNodeRequest>,
            ) -> Result<Response<v1::NodeDetail>, Status> {
                self.check()?;
                Err(Status::not_found("there is no node 9; there are 1, 2 and 3"))
            }

            async fn drain_node(
                &self,
                request: Request<v1::DrainNodeRequest>,
            ) -> Result<Response<v1::OperationResponse>, Status> {
                let key = request.into_inner().idempotency_key;
                self.0.lock().unwrap().keys.push(key);
                self.check()?;
                let operation = Some(v1::Operation { id: 5, ..v1::Operation::default() });
                Ok(Response::new(v1::OperationResponse { operation }))
            }

            async fn plan_balance(
                &self,
                _: Request<v1::PlanBalanceRequest>,
            ) -> Result<Response<v1::BalancePlan>, Status> {
                self.check()?;
                let mut state = self.0.lock().unwrap();
                state.plans += 1;
                let step = v1::PlanStep { partition_id: state.plans, ..v1::PlanStep::default() };
                let steps = vec![step];
                Ok(Response::new(v1::BalancePlan { steps, ..v1::BalancePlan::default() }))
            }

            async fn apply_plan(
                &self,
                request: Request<v1::ApplyPlanRequest>,
            ) -> Result<Response<v1::ApplyPlanResponse>, Status> {
                self.check()?;
                let request = request.into_inner();
                let mut state = self.0.lock().unwrap();
                state.keys.push(request.idempotency_key);
                if state.plans_outrun > 0 {
                    state.plans_outrun -= 1;
                    let changed = v1::PlanChanged { partition_ids: vec![1], more: 0 };
                    let kind = Kind::PlanChanged(changed);
                    return Err(detail::status(Code::FailedPrecondition, "plan again", kind));
                }
                state.applied.extend(request.steps.first().map(|step| step.partition_id));
                Ok(Response::new(v1::ApplyPlanResponse { operation_ids: vec![8] }))
            }

            type WatchOperationStream = Operations;
            async fn watch_operation(
                &self,
                _: Request<v1::WatchOperationRequest>,
            ) -> Result<Response<Operations>, Status> {
                self.check()?;
                let states = [v1::OperationState::Running, v1::OperationState::Succeeded];
                let operations = states.map(|state| {
                    Ok(v1::Operation { id: 5, state: state.into(), ..v1::Operation::default() })
                });
                Ok(Response::new(Box::pin(stream::iter(operations))))
            }

            type WatchEventsStream = Events;
            type GetSignalLogStream = Lines;
            async fn get_signal_log(
                &self,
                _: Request<v1::GetSignalLogRequest>,
            ) -> Result<Response<Lines>, Status> {
                Err(Status::unimplemented("not needed here"))
            }

            async fn watch_events(
                &self,
                request: Request<v1::WatchEventsRequest>,
            ) -> Result<Response<Events>, Status> {
                self.check()?;
                let after = request.into_inner().after_sequence;
                let mut events: Vec<_> = (after + 1..=6)
                    .map(|sequence| Ok(v1::Event { sequence, ..v1::Event::default() }))
                    .collect();
                if let Some(count) = self.0.lock().unwrap().break_after.take() {
                    events.truncate(count);
                    events.push(Err(Status::unavailable("this member shuts down")));
                }
                Ok(Response::new(Box::pin(stream::iter(events))))
            }
        }
    };
}

unused! {
    init(InitRequest) -> InitResponse;
    list_nodes(ListNodesRequest) -> ListNodesResponse;
    list_partitions(ListPartitionsRequest) -> ListPartitionsResponse;
    get_partition(GetPartitionRequest) -> PartitionDetail;
    transfer_leader(TransferLeaderRequest) -> OperationResponse;
    move_replica(MoveReplicaRequest) -> OperationResponse;
    split_partition(SplitPartitionRequest) -> OperationResponse;
    uncordon_node(UncordonNodeRequest) -> UncordonNodeResponse;
    remove_node(RemoveNodeRequest) -> RemoveNodeResponse;
    override_brake(OverrideBrakeRequest) -> OverrideBrakeResponse;
    get_policy(GetPolicyRequest) -> GetPolicyResponse;
    set_policy(SetPolicyRequest) -> SetPolicyResponse;
    get_shadow_policy(GetShadowPolicyRequest) -> GetShadowPolicyResponse;
    set_shadow_policy(SetShadowPolicyRequest) -> SetShadowPolicyResponse;
    get_heat(GetHeatRequest) -> GetHeatResponse;
    list_operations(ListOperationsRequest) -> ListOperationsResponse;
    cancel_operation(CancelOperationRequest) -> Operation;
}

/// Waits for whoever may be slow to answer.
fn client(endpoints: &[&str], deadline_ms: u64) -> AdminClient {
    client_of(endpoints, deadline_ms, deadline_ms)
}

fn client_of(endpoints: &[&str], deadline_ms: u64, unreachable_after_ms: u64) -> AdminClient {
    let endpoints: Vec<String> = endpoints.iter().map(|one| (*one).to_owned()).collect();
    let options = AdminOptions {
        deadline: Duration::from_millis(deadline_ms),
        unreachable_after: Duration::from_millis(unreachable_after_ms),
        ..AdminOptions::default()
    };
    AdminClient::new(&Environment::production(), &endpoints, options).unwrap()
}

#[tokio::test]
async fn a_command_follows_the_hint_and_keeps_its_key() {
    let (leader, follower) = (Member::default(), Member::default());
    let server = leader.serve().await;
    follower.0.lock().unwrap().leader = Some(server.address.clone());
    leader.0.lock().unwrap().unavailable = 1;
    let asked = follower.serve().await;
    let dead = dead_address().await;
    let client = client(&[&dead, &asked.address], 20_000);
    let answer = client.drain_node(v1::DrainNodeRequest::default()).await.unwrap();
    assert_eq!(answer.operation.unwrap().id, 5);
    let keys = leader.0.lock().unwrap().keys.clone();
    assert_eq!(keys.len(), 2);
    assert!(!keys[0].is_empty() && keys[0] == keys[1]);
}

#[tokio::test]
async fn a_refusal_is_final_and_in_plain_words() {
    let server = Member::default().serve().await;
    let client = client(&[&server.address], 20_000);
    let error = client.get_node(v1::GetNodeRequest::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no node 9; there are 1, 2 and 3");
    assert_eq!(error.code(), Some(Code::NotFound));
}

#[tokio::test]
async fn nobody_there_and_nobody_leading_are_two_things() {
    let dead = dead_address().await;
    let nobody = || client_of(&[&dead], 20_000, 50);
    let error = nobody().status().await.unwrap_err();
    assert!(matches!(error, AdminError::Unreachable { .. }), "{error}");
    let error = nobody().list_nodes(v1::ListNodesRequest {}).await.unwrap_err();
    assert!(matches!(error, AdminError::Unreachable { .. }), "{error}");

    let member = Member::default();
    member.0.lock().unwrap().leader = Some(String::new());
    let server = member.serve().await;
    let client = client(&[&server.address, &dead], 2_000);
    let error = client.get_node(v1::GetNodeRequest::default()).await.unwrap_err();
    assert!(matches!(error, AdminError::NoLeader { .. }), "{error}");
    assert!(!client.status().await.unwrap().from_leader, "a follower's view is better than none");
}

#[tokio::test]
async fn the_leaders_view_is_preferred() {
    let (leader, follower) = (Member::default(), Member::default());
    follower.0.lock().unwrap().leader = Some(String::new());
    let (first, second) = (follower.serve().await, leader.serve().await);
    let client = client(&[&first.address, &second.address], 20_000);
    assert!(client.status().await.unwrap().from_leader);
}

#[tokio::test]
async fn the_leader_is_asked_although_only_a_follower_was_named() {
    let (leader, follower) = (Member::default(), Member::default());
    let server = leader.serve().await;
    follower.0.lock().unwrap().leader = Some(server.address.clone());
    let asked = follower.serve().await;
    assert!(client(&[&asked.address], 20_000).status().await.unwrap().from_leader);
}

#[tokio::test]
async fn a_view_that_names_a_dead_leader_is_not_the_last_word() {
    let member = Member::default();
    let dead = dead_address().await;
    member.0.lock().unwrap().leader = Some(dead.clone());
    let server = member.serve().await;
    let client = client(&[&dead, &server.address], 20_000);
    let electing = async {
        // It was asked, named the dead one, and is asked again.
        while member.0.lock().unwrap().status_calls < 2 {
            tokio::task::yield_now().await;
        }
        member.0.lock().unwrap().leader = None;
    };
    let (status, ()) = tokio::join!(client.status(), electing);
    assert!(status.unwrap().from_leader);
}

#[tokio::test]
async fn a_broken_stream_of_events_goes_on_where_it_was() {
    let member = Member::default();
    member.0.lock().unwrap().break_after = Some(2);
    let server = member.serve().await;
    let client = client(&[&server.address], 20_000);
    let events = client.watch_events(v1::WatchEventsRequest { after_sequence: 1, follow: false });
    let events: Vec<v1::Event> = events.try_collect().await.unwrap();
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn an_operation_is_watched_to_its_end() {
    let server = Member::default().serve().await;
    let client = client(&[&server.address], 20_000);
    let states: Vec<v1::Operation> = client.watch_operation(5).try_collect().await.unwrap();
    assert_eq!(states.len(), 2);
    assert_eq!(states[1].state(), v1::OperationState::Succeeded);
}

#[tokio::test]
async fn a_plan_that_is_outrun_is_made_again_and_not_for_ever() {
    let member = Member::default();
    member.0.lock().unwrap().plans_outrun = 2;
    let server = member.serve().await;
    let client = client(&[&server.address], 20_000);
    let rebalanced = client.rebalance().await.unwrap();
    assert_eq!(rebalanced.operation_ids, [8]);
    assert_eq!(rebalanced.plan.steps[0].partition_id, 3);
    assert_eq!(member.0.lock().unwrap().applied, [3], "the newest plan, and no other");
    let keys = member.0.lock().unwrap().keys.clone();
    assert!(keys[0] != keys[1] && keys[1] != keys[2], "another plan is another command");

    member.0.lock().unwrap().plans_outrun = u32::MAX;
    let error = client.rebalance().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
}
