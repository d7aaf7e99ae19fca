//! Leaving politely: leaderships go to other nodes before this one stops.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};

use crate::{
    engine::{host::ReplicaHost, replica::Replica, types::Placement},
    peer::ConnectionWatch,
};

/// The longest that all hand-overs together may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Hand-overs that follow each other; of more leaderships so many more go at the same time, within the limit
/// above. Each takes some ten milliseconds, and longer if others want the same disks meanwhile.
const IN_A_ROW: usize = 50;
/// Hand-overs at the same time, at most.
const AT_ONCE_MAX: usize = 32;

/// Hands every leadership to a voter that can be reached, as far as that works in a few seconds.
pub async fn hand_over(host: &ReplicaHost, watch: &ConnectionWatch) {
    let led: Vec<Arc<Replica>> =
        host.replicas().into_iter().filter(|replica| replica.is_leader()).collect();
    let all = led.len();
    let transfers = led.into_iter().enumerate().map(|(turn, replica)| {
        let heir = heir(&replica, watch, turn);
        async move {
            let Some(heir) = heir else { return false };
            match replica.transfer_leader(heir.replica).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::info!(partition = %replica.partition(), %error, "not handed over");
                    false
                }
            }
        }
    });
    let handing_over = stream::iter(transfers)
        .buffer_unordered(at_once(all))
        .fold(0_usize, |done, success| async move { done + usize::from(success) });
    match runtime::time::timeout(LIMIT, handing_over).await {
        Ok(done) => tracing::info!(done, all, "leaderships handed over"),
        Err(_) => tracing::warn!(all, "not all leaderships could be handed over in time"),
    }
}

fn at_once(all: usize) -> usize {
    all.div_ceil(IN_A_ROW).clamp(1, AT_ONCE_MAX)
}

/// Another voter that can be reached; a different one for each turn, so that one node does not get all.
fn heir(replica: &Replica, watch: &ConnectionWatch, turn: usize) -> Option<Placement> {
    let heirs: Vec<Placement> = replica
        .voters()
        .into_iter()
        .filter(|voter| voter.replica != replica.id() && watch.is_reachable(voter.node))
        .collect();
    heirs.get(turn.checked_rem(heirs.len())?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_go_one_by_one_and_many_in_time() {
        assert_eq!([0, 1, 50, 51, 1_000, 100_000].map(at_once), [1, 1, 1, 2, 20, 32]);
    }
}
