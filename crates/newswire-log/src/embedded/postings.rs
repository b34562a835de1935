//! Ascending record positions of one key, as differences of variable length.

use super::format::{Fields, put_varint};

/// A list that grows at its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct PostingList {
    bytes: Vec<u8>,
    count: u32,
    last: u64,
}

impl PostingList {
    /// Adds a position, unless it is the last one already (an event may name a key twice).
    pub(crate) fn push(&mut self, position: u64) {
        if self.count > 0 && position == self.last {
            return;
        }
        put_varint(&mut self.bytes, position - self.last);
        self.last = position;
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The positions of an encoded list; `None` if it is not what [`PostingList`] wrote.
pub(crate) fn decode(bytes: &[u8], count: u32) -> Option<Vec<u64>> {
    let mut fields = Fields(bytes);
    let mut positions = Vec::with_capacity((count as usize).min(bytes.len()));
    let mut last = 0_u64;
    for _ in 0..count {
        last = last.checked_add(fields.varint()?)?;
        positions.push(last);
    }
    fields.0.is_empty().then_some(positions)
}

/// All positions of several ascending lists, each once.
pub(crate) fn union(mut lists: Vec<Vec<u64>>) -> Vec<u64> {
    if lists.len() == 1 {
        return lists.swap_remove(0);
    }
    let mut all = lists.concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// The positions that stand in both ascending lists.
pub(crate) fn intersection(a: &[u64], b: &[u64]) -> Vec<u64> {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut rest = long;
    let mut both = Vec::new();
    for position in short {
        let skip = if long.len() / 16 > short.len() {
            rest.partition_point(|other| other < position)
        } else {
            rest.iter().position(|other| other >= position).unwrap_or(rest.len())
        };
        rest = &rest[skip..];
        if rest.first() == Some(position) {
            both.push(*position);
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_and_damage_does_not() {
        let mut list = PostingList::default();
        for position in [128, 300, 300, 70_000, 5_000_000_000] {
            list.push(position);
        }
        assert_eq!(decode(list.bytes(), list.count()), Some(vec![128, 300, 70_000, 5_000_000_000]));
        assert_eq!(decode(&list.bytes()[..list.bytes().len() - 1], list.count()), None);
        assert_eq!(decode(list.bytes(), list.count() - 1), None);
    }

    #[test]
    fn sets_of_positions() {
        assert_eq!(union(vec![vec![1, 5, 9], vec![2, 5], vec![]]), [1, 2, 5, 9]);
        assert_eq!(intersection(&[1, 5, 9, 12], &[5, 6, 12, 13]), [5, 12]);
        let long: Vec<u64> = (0..1000).collect();
        assert_eq!(intersection(&[3, 999, 1001], &long), [3, 999]);
    }
}
