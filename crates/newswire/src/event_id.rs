//! Ids for events whose publishers gave none.

use std::cell::RefCell;

use newswire_protocol::time::UnixMicros;
use uuid::{Builder, Uuid};

thread_local! {
    /// Seeded by the system once, because asking it for each id is a system call a publish. Ids are to be unique, they are
    /// no secret.
    static RANDOM: RefCell<fastrand::Rng> =
        RefCell::new(fastrand::Rng::with_seed(Uuid::new_v4().as_u64_pair().1));
}

/// A UUIDv7 of this moment. Where RFC 9562 leaves it open, the 12 bits behind the milliseconds are their fraction, so that
/// ids sort by the microsecond; the other 62 are random.
pub(crate) fn new(now: UnixMicros) -> Uuid {
    let fraction = (now.0 % 1_000 * 4_096 / 1_000) as u16;
    let mut tail = [0; 10];
    tail[..2].copy_from_slice(&fraction.to_be_bytes());
    tail[2..].copy_from_slice(&RANDOM.with_borrow_mut(|random| random.u64(..)).to_be_bytes());
    Builder::from_unix_timestamp_millis(now.0 / 1_000, &tail).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOON: u64 = 1_800_000_000_000_000;

    #[test]
    fn an_id_is_a_version_7_uuid_of_its_millisecond() {
        let id = new(UnixMicros(NOON + 123_456));
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        let millis = id.as_u128() >> 80;
        assert_eq!(millis, u128::from(NOON / 1_000 + 123));
    }

    #[test]
    fn ids_sort_by_the_microsecond() {
        let ids: Vec<Uuid> = (0..3_000).map(|micros| new(UnixMicros(NOON + micros))).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn ids_of_one_moment_differ_in_all_threads() {
        let make = || (0..10_000).map(|_| new(UnixMicros(NOON))).collect::<Vec<_>>();
        let others: Vec<_> = (0..3).map(|_| std::thread::spawn(make)).collect();
        let mut ids = make();
        others.into_iter().for_each(|other| ids.extend(other.join().unwrap()));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 40_000);
    }
}
