//! The operator: makes the zone, waits for it, and looks at it after the faults; the verifier: reads
//! everything once more.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proto::v1::{
    GetHeatRequest, GetHeatResponse, GetPartitionMapRequest, GetZoneStatusRequest, InitRequest,
    ListOperationsRequest, ListPartitionsRequest, Operation, PartitionSummary, WatchEventsRequest,
    ZoneStatus, admin_service_client::AdminServiceClient,
    routing_service_client::RoutingServiceClient,
};
use runtime::{
    grpc::{ChannelOptions, Channels, MESSAGE_BYTES_MAX},
    seams::{Environment, Moment},
};
use tonic::{Code, Request, Response, Status};

use crate::{
    board::{Board, Phase},
    checks::{self, Problem},
    coverage,
    history::{Call, Outcome},
    spread,
    workload::{RecordingClient, value_of},
};

/// How long the operator waits for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long for the zone to be made, which members have to agree on.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long between two looks at the zone.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The most partitions whose load can be told: more than any zone here has.
const HOTTEST_MAX: u32 = 64;

/// Items on a page of the last list: so few that it takes many.
const LIST_PAGE_ITEMS: u32 = 7;

/// How long nothing may have moved before the zone counts as at rest.
const REST: Duration = Duration::from_secs(3);

/// How long load must have moved nothing before it counts as spread: averages with a half-life of ten seconds have to
/// follow, and what is seen then has to last for the policy's half minute. And how long it is watched then.
const SPREAD_FOR: Duration = Duration::from_secs(75);
const WATCHED_FOR: Duration = Duration::from_secs(40);

/// What the operator knows of the zone.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    pub partitions: u32,
    /// Requests cost something: load is to be spread.
    pub has_load: bool,
}

/// Where a partition is: what must not change in a zone at rest.
#[derive(Debug, PartialEq, Eq)]
struct Placement {
    partition_id: u64,
    leader_node_id: u64,
    replicas: Vec<(u64, u64)>,
}

impl From<PartitionSummary> for Placement {
    fn from(partition: PartitionSummary) -> Self {
        let replicas = partition.replicas.iter();
        Self {
            partition_id: partition.id,
            leader_node_id: partition.leader_node_id,
            replicas: replicas.map(|replica| (replica.replica_id, replica.node_id)).collect(),
        }
    }
}

/// An operator with a line to every member.
pub struct Operator {
    environment: Environment,
    channels: Channels,
    members: Vec<String>,
    board: Board,
}

impl Operator {
    /// # Errors
    /// If no channels can be made.
    pub fn new(
        environment: Environment,
        members: Vec<String>,
        board: Board,
    ) -> anyhow::Result<Self> {
        let channels = Channels::new(&environment, ChannelOptions::default())?;
        Ok(Self { environment, channels, members, board })
    }

    fn admin(&self, member: &str) -> AdminServiceClient<tonic::transport::Channel> {
        AdminServiceClient::new(self.channels.get(member))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        match self.environment.timeout(limit, call).await {
            Some(answer) => answer.map(Response::into_inner),
            None => Err(Status::deadline_exceeded("no answer in time")),
        }
    }

    /// Makes the zone, looks until all of its partitions are available, and after the faults until it
    /// has settled; then checks what must be true of it.
    ///
    /// # Errors
    /// If `Init` is refused for good.
    pub async fn run(self, init: InitRequest, zone: Zone) -> anyhow::Result<()> {
        let Zone { partitions, has_load } = zone;
        let replication_factor = usize::try_from(init.replication_factor)?;
        self.init(&init).await?;
        loop {
            match self.leaders_status().await.and_then(|it| checks::is_available(&it, partitions)) {
                Ok(()) => break,
                Err(missing) => self.board.wait_for(missing),
            }
            self.environment.sleep(LOOK_INTERVAL).await;
        }
        self.board.set_available();

        if has_load {
            self.board.reached(Phase::Steady).await;
            self.watch_load_being_spread(partitions).await;
            self.board.set_spread();
        }
        self.board.reached(Phase::Settling).await;
        // As long as nodes are drained there may be too few fault domains for all replicas, which is then
        // no violation of G4; every drain is ended before the zone can settle.
        self.board.wait_for("the clients' and the second operator's work to end");
        while self.board.clients_working() > 0 {
            self.environment.sleep(LOOK_INTERVAL).await;
        }
        self.board.wait_for("the operator to look");
        self.wait_until_at_rest(zone, replication_factor).await;
        while let Err(missing) = self.read_ledger().await {
            self.board.wait_for(missing);
            self.environment.sleep(LOOK_INTERVAL).await;
        }
        self.board.set_settled();
        Ok(())
    }

    /// Looks until the zone is as it should be and nothing has moved for [`REST`].
    async fn wait_until_at_rest(&self, zone: Zone, replication_factor: usize) {
        let mut at_rest: Option<(Moment, Vec<Placement>)> = None;
        loop {
            let now = self.environment.now();
            match self.look(zone, replication_factor).await {
                Ok(placements) => match &at_rest {
                    Some((since, before)) if *before == placements => {
                        if now.since(*since) >= REST {
                            return;
                        }
                    }
                    _ => {
                        self.board.wait_for("nothing to move any more");
                        at_rest = Some((now, placements));
                    }
                },
                Err(missing) => {
                    self.board.wait_for(missing);
                    at_rest = None;
                }
            }
            self.environment.sleep(LOOK_INTERVAL).await;
        }
    }

    /// Looks until load is spread, and then whether it is left alone.
    async fn watch_load_being_spread(&self, partitions: u32) {
        let mut since: Option<(Moment, u64)> = None;
        // What other load has moved before may go back under this one.
        let mut begun = None;
        loop {
            let now = self.environment.now();
            let looked = self.look_at_load(partitions).await;
            let (operations, is_on_the_edge) = match looked {
                Ok(seen) => seen,
                Err(missing) => {
                    if !is_taken_at_its_word(since, now) {
                        since = None;
                    }
                    self.board.wait_for(missing);
                    self.environment.sleep(LOOK_INTERVAL).await;
                    continue;
                }
            };
            let latest = operations.iter().map(|operation| operation.id).max().unwrap_or(0);
            let begun = *begun.get_or_insert(latest);
            self.report(spread::check_no_return(&spread::moved(&operations, begun)));
            let (from, known) = *since.get_or_insert((now, latest));
            let moved = spread::moved(&operations, known);
            if is_taken_at_its_word(since, now) {
                if is_on_the_edge {
                    // What has been moved now was not worth it a moment before: no word was broken.
                    since = Some((from, latest));
                } else {
                    self.report(spread::check_left_alone(&moved));
                }
                if now.since(from) >= SPREAD_FOR + WATCHED_FOR
                    && let (Ok(heat), Ok(partitions)) =
                        (self.heat().await, self.list_partitions().await)
                {
                    self.report(spread::check_spread(&heat, &partitions, &operations));
                    return;
                }
            } else if !moved.is_empty() {
                since = Some((now, latest));
            }
            self.board.wait_for("load to be left alone");
            self.environment.sleep(LOOK_INTERVAL).await;
        }
    }

    /// All operations, if the zone says that load is spread; and whether it may not seem so the next time.
    async fn look_at_load(&self, partitions: u32) -> Result<(Vec<Operation>, bool), String> {
        let status = self.leaders_status().await?;
        checks::is_settled(&status, partitions)?;
        let heat = self.heat().await?;
        self.report(checks::check_heat(&heat));
        spread::is_done(&heat)?;
        Ok((self.list_operations().await?, spread::is_on_the_edge(&heat)))
    }

    async fn list_operations(&self) -> Result<Vec<Operation>, String> {
        for member in &self.members {
            let mut admin = self.admin(member);
            let request = ListOperationsRequest { include_ended: true, limit: 1_000 };
            let call = admin.list_operations(Request::new(request));
            if let Ok(answer) = self.in_time(CALL_TIMEOUT, call).await {
                return Ok(answer.operations);
            }
        }
        Err("a member to list the operations".into())
    }

    /// Where everything is, if the zone is as it should be.
    async fn look(&self, zone: Zone, replication_factor: usize) -> Result<Vec<Placement>, String> {
        let status = self.leaders_status().await?;
        checks::is_settled(&status, zone.partitions)?;
        let partitions = self.list_partitions().await?;
        self.report(checks::check_partitions(&partitions, &status.nodes, replication_factor));
        // Where there was load, leaders are where it wanted them.
        if !zone.has_load {
            checks::is_even(&partitions)?;
        }
        let heat = self.heat().await?;
        self.report(checks::check_heat(&heat));
        checks::is_idle(&heat, &partitions)?;
        self.check_maps().await?;
        Ok(partitions.into_iter().map(Placement::from).collect())
    }

    async fn init(&self, init: &InitRequest) -> anyhow::Result<()> {
        loop {
            let mut admin = self.admin(&self.members[0]);
            let call = admin.init(Request::new(init.clone()));
            match self.in_time(INIT_TIMEOUT, call).await {
                Ok(made) => {
                    tracing::info!(zone = made.zone_id, partitions = made.partitions, "zone made");
                    return Ok(());
                }
                Err(status) => match status.code() {
                    Code::AlreadyExists => return Ok(()),
                    Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => {
                        anyhow::bail!("Init was refused: {status}");
                    }
                    _ => {
                        self.board.wait_for(format!("Init to succeed: {}", status.message()));
                        self.environment.sleep(LOOK_INTERVAL).await;
                    }
                },
            }
        }
    }

    /// The status as the leader sees it.
    async fn leaders_status(&self) -> Result<ZoneStatus, String> {
        for member in &self.members {
            let mut admin = self.admin(member);
            let call = admin.get_zone_status(Request::new(GetZoneStatusRequest {}));
            if let Ok(status) = self.in_time(CALL_TIMEOUT, call).await
                && status.from_leader
            {
                return Ok(status);
            }
        }
        Err("a member that answers as leader".into())
    }

    /// Load as the leader knows it.
    async fn heat(&self) -> Result<GetHeatResponse, String> {
        let mut last = String::new();
        for member in &self.members {
            let mut admin = self.admin(member);
            let call = admin.get_heat(Request::new(GetHeatRequest { top: HOTTEST_MAX }));
            match self.in_time(CALL_TIMEOUT, call).await {
                Ok(heat) => return Ok(heat),
                Err(status) => status.message().clone_into(&mut last),
            }
        }
        Err(format!("a member to tell of load ({last})"))
    }

    /// G4 in the map that every member gives to clients.
    async fn check_maps(&self) -> Result<(), String> {
        for member in &self.members {
            let mut routing = RoutingServiceClient::new(self.channels.get(member))
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            let call = routing.get_partition_map(Request::new(GetPartitionMapRequest {}));
            let map = self.in_time(CALL_TIMEOUT, call).await.map_err(|status| {
                format!("{member} to give the partition map ({})", status.message())
            })?;
            self.report(checks::check_partition_map(&map));
        }
        Ok(())
    }

    /// Marks what has happened, as the zone itself tells it.
    async fn read_ledger(&self) -> Result<(), String> {
        for member in &self.members {
            let mut admin = self.admin(member);
            let request = ListOperationsRequest { include_ended: true, limit: 1_000 };
            let call = admin.list_operations(Request::new(request));
            let Ok(operations) = self.in_time(CALL_TIMEOUT, call).await else { continue };
            let request = WatchEventsRequest { after_sequence: 0, follow: false };
            let call = admin.watch_events(Request::new(request));
            let Ok(mut events) = self.in_time(CALL_TIMEOUT, call).await else { continue };
            while let Some(Ok(Some(event))) =
                self.environment.timeout(CALL_TIMEOUT, events.message()).await
            {
                coverage::of_event(&event).iter().for_each(|mark| coverage::reached(mark));
            }
            for operation in operations.operations {
                coverage::of_operation(&operation).iter().for_each(|mark| coverage::reached(mark));
            }
            return Ok(());
        }
        Err("a member to tell the ledger".into())
    }

    fn report(&self, checked: Result<(), Problem>) {
        if let Err(problem) = checked {
            self.board.report(problem);
        }
    }

    async fn list_partitions(&self) -> Result<Vec<PartitionSummary>, String> {
        let mut last = String::new();
        for member in &self.members {
            let mut admin = self.admin(member);
            let request =
                ListPartitionsRequest { limit: 10_000, ..ListPartitionsRequest::default() };
            match self.in_time(CALL_TIMEOUT, admin.list_partitions(Request::new(request))).await {
                Ok(answer) => return Ok(answer.partitions),
                Err(status) => status.message().clone_into(&mut last),
            }
        }
        Err(format!("a member to list the partitions ({last})"))
    }
}

/// Whether load has seemed to be spread for so long that it must be.
fn is_taken_at_its_word(since: Option<(Moment, u64)>, now: Moment) -> bool {
    since.is_some_and(|(since, _)| now.since(since) >= SPREAD_FOR)
}

/// Reads every key, and lists them, when the zone has settled: what was acknowledged has to be there.
/// The reads go into the history, whose check decides whether they are right.
pub async fn verify(client: RecordingClient, keys: Vec<Bytes>, board: Board) {
    let mut read = BTreeMap::new();
    for key in &keys {
        board.wait_for(format!("{} to be read", String::from_utf8_lossy(key)));
        match client.perform(key, Call::Get).await {
            Outcome::Found { value, version } => {
                read.insert(key.clone(), (value, version));
            }
            Outcome::Missing => {}
            outcome => board.report(
                Problem::new("G9", "a key of a settled zone cannot be read")
                    .with_details(format!("{}: {outcome}", String::from_utf8_lossy(key))),
            ),
        }
    }
    board.wait_for("the keys to be listed");
    match client.list_all(LIST_PAGE_ITEMS).await {
        Ok(items) => {
            let count = items.len();
            let listed: BTreeMap<_, _> = items
                .into_iter()
                .map(|item| (item.key, (value_of(&item.value), item.version.0)))
                .collect();
            if listed.len() != count {
                board.report(Problem::new("G3", "List doubles a key of a zone at rest"));
            } else if listed != read {
                board.report(
                    Problem::new("G3", "List and Get disagree about a zone at rest")
                        .with_details(format!("listed: {listed:?}\nread:   {read:?}")),
                );
            }
        }
        Err(error) => board.report(
            Problem::new("G9", "the keys of a settled zone cannot be listed")
                .with_details(error.to_string()),
        ),
    }
    board.set_verified();
}
