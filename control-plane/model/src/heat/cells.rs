//! The cells of all partitions: in pages, since partitions are numbered without large gaps. So next to
//! nothing is spent besides the cells, and finding one costs a step in a small tree.

use std::collections::BTreeMap;

use super::cell::Cell;
use crate::ids::PartitionId;

const PAGE_CELLS: u64 = 64;

type Page = [Option<Cell>; PAGE_CELLS as usize];

#[derive(Clone, Debug, Default)]
pub struct Cells {
    pages: BTreeMap<u64, Box<Page>>,
    count: usize,
}

fn place(partition: PartitionId) -> (u64, usize) {
    let id = partition.get();
    let index = usize::try_from(id % PAGE_CELLS).expect("a remainder of 64 fits everywhere");
    (id / PAGE_CELLS, index)
}

impl Cells {
    pub fn get(&self, partition: PartitionId) -> Option<&Cell> {
        let (page, index) = place(partition);
        self.pages.get(&page)?[index].as_ref()
    }

    pub fn insert(&mut self, partition: PartitionId, cell: Cell) {
        let (page, index) = place(partition);
        let page = self.pages.entry(page).or_insert_with(|| Box::new([None; PAGE_CELLS as usize]));
        if page[index].replace(cell).is_none() {
            self.count += 1;
        }
    }

    /// Cells in the order of their partitions, from `from` on: some pages of them, with about `count` cells. And
    /// from where on there are more.
    pub fn some_from(
        &self,
        from: PartitionId,
        count: usize,
    ) -> (impl Iterator<Item = (PartitionId, &Cell)>, Option<PartitionId>) {
        let (first, _) = place(from);
        let pages_max = count.div_ceil(PAGE_CELLS as usize).max(1);
        let next = self.pages.range(first..).nth(pages_max).map(|(page, _)| *page);
        let pages = self.pages.range(first..).take(pages_max);
        let cells = pages.flat_map(|(page, cells)| {
            let first = page * PAGE_CELLS;
            let ids = (0..PAGE_CELLS).map(move |index| PartitionId(first + index));
            ids.zip(cells.iter()).filter_map(|(id, cell)| Some((id, cell.as_ref()?)))
        });
        (cells, next.map(|page| PartitionId(page * PAGE_CELLS)))
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes that the pages take.
    pub fn page_bytes(&self) -> usize {
        self.pages.len() * (size_of::<Page>() + 2 * size_of::<(u64, Box<Page>)>())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::cell::{Sight, Slot},
        *,
    };
    use crate::ids::{ReplicaId, Term};

    #[test]
    fn a_cell_is_found_where_it_was_put_and_a_million_are_small() {
        let mut cells = Cells::default();
        let cell = |leader: u64| {
            let leader = u32::try_from(leader).ok().and_then(Slot::new).unwrap();
            Cell::new((Term(1), ReplicaId(1)), leader, 0, Duration::ZERO, &Sight::default())
        };
        assert_eq!(cells.get(PartitionId(5)), None);
        for id in (1..=1_000_000).rev() {
            cells.insert(PartitionId(id), cell(id));
        }
        cells.insert(PartitionId(u64::MAX), cell(7));
        cells.insert(PartitionId(63), cell(63));
        assert_eq!(cells.len(), 1_000_001);
        for id in [1, 63, 64, 65, 999_999, 1_000_000] {
            let leader = cells.get(PartitionId(id)).map(|cell| u64::from(cell.leader.get()));
            assert_eq!(leader, Some(id));
        }
        assert_eq!(cells.get(PartitionId(0)), None);
        assert_eq!(cells.get(PartitionId(1_000_001)), None);
        let mut seen = Vec::new();
        let mut from = Some(PartitionId(0));
        while let Some(start) = from {
            let (some, next) = cells.some_from(start, 1_000);
            let before = seen.len();
            seen.extend(some.map(|(id, _)| id.get()));
            assert!(seen.len() - before <= 1_024, "some at a time");
            from = next;
        }
        assert!(seen.iter().copied().eq((1..=1_000_000).chain([u64::MAX])));
        assert_eq!(cells.get(PartitionId(u64::MAX)).map(|cell| cell.leader.get()), Some(7));
        assert!(cells.page_bytes() <= 114 * cells.len(), "{} bytes", cells.page_bytes());
    }
}
