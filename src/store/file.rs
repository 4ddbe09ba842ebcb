//! [`FileStore`]: an identity store that outlives the process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{IdentityStore, StoreError, StoreKey, Swapped};
use crate::ids::{IdentityId, IdentityPoolId};

/// The format that is written, and the newest that is read.
const VERSION: u64 = 1;
/// More than 50000 users of one device: what is larger is not such a file.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// An identity store in a file.
///
/// The file is JSON with a version number. It is replaced as a whole, by a rename of a temporary file in the same directory, so
/// that a process that is killed, or a disk that is full, leaves the old file or the new one. On Unix it can be read and written
/// by its owner alone (mode 0600). Processes may share it: each change is made under a lock on the file `<path>.lock`, which
/// stays there. The directory must exist.
///
/// A file that cannot be understood (truncated, written by a newer version, a directory, a symbolic link …) is an error and is
/// left as it is.
///
/// Within a tokio runtime (feature `rt-tokio`) the disk is waited for on the runtime's blocking threads, otherwise on the
/// caller's. A change takes a write to the disk itself (`fsync`), milliseconds as a rule. A process that is suspended in the middle
/// of one holds up the others' changes, but not their reads. On network file systems that cannot lock files changes fail.
///
/// ```
/// # use cognito_identity_pool::{store::{FileStore, IdentityStore, StoreKey, Swapped}, Error, IdentityId, IdentityPoolId};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let key = StoreKey::guest(&IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd")?, "default")?;
/// let id = IdentityId::new("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d")?;
/// let path = directory.path().join("identities.json");
/// assert_eq!(FileStore::new(&path).swap(&key, None, Some(&id)).await.map_err(Error::from)?, Swapped::Yes);
/// assert_eq!(FileStore::new(&path).load(&key).await.map_err(Error::from)?, Some(id));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    /// A store in the file `path`, which is made by the first change. The disk is not touched before the first use.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // So that a change of the working directory is no change of the store.
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { path }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        #[cfg(feature = "rt-tokio")]
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let path = self.path.clone();
            let done = runtime.spawn_blocking(move || work(&path)).await;
            return done.map_err(|_| StoreError::new("the async runtime is shutting down"))?;
        }
        work(&self.path)
    }
}

#[async_trait]
impl IdentityStore for FileStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
        let key = key.to_string();
        self.run(move |path| Ok(read(path)?.identities.remove(&key))).await
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expected: Option<&IdentityId>,
        new: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError> {
        let (key, expected, new) = (key.to_string(), expected.cloned(), new.cloned());
        self.run(move |path| swap(path, key, expected.as_ref(), new)).await
    }

    async fn remove_all(&self, pool: &IdentityPoolId, namespace: &str) -> Result<(), StoreError> {
        let prefix = format!("{pool}/{namespace}/");
        self.run(move |path| remove_all(path, &prefix)).await
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u64,
    identities: BTreeMap<String, IdentityId>,
}

fn swap(
    path: &Path,
    key: String,
    expected: Option<&IdentityId>,
    new: Option<IdentityId>,
) -> Result<Swapped, StoreError> {
    let lock = lock(path)?;
    let mut contents = read(path)?;
    let current = contents.identities.get(&key);
    if current != expected {
        return Ok(Swapped::No {
            current: current.cloned(),
        });
    }
    if current != new.as_ref() {
        match new {
            Some(id) => contents.identities.insert(key, id),
            None => contents.identities.remove(&key),
        };
        write(path, &contents)?;
    }
    drop(lock);
    Ok(Swapped::Yes)
}

fn remove_all(path: &Path, prefix: &str) -> Result<(), StoreError> {
    let lock = lock(path)?;
    let mut contents = read(path)?;
    let before = contents.identities.len();
    contents.identities.retain(|key, _| !key.starts_with(prefix));
    if contents.identities.len() < before {
        write(path, &contents)?;
    }
    drop(lock);
    Ok(())
}

/// Waits until no other process, and no other task of this one, changes the file. Readers need no lock: they find the old file
/// or the new one.
fn lock(path: &Path) -> Result<File, StoreError> {
    let beside = sibling(path, ".lock")?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    let file = open_regular(&beside, &mut options)?.ok_or_else(|| no_directory(path))?;
    file.lock()
        .map_err(|error| failed(&beside, "cannot be locked", &error))?;
    Ok(file)
}

fn read(path: &Path) -> Result<Contents, StoreError> {
    let Some(file) = open_regular(path, OpenOptions::new().read(true))? else {
        // Without its directory the store is out of reach (a disk that is not mounted yet, say), which is not "absent".
        return match path.parent().map(Path::metadata) {
            Some(Ok(directory)) if directory.is_dir() => Ok(Contents {
                version: VERSION,
                identities: BTreeMap::new(),
            }),
            _ => Err(no_directory(path)),
        };
    };
    let mut text = String::new();
    file.take(MAX_SIZE + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(path, "cannot be read", &error))?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Contents, StoreError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    // The parser's own message could quote an identity id.
    let illegible = |error: serde_json::Error| {
        let problem = if error.is_eof() { "is truncated" } else { "is damaged" };
        let (line, column) = (error.line(), error.column());
        refused(
            path,
            &format!(
                "{problem} (line {line}, column {column}); restore it, or move it away to start with an empty store"
            ),
        )
    };
    if text.len() as u64 > MAX_SIZE {
        return Err(refused(path, "is larger than 16 MiB: is it an identity store?"));
    }
    let Versioned { version } = serde_json::from_str(text).map_err(illegible)?;
    if version > VERSION {
        return Err(refused(
            path,
            &format!(
                "was written by a newer version of cognito-identity-pool (format {version}, this one knows {VERSION})"
            ),
        ));
    }
    serde_json::from_str(text).map_err(illegible)
}

/// Replaces the file. Called under the lock.
fn write(path: &Path, contents: &Contents) -> Result<(), StoreError> {
    let temporary = sibling(path, ".tmp")?;
    let bytes = serde_json::to_vec(contents)?;
    // One that a killed process has left. Removing does not follow a link.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&temporary, "is in the way and cannot be removed", &error));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private(&mut options);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)
    });
    if let Err(error) = written {
        // The error that matters is the first one, and the next change tries to remove it again.
        drop(fs::remove_file(&temporary));
        return Err(failed(path, "cannot be written", &error));
    }
    sync_directory(path).map_err(|error| failed(path, "was written, but could not be flushed to disk", &error))
}

/// Makes the rename survive a loss of power.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    match File::open(directory)?.sync_all() {
        // Some file systems cannot, and do not need to.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Opens a file that is nothing but a file; `None` if there is none and `options` do not make it.
fn open_regular(path: &Path, options: &mut OpenOptions) -> Result<Option<File>, StoreError> {
    private(options);
    no_follow(options);
    let opened = options
        .open(path)
        .and_then(|file| Ok((file.metadata()?.file_type(), file)));
    match opened {
        Ok((file_type, file)) if file_type.is_file() => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Whether it is opened at all depends on what it is and on the platform.
        opened => Err(
            match (fs::symlink_metadata(path).map(|metadata| metadata.file_type()), opened) {
                (Ok(what), _) if what.is_symlink() => refused(
                    path,
                    "is a symbolic link, which is not followed; pass the path that it points to",
                ),
                (Ok(what), _) if what.is_dir() => refused(path, "is a directory; pass the path of a file in it"),
                (_, Err(error)) => failed(path, "cannot be opened", &error),
                (_, Ok(_)) => refused(path, "is not a regular file"),
            },
        ),
    }
}

/// Makes what is created readable and writable by its owner alone.
fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

/// A link that somebody else has put there is not followed, and a pipe not waited for.
fn no_follow(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    #[cfg(windows)]
    {
        const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
        std::os::windows::fs::OpenOptionsExt::custom_flags(options, FILE_FLAG_OPEN_REPARSE_POINT);
    }
    #[cfg(not(any(unix, windows)))]
    let _ = options;
}

fn sibling(path: &Path, suffix: &str) -> Result<PathBuf, StoreError> {
    let mut name = OsString::from(
        path.file_name()
            .ok_or_else(|| refused(path, "is not the path of a file"))?,
    );
    name.push(suffix);
    Ok(path.with_file_name(name))
}

fn failed(path: &Path, what: &str, error: &io::Error) -> StoreError {
    StoreError::new(format!("{} {what}: {error}", path.display()))
}

fn refused(path: &Path, what: &str) -> StoreError {
    StoreError::new(format!("{} {what}", path.display())).permanent()
}

fn no_directory(path: &Path) -> StoreError {
    StoreError::new(format!("the directory of {} does not exist", path.display()))
}
