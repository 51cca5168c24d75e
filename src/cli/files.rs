//! The files that a command reads and writes: none of them is both, none is written twice, and none
//! that a model consists of is written at all.

use std::path::{Path, PathBuf};

use super::Global;
use crate::error::Error;

/// Files of one command, by the flag that names them.
#[derive(Debug, Default)]
pub struct Files {
    read: Vec<(&'static str, PathBuf)>,
    written: Vec<(&'static str, PathBuf)>,
}

impl Files {
    /// A file that is read, if the flag was given. What stands behind `#` names something in it.
    pub fn reads(mut self, flag: &'static str, file: Option<impl AsRef<Path>>) -> Self {
        self.read
            .extend(file.map(|file| (flag, file.as_ref().to_owned())));
        self
    }

    /// A file that is written, if the flag was given.
    pub fn writes(mut self, flag: &'static str, file: Option<impl AsRef<Path>>) -> Self {
        self.written
            .extend(file.map(|file| (flag, file.as_ref().to_owned())));
        self
    }

    /// Refuses a file that would be lost.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], naming the file and both flags.
    pub fn check(self, global: &Global) -> Result<(), Error> {
        let model = std::fs::canonicalize(&global.model).ok();
        let mut known: Vec<(&str, PathBuf)> = Vec::new();
        known.extend(self.read.iter().map(|(flag, file)| (*flag, whole(file))));
        for (flag, file) in &self.written {
            let path = whole(file);
            let name = file.display();
            if path.exists() && path.parent() == model.as_deref() && is_of_model(&path) {
                return Err(Error::Usage(format!(
                    "{flag} {name} would replace a file of the model: name another"
                )));
            }
            if let Some((other, _)) = known.iter().find(|(_, known)| *known == path) {
                return Err(Error::Usage(format!(
                    "{flag} and {other} are the same file, {name}: name another for {flag}"
                )));
            }
            known.push((flag, path));
        }
        Ok(())
    }
}

/// The one path of a file, whether or not it exists: links and `..` followed as far as they lead.
fn whole(file: &Path) -> PathBuf {
    if let Ok(path) = std::fs::canonicalize(file) {
        return path;
    }
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (std::fs::canonicalize(folder), file.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => file.to_owned(),
    }
}

/// Whether a file in a model's folder is one of those that models consist of: results may stand there too.
fn is_of_model(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    const NAMES: [&str; 7] = [
        "config.json",
        "generation_config.json",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "special_tokens_map.json",
        "training_args.bin",
    ];
    let weights = ["model", "pytorch_model", "tokenizer"];
    let endings = [".safetensors", ".json", ".bin", ".model"];
    let named =
        |starts: &str| name.starts_with(starts) && endings.iter().any(|e| name.ends_with(e));
    let index = path.with_file_name("model.safetensors.index.json");
    let shards = std::fs::read_to_string(index).unwrap_or_default();
    NAMES.contains(&name)
        || weights.iter().any(|starts| named(starts))
        || shards.contains(&format!("{name:?}"))
}

/// The file of `F#name`.
pub fn before_name(text: &str) -> &str {
    text.rsplit_once('#').map_or(text, |(file, _)| file)
}
