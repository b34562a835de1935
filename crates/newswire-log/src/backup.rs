//! Copies of a log: taken while a server writes it, verified, and in an epoch of their own.
//!
//! A copy is a log's directory like any other. Its manifest is written last, so a copy that broke off is no log; and it
//! names a new epoch, so that no offset of the copy can be mistaken for one that the original gives later.

use std::io;
use std::path::{Path, PathBuf};

use newswire_protocol::Epoch;

use crate::check::{Damage, check_on};
use crate::embedded::batch::Position;
use crate::embedded::disk::{Disk, DiskFile, OpenMode, OsDisk, read_file, replace_file};
use crate::embedded::format::{INDEX_EXTENSION, LOCK_FILE, MANIFEST_FILE};
use crate::embedded::inspect::inspect_with;
use crate::embedded::options::OpenError;
use crate::embedded::snapshot::Snapshot;

/// Bytes copied at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The epoch of the original.
    pub from: Epoch,
    /// The epoch of the copy, which begins behind the last offset.
    pub epoch: Epoch,
    /// The last offset in it; 0 if there is none.
    pub last_offset: u64,
    /// Retained events in its segments.
    pub events: u64,
    /// Bytes of its segments.
    pub bytes: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is nothing to copy.
    #[error("{} holds no log", .0.display())]
    NoLog(PathBuf),
    /// What is to be copied cannot be read.
    #[error(transparent)]
    Source(OpenError),
    /// The copy would overwrite something.
    #[error("{} is there already and is not empty; nothing was changed", .0.display())]
    NotEmpty(PathBuf),
    /// A server has the directory that is to be filled.
    #[error("{} is in use by a server; stop it first", .0.display())]
    InUse(PathBuf),
    /// The copy does not verify: the disk it stands on gave back something else than it was given.
    #[error("the copy does not verify: {} at byte {}: {}", .0.file.display(), .0.byte, .0.what)]
    Unsound(Damage),
    /// The file system failed.
    #[error("{doing} {}: {error}", .file.display())]
    Io {
        /// What was tried, like `writing`.
        doing: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

fn io_error<'a>(doing: &'static str, file: &'a Path) -> impl FnOnce(io::Error) -> CopyError + 'a {
    move |error| CopyError::Io { doing, file: file.to_owned(), error }
}

/// Copies the log in `from`, which a server may be writing, into the new directory `to`: everything that was acknowledged
/// before the call, and perhaps some of what came meanwhile. The copy is made under the name `to` with `.incomplete`
/// behind it, synced, verified, and renamed when it is whole; what failed is removed. `progress` is told the bytes copied
/// and those in all. Blocks on the disk.
///
/// # Errors
/// [`CopyError::NotEmpty`] where `to`, or the name it is made under, is there already.
pub fn backup(from: &Path, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Copied, CopyError> {
    backup_in(from, to, Epoch(uuid::Uuid::new_v4()), progress)
}

/// As [`backup`], in this epoch: that of the original only where the original is not used any more.
pub(crate) fn backup_in(
    from: &Path,
    to: &Path,
    epoch: Epoch,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, CopyError> {
    let mut temporary = to.as_os_str().to_owned();
    temporary.push(".incomplete");
    let temporary = PathBuf::from(temporary);
    if to.symlink_metadata().is_ok() {
        return Err(CopyError::NotEmpty(to.to_owned()));
    }
    let snapshot = look(&OsDisk, from)?;
    std::fs::create_dir(&temporary).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CopyError::NotEmpty(temporary.clone()),
        _ => io_error("creating", &temporary)(error),
    })?;
    let copied = copy(&OsDisk, from, &snapshot, (&temporary, epoch), progress).and_then(|copied| {
        // A directory that appeared in the meantime is only replaced where it is empty.
        std::fs::rename(&temporary, to).map_err(io_error("renaming to", to))?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        OsDisk.sync_dir(parent).map_err(io_error("syncing", parent))?;
        Ok(copied)
    });
    if copied.is_err() {
        // It is no log, and named so that nobody takes it for one; what cannot be removed does no harm.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    copied
}

/// Copies a backup (or any log's directory) into `to`, which is empty or made, under its lock. Verified and in an epoch
/// of its own, so that subscribers of the original are told. Blocks on the disk.
///
/// # Errors
/// As [`backup`]; and [`CopyError::InUse`]. What broke off half-way is no log: no server starts on it.
pub fn restore(from: &Path, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Copied, CopyError> {
    restore_on(&OsDisk, from, to, progress)
}

/// As [`restore`], on any disk.
///
/// # Errors
/// As [`restore`].
pub fn restore_on(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, CopyError> {
    let snapshot = look(disk, from)?;
    disk.create_dir_all(to).map_err(io_error("creating", to))?;
    let is_other = |name: &String| name != LOCK_FILE && name != "lost+found";
    if disk.list(to).map_err(io_error("listing", to))?.iter().any(is_other) {
        return Err(CopyError::NotEmpty(to.to_owned()));
    }
    let lock = disk.lock(&to.join(LOCK_FILE)).map_err(io_error("locking", to))?;
    let Some(_lock) = lock else { return Err(CopyError::InUse(to.to_owned())) };
    copy(disk, from, &snapshot, (to, Epoch(uuid::Uuid::new_v4())), progress)
}

fn look(disk: &dyn Disk, from: &Path) -> Result<Snapshot, CopyError> {
    let snapshot = Snapshot::open(disk, from).map_err(CopyError::Source)?;
    snapshot.filter(|snapshot| !snapshot.pieces.is_empty()).ok_or_else(|| CopyError::NoLog(from.to_owned()))
}

fn copy(
    disk: &dyn Disk,
    from: &Path,
    snapshot: &Snapshot,
    (to, epoch): (&Path, Epoch),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, CopyError> {
    let (total, mut done) = (snapshot.bytes(), 0);
    for piece in &snapshot.pieces {
        let target = to.join(piece.path.file_name().unwrap_or_default());
        let file = disk.open(&target, OpenMode::Create).map_err(io_error("creating", &target))?;
        copy_file(piece.file.as_ref(), &piece.path, file.as_ref(), &target, piece.end, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
    }
    let indexes = snapshot.pieces.iter().map(|piece| piece.path.with_extension(INDEX_EXTENSION));
    for small in indexes.chain(snapshot.ids.iter().cloned()) {
        copy_if_there(disk, &small, to)?;
    }
    disk.sync_dir(to).map_err(io_error("syncing", to))?;
    let manifest = manifest_of_copy(snapshot, epoch);
    // Before it has a manifest: a server may be told not to verify, and must not start on what is unsound.
    let report = inspect_with(disk, to, &manifest).map_err(io_error("reading", to))?;
    let (last_offset, events) = (snapshot.next_offset - 1, report.events());
    if let Some(damage) = report.damage {
        return Err(whose_damage(disk, from, damage));
    }
    let path = to.join(MANIFEST_FILE);
    replace_file(disk, &path, &manifest.encode()).map_err(io_error("writing", &path))?;
    Ok(Copied { from: snapshot.epoch(), epoch, last_offset, events, bytes: total })
}

/// A copy of what is damaged is damaged, and the disk it stands on is not to blame.
fn whose_damage(disk: &dyn Disk, from: &Path, of_copy: Damage) -> CopyError {
    match check_on(disk, from).map(|report| report.damage) {
        Ok(Some(Damage { file, byte, what })) => CopyError::Source(OpenError::damaged(&file, byte, what)),
        Ok(None) => CopyError::Unsound(of_copy),
        Err(error) => io_error("reading", from)(error),
    }
}

/// The manifest of a log that ends cleanly where the snapshot does, and goes on in this epoch.
fn manifest_of_copy(snapshot: &Snapshot, epoch: Epoch) -> crate::embedded::manifest::Manifest {
    let mut manifest = snapshot.manifest.clone();
    manifest.synced_always = true;
    manifest.next_offset = snapshot.next_offset;
    if let Some(last) = snapshot.pieces.last() {
        manifest.last_sequence = last.header.sequence;
        manifest.clean_end = Some(Position { sequence: last.header.sequence, byte: last.end });
    }
    if manifest.epoch() != epoch {
        manifest.begin_epoch(epoch, snapshot.next_offset);
    }
    manifest
}

fn copy_file(
    from: &dyn DiskFile,
    from_path: &Path,
    to: &dyn DiskFile,
    to_path: &Path,
    len: u64,
    copied: &mut dyn FnMut(u64),
) -> Result<(), CopyError> {
    let mut position = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    while position < len {
        let wanted = chunk.len().min(usize::try_from(len - position).unwrap_or(usize::MAX));
        let got = from.read_at(&mut chunk[..wanted], position).map_err(io_error("reading", from_path))?;
        if got == 0 {
            return Err(io_error("reading", from_path)(io::ErrorKind::UnexpectedEof.into()));
        }
        to.write_at(&chunk[..got], position).map_err(io_error("writing", to_path))?;
        position += got as u64;
        copied(got as u64);
    }
    to.sync_all().map_err(io_error("syncing", to_path))
}

/// Indexes are made again where they are missing, and saved ids go when they expire: neither has to be there.
fn copy_if_there(disk: &dyn Disk, path: &Path, to: &Path) -> Result<(), CopyError> {
    let bytes = match read_file(disk, path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("reading", path)(error)),
    };
    let target = to.join(path.file_name().unwrap_or_default());
    replace_file(disk, &target, &bytes).map(drop).map_err(io_error("writing", &target))
}
