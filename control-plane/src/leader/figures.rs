//! What the leader's gauges show. Only the leader knows: on a member that does not lead they are zero.

use std::collections::BTreeMap;

use model::{balancer::BalanceReport, brake::HeldBack, node::NodeState, status, status::Figures};

use super::Reign;
use crate::metrics;

/// Sets the gauges to what is known now. `balance`: what the latest plan found; none before the first.
pub fn record(reign: &Reign, balance: Option<&BalanceReport>) {
    set_balance(balance);
    let (figures, nodes, revision, brake) = reign.zone().read(|state| {
        let (view, mut tally) = (reign.view(), reign.tally());
        tally.add_lagging(&view);
        let figures = status::figures_by(state, &view, &tally, reign.now());
        let mut nodes = BTreeMap::new();
        for (_, node) in state.nodes().iter() {
            *nodes.entry(node.liveness.state).or_default() += 1;
        }
        let brake = Brake {
            engaged: state.engaged_brake().is_some(),
            overridden: state.is_brake_overridden(),
        };
        (figures, nodes, state.revision(), brake)
    });
    set(&figures, &nodes, brake, reign.sessions().count());
    let now = reign.now();
    let loads = reign.zone().read(|state| {
        let heat = reign.heat();
        let loads = state
            .nodes()
            .iter()
            .map(|(id, node)| (node.name.clone(), heat.of_node(*id, now).unwrap_or_default()));
        loads.collect::<Vec<_>>()
    });
    reign.load_gauges().show(&loads);
    metrics::set_revision(revision);
}

/// The reign is over: what the gauges showed is another leader's to know now.
pub fn clear(reign: &Reign) {
    clear_figures();
    reign.load_gauges().clear();
}

fn clear_figures() {
    set_balance(None);
    set(&Figures::default(), &BTreeMap::new(), Brake::default(), 0);
}

/// Whether the brake is engaged, and whether an operator overrides it.
#[derive(Clone, Copy, Default)]
struct Brake {
    engaged: bool,
    overridden: bool,
}

fn set(figures: &Figures, nodes: &BTreeMap<NodeState, u32>, brake: Brake, sessions: usize) {
    for state in
        [NodeState::Up, NodeState::Recovering, NodeState::Slow, NodeState::Suspect, NodeState::Down]
    {
        let count = nodes.get(&state).copied().unwrap_or(0);
        ::metrics::gauge!(metrics::NODES, "state" => state.to_string()).set(f64::from(count));
    }
    let gauge = |name: &'static str, value: u32| ::metrics::gauge!(name).set(f64::from(value));
    gauge(metrics::PARTITIONS, figures.partitions.total);
    gauge(metrics::PARTITIONS_AVAILABLE, figures.partitions.available);
    gauge(metrics::PARTITIONS_UNDER_REPLICATED, figures.partitions.under_replicated);
    gauge(metrics::OPERATIONS_RUNNING, figures.operations_running);
    gauge(metrics::OPERATIONS_FAILED, figures.operations_failed);
    gauge(metrics::BRAKE, u32::from(brake.engaged));
    gauge(metrics::BRAKE_OVERRIDDEN, u32::from(brake.overridden));
    let HeldBack { repairs, moves, transfers } = figures.held_back;
    for (kind, count) in [("repair", repairs), ("move", moves), ("transfer", transfers)] {
        ::metrics::gauge!(metrics::BRAKE_HELD_BACK, "kind" => kind).set(f64::from(count));
    }
    gauge(metrics::SESSIONS, u32::try_from(sessions).unwrap_or(u32::MAX));
}

/// How even load is, how even it will be, and what has become of earlier promises: 1 is the mean, and a promise that was
/// kept.
fn set_balance(report: Option<&BalanceReport>) {
    let permille = |value: Option<u32>| f64::from(value.unwrap_or(0)) / 1_000.0;
    let count = |value: Option<usize>| {
        f64::from(value.map_or(0, |value| u32::try_from(value).unwrap_or(u32::MAX)))
    };
    let gauges = [
        (metrics::BALANCE_WORST_SHARE, permille(report.map(|it| it.worst_share_permille))),
        (metrics::BALANCE_PLANNED_SHARE, permille(report.map(|it| it.planned_share_permille))),
        (metrics::BALANCE_REALISED_GAIN, permille(report.map(|it| it.realised_gain_permille))),
        (metrics::BALANCE_SETTLING, f64::from(u8::from(report.is_some_and(|it| it.is_settling)))),
        (metrics::BALANCE_OBSTACLES, count(report.map(|it| it.obstacles.len()))),
    ];
    for (name, value) in gauges {
        ::metrics::gauge!(name).set(value);
    }
}

#[cfg(test)]
mod tests {
    use model::ZoneTime;

    use super::*;
    use crate::metrics::tests::Recorded;

    #[test]
    fn nothing_that_only_the_leader_knows_outlasts_its_reign() {
        let recorded = Recorded::default();
        ::metrics::with_local_recorder(&recorded, || {
            let figures = Figures {
                partitions: status::PartitionCounts {
                    total: 8,
                    available: 7,
                    under_replicated: 2,
                    unavailable: 1,
                },
                operations_running: 3,
                operations_failed: 1,
                held_back: HeldBack { repairs: 5, moves: 6, transfers: 7 },
                ..Figures::default()
            };
            let nodes = BTreeMap::from([(NodeState::Up, 4), (NodeState::Down, 1)]);
            set(&figures, &nodes, Brake { engaged: true, overridden: true }, 4);
            set_balance(Some(&BalanceReport {
                planned_at: ZoneTime(0),
                worst_share_permille: 1_450,
                planned_share_permille: 1_020,
                is_off: false,
                is_settling: true,
                is_at_rest: false,
                above_since: None,
                transfers: 1,
                moves: 0,
                splits: 0,
                left_out: 0,
                obstacles: Vec::new(),
                realised_gain_permille: 980,
                evaluations: 7,
            }));
            let leaders = recorded.gauges();
            assert_eq!(leaders["isotherm_control_plane_nodes{state=up}"], 4.0);
            assert_eq!(leaders["isotherm_control_plane_sessions"], 4.0);
            assert_eq!(leaders["isotherm_control_plane_brake_engaged"], 1.0);
            assert_eq!(leaders["isotherm_control_plane_brake_overridden"], 1.0);
            assert_eq!(leaders["isotherm_control_plane_brake_held_back{kind=move}"], 6.0);
            assert_eq!(leaders["isotherm_control_plane_balance_worst_share"], 1.45);
            assert_eq!(leaders["isotherm_control_plane_balance_realised_gain"], 0.98);
            assert_eq!(leaders["isotherm_control_plane_balance_settling"], 1.0);
            clear_figures();
            let after = recorded.gauges();
            assert_eq!(after.len(), leaders.len());
            assert!(after.values().all(|value| *value == 0.0), "{after:?}");
        });
    }
}
