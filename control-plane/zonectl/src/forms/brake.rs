//! The brake.

use proto::v1;
use serde::Serialize;

use super::some_text;

/// `zonectl brake override` and `restore`, and a part of `zonectl status`.
#[derive(Clone, Debug, Serialize)]
pub struct BrakeForm {
    /// Whether too much seems to be lost at once; then repairs and moves wait, unless an operator overrides it.
    pub engaged: bool,
    pub reason: Option<String>,
    pub since_zone_time_ms: Option<u64>,
    /// Null: nobody overrides it.
    pub overridden_until_zone_time_ms: Option<u64>,
    pub overridden_for_ms: Option<u64>,
    pub held_back_repairs: u32,
    pub held_back_moves: u32,
    pub held_back_transfers: u32,
}

impl From<v1::Brake> for BrakeForm {
    fn from(brake: v1::Brake) -> Self {
        let is_overridden = brake.overridden_for_ms > 0;
        Self {
            engaged: brake.engaged,
            since_zone_time_ms: brake.engaged.then_some(brake.since_zone_time_ms),
            overridden_until_zone_time_ms: is_overridden
                .then_some(brake.overridden_until_zone_time_ms),
            overridden_for_ms: is_overridden.then_some(brake.overridden_for_ms),
            held_back_repairs: brake.held_back_repairs,
            held_back_moves: brake.held_back_moves,
            held_back_transfers: brake.held_back_transfers,
            reason: some_text(brake.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_apply_is_null() {
        let json = |brake: v1::Brake| serde_json::to_value(BrakeForm::from(brake)).unwrap();
        let released = serde_json::json!({
            "engaged": false, "reason": null, "since_zone_time_ms": null,
            "overridden_until_zone_time_ms": null, "overridden_for_ms": null,
            "held_back_repairs": 0, "held_back_moves": 0, "held_back_transfers": 0,
        });
        assert_eq!(json(v1::Brake::default()), released);
        let engaged = v1::Brake {
            engaged: true,
            reason: "2 of 5".into(),
            since_zone_time_ms: 7,
            held_back_repairs: 3,
            ..v1::Brake::default()
        };
        assert_eq!(json(engaged.clone())["held_back_repairs"], 3);
        assert!(json(engaged.clone())["overridden_for_ms"].is_null());
        let overridden = v1::Brake {
            overridden_until_zone_time_ms: 100,
            overridden_for_ms: 60,
            held_back_repairs: 0,
            ..engaged
        };
        let overridden = json(overridden);
        assert_eq!(overridden["overridden_until_zone_time_ms"], 100);
        assert_eq!(overridden["overridden_for_ms"], 60);
        assert_eq!(overridden["since_zone_time_ms"], 7);
    }
}
