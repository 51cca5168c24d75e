//! Output files appear whole or not at all.
//!
//! A [`WholeFile`] is written under a temporary name in the folder of its target, and takes the
//! target's name by a rename once every byte is on disk. A run that fails or is interrupted leaves
//! the earlier file as it was. Tables, plots and exported activations all go this way.
//!
//! A pipe or a device has no name that a file could take: it is written through, once every byte is there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::parts::{self, Unnamed};
use crate::files::error::FileError;

/// A file in the making; dropped without [`WholeFile::finish`], it never existed.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    /// Where the bytes go: `path`, or what it is a link to.
    target: PathBuf,
    out: BufWriter<Unfinished>,
}

/// Where bytes wait.
#[derive(Debug)]
enum Unfinished {
    /// In the target's folder, for its name.
    Part(Unnamed),
    /// Somewhere, for a pipe or a device.
    Apart(File),
}

impl Unfinished {
    fn file_mut(&mut self) -> &mut File {
        match self {
            Self::Part(part) => part.file_mut(),
            Self::Apart(file) => file,
        }
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file_mut().flush()
    }
}

impl Seek for Unfinished {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file_mut().seek(to)
    }
}

/// Whether a file of this name is one that can be replaced, or is not there: no pipe and no device.
pub fn is_plain(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |standing| standing.is_file() || standing.is_dir())
}

/// What a link leads to, though nothing be there: a link stays a link, and a rename onto it would put a file in
/// its place.
fn target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    // as many as systems follow
    for _ in 0..40 {
        let Ok(next) = fs::read_link(&target) else {
            break;
        };
        target = match target.parent() {
            Some(folder) => folder.join(next),
            None => next,
        };
    }
    target
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
        let target = target(path);
        let folder = parts::folder(&target).unwrap_or(Path::new("/")).to_owned();
        if !folder.is_dir() {
            return Err(FileError::NoFolder {
                path: path.to_owned(),
                folder,
            });
        }
        let create = |source| FileError::Create {
            path: path.to_owned(),
            source,
        };
        // a name that the system will not take, such as one too long, would else be refused at the end
        match fs::symlink_metadata(&target) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(create(source)),
            // a ring of links
            Ok(standing) if standing.is_symlink() => {
                let source = fs::metadata(&target).err();
                return Err(create(source.unwrap_or(io::ErrorKind::InvalidInput.into())));
            }
            _ => {}
        }
        // A rename would replace a read-only file without asking: its owner said not to.
        if let Ok(standing) = fs::metadata(&target) {
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
        let bytes = match is_plain(&target) {
            true => Unnamed::new(&folder).map(Unfinished::Part),
            false => tempfile::tempfile().map(Unfinished::Apart),
        };
        Ok(Self {
            path: path.to_owned(),
            target,
            out: BufWriter::with_capacity(1 << 16, bytes.map_err(create)?),
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
        Self::finish_all(vec![self])
    }

    /// Finishes files that belong together: all are on disk before the first has its name,
    /// and the first never stands beside an earlier one of the others.
    ///
    /// # Errors
    ///
    /// As [`WholeFile::finish`].
    pub fn finish_all(files: Vec<Self>) -> Result<(), FileError> {
        let mut parts = Vec::with_capacity(files.len());
        for Self { path, target, out } in files {
            let wrong = |error| FileError::write_to(&path)(error);
            let bytes = out
                .into_inner()
                .map_err(|error| wrong(error.into_error()))?;
            match bytes {
                Unfinished::Part(part) => {
                    part.file().sync_all().map_err(wrong)?;
                    parts.push((part, target));
                }
                Unfinished::Apart(mut waiting) => {
                    let written = waiting.rewind().and_then(|()| {
                        let mut out = File::options().write(true).open(&target)?;
                        io::copy(&mut waiting, &mut out)
                    });
                    written.map_err(wrong)?;
                }
            }
        }
        match parts.is_empty() {
            true => Ok(()),
            false => {
                parts::name(parts).map_err(|(target, error)| FileError::write_to(&target)(error))
            }
        }
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

    #[cfg(unix)]
    #[test]
    fn a_dangling_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        std::os::unix::fs::symlink(at("link"), at("far")).unwrap();
        WholeFile::write(&at("far"), b"x").unwrap();
        assert_eq!(fs::read_to_string(at("real")).unwrap(), "x");
        for link in ["link", "far"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink());
        }
        std::os::unix::fs::symlink("no/where", at("lost")).unwrap();
        let said = WholeFile::write(&at("lost"), b"x").unwrap_err().to_string();
        assert!(said.contains("there is no folder"), "{said}");
        assert!(fs::symlink_metadata(at("lost")).unwrap().is_symlink());
        std::os::unix::fs::symlink("ring", at("ring")).unwrap();
        assert!(WholeFile::write(&at("ring"), b"x").is_err());
    }
}
