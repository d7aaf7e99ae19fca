//! How a client comes to its first partition map.

use std::collections::BTreeMap;

use runtime::seams::Environment;

use crate::{
    error::ConnectError,
    keeper::{FetchError, Keeper},
    options::Options,
    pacing::Backoff,
};

/// Asks the members in turn until one gives a map.
pub(crate) async fn first_map(
    environment: &Environment,
    keeper: &Keeper,
    options: &Options,
) -> Result<(), ConnectError> {
    let started = environment.now();
    let mut backoff = Backoff::new(options.backoff_min, options.backoff_max);
    let turn = keeper.first_turn();
    loop {
        let mut problems = BTreeMap::new();
        let mut uninitialized = 0;
        for offset in 0..keeper.endpoints.len() {
            let address = &keeper.endpoints[(turn + offset) % keeper.endpoints.len()];
            match keeper.fetch(address).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    uninitialized += usize::from(matches!(error, FetchError::NotInitialized));
                    problems.insert(address.clone(), error.to_string());
                }
            }
        }
        let problems: Vec<String> = problems
            .into_iter()
            .map(|(address, problem)| format!("{address}: {problem}"))
            .collect();
        let problems = problems.join("; ");
        if uninitialized == keeper.endpoints.len() {
            return Err(ConnectError::NotInitialized(problems));
        }
        let waited = environment.now().since(started);
        if waited >= options.connect_deadline {
            return Err(ConnectError::Unreachable { waited, problems });
        }
        let left = options.connect_deadline - waited;
        environment.sleep(backoff.draw(environment).min(left)).await;
    }
}
