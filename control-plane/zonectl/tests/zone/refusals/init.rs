//! `init` with what no zone can be made of.

use bytes::Bytes;
use proto::v1::{GetZoneStatusRequest, IdentifyRequest, InitRequest};
use tonic::Code;
use zonectl::zone_process::Role;

use crate::support::{
    eventually,
    wire::{Wire, refused},
    zone::TestZone,
};

/// Three members that run, and belong to no zone.
async fn members() -> (TestZone, Wire) {
    let mut zone = TestZone::prepare(3, 1).await;
    let wire = Wire::new();
    for role in zone.processes.layout().member_roles() {
        zone.processes.start(role).unwrap();
        let mut member = wire.member(&zone.address(role));
        eventually("a member", async || member.identify(IdentifyRequest {}).await.ok().map(drop))
            .await;
    }
    (zone, wire)
}

fn right(zone: &TestZone) -> InitRequest {
    InitRequest {
        member_addresses: zone.endpoints(),
        split_keys: vec!["b".into(), "m".into()],
        replication_factor: 3,
        replace_after_ms: 60_000,
    }
}

async fn is_untouched(zone: &TestZone, wire: &Wire) {
    for address in zone.endpoints() {
        let identity = wire.member(&address).identify(IdentifyRequest {}).await.unwrap();
        let identity = identity.into_inner();
        assert!(!identity.initialized && identity.zone_id.is_empty(), "{identity:?}");
        let status = wire.admin(&address).get_zone_status(GetZoneStatusRequest {}).await.unwrap();
        assert_eq!(status.into_inner().zone_id, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_zones_are_not_made_and_a_possible_one_is() {
    let (zone, wire) = members().await;
    let mut admin = wire.admin(&zone.endpoints()[0]);
    let with = |change: &dyn Fn(&mut InitRequest)| {
        let mut request = right(&zone);
        change(&mut request);
        request
    };
    let keys = |keys: &[&'static str]| -> Vec<Bytes> {
        keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect()
    };
    for (words, request) in [
        (&["split key", "empty"][..], with(&|it| it.split_keys = keys(&["", "m"]))),
        (&["split key"], with(&|it| it.split_keys = keys(&["m", "b"]))),
        (&["split key"], with(&|it| it.split_keys = keys(&["b", "b"]))),
        (&["replication factor of 0", "1, 3 or 5"], with(&|it| it.replication_factor = 0)),
        (&["replication factor of 2"], with(&|it| it.replication_factor = 2)),
        (&["replication factor of 4"], with(&|it| it.replication_factor = 4)),
        (&["replication factor of 7"], with(&|it| it.replication_factor = 7)),
        (&["0 members", "1, 3 or 5"], with(&|it| it.member_addresses.clear())),
        (&["2 members", "1, 3 or 5"], with(&|it| it.member_addresses.truncate(2))),
        (&["4 members", "1, 3 or 5"], with(&|it| it.member_addresses.push("127.0.0.1:1".into()))),
        (&["\"here\"", "host:port"], with(&|it| it.member_addresses[1] = "here".into())),
        (&["same"], with(&|it| it.member_addresses[1] = it.member_addresses[2].clone())),
        (
            &["same member"],
            with(&|it| {
                it.member_addresses[1] = it.member_addresses[2].replace("127.0.0.1", "localhost");
            }),
        ),
        (
            &["none of the member addresses leads to the asked member"],
            with(&|it| it.member_addresses = vec![it.member_addresses[1].clone()]),
        ),
    ] {
        refused(admin.init(request).await, Code::InvalidArgument, words);
    }
    let unreachable = with(&|it| it.member_addresses[2] = "127.0.0.1:1".into());
    let words = ["127.0.0.1:1", "cannot be reached", "start it, or leave it out"];
    refused(admin.init(unreachable).await, Code::Unavailable, &words);
    is_untouched(&zone, &wire).await;

    let made = admin.init(right(&zone)).await.unwrap().into_inner();
    assert_eq!(made.partitions, 3);
    for address in zone.endpoints() {
        let again = wire.admin(&address).init(right(&zone)).await;
        refused(again, Code::AlreadyExists, &["already", &made.zone_id]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_zone_is_not_taken() {
    let (zone, wire) = members().await;
    let [first, second, third] = &zone.endpoints()[..] else { panic!("three members") };
    let alone = InitRequest { member_addresses: vec![third.clone()], ..right(&zone) };
    let made = wire.admin(third).init(alone).await.unwrap().into_inner();
    let answer = wire.admin(first).init(right(&zone)).await;
    refused(answer, Code::FailedPrecondition, &[third, "belongs to zone", &made.zone_id]);
    for address in [first, second] {
        let identity = wire.member(address).identify(IdentifyRequest {}).await.unwrap();
        assert!(!identity.into_inner().initialized);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_in_the_middle_does_not_make_two_zones() {
    let (mut zone, wire) = members().await;
    let request = right(&zone);
    let mut admin = wire.admin(&zone.endpoints()[0]);
    let asking = tokio::spawn(async move { admin.init(request).await });
    // Killed whenever that is: before, while or after the zone is made.
    tokio::task::yield_now().await;
    zone.processes.kill(Role::Member(0)).unwrap();
    let _ = asking.await.unwrap();
    zone.processes.start(Role::Member(0)).unwrap();
    let mut admin = wire.admin(&zone.endpoints()[0]);
    // The same `init` goes on, or says that it is done.
    eventually("the zone to be made", async || match admin.init(right(&zone)).await {
        Ok(_) => Some(()),
        Err(status) => (status.code() == Code::AlreadyExists).then_some(()),
    })
    .await;
    let mut zones = std::collections::BTreeSet::new();
    for address in zone.endpoints() {
        let zone_id = eventually("every member to know", async || {
            let identity = wire.member(&address).identify(IdentifyRequest {}).await.ok()?;
            Some(identity.into_inner().zone_id).filter(|zone_id| !zone_id.is_empty())
        });
        zones.insert(zone_id.await);
    }
    assert_eq!(zones.len(), 1, "{zones:?}");
}
