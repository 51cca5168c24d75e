//! What a file's bytes must hash to. The hub calls files by their hash: by SHA-256 what large-file
//! storage keeps, by git's own hash what stands in the repository.

use std::io::{Read, Result};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::super::hash::hex;
use super::cache::is_hex;

/// A file's hash, in lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// SHA-256 of the bytes: 64 digits.
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the bytes, as git names a file: 40 digits.
    Git(String),
}

impl Hash {
    /// Out of an `ETag` header: `"…"`, `W/"…"` or bare. `None` for what is neither hash.
    pub(super) fn from_etag(etag: &str) -> Option<Self> {
        let etag = etag.strip_prefix("W/").unwrap_or(etag);
        let digits = match etag.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => etag,
        };
        if is_hex(digits, 64) {
            Some(Hash::Sha256(digits.to_owned()))
        } else {
            is_hex(digits, 40).then(|| Hash::Git(digits.to_owned()))
        }
    }

    /// Its digits, which is also the blob's name in the cache.
    pub(super) fn hex(&self) -> &str {
        match self {
            Hash::Sha256(digits) | Hash::Git(digits) => digits,
        }
    }

    /// As messages call its kind.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Hash::Sha256(_) => "SHA-256",
            Hash::Git(_) => "git hash",
        }
    }

    /// Begins to hash a file of `length` bytes.
    pub(super) fn hasher(&self, length: u64) -> Hasher {
        match self {
            Hash::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Hash::Git(_) => Hasher::Git(Sha1::new_with_prefix(format!("blob {length}\0"))),
        }
    }
}

/// A hash of the bytes so far.
pub(super) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    /// Hashes all that `reader` has.
    pub(super) fn read(&mut self, mut reader: impl Read) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(()),
                read => self.update(&buffer[..read]),
            }
        }
    }

    /// The digits.
    pub(super) fn finish(self) -> String {
        match self {
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::Git(hasher) => hex(&hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_git_hash_object() {
        let of = |etag: &str| {
            let hash = Hash::from_etag(etag).unwrap();
            let mut hasher = hash.hasher(4);
            hasher.read(&b"what"[..]).unwrap();
            (hasher.finish(), hash)
        };
        // printf what | sha256sum; printf what | git hash-object --stdin
        let sha = "749ab2c0d06c42ae3b841b79e79875f02b3a042e43c92378cd28bd444c04d284";
        let git = "cc0c19dbe00eebb3710082d013eae90ff792bb60";
        assert_eq!(of(&format!("\"{sha}\"")).0, sha);
        assert_eq!(of(&format!("W/\"{git}\"")).0, git);
        assert_eq!(of(git).1.kind(), "git hash");
    }

    #[test]
    fn an_etag_that_is_no_hash_names_nothing() {
        let sha = "7".repeat(64);
        for etag in [
            "",
            "\"\"",
            "etag",
            "../../../../evil",
            "/etc/passwd",
            &sha[1..],
            &format!("{sha}0"),
            &format!("\"{sha}"),
            &format!("{sha}\""),
            &format!("\"\"{sha}\"\""),
            &format!("w/{sha}"),
            &format!("{}F", &sha[1..]),
            &format!("{}/", &sha[1..]),
            &"e".repeat(4000),
        ] {
            assert_eq!(Hash::from_etag(etag), None, "{etag}");
        }
    }
}
