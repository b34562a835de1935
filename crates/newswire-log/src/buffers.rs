//! Buffers that are used again: the page faults of fresh memory cost as much as filling it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of spare buffers kept for the next who needs one.
const SPARE_BYTES: usize = 8 << 20;
/// A buffer beyond this is not kept.
const LARGEST_SPARE: usize = 1 << 20;

/// Buffers that nobody looks at any more; the one used last is the first to be used again.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    spares: Mutex<Spares>,
}

#[derive(Debug, Default)]
struct Spares {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    /// A buffer of whatever length and content.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut spares = self.spares.lock();
        let buffer = spares.buffers.pop().unwrap_or_default();
        spares.bytes -= buffer.capacity();
        buffer
    }

    /// Shares a buffer; it comes back once the last look at it ends.
    pub(crate) fn share(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Shared { bytes, pool: Arc::downgrade(self) })
    }

    /// Takes back a buffer that was not shared.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        let mut spares = self.spares.lock();
        if buffer.capacity() <= LARGEST_SPARE && spares.bytes + buffer.capacity() <= SPARE_BYTES {
            spares.bytes += buffer.capacity();
            spares.buffers.push(buffer);
        }
    }
}

struct Shared {
    bytes: Vec<u8>,
    pool: Weak<BufferPool>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_after_the_last_look_and_not_before() {
        let pool = Arc::new(BufferPool::default());
        let whole = pool.share(vec![7; 100]);
        let piece = whole.slice(10..20);
        drop(whole);
        assert_eq!(pool.take().capacity(), 0);
        assert_eq!(piece, vec![7; 10]);
        drop(piece);
        assert_eq!(pool.take().len(), 100);
        assert_eq!(pool.take().capacity(), 0);
    }

    #[test]
    fn spares_are_bounded() {
        let pool = Arc::new(BufferPool::default());
        pool.give_back(Vec::with_capacity(LARGEST_SPARE + 1));
        assert_eq!(pool.take().capacity(), 0);
        let shared: Vec<_> = (0..20).map(|_| pool.share(vec![0; LARGEST_SPARE])).collect();
        drop(shared);
        assert_eq!(pool.spares.lock().buffers.len(), SPARE_BYTES / LARGEST_SPARE);
    }
}
