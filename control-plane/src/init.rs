//! How a zone is made: once, by any member that is asked.
//!
//! The steps: every member says who it is; the first membership is made; whoever leads commits the zone
//! itself. Each step finds out whether it was done before, so that an `init` that broke off anywhere
//! goes on when it is repeated; but only one, with its own zone id, ever takes effect.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use model::{
    Action, Applied, MemberId, Refusal, key_range,
    policy::{SPLIT_KEYS_MAX, check_replace_after},
};
use proto::v1::{
    IdentifyRequest, IdentifyResponse, InitRequest, InitResponse,
    admin_service_client::AdminServiceClient, member_service_client::MemberServiceClient,
};
use runtime::grpc::MESSAGE_BYTES_MAX;
use tonic::{Request, Status};

use crate::{
    configuration::is_host_and_port,
    member::Member,
    raft::group::{Peer, ProposeError},
    services::refusal,
};

/// How long one member may take to say who it is.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the new group may take to elect its first leader.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether there is one.
const LEADER_POLL: Duration = Duration::from_millis(20);
/// Marks an `init` that a member passes on to the leader, so that it is passed on once only.
const FORWARDED: &str = "isotherm-forwarded-init";

/// Carries out `init`, or goes on with one that broke off.
///
/// # Errors
/// As `AdminService.Init` documents them.
pub async fn init(
    member: &Arc<Member>,
    request: Request<InitRequest>,
) -> Result<InitResponse, Status> {
    let forwarded = request.metadata().contains_key(FORWARDED);
    let request = request.into_inner();
    check(&request)?;
    if let Some(zone_id) = member.zone_id() {
        return Err(refusal::status(&Refusal::AlreadyInitialized { zone_id }));
    }
    if !forwarded {
        make_group(member, &request).await?;
    }
    commit(member, request, forwarded).await
}

/// What can never be right is refused before anything is asked or done.
fn check(request: &InitRequest) -> Result<(), Status> {
    let addresses = &request.member_addresses;
    if !matches!(addresses.len(), 1 | 3 | 5) {
        return Err(Status::invalid_argument(format!(
            "{} members are not possible: a control plane has 1, 3 or 5",
            addresses.len()
        )));
    }
    for address in addresses {
        if !is_host_and_port(address) {
            return Err(Status::invalid_argument(format!(
                "member address {address:?} is malformed: it must be host:port"
            )));
        }
    }
    if addresses.iter().collect::<BTreeSet<_>>().len() != addresses.len() {
        return Err(Status::invalid_argument("two member addresses are the same"));
    }
    if !matches!(request.replication_factor, 1 | 3 | 5) {
        let given = request.replication_factor;
        return Err(refusal::status(&Refusal::InvalidReplicationFactor { given }));
    }
    if request.replace_after_ms > 0 {
        let possible = check_replace_after(request.replace_after_ms);
        possible.map_err(|error| refusal::status(&error.into()))?;
    }
    let count = request.split_keys.len();
    if count > SPLIT_KEYS_MAX {
        let refused = Refusal::TooManySplitKeys { count: count as u64, max: SPLIT_KEYS_MAX as u64 };
        return Err(refusal::status(&refused));
    }
    let keys: Vec<Vec<u8>> = request.split_keys.iter().map(|key| key.to_vec()).collect();
    key_range::split(&keys).map_err(|error| refusal::status(&error.into()))?;
    Ok(())
}

/// Asks a member who it is.
async fn identify(member: &Member, address: &str) -> Result<IdentifyResponse, Status> {
    let mut client = MemberServiceClient::new(member.channels().get(address));
    let asked = client.identify(IdentifyRequest {});
    let answer = member.environment().timeout(IDENTIFY_TIMEOUT, asked).await;
    let problem = match answer {
        Some(Ok(response)) => return Ok(response.into_inner()),
        Some(Err(status)) => status.message().to_owned(),
        None => format!("no answer within {} s", IDENTIFY_TIMEOUT.as_secs()),
    };
    Err(Status::unavailable(format!(
        "the member at {address} cannot be reached: {problem}; start it, or leave it out"
    )))
}

/// Makes the first membership, unless an earlier `init` has made exactly this one.
async fn make_group(member: &Arc<Member>, request: &InitRequest) -> Result<(), Status> {
    let own_id = member.group().member_id();
    let known: BTreeSet<MemberId> = member.group().members().iter().map(|peer| peer.id).collect();
    let mut peers = Vec::new();
    let mut initialized = Vec::new();
    for address in &request.member_addresses {
        let identity = identify(member, address).await?;
        if !identity.zone_id.is_empty() {
            let message =
                format!("the member at {address} belongs to zone {} already", identity.zone_id);
            return Err(if known.contains(&MemberId(identity.member_id)) {
                Status::already_exists(message)
            } else {
                Status::failed_precondition(message)
            });
        }
        if identity.initialized {
            initialized.push(address.as_str());
        }
        peers.push(Peer { id: MemberId(identity.member_id), address: address.clone() });
    }
    let ids: BTreeSet<MemberId> = peers.iter().map(|peer| peer.id).collect();
    if ids.len() != peers.len() {
        return Err(Status::invalid_argument(
            "two of the member addresses lead to the same member: give each member once",
        ));
    }
    if !ids.contains(&own_id) {
        return Err(Status::invalid_argument(format!(
            "none of the member addresses leads to the asked member: its address is {}",
            member.configuration().advertised_address()
        )));
    }
    if known == ids {
        // An earlier `init` has come this far.
        return Ok(());
    }
    if !known.is_empty() || !initialized.is_empty() {
        let which =
            if known.is_empty() { initialized.join(", ") } else { "the asked member".into() };
        return Err(Status::failed_precondition(format!(
            "{which} belongs to a group already, which is not the one that was asked for: repeat the \
             first `init` at one of its members, or give the member an empty data directory"
        )));
    }
    member
        .group()
        .initialize(&peers)
        .await
        .map_err(|error| Status::unavailable(format!("the members' group cannot be made: {error}")))
}

/// Commits the zone at whoever leads.
async fn commit(
    member: &Arc<Member>,
    request: InitRequest,
    forwarded: bool,
) -> Result<InitResponse, Status> {
    let deadline = member.environment().now() + LEADER_TIMEOUT;
    let zone_id = member.environment().random_uuid();
    let mut last = Status::unavailable("the members' group has no leader yet: repeat the `init`");
    while member.environment().now() < deadline {
        if let Some(reign) = member.reign() {
            match reign.propose(action(zone_id, &request), "").await {
                Ok(Applied::ZoneInitialized { zone_id, partitions }) => {
                    return Ok(InitResponse { zone_id: zone_id.to_string(), partitions });
                }
                Ok(applied) => {
                    return Err(Status::internal(format!("`init` was answered with {applied:?}")));
                }
                // Its own attempt before, whose outcome was not known.
                Err(ProposeError::Refused(Refusal::AlreadyInitialized { zone_id: there }))
                    if there == zone_id =>
                {
                    let partitions = member.group().zone().read(|state| state.partitions().len());
                    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
                    return Ok(InitResponse { zone_id: zone_id.to_string(), partitions });
                }
                Err(ProposeError::Refused(refused)) => return Err(refusal::status(&refused)),
                Err(error @ (ProposeError::NotLeader { .. } | ProposeError::Unknown(_))) => {
                    last = refusal::propose_status(&error);
                }
            }
        } else if let Some(leader) = member.group().leader()
            && leader.id != member.group().member_id()
            && !forwarded
        {
            match forward(member, &leader, &request).await {
                Ok(response) => return Ok(response),
                Err(status) if is_final(&status) => return Err(status),
                Err(status) => last = status,
            }
        }
        member.environment().sleep(LEADER_POLL).await;
    }
    Err(last)
}

/// Whether another try cannot change the answer.
fn is_final(status: &Status) -> bool {
    matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::AlreadyExists)
}

fn action(zone_id: uuid::Uuid, request: &InitRequest) -> Action {
    Action::InitializeZone {
        zone_id,
        split_keys: request.split_keys.iter().map(|key| key.to_vec()).collect(),
        replication_factor: request.replication_factor,
        replace_after_ms: request.replace_after_ms,
    }
}

async fn forward(
    member: &Member,
    leader: &Peer,
    request: &InitRequest,
) -> Result<InitResponse, Status> {
    let mut client = AdminServiceClient::new(member.channels().get(&leader.address))
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let mut request = Request::new(request.clone());
    request.metadata_mut().insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
    let forwarded = member.environment().timeout(LEADER_TIMEOUT, client.init(request)).await;
    forwarded
        .ok_or_else(|| Status::unavailable("the leader did not answer the `init` in time"))?
        .map(tonic::Response::into_inner)
}
