//! The policy over the wire: what it is, and how an operator changes it.

use proto::v1;
use tonic::Code;

use crate::support::zone::TestZone;

fn request(policy: v1::Policy, reason: &str, key: &str) -> v1::SetPolicyRequest {
    let (reason, idempotency_key) = (reason.to_owned(), key.to_owned());
    v1::SetPolicyRequest { policy: Some(policy), reason, dry_run: false, idempotency_key }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_changes_it_and_it_takes_effect_at_once() {
    let mut zone = TestZone::members(1);
    zone.init(8, 3, 1_000).await.unwrap();
    zone = zone.with_nodes(5).await;
    zone.healthy().await;
    let mut admin = zone.admin().await;
    let policy = admin.get_policy(v1::GetPolicyRequest {}).await.unwrap().into_inner().policy;
    let policy = policy.unwrap();
    assert_eq!((policy.version, policy.replication_factor), (Some(1), Some(3)));
    assert_eq!(policy.replace_after_ms, Some(1_000));
    assert!(policy.values().iter().all(|(_, value)| value.is_some()), "{policy:?}");
    assert_eq!(policy.balance.unwrap().transfers_max, Some(64));

    let mut without = policy;
    without.balance = None;
    let words = |status: &tonic::Status, words: &str| {
        assert!(status.message().contains(words), "{status:?} lacks {words:?}");
    };
    for (code, wrong, why) in [
        (
            Code::InvalidArgument,
            request(without, "why", ""),
            "balance.act_above_permille is missing",
        ),
        (Code::InvalidArgument, request(v1::Policy::default(), "why", ""), "version is missing"),
        (
            Code::InvalidArgument,
            v1::SetPolicyRequest { policy: None, ..request(policy, "why", "") },
            "policy is missing",
        ),
        (
            Code::InvalidArgument,
            request(v1::Policy { replace_after_ms: Some(0), ..policy }, "why", ""),
            "replace_after_ms is 0: it must be 1 to 31622400000 ms",
        ),
        (
            Code::InvalidArgument,
            request(v1::Policy { transfers_in_flight_max: Some(u64::MAX), ..policy }, "why", ""),
            "transfers_in_flight_max is 18446744073709551615: it must be 1 to 10000",
        ),
        (Code::InvalidArgument, request(policy, "", ""), "reason"),
        (Code::InvalidArgument, request(policy, &"x".repeat(100_000), ""), "256 bytes"),
        (Code::InvalidArgument, request(policy, "why", &"k".repeat(65)), "64 bytes"),
        (
            Code::FailedPrecondition,
            request(v1::Policy { version: Some(2), ..policy }, "why", ""),
            "the policy is version 1, not 2",
        ),
        (
            Code::FailedPrecondition,
            request(v1::Policy { replication_factor: Some(5), ..policy }, "why", ""),
            "replication_factor is 3 and cannot become 5",
        ),
    ] {
        for dry_run in [false, true] {
            let wrong = v1::SetPolicyRequest { dry_run, ..wrong.clone() };
            match admin.set_policy(wrong).await {
                Err(refused) => {
                    assert_eq!(refused.code(), code, "{refused:?}");
                    words(&refused, why);
                    assert!(refused.message().len() < 1_000, "{refused:?}");
                }
                // It needs no reason.
                Ok(possible) => {
                    assert!(dry_run && ["reason", "256 bytes"].contains(&why), "{possible:?}")
                }
            }
        }
    }
    assert_eq!(
        admin.get_policy(v1::GetPolicyRequest {}).await.unwrap().into_inner().policy,
        Some(policy)
    );

    let wanted = v1::Policy { replace_after_ms: Some(3_600_000), ..policy };
    let set = request(wanted, "disks come back in an hour", "once");
    let dry = v1::SetPolicyRequest { dry_run: true, ..request(wanted, "", "") };
    assert_eq!(admin.set_policy(dry).await.unwrap().into_inner().version, 2);
    assert_eq!(admin.set_policy(set.clone()).await.unwrap().into_inner().version, 2);
    assert_eq!(admin.set_policy(set.clone()).await.unwrap().into_inner().version, 2, "only once");
    let other = v1::SetPolicyRequest { reason: "another".into(), ..set };
    words(&admin.set_policy(other).await.unwrap_err(), "was used for another command");
    let found = admin.get_policy(v1::GetPolicyRequest {}).await.unwrap().into_inner().policy;
    assert_eq!(found, Some(v1::Policy { version: Some(2), ..wanted }));
    zone.nodes[0].kill();
    let seconds_left = |problem: &String| -> Option<u64> {
        problem.rsplit_once("if it is not back in ")?.1.strip_suffix(" s")?.parse().ok()
    };
    zone.status_when("a repair that waits for an hour", |status| {
        status.problems.iter().filter_map(seconds_left).any(|left| left > 3_000)
    })
    .await;
    let events = zone.events().await;
    let told: Vec<_> = events.iter().filter(|event| event.kind == "policy-changed").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].message, "the policy is version 2: replace_after_ms 1000 → 3600000");
    assert_eq!(told[0].reason, "disks come back in an hour");
}
