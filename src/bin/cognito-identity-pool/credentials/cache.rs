//! Credentials in a file: one exchange for many processes, whole at every moment, its owner's alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The fingerprint of the bearer that they were got with: another user's are never served.
    pub(super) user: String,
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: String,
    /// Seconds since the epoch.
    pub(super) expires: u64,
}

/// The file for one source of credentials.
pub(super) struct Cache {
    file: PathBuf,
}

impl Cache {
    /// In `folder`, for the source with these parts.
    pub(super) fn new(folder: &Path, source: &[&str]) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        let mut hash = Sha256::new();
        for part in source {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        let name: String = hash
            .finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            file: folder.join(format!("{name}.json")),
        })
    }

    /// What is kept; nothing if there is none, or none that can be read.
    pub(super) fn read(&self) -> Option<Kept> {
        serde_json::from_slice(&fs::read(&self.file).ok()?).ok()
    }

    /// Waits until no other process makes an exchange. The lock ends with the process, however it ends.
    pub(super) fn lock(&self) -> io::Result<File> {
        let lock = private(&self.file.with_extension("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// A new file takes the old one's place: a process that is killed while it writes leaves the old one.
    pub(super) fn write(&self, kept: &Kept) -> io::Result<()> {
        let new = self.file.with_extension("new");
        // What a killed process left is not written over: it may have been made by another hand.
        remove(&new)?;
        let mut file = private(&new)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.file)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.file)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(user: &str) -> Kept {
        Kept {
            user: user.into(),
            access_key_id: "ASIA".into(),
            secret_access_key: "secret".into(),
            session_token: "token".into(),
            expires: 1,
        }
    }

    #[test]
    fn what_is_kept_is_whole_or_the_one_before_and_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(&folder.path().join("deep/er"), &["pool", "backend"]).unwrap();
        assert!(cache.read().is_none());
        cache
            .write(&kept("a long name, so that the next one is shorter"))
            .unwrap();
        cache.write(&kept("b")).unwrap();
        assert_eq!(cache.read().unwrap().user, "b");
        // A process that was killed in the middle of a write.
        fs::write(cache.file.with_extension("new"), "{\"user\":\"c").unwrap();
        assert_eq!(cache.read().unwrap().user, "b");
        cache.write(&kept("d")).unwrap();
        assert_eq!(cache.read().unwrap().user, "d");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&cache.file), mode(cache.file.parent().unwrap())), (0o600, 0o700));
        }
        cache.remove().unwrap();
        cache.remove().unwrap();
        assert!(cache.read().is_none());
    }

    #[test]
    fn every_source_has_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = |source: &[&str]| Cache::new(folder.path(), source).unwrap().file;
        assert_ne!(file(&["a", "bc"]), file(&["ab", "c"]));
        assert_eq!(file(&["a", "b"]), file(&["a", "b"]));
    }
}
