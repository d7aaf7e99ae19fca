//! What the next leader of the control plane has to know of balancing. Without it each new one would look once more
//! for what has already been found not to be there.

use crate::{balance::Memory, state::ZoneState, table::single_record};

single_record!(Memory, 10);

impl ZoneState {
    /// What the balancer has written down; none before there was any load.
    pub fn balance_memory(&self) -> Option<&Memory> {
        self.balance.get(&())
    }
}
