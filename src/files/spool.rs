//! Numbers that wait on disk until the file that they belong to can be written.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::SpooledTempFile;

/// Up to here they wait in memory.
const IN_MEMORY: usize = 1 << 20;

/// A list of bytes that grows on disk.
pub struct Spool {
    file: SpooledTempFile,
    bytes: u64,
}

impl Spool {
    /// An empty one, on the disk that `path` will be on.
    pub fn beside(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Self {
            file: tempfile::spooled_tempfile_in(IN_MEMORY, folder),
            bytes: 0,
        }
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds numbers, little-endian.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn push<const N: usize>(
        &mut self,
        numbers: impl IntoIterator<Item = [u8; N]>,
    ) -> io::Result<()> {
        let mut block = Vec::with_capacity(1 << 16);
        for number in numbers {
            block.extend_from_slice(&number);
            if block.len() >= 1 << 16 {
                self.add(&block)?;
                block.clear();
            }
        }
        self.add(&block)
    }

    fn add(&mut self, block: &[u8]) -> io::Result<()> {
        self.bytes += block.len() as u64;
        self.file.write_all(block)
    }

    /// Writes `count` bytes from `start` on to `out`. What is pushed afterwards comes behind the last again.
    ///
    /// # Errors
    ///
    /// Those of the disk and of `out`.
    pub fn copy(
        &mut self,
        start: u64,
        count: u64,
        out: &mut (impl Write + ?Sized),
    ) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(start))?;
        let copied = io::copy(&mut (&mut self.file).take(count), out)?;
        self.file.seek(SeekFrom::End(0))?;
        match copied == count {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("bytes", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_comes_back_from_memory_and_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        for count in [10u64, 400_000] {
            let mut spool = Spool::beside(&folder.path().join("a.npz"));
            spool.push((0..count).map(u64::to_le_bytes)).unwrap();
            let mut some = Vec::new();
            spool.copy(16, 16, &mut some).unwrap();
            assert_eq!(some, [2u64.to_le_bytes(), 3u64.to_le_bytes()].concat());
            spool.push([7u64.to_le_bytes()]).unwrap();
            let mut all = Vec::new();
            spool.copy(0, spool.bytes(), &mut all).unwrap();
            assert_eq!(all.len() as u64, 8 * (count + 1));
            assert_eq!(all[all.len() - 8..], 7u64.to_le_bytes());
            assert!(spool.copy(8, spool.bytes(), &mut Vec::new()).is_err());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
