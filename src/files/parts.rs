//! Files in the making: what stands of them in a folder, who may give them their names, and what becomes of those
//! that nobody finished.
//!
//! A part is locked for as long as somebody writes it. One that is not is what a process that was killed left
//! behind, and goes when the next file is made in its folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::NamedTempFile;

const PREFIX: &str = ".headlight-";
const SUFFIX: &str = ".part";

/// A part that is younger may be one that its maker has not locked yet.
const YOUNG: Duration = Duration::from_secs(60);

/// Parts that this process writes.
static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Held while files get their names.
static NAMING: Mutex<()> = Mutex::new(());
/// Files that this process gave their names.
static NAMED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// Folders in which this process looked for what others left.
static TIDIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part; dropped, it is removed.
#[derive(Debug)]
pub(super) struct Unnamed(NamedTempFile);

impl Unnamed {
    /// A new one in a folder, which is rid of stale ones first.
    pub fn new(folder: &Path) -> io::Result<Self> {
        if lock(&TIDIED).insert(folder.to_owned()) {
            tidy(folder);
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        // Temporary files are private unless told otherwise; a result is as readable as any other
        // file the user makes (the umask still applies).
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut open = lock(&OPEN);
        let file = builder.tempfile_in(folder)?;
        // a file system without locks has no stale parts removed
        let _ = file.as_file().try_lock();
        open.insert(file.path().to_owned());
        Ok(Self(file))
    }

    pub fn file(&self) -> &File {
        self.0.as_file()
    }

    pub fn file_mut(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    /// Takes a name, whatever stands there.
    fn rename(mut self, target: &Path) -> io::Result<()> {
        fs::rename(self.0.path(), target)?;
        lock(&OPEN).remove(self.0.path());
        self.0.disable_cleanup(true);
        Ok(())
    }
}

impl Unnamed {
    /// Takes a name unless something stands there; whether nothing did.
    pub fn rename_new(self, target: &Path) -> io::Result<bool> {
        let _naming = lock(&NAMING);
        match fs::hard_link(self.0.path(), target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
            Ok(()) => {
                lock(&NAMED).push(target.to_owned());
                if let Some(folder) = folder(target).and_then(|folder| File::open(folder).ok()) {
                    let _ = folder.sync_all();
                }
                Ok(true)
            }
        }
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        lock(&OPEN).remove(self.0.path());
    }
}

/// Gives parts their names, the first of them first: a process that is killed between two leaves none of the
/// later ones' earlier files beside the first's new one, and another process that names the same files does so
/// before or after.
pub(super) fn name(parts: Vec<(Unnamed, PathBuf)>) -> Result<(), (PathBuf, io::Error)> {
    let _naming = lock(&NAMING);
    let folders: BTreeSet<&Path> = parts
        .iter()
        .filter_map(|(_, target)| folder(target))
        .collect();
    let folders: Vec<File> = folders.into_iter().flat_map(File::open).collect();
    // where a folder cannot be locked, nothing more can be done
    folders.iter().for_each(|folder| drop(folder.lock()));
    for (_, target) in parts.iter().skip(1) {
        match fs::remove_file(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err((target.clone(), error));
            }
            _ => {}
        }
    }
    for (part, target) in parts {
        part.rename(&target)
            .map_err(|error| (target.clone(), error))?;
        lock(&NAMED).push(target);
    }
    // The new names are in the folder, which is on disk only when it says so. Some file systems
    // cannot sync a folder; the files themselves are safe either way.
    folders.iter().for_each(|folder| drop(folder.sync_all()));
    Ok(())
}

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> Option<&Path> {
    match path.parent()? {
        here if here.as_os_str().is_empty() => Some(Path::new(".")),
        folder => Some(folder),
    }
}

/// The end of the process is near: removes all parts, lets no file have its name any more, and says which have.
pub fn abandon() -> Vec<PathBuf> {
    // whoever would name files waits until there is nobody left
    std::mem::forget(lock(&NAMING));
    for part in lock(&OPEN).iter() {
        let _ = fs::remove_file(part);
    }
    lock(&NAMED).clone()
}

/// Removes what processes that were killed left in a folder.
pub fn tidy(folder: &Path) {
    let is_part = |name: &str| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !plain || !entry.file_name().to_str().is_some_and(is_part) {
            continue;
        }
        let age = entry.metadata().and_then(|about| about.modified());
        let age = age.ok().and_then(|then| then.elapsed().ok());
        let left = || File::open(entry.path()).is_ok_and(|part| part.try_lock().is_ok());
        if age.is_some_and(|age| age >= YOUNG) && left() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_writes_any_more_goes_and_what_somebody_writes_stays() {
        let folder = tempfile::tempdir().unwrap();
        let part = |name: &str, age: u64| {
            let path = folder.path().join(name);
            let file = File::create(&path).unwrap();
            let then = std::time::SystemTime::now() - Duration::from_secs(age);
            file.set_modified(then).unwrap();
            (path, file)
        };
        let (stale, _) = part(".headlight-old.part", 3600);
        let (written, held) = part(".headlight-held.part", 3600);
        held.lock().unwrap();
        let (young, _) = part(".headlight-new.part", 1);
        let (other, _) = part(".other-old.part", 3600);
        let mine = Unnamed::new(folder.path()).unwrap();
        assert!(!stale.exists());
        assert!(written.exists() && young.exists() && other.exists());
        drop(mine);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn an_earlier_second_file_does_not_stand_beside_a_new_first() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("t.csv"), folder.path().join("t.json"));
        fs::write(&first, "old").unwrap();
        fs::write(&second, "old").unwrap();
        // a folder in the first one's place: the naming fails where a kill could end it
        fs::remove_file(&first).unwrap();
        fs::create_dir(&first).unwrap();
        fs::write(first.join("full"), "").unwrap();
        let part = || Unnamed::new(folder.path()).unwrap();
        let parts = vec![(part(), first.clone()), (part(), second.clone())];
        assert_eq!(name(parts).unwrap_err().0, first);
        assert!(!second.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
