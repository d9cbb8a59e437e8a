//! A table that grows page by page: no growth moves what is there, so none stalls a core.
//!
//! Runs on: any core. Allocates: a page when an index in it is first used. Blocks: never.

use core::ops::{Index, IndexMut};

/// Bytes of a page, about: what one growth costs at most.
const PAGE_BYTES: usize = 64 * 1024;

/// Entries by index. A page comes to be when one of its entries is first asked for; its others are then filled, too.
#[derive(Debug)]
pub struct Paged<T> {
    /// Of [`Paged::PER_PAGE`] entries each, or of none where no index in it was used yet.
    pages: Vec<Box<[T]>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Paged<T> {
    /// Entries of a page: a power of two.
    const PER_PAGE: usize = {
        let size = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
        let fit = PAGE_BYTES / size;
        if fit < 2 { 1 } else { 1 << fit.ilog2() }
    };

    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / Self::PER_PAGE)?.get(index % Self::PER_PAGE)
    }

    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / Self::PER_PAGE)?.get_mut(index % Self::PER_PAGE)
    }

    /// The entry at `index`; entries of a page that is new are what `fill` makes.
    #[inline]
    pub fn reach(&mut self, index: usize, fill: impl FnMut() -> T) -> &mut T {
        if self.get(index).is_none() {
            self.add_page(index / Self::PER_PAGE, fill);
        }
        &mut self[index]
    }

    #[cold]
    fn add_page(&mut self, page: usize, fill: impl FnMut() -> T) {
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, Box::default);
        }
        self.pages[page] = core::iter::repeat_with(fill).take(Self::PER_PAGE).collect();
    }
}

impl<T> Index<usize> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.pages[index / Self::PER_PAGE][index % Self::PER_PAGE]
    }
}

impl<T> IndexMut<usize> for Paged<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.pages[index / Self::PER_PAGE][index % Self::PER_PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_moves_no_entry_and_makes_no_page_that_was_not_asked_for() {
        let mut table = Paged::<u64>::default();
        *table.reach(0, || 7) = 1;
        let place: *const u64 = &table[0];
        *table.reach(1_000_000, || 7) = 2;
        assert_eq!(place, &raw const table[0]);
        assert_eq!((table[0], table[1], table[1_000_000]), (1, 7, 2));
        assert_eq!((table.get(500_000), table.get(2_000_000)), (None, None));
        let made: usize = table.pages.iter().map(|page| size_of_val(&**page)).sum();
        assert_eq!(made, 2 * PAGE_BYTES);
    }
}
