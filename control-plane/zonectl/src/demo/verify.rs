//! The demo's last word: a full listing and every value, against the ledger.

use std::collections::BTreeMap;

use bytes::Bytes;
use client::{Client, Item, ListOptions, RequestError};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::ledger::{Differences, Ledger};

/// Reads at the same time.
const READS_IN_FLIGHT: usize = 64;

/// Lists the whole index, reads each key of the ledger once more, and compares both.
///
/// # Errors
/// If the listing or a read fails.
pub async fn verify(client: &Client, ledger: &Ledger) -> Result<Differences, RequestError> {
    let listed: BTreeMap<Bytes, Item> = client
        .list(ListOptions::default())
        .map_ok(|item| (item.key.clone(), item))
        .try_collect()
        .await?;
    let mut differences = ledger.compare(&listed);

    let mut reads = stream::iter(ledger.keys.iter())
        .map(|(key, expected)| async move {
            client.get(key.clone()).await.map(|item| (key, expected.allows(item.as_ref())))
        })
        .buffered(READS_IN_FLIGHT);
    while let Some((key, right)) = reads.try_next().await? {
        if !right && !differences.missing.contains(key) && !differences.different.contains(key) {
            differences.different.push(key.clone());
        }
    }
    Ok(differences)
}
