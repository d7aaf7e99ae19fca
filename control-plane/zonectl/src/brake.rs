//! The brake in words for people: a line of `zonectl status`, and what `zonectl brake` says.

use std::time::Duration;

use crate::{
    forms::BrakeForm,
    text::{count, show_duration},
};

/// The brake, in one line.
pub fn line(brake: &BrakeForm) -> String {
    let reason = brake.reason.as_deref().unwrap_or("no reason is known");
    match brake.overridden_for_ms {
        _ if !brake.engaged => "The brake is not engaged.".to_owned(),
        Some(left_ms) => {
            let left = show_duration(Duration::from_millis(left_ms));
            format!(
                "The brake is overridden for another {left}, and repairs and moves go on: {reason}"
            )
        }
        None => format!(
            "The brake holds back {}, {} and {}: {reason}",
            count(brake.held_back_repairs.into(), "repair", "repairs"),
            count(brake.held_back_moves.into(), "move of a drain", "moves of drains"),
            count(
                brake.held_back_transfers.into(),
                "transfer of leadership",
                "transfers of leadership"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use crate::tables;

    #[test]
    fn the_brake_is_one_line() {
        let line = |brake: &v1::Brake| super::line(&brake.clone().into());
        assert_eq!(line(&v1::Brake::default()), "The brake is not engaged.");
        let mut engaged = v1::Brake {
            engaged: true,
            reason: "2 of 5 are down".into(),
            held_back_repairs: 3,
            held_back_moves: 1,
            ..v1::Brake::default()
        };
        assert_eq!(
            line(&engaged),
            "The brake holds back 3 repairs, 1 move of a drain and 0 transfers of leadership: 2 of 5 are down"
        );
        let held = v1::ZoneStatus {
            zone_id: "z".into(),
            brake: Some(engaged.clone()),
            ..v1::ZoneStatus::default()
        };
        assert!(tables::status(&held.into()).contains("\nThe brake holds back 3 repairs"));
        engaged.overridden_for_ms = 540_000;
        let words = "The brake is overridden for another 9 min, and repairs and moves go on";
        assert_eq!(line(&engaged), format!("{words}: 2 of 5 are down"));
    }
}
