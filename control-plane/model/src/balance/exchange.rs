//! Exchanges: something larger goes, something smaller comes back. For where pieces are so large that one
//! alone overshoots.

use super::{
    action::Tool,
    measure::Row,
    relief::{destinations, is_pinned, price},
    weigh::{Best, Piece, Source},
    work::{Candidate, Work},
};

/// Partners, of the least loaded, that an exchange is looked for with.
const PARTNERS: usize = 8;
/// Pieces of the source that are tried with each partner, spread over all sizes.
const PIECES_TRIED: usize = 64;
/// For each of them, so many of the partner's, those that would leave the difference nearest to what is
/// wanted.
const FITTING_TRIED: usize = 12;

/// Proposes the best exchange, both halves of it; false if none brings enough.
pub(super) fn exchange(
    work: &mut Work<'_>,
    source: &Source,
    lists: [(Tool, &[(f64, u32)]); 2],
) -> bool {
    let mut best: Best<Back> = Best::none();
    let mut partners = destinations(work, source);
    partners.retain(|node| work.budget.node_has(work.planner, work.policy, *node, 1));
    for to in partners.into_iter().take(PARTNERS) {
        let backs = Back::list(work, source, to);
        let unit = work.measure.unit(source.node, source.column);
        let to_unit = work.measure.unit(to, source.column);
        if unit <= 0.0 || to_unit <= 0.0 || backs.is_empty() {
            continue;
        }
        let to_share = work.measure.share(to, &work.rows[to as usize], source.column);
        // The amount that leaves both with the same share.
        let wanted = ((source.stress - to_share) / (unit + to_unit)).max(0.0);
        for (tool, list) in lists {
            let step = list.len().div_ceil(PIECES_TRIED).max(1);
            for (share, index) in list.iter().step_by(step) {
                if work.is_spent() {
                    return false;
                }
                if work.is_taken(*index) || !is_affordable(work, source, tool, to) {
                    continue;
                }
                let partition = work.partition(*index);
                // Leadership goes only to where a replica is.
                if tool == Tool::TransferLeadership && !partition.is_on(to) {
                    continue;
                }
                let Some(away_price) = price(work, source, partition, tool, to) else { continue };
                let away = Piece::new(partition, *index, tool, source.node);
                let fit = share / unit - wanted;
                for back in fitting(&backs, fit) {
                    let moves = u32::from(tool == Tool::MoveReplica) + u32::from(back.is_move());
                    if back.index == *index || !has_budget(work, source.node, to, moves) {
                        continue;
                    }
                    let came = work.partition(back.index);
                    if moves == 2 && !work.budget.has_bytes_for_both(partition, came) {
                        continue;
                    }
                    let piece = Piece::new(came, back.index, back.tool, to);
                    let floor = away_price.max(back.price());
                    if let Some(found) = source.weigh(work, &away, Some(&piece), to, floor) {
                        best.take(work, found, *back);
                    }
                }
            }
        }
    }
    let Some((chosen, back)) = best.first else { return false };
    let second = best.second.map(|(second, _)| second);
    work.propose(source.goal, &chosen, Some(back.index), second.as_ref());
    let returned = Candidate {
        tool: back.tool,
        index: back.index,
        from: chosen.to,
        to: source.node,
        from_after: chosen.to_after,
        to_after: chosen.from_after,
        ..chosen
    };
    work.propose(source.goal, &returned, Some(chosen.index), second.as_ref());
    true
}

/// Something that could come back from a partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Back {
    /// Its load in the source's worst column; whole, so that it can be compared.
    amount: u64,
    index: u32,
    tool: Tool,
    price_millionths: u64,
}

impl Back {
    fn is_move(&self) -> bool {
        self.tool == Tool::MoveReplica
    }

    fn price(&self) -> f64 {
        self.price_millionths as f64 / 1e6
    }

    /// What could come from a partner, the least first.
    fn list(work: &mut Work<'_>, source: &Source, to: u32) -> Vec<Self> {
        let residents = &work.planner.residents[to as usize];
        work.evaluations += residents.len() as u64;
        let partner = Source { node: to, ..source.clone() };
        let mut found = Vec::new();
        for index in residents {
            let partition = work.partition(*index);
            let leads = partition.leader_node() == Some(to);
            let rests = !source.is_released() && work.rests(partition);
            if work.is_taken(*index) || rests || (leads && is_pinned(work, partition)) {
                continue;
            }
            let is_here = partition.is_on(source.node);
            let tool = match (is_here, leads) {
                (false, _) => Tool::MoveReplica,
                (true, true) => Tool::TransferLeadership,
                (true, false) => continue,
            };
            let Some(price) = price(work, &partner, partition, tool, source.node) else { continue };
            let more: Row = Piece::new(partition, *index, tool, to).more;
            found.push(Self {
                amount: more[source.column].max(0.0) as u64,
                index: *index,
                tool,
                price_millionths: (price * 1e6) as u64,
            });
        }
        found.sort_unstable();
        found
    }
}

/// Those whose amounts are nearest to what fits.
fn fitting(backs: &[Back], fit: f64) -> &[Back] {
    let at = backs.partition_point(|back| (back.amount as f64) < fit);
    let start = at.saturating_sub(FITTING_TRIED / 2);
    &backs[start..(start + FITTING_TRIED).min(backs.len())]
}

fn is_affordable(work: &Work<'_>, source: &Source, tool: Tool, to: u32) -> bool {
    let moves = u32::from(tool == Tool::MoveReplica);
    has_budget(work, source.node, to, moves)
}

/// Whether an exchange with so many moves is within the budgets; the other halves are transfers.
fn has_budget(work: &Work<'_>, from: u32, to: u32, moves: u32) -> bool {
    let (planner, policy) = (work.planner, work.policy);
    let has_moves = moves == 0
        || (work.budget.may_move(moves)
            && work.can_send(from)
            && [from, to].iter().all(|node| work.budget.node_has(planner, policy, *node, moves)));
    has_moves && work.budget.may_transfer(2 - moves)
}
