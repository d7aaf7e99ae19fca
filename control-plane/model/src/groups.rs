//! All groups of a view, found by their partitions' ids.
//!
//! Partition ids are drawn from a counter and lie close together: sixty-four neighbours share a page, and the tree of
//! pages is small enough for a processor's cache. In a tree of single groups each report of a million-partition zone
//! would wait several times for memory before it has found its own.

use std::collections::BTreeMap;

use crate::{group_view::GroupView, ids::PartitionId};

/// Groups in one page.
const PAGE_GROUPS: u64 = 64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pages: BTreeMap<u64, Page>,
}

type Page = Box<[Option<GroupView>]>;

/// The page of an id, and its place there.
fn place(id: PartitionId) -> (u64, usize) {
    let at = id.get() % PAGE_GROUPS;
    (id.get() / PAGE_GROUPS, usize::try_from(at).expect("a page has few places"))
}

impl Groups {
    pub fn get(&self, id: PartitionId) -> Option<&GroupView> {
        let (page, at) = place(id);
        self.pages.get(&page)?[at].as_ref()
    }

    pub fn get_mut(&mut self, id: PartitionId) -> Option<&mut GroupView> {
        let (page, at) = place(id);
        self.pages.get_mut(&page)?[at].as_mut()
    }

    /// The partition's group, an empty one if there was none.
    pub fn get_or_default(&mut self, id: PartitionId) -> &mut GroupView {
        let (page, at) = place(id);
        let page =
            self.pages.entry(page).or_insert_with(|| (0..PAGE_GROUPS).map(|_| None).collect());
        page[at].get_or_insert_default()
    }
}
