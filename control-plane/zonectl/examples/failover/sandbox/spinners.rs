//! Processes that do nothing but take processor time.

use std::io;

use super::caretaker::Caretaker;

/// For each processor: with the zone and the load beside them nobody gets half of what is wanted.
const SPINNERS_PER_CORE: usize = 2;

/// They spin until this is dropped, or this program ends in whatever way.
#[derive(Debug)]
pub struct Spinners {
    _caretaker: Caretaker,
}

impl Spinners {
    pub fn start() -> io::Result<Self> {
        let spinners = std::thread::available_parallelism()?.get() * SPINNERS_PER_CORE;
        let spin = "(while :; do :; done) <&- & all=\"$all $!\"\n".repeat(spinners);
        Ok(Self { _caretaker: Caretaker::after(&format!("all=\n{spin}"), "kill -9 $all")? })
    }
}
