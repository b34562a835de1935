//! How far the publishing of a file got, kept between runs: ids alone keep from doubling only while the server remembers
//! them, and a recording played in real time can take longer than that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So often at most; what a killed process did not write down is caught by the ids.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Journals that nobody has come back to for so long are removed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 86_400);

/// A line that is published: everything before it is published or rejected too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u64,
    /// Where the server put it, and under which id: so that the mark can be checked against the log.
    pub(crate) offset: u64,
    pub(crate) event_id: String,
}

/// The marks of one file at one server.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    mark: Option<Mark>,
    written: Option<Instant>,
}

impl Journal {
    /// In the state directory of the user; None where there is none.
    pub(crate) fn of(file_hash: &str, url: &str) -> Option<Self> {
        let state = std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
        Some(Self::within(&state.join("newswire").join("published"), file_hash, url))
    }

    fn within(directory: &Path, file_hash: &str, url: &str) -> Self {
        let server = &blake3::hash(url.as_bytes()).to_hex()[..8];
        Self { path: directory.join(format!("{file_hash}-{server}")), mark: None, written: None }
    }

    /// What the last run wrote down.
    pub(crate) fn read(&self) -> Option<Mark> {
        let text = fs::read_to_string(&self.path).ok()?;
        let mut words = text.trim_end().splitn(3, ' ');
        let mark = Mark {
            line: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            event_id: words.next()?.to_owned(),
        };
        (mark.line > 0).then_some(mark)
    }

    /// Notes a mark, and writes it down now and then.
    pub(crate) fn note(&mut self, mark: Mark) {
        self.mark = Some(mark);
        if self.written.is_none_or(|written| written.elapsed() >= WRITE_EVERY) {
            self.write();
        }
    }

    /// Writes the newest mark down. A journal that cannot be written is only missed after a kill: no reason to stop.
    pub(crate) fn write(&mut self) {
        if self.written.replace(Instant::now()).is_none() {
            self.remove_forgotten();
        }
        if let Some(mark) = self.mark.take()
            && let Err(error) = self.replace(&mark)
        {
            tracing::debug!(path = %self.path.display(), %error, "cannot note how far publishing got");
        }
    }

    fn remove_forgotten(&self) {
        let others = self.path.parent().and_then(|directory| fs::read_dir(directory).ok());
        for other in others.into_iter().flatten().flatten() {
            let age = other.metadata().and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > FORGOTTEN_AFTER) {
                // Another run may have been quicker.
                let _gone = fs::remove_file(other.path());
            }
        }
    }

    fn replace(&self, mark: &Mark) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let new = self.path.with_extension("new");
        fs::write(&new, format!("{} {} {}\n", mark.line, mark.offset, mark.event_id))?;
        fs::rename(&new, &self.path)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(line: u64) -> Mark {
        Mark { line, offset: line + 100, event_id: format!("an id of line {line}") }
    }

    #[test]
    fn the_last_mark_survives_and_belongs_to_one_file_at_one_server() {
        let directory = tempfile::tempdir().unwrap();
        let open = |url| Journal::within(directory.path(), "0123", url);
        assert_eq!(open("http://a").read(), None);
        let mut journal = open("http://a");
        for line in 1..=50 {
            journal.note(mark(line));
        }
        assert_eq!(open("http://a").read(), Some(mark(1)), "written once a second, and the first at once");
        drop(journal);
        assert_eq!(open("http://a").read(), Some(mark(50)));
        assert_eq!(open("http://b").read(), None);
    }

    #[test]
    fn forgotten_journals_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        let file = fs::File::create(&old).unwrap();
        file.set_modified(std::time::SystemTime::now() - FORGOTTEN_AFTER - WRITE_EVERY).unwrap();
        fs::write(&new, "1 1 id").unwrap();
        Journal::within(directory.path(), "0123", "u").note(mark(1));
        assert!(!old.exists() && new.exists());
    }

    #[test]
    fn a_damaged_journal_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::within(directory.path(), "0123", "u");
        for text in ["", "7", "7 8", "x 8 id", "0 0 id"] {
            fs::write(&journal.path, text).unwrap();
            assert_eq!(journal.read(), None, "{text:?}");
        }
    }
}
