//! Coverage marks: a line of the program says that it was reached, for whoever tests it.
//!
//! A path that only a fault in the right moment leads to is tested only if some test got there. So each
//! such path names itself with [`mark!`](crate::mark), and a sweep of the simulation lists the marks that
//! no run has reached. What each mark stands for is written down there, in `sim-tests/src/coverage`.
//!
//! A mark is a `tracing` event of its own target on the lowest level: in production nobody asks for it,
//! and it costs the look at one flag.

/// The target of all marks.
pub const TARGET: &str = "coverage";

/// Says that this line was reached. With a second argument, one mark for each variant of its debug form:
/// `mark!("dialled", dial)` is the mark `dialled: Refused` or `dialled: Answered`.
#[macro_export]
macro_rules! mark {
    ($mark:literal) => {
        ::tracing::trace!(target: $crate::coverage::TARGET, mark = $mark)
    };
    ($mark:literal, $variant:expr) => {
        ::tracing::trace!(target: $crate::coverage::TARGET, mark = $mark, variant = ?$variant)
    };
}
