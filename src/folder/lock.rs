//! One process a folder, or a shard of it: an advisory lock that ends with the process, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::error::FolderError;
use crate::files::error::FileError;

/// A lock that is held.
#[derive(Debug)]
pub struct FolderLock {
    // closed, and so let go, with this
    _file: File,
}

/// The file of the lock of a whole folder or of one shard.
pub fn lock_path(folder: &Path, shard: Option<usize>) -> PathBuf {
    folder.join(match shard {
        None => ".lock".to_owned(),
        Some(shard) => format!(".lock-{shard:05}"),
    })
}

impl FolderLock {
    /// Takes a lock. Whoever only looks whether it is held has it for a moment, which is waited for.
    ///
    /// # Errors
    ///
    /// [`FolderError::Taken`] where another process has it; [`FolderError::File`] where none can be.
    pub fn take(folder: &Path, shard: Option<usize>) -> Result<Self, FolderError> {
        let path = lock_path(folder, shard);
        let create = |source| FileError::Create {
            path: path.clone(),
            source,
        };
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options
        };
        let mut file = options().open(&path).map_err(create)?;
        for last in [false, false, false, true] {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if last => {
                    let mut holder = String::new();
                    let _ = file.read_to_string(&mut holder);
                    let holder = match holder.trim() {
                        "" => "another process".to_owned(),
                        named => named.chars().take(100).collect(),
                    };
                    let folder = folder.to_owned();
                    return Err(FolderError::Taken { folder, holder });
                }
                Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(50)),
                Err(TryLockError::Error(source)) => {
                    return Err(FileError::Create { path, source }.into());
                }
            }
        }
        // for whoever is refused; a lock holds without it
        let host = sysinfo::System::host_name().unwrap_or_default();
        let said = format!("process {} on {host}", std::process::id());
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(said.as_bytes()));
        Ok(Self { _file: file })
    }

    /// Whether some process has it.
    pub fn is_held(folder: &Path, shard: Option<usize>) -> bool {
        let Ok(file) = File::open(lock_path(folder, shard)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (path, shard) = (folder.path(), Some(3));
        let held = FolderLock::take(path, shard).unwrap();
        assert!(FolderLock::is_held(path, shard) && !FolderLock::is_held(path, None));
        let said = FolderLock::take(path, shard).unwrap_err().to_string();
        let me = format!("process {}", std::process::id());
        assert!(said.contains(&me), "{said}");
        let _other = FolderLock::take(path, Some(4)).unwrap();
        drop(held);
        assert!(!FolderLock::is_held(path, shard));
        FolderLock::take(path, shard).unwrap();
    }
}
