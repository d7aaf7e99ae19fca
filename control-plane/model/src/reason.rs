//! An operator's words for why: they go into the ledger, and from there onto terminals.

use crate::outcome::Refusal;

/// The longest reason.
pub const REASON_BYTES_MAX: usize = 256;

/// Checks that there is a reason, and that a person can read it.
///
/// # Errors
/// If not.
pub fn check_reason(reason: &str) -> Result<(), Refusal> {
    let is_missing = reason.trim().is_empty();
    if is_missing || reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(Refusal::Malformed {
            field: "reason".into(),
            value: reason.chars().take(100).collect(),
            expected: format!(
                "expected 1 to {REASON_BYTES_MAX} bytes of text without control characters"
            ),
        });
    }
    Ok(())
}
