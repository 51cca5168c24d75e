//! Output files appear whole or not at all.
//!
//! A [`WholeFile`] is written under a temporary name in the folder of its target, and takes the
//! target's name by a rename once every byte is on disk. A run that fails or is interrupted leaves
//! the earlier file as it was. Tables, plots and exported activations all go this way.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::files::error::FileError;

/// A file in the making; dropped without [`WholeFile::finish`], it never existed.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    /// Where the bytes go: `path`, or what it is a link to.
    target: PathBuf,
    folder: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl WholeFile {
    /// Starts a file at `path`. Everything that can be known to fail now does, so a long
    /// computation can start its output file first.
    ///
    /// # Errors
    ///
    /// [`FileError::NoFolder`], [`FileError::IsFolder`] or [`FileError::ReadOnly`] where no file can
    /// stand; [`FileError::Create`] where the folder takes none.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        // A link stays a link: a rename onto it would put a file in its place.
        let target = match fs::symlink_metadata(path) {
            Ok(standing) if standing.is_symlink() => fs::canonicalize(path),
            _ => Ok(path.to_owned()),
        };
        let target = target.unwrap_or_else(|_| path.to_owned());
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if !folder.is_dir() {
            return Err(FileError::NoFolder {
                path: path.to_owned(),
                folder,
            });
        }
        // a name that the system will not take, such as one too long, would else be refused at the end
        if let Err(source) = fs::symlink_metadata(path)
            && source.kind() != io::ErrorKind::NotFound
        {
            return Err(FileError::Create {
                path: path.to_owned(),
                source,
            });
        }
        // A rename would replace a read-only file without asking: its owner said not to.
        if let Ok(standing) = fs::metadata(path) {
            if standing.is_dir() {
                return Err(FileError::IsFolder {
                    path: path.to_owned(),
                });
            }
            if standing.permissions().readonly() {
                return Err(FileError::ReadOnly {
                    path: path.to_owned(),
                });
            }
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".headlight-").suffix(".part");
        // Temporary files are private unless told otherwise; a result is as readable as any other
        // file the user makes (the umask still applies).
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder
            .tempfile_in(&folder)
            .map_err(|source| FileError::Create {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            path: path.to_owned(),
            target,
            folder,
            out: BufWriter::with_capacity(1 << 16, file),
        })
    }

    /// Writes `bytes` to `path`, whole or not at all.
    ///
    /// # Errors
    ///
    /// As [`WholeFile::create`]; [`FileError::Write`] where the disk does not take it.
    pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let mut file = Self::create(path)?;
        file.write_all(bytes).map_err(FileError::write_to(path))?;
        file.finish()
    }

    /// The same under another name in the same folder.
    #[must_use]
    pub fn named(self, path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            target: path.to_owned(),
            ..self
        }
    }

    /// Writes `bytes` to `path`, whole or not at all, unless a file stands there; whether none did.
    ///
    /// # Errors
    ///
    /// As [`WholeFile::write`].
    pub fn write_new(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
        let mut file = Self::create(path)?;
        file.write_all(bytes).map_err(FileError::write_to(path))?;
        match file.sync()?.file.persist_noclobber(path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(FileError::write_to(path)(error.error)),
        }
        Ok(true)
    }

    /// Where the file will stand.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts every byte on disk and gives the file its name.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`] where the disk does not take it, or the file cannot be renamed.
    pub fn finish(self) -> Result<(), FileError> {
        self.sync()?.rename()
    }

    /// The first half of [`WholeFile::finish`], so that several files can be made ready before the
    /// first of them appears.
    pub(crate) fn sync(mut self) -> Result<Ready, FileError> {
        self.out
            .flush()
            .and_then(|()| self.out.get_ref().as_file().sync_all())
            .map_err(FileError::write_to(&self.path))?;
        let file = match self.out.into_inner() {
            Ok(file) => file,
            Err(error) => {
                return Err(FileError::write_to(&self.path)(error.into_error()));
            }
        };
        Ok(Ready {
            path: self.path,
            target: self.target,
            folder: self.folder,
            file,
        })
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Seek for WholeFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.out.seek(to)
    }
}

/// A file that is on disk and lacks only its name.
#[derive(Debug)]
pub(crate) struct Ready {
    path: PathBuf,
    target: PathBuf,
    folder: PathBuf,
    file: NamedTempFile,
}

impl Ready {
    /// Gives the file its name.
    pub(crate) fn rename(self) -> Result<(), FileError> {
        self.file
            .persist(&self.target)
            .map_err(|error| FileError::write_to(&self.path)(error.error))?;
        // The new name is in the folder, which is on disk only when it says so. Some file systems
        // cannot sync a folder; the file itself is safe either way.
        if let Ok(folder) = File::open(&self.folder) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_leaves_what_stood_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "before").unwrap();
        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(b"after").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        WholeFile::write(&path, b"after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "before").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        WholeFile::write(&link, b"after").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "after");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        WholeFile::write(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn what_cannot_work_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let lost = folder.path().join("no/such/a.csv");
        let said = WholeFile::create(&lost).unwrap_err().to_string();
        assert!(said.contains("there is no folder"), "{said}");
        let said = WholeFile::create(folder.path()).unwrap_err().to_string();
        assert!(said.contains("this is a folder"), "{said}");

        let fixed = folder.path().join("fixed");
        fs::write(&fixed, "x").unwrap();
        let mut permissions = fs::metadata(&fixed).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&fixed, permissions).unwrap();
        let said = WholeFile::create(&fixed).unwrap_err().to_string();
        assert!(said.contains("read-only"), "{said}");
    }
}
