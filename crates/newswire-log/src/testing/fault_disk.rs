//! A disk in memory that keeps only what was synced when it crashes, and fails on demand.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::embedded::disk::{Disk, DiskFile, LockGuard, OpenMode};

/// What survives of the writes that were not synced when the disk crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Nothing.
    DropAll,
    /// Everything: a killed process, not a power failure.
    KeepAll,
    /// Each sector of each write, each change of length and of a name at random, whatever came before or after it.
    Random,
}

/// A simulated disk: [`Self::crash`] loses and tears what was not synced. Clones share the disk.
#[derive(Clone, Default)]
pub struct FaultDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    name_ops: Vec<NameOp>,
    locks: BTreeMap<PathBuf, u64>,
    /// Counts crashes; a handle of an older life is dead.
    life: u64,
    faults: Faults,
    syncs: u64,
}

#[derive(Default)]
struct Faults {
    ignore_later_syncs: bool,
    fail_sync_in: Option<u64>,
    fail_writes: bool,
    capacity: Option<u64>,
    power_off_in: Option<u64>,
}

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<DataOp>,
    /// At least once.
    synced: bool,
}

#[derive(Clone)]
enum DataOp {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone)]
enum NameOp {
    Link { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
    Unlink(PathBuf),
}

impl FaultDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Power failure: keeps what was synced, and of the rest what `mode` says. Sectors of 512 or 4,096 bytes survive
    /// whole or not at all. Every open handle and lock is dead; the same disk may be opened again.
    pub fn crash(&self, mode: CrashMode, random: &mut fastrand::Rng) {
        let state = &mut *self.0.lock();
        let sector = if random.bool() { 512 } else { 4096 };
        for inode in state.inodes.values_mut() {
            inode.crash(mode, sector, random);
        }
        for op in std::mem::take(&mut state.name_ops) {
            if survives(mode, random) {
                op.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        let names = &state.names;
        state.inodes.retain(|id, _| names.values().any(|kept| kept == id));
        state.locks.clear();
        state.faults.power_off_in = None;
        state.faults.fail_sync_in = None;
        state.life += 1;
    }

    /// From now on only the first sync of each file counts, the one that creates it; later ones return at once and make
    /// nothing durable. As if a log had forgotten to sync its batches: the bug a checker must find.
    pub fn ignore_later_syncs(&self, ignore: bool) {
        self.0.lock().faults.ignore_later_syncs = ignore;
    }

    /// The sync after the next `n` ones fails, once.
    pub fn fail_sync_after(&self, n: u64) {
        self.0.lock().faults.fail_sync_in = Some(n);
    }

    /// Writes fail with an I/O error that is not a full disk.
    pub fn fail_writes(&self, fail: bool) {
        self.0.lock().faults.fail_writes = fail;
    }

    /// After so many more changes the disk does nothing any more but fail, until [`Self::crash`].
    pub fn power_off_after(&self, changes: u64) {
        self.0.lock().faults.power_off_in = Some(changes);
    }

    /// The disk holds at most so many bytes; a write beyond writes a part and fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().faults.capacity = bytes;
    }

    /// Bytes in all files that have a name.
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// How often a sync (of a file or a directory) was asked for.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// A file's content, for damaging it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.lock();
        state.names.get(path).map(|id| state.inodes[id].current.clone())
    }

    /// Replaces a file's content, durably, behind the log's back.
    pub fn set_content(&self, path: &Path, bytes: Vec<u8>) {
        let state = &mut *self.0.lock();
        let Some(id) = state.names.get(path) else { return };
        let inode = state.inodes.entry(*id).or_default();
        inode.current = bytes.clone();
        inode.durable = bytes;
        inode.pending.clear();
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// A deep copy of what a reader sees now, with everything durable and no faults.
    pub fn duplicate(&self) -> Self {
        let state = self.0.lock();
        let inodes = state
            .inodes
            .iter()
            .map(|(id, inode)| {
                let durable = inode.current.clone();
                (
                    *id,
                    Inode {
                        durable,
                        current: inode.current.clone(),
                        pending: Vec::new(),
                        synced: inode.synced,
                    },
                )
            })
            .collect();
        let copy = State {
            inodes,
            next_inode: state.next_inode,
            names: state.names.clone(),
            durable_names: state.names.clone(),
            ..State::default()
        };
        Self(Arc::new(Mutex::new(copy)))
    }
}

fn survives(mode: CrashMode, random: &mut fastrand::Rng) -> bool {
    match mode {
        CrashMode::DropAll => false,
        CrashMode::KeepAll => true,
        CrashMode::Random => random.bool(),
    }
}

impl NameOp {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link { path, inode } => drop(names.insert(path, inode)),
            Self::Rename { from, to, inode } => {
                names.remove(&from);
                names.insert(to, inode);
            }
            Self::Unlink(path) => drop(names.remove(&path)),
        }
    }
}

impl Inode {
    fn crash(&mut self, mode: CrashMode, sector: usize, random: &mut fastrand::Rng) {
        for op in std::mem::take(&mut self.pending) {
            match op {
                DataOp::SetLen(len) if survives(mode, random) => self.durable.resize(len, 0),
                DataOp::SetLen(_) => {}
                DataOp::Write { at, bytes } => {
                    for (start, piece) in sectors(at, &bytes, sector) {
                        if survives(mode, random) {
                            write_into(&mut self.durable, start, piece);
                        }
                    }
                }
            }
        }
        self.current = self.durable.clone();
    }
}

/// Cuts a write at the disk's sector borders.
fn sectors(at: usize, bytes: &[u8], sector: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let start = at + done;
        let len = (sector - start % sector).min(bytes.len() - done);
        let piece = &bytes[done..done + len];
        done += len;
        (len > 0).then_some((start, piece))
    })
}

fn write_into(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().map(|id| self.inodes[id].current.len() as u64).sum()
    }

    /// Called before every change.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.faults.power_off_in {
            Some(0) => Err(io::Error::other("simulated power failure")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn sync_fault(&mut self) -> io::Result<()> {
        self.change()?;
        self.syncs += 1;
        match &mut self.faults.fail_sync_in {
            Some(0) => {
                self.faults.fail_sync_in = None;
                return Err(io::Error::other("simulated sync failure"));
            }
            Some(n) => *n -= 1,
            None => {}
        }
        Ok(())
    }

    fn inode_of(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

impl Disk for FaultDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let state = &mut *self.0.lock();
        let found = state.names.get(path).copied();
        let inode = match (mode, found) {
            (OpenMode::Read | OpenMode::Write, _) => state.inode_of(path)?,
            (OpenMode::Create, Some(id)) => {
                let inode = state.inodes.entry(id).or_default();
                inode.current.clear();
                inode.pending.push(DataOp::SetLen(0));
                id
            }
            (OpenMode::Create, None) => {
                let id = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(id, Inode::default());
                state.names.insert(path.to_owned(), id);
                state.name_ops.push(NameOp::Link { path: path.to_owned(), inode: id });
                id
            }
        };
        Ok(Arc::new(FaultFile { disk: self.clone(), inode, life: state.life }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.change()?;
        let inode = state.inode_of(from)?;
        let op = NameOp::Rename { from: from.to_owned(), to: to.to_owned(), inode };
        op.clone().apply(&mut state.names);
        state.name_ops.push(op);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.change()?;
        state.inode_of(path)?;
        state.names.remove(path);
        state.name_ops.push(NameOp::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.sync_fault()?;
        state.name_ops.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let state = &mut *self.0.lock();
        let life = state.life;
        if state.locks.contains_key(path) {
            return Ok(None);
        }
        state.locks.insert(path.to_owned(), life);
        let guard: Box<dyn Any + Send + Sync> =
            Box::new(FaultLock { disk: self.clone(), path: path.to_owned(), life });
        Ok(Some(guard))
    }
}

struct FaultLock {
    disk: FaultDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for FaultLock {
    fn drop(&mut self) {
        let state = &mut *self.disk.0.lock();
        if state.locks.get(&self.path) == Some(&self.life) {
            state.locks.remove(&self.path);
        }
    }
}

struct FaultFile {
    disk: FaultDisk,
    inode: u64,
    life: u64,
}

impl FaultFile {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.0.lock();
        if state.life != self.life {
            return Err(io::Error::other("this handle died in the crash"));
        }
        act(&mut state)
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|state| {
            let content = &state.inodes[&self.inode].current;
            let start = usize::try_from(position).unwrap_or(usize::MAX).min(content.len());
            let len = buf.len().min(content.len() - start);
            buf[..len].copy_from_slice(&content[start..start + len]);
            Ok(len)
        })
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.with(|state| {
            state.change()?;
            if state.faults.fail_writes {
                return Err(io::Error::other("simulated write failure"));
            }
            let at = usize::try_from(position).map_err(io::Error::other)?;
            let grows = (at + bytes.len()).saturating_sub(state.inodes[&self.inode].current.len());
            let free = state.faults.capacity.map_or(u64::MAX, |all| all.saturating_sub(state.used()));
            let fits = if grows as u64 > free {
                bytes.len().saturating_sub(grows - usize::try_from(free).unwrap_or(grows))
            } else {
                bytes.len()
            };
            let inode = state.inodes.entry(self.inode).or_default();
            write_into(&mut inode.current, at, &bytes[..fits]);
            inode.pending.push(DataOp::Write { at, bytes: bytes[..fits].to_vec() });
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state| {
            state.sync_fault()?;
            let ignore = state.faults.ignore_later_syncs;
            let inode = state.inodes.entry(self.inode).or_default();
            if !std::mem::replace(&mut inode.synced, true) || !ignore {
                for op in std::mem::take(&mut inode.pending) {
                    match op {
                        DataOp::Write { at, bytes } => write_into(&mut inode.durable, at, &bytes),
                        DataOp::SetLen(len) => inode.durable.resize(len, 0),
                    }
                }
            }
            Ok(())
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            state.change()?;
            let len = usize::try_from(len).map_err(io::Error::other)?;
            let inode = state.inodes.entry(self.inode).or_default();
            inode.current.resize(len, 0);
            inode.pending.push(DataOp::SetLen(len));
            Ok(())
        })
    }

    fn reserve(&self, from: u64, end: u64) -> io::Result<()> {
        let len = self.len()?;
        let free = self.with(|state| {
            Ok(state.faults.capacity.map_or(u64::MAX, |all| all.saturating_sub(state.used())))
        })?;
        let missing = end.saturating_sub(from.max(len));
        if missing > 0 {
            self.set_len(len.max(from.max(len) + missing.min(free)))?;
        }
        if missing > free { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.inodes[&self.inode].current.len() as u64))
    }
}
