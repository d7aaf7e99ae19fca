//! Listing: pages of one partition after the other, as one ordered stream.
//!
//! A page says how far it covered (`covered_to`), and the next question goes to whichever partition
//! holds that key then. So splits and moves between two pages neither lose nor double a key.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};

use crate::{
    client::Client,
    error::RequestError,
    message::{Answer, Call},
    values::Item,
};

/// The longest key that the index takes.
const KEY_BYTES_MAX: usize = 4_096;

/// The most items that a page can have.
const PAGE_ITEMS_MAX: u32 = 1_000;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only keys that start with these bytes. Empty: all.
    pub prefix: Bytes,
    /// Only keys greater than this one. Empty: from the start.
    pub start_after: Bytes,
    /// The most items; none: all.
    pub limit: Option<u64>,
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In key order.
    pub items: Vec<Item>,
    /// Every matching key below this one is among this page's items or an earlier page's. None: that
    /// was the end.
    pub next: Option<Bytes>,
}

impl ListOptions {
    /// The first key that can match.
    fn first_key(&self) -> Bytes {
        if self.start_after < self.prefix {
            self.prefix.clone()
        } else if self.start_after.is_empty() {
            Bytes::new()
        } else {
            let mut key = BytesMut::with_capacity(self.start_after.len() + 1);
            key.put_slice(&self.start_after);
            key.put_u8(0);
            key.freeze()
        }
    }
}

/// The greatest key below `key`, among keys of at most 4,096 bytes: the wire can only say "after".
/// Empty for the lowest key.
fn predecessor(key: &[u8]) -> Bytes {
    let Some((last, rest)) = key.split_last() else { return Bytes::new() };
    if *last == 0 {
        return Bytes::copy_from_slice(rest);
    }
    let mut before = BytesMut::with_capacity(KEY_BYTES_MAX);
    before.put_slice(rest);
    before.put_u8(last - 1);
    if before.len() < KEY_BYTES_MAX {
        before.put_bytes(u8::MAX, KEY_BYTES_MAX - before.len());
    }
    before.freeze()
}

/// Whether no key from `from` on starts with `prefix`.
fn is_beyond(from: &[u8], prefix: &[u8]) -> bool {
    from > prefix && !from.starts_with(prefix)
}

impl Client {
    /// All matching keys with their values, in key order. Each page is as of its own moment.
    pub fn list(
        &self,
        options: ListOptions,
    ) -> impl Stream<Item = Result<Item, RequestError>> + Send + 'static {
        struct Cursor {
            client: Client,
            options: ListOptions,
            next: Option<Bytes>,
            left: u64,
            ready: VecDeque<Item>,
        }
        let cursor = Cursor {
            client: self.clone(),
            next: Some(options.first_key()),
            left: options.limit.unwrap_or(u64::MAX),
            ready: VecDeque::new(),
            options,
        };
        stream::try_unfold(cursor, |mut cursor| async move {
            loop {
                if cursor.left == 0 {
                    return Ok(None);
                }
                if let Some(item) = cursor.ready.pop_front() {
                    cursor.left -= 1;
                    return Ok(Some((item, cursor)));
                }
                let Some(from) = cursor.next.take() else { return Ok(None) };
                let limit = u32::try_from(cursor.left).unwrap_or(u32::MAX);
                let page = cursor.client.list_page(&cursor.options.prefix, from, limit).await?;
                cursor.ready = page.items.into();
                cursor.next = page.next;
            }
        })
    }

    /// At most `limit` matching keys from `from` (inclusive) on, of one partition.
    ///
    /// # Errors
    /// As for [`get`](Self::get), and if the answer breaks the protocol.
    pub async fn list_page(
        &self,
        prefix: &Bytes,
        from: Bytes,
        limit: u32,
    ) -> Result<Page, RequestError> {
        let call = Call::List {
            prefix: prefix.clone(),
            after: predecessor(&from),
            limit: limit.clamp(1, PAGE_ITEMS_MAX),
        };
        let (items, covered_to) = match self.read(from.clone(), call).await? {
            Answer::List { items, covered_to } => (items, covered_to),
            other => return Err(other.unexpected()),
        };
        check_page(prefix, &from, &items, &covered_to)?;
        let ended = covered_to.is_empty() || is_beyond(&covered_to, prefix);
        Ok(Page { items, next: (!ended).then_some(covered_to) })
    }
}

/// A page that goes backwards, leaves its bounds or does not get on would make a listing lose, double
/// or repeat keys for ever.
fn check_page(
    prefix: &Bytes,
    from: &Bytes,
    items: &[Item],
    covered_to: &Bytes,
) -> Result<(), RequestError> {
    let nonsense = |what: String| Err(RequestError::Nonsense(what));
    if !covered_to.is_empty() && covered_to <= from {
        return nonsense(format!("a page from {from:?} covers only up to {covered_to:?}"));
    }
    let mut lowest = from.clone();
    for item in items {
        if item.key < lowest {
            return nonsense(format!("a page from {from:?} is not in order at {:?}", item.key));
        }
        if !item.key.starts_with(prefix) {
            return nonsense(format!("{:?} does not start with {prefix:?}", item.key));
        }
        if !covered_to.is_empty() && item.key >= *covered_to {
            return nonsense(format!("{:?} is beyond the end {covered_to:?}", item.key));
        }
        let mut next = BytesMut::with_capacity(item.key.len() + 1);
        next.put_slice(&item.key);
        next.put_u8(0);
        lowest = next.freeze();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identifiers::Version, values::ObjectMetadata};

    #[test]
    fn nothing_lies_between_a_key_and_its_predecessor() {
        assert_eq!(predecessor(b""), Bytes::new());
        assert_eq!(predecessor(b"\0"), Bytes::new());
        assert_eq!(predecessor(b"abc\0"), Bytes::from_static(b"abc"));
        let before = predecessor(b"b");
        assert_eq!(before.len(), KEY_BYTES_MAX);
        assert!(before.starts_with(b"a\xff\xff"));
        assert!(before < Bytes::from_static(b"b"));
        let longest = vec![b'k'; KEY_BYTES_MAX];
        assert_eq!(predecessor(&longest).len(), KEY_BYTES_MAX);
    }

    #[test]
    fn a_listing_starts_at_the_prefix_or_just_after_the_last_key() {
        let first = |prefix: &'static str, after: &'static str| {
            ListOptions { prefix: prefix.into(), start_after: after.into(), limit: None }
                .first_key()
        };
        assert_eq!(first("", ""), "");
        assert_eq!(first("p", ""), "p");
        assert_eq!(first("p", "a"), "p");
        assert_eq!(first("p", "pa"), "pa\0");
        assert_eq!(first("p", "p"), "p\0");
    }

    #[test]
    fn the_end_of_the_prefix_is_seen() {
        assert!(!is_beyond(b"p", b"p"));
        assert!(!is_beyond(b"pz", b"p"));
        assert!(is_beyond(b"q", b"p"));
        assert!(!is_beyond(b"a", b"p"));
        assert!(!is_beyond(b"anything", b""));
    }

    #[test]
    fn impossible_pages_are_refused() {
        let item = |key: &'static str| Item {
            key: key.into(),
            value: ObjectMetadata::default(),
            version: Version(1),
        };
        let check = |items: &[Item], covered_to: &'static str| {
            check_page(&"k".into(), &"k2".into(), items, &covered_to.into())
        };
        assert!(check(&[item("k2"), item("k3")], "k4").is_ok());
        assert!(check(&[item("k2"), item("k3")], "").is_ok());
        assert!(check(&[item("k1")], "k4").is_err());
        assert!(check(&[item("k3"), item("k3")], "k4").is_err());
        assert!(check(&[item("k5")], "k4").is_err());
        assert!(check(&[item("x")], "").is_err());
        assert!(check(&[], "k2").is_err());
    }
}
