//! The pool's state in a file: read at start, written behind every change.
//!
//! A thread writes, so that no request waits for a disk. It writes a new file and renames it: a process that is killed
//! leaves the last whole state, at most [`REST`] old.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::LocalPoolError;
use super::pool_service::PoolService;
use super::snapshot::Snapshot;

/// The pause after a write, in which changes gather.
const REST: Duration = Duration::from_millis(200);

/// A state file that this pool has for itself.
pub(super) struct StateFile {
    path: PathBuf,
    /// Held as long as the pool runs.
    _lock: File,
}

fn failed(path: &Path, what: &str, error: impl std::fmt::Display) -> LocalPoolError {
    LocalPoolError::Setting(format!("the state file {} {what}: {error}", path.display()))
}

impl StateFile {
    /// Takes the file, and reads it if it exists.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Option<Snapshot>), LocalPoolError> {
        let lock = private(&beside(&path, "lock")).map_err(|error| failed(&path, "cannot be locked", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failed(&path, "is in use", "another local pool keeps its state there"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, "cannot be locked", error)),
        }
        let snapshot = match fs::read_to_string(&path) {
            Ok(text) => Some(Snapshot::parse(&text).map_err(|error| failed(&path, "is not used", error))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&path, "cannot be read", error)),
        };
        Ok((Self { path, _lock: lock }, snapshot))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let new = beside(&self.path, "new");
        let mut file = private(&new)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }
}

/// `state.json` → `state.json.lock`.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// The file holds secret keys, if only of a local pool.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// That there is something to write.
#[derive(Default)]
pub(super) struct Changes {
    state: Mutex<Pending>,
    told: Condvar,
}

#[derive(Default)]
struct Pending {
    changed: bool,
    ends: bool,
}

impl Changes {
    pub(super) fn tell(&self) {
        self.set(|pending| pending.changed = true);
    }

    fn set(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.told.notify_one();
    }

    /// Waits for a change; whether it was the last.
    fn wait(&self) -> bool {
        let pending = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = self
            .told
            .wait_while(pending, |pending| !pending.changed && !pending.ends);
        let mut pending = ready.unwrap_or_else(PoisonError::into_inner);
        pending.changed = false;
        pending.ends
    }

    /// Lets changes gather, unless the pool ends.
    fn rest(&self) {
        let pending = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.told.wait_timeout_while(pending, REST, |pending| !pending.ends));
    }
}

/// The thread that writes. Dropped, it writes a last time and ends.
pub(super) struct StateWriter {
    changes: Arc<Changes>,
    thread: Option<JoinHandle<()>>,
}

impl StateWriter {
    pub(super) fn start(file: StateFile, service: Arc<PoolService>) -> io::Result<Self> {
        let changes = Arc::clone(&service.changes);
        let told = Arc::clone(&changes);
        let thread = std::thread::Builder::new()
            .name("local-identity-pool-state".to_owned())
            .spawn(move || {
                let mut written = String::new();
                loop {
                    let ends = told.wait();
                    let text = service.export();
                    if text != written {
                        match file.write(&text) {
                            Ok(()) => written = text,
                            Err(error) => {
                                tracing::warn!(%error, path = %file.path.display(), "the state was not written")
                            }
                        }
                    }
                    if ends {
                        return;
                    }
                    told.rest();
                }
            })?;
        // The keys must outlive a process that is killed before anything changes.
        changes.tell();
        Ok(Self {
            changes,
            thread: Some(thread),
        })
    }
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        self.changes.set(|pending| pending.ends = true);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
