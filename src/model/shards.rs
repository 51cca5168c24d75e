//! The files that hold a checkpoint's tensors, and where in them each tensor lies.
//!
//! A file is mapped into memory, not read: the pages come in as they are used, and several processes
//! share them. Tensors are used in place; only one that the writer left misaligned is copied, and
//! one of F64 is rounded.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::error::{ModelError, quote};
use super::file;
use super::header::{self, Entry, show_shape};
use super::tensor::{Data, Tensor};

// The format stores its numbers with the low byte first, and they are used as they lie.
#[cfg(target_endian = "big")]
compile_error!("headlight uses safetensors data in place, which needs a little-endian machine");

/// The most bytes of a file's name, on most systems.
const LONGEST_NAME: usize = 255;

/// Bytes that somebody else owns and lends.
pub type ForeignBytes = Box<dyn AsRef<[u8]> + Send + Sync>;

/// A tensor in memory, such as another library's parameter. Its bytes are used where they lie, if they lie
/// at a multiple of the element's size, and must not change meanwhile.
pub struct ForeignTensor {
    /// Its name, as a checkpoint's file would call it.
    pub name: String,
    /// `F64`, `F32`, `F16` or `BF16`.
    pub dtype: String,
    /// Its sizes, row-major.
    pub shape: Vec<usize>,
    /// Its elements.
    pub bytes: ForeignBytes,
}

/// Where a file's bytes are.
enum Bytes {
    Mapped(Mmap),
    Held(Cow<'static, [u8]>),
    Foreign(ForeignBytes),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Held(bytes) => bytes,
            Bytes::Foreign(bytes) => (**bytes).as_ref(),
        }
    }
}

/// One safetensors file whose header has been checked.
struct Shard {
    /// How messages call it.
    name: String,
    bytes: Bytes,
    entries: Vec<(String, Entry)>,
}

impl Shard {
    fn new(name: String, bytes: Bytes) -> Result<Self, ModelError> {
        let entries = header::read(bytes.as_slice(), &name)?;
        Ok(Shard {
            name,
            bytes,
            entries,
        })
    }

    fn map(path: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Read {
            path: path.to_owned(),
            source,
        };
        if path.is_dir() {
            let path = path.to_owned();
            return Err(ModelError::Folder { path });
        }
        file::plain(path)?;
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the slice behind the map must not change while it is borrowed. The map is private
        // and never written by this process; that no other process truncates or rewrites the file
        // in place meanwhile is up to whoever runs the program, as it is for every reader of mapped
        // weights. The hub's cache and transformers replace files by renaming, which leaves a map
        // as it was.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Shard::new(path.display().to_string(), Bytes::Mapped(map))
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} tensors)", self.name, self.entries.len())
    }
}

/// One tensor's place among the shards: which file, and which entry of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TensorPlace {
    file: usize,
    entry: usize,
}

/// A tensor that has been checked against what is wanted, ready to be viewed.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) place: TensorPlace,
    shape: [usize; 2],
    store: Store,
}

#[derive(Clone, Copy, Debug)]
enum Dtype {
    F32,
    F16,
    BF16,
}

#[derive(Debug)]
enum Store {
    /// In the file, at a multiple of the element's size.
    InPlace(Dtype),
    /// Copies, for data that the file holds at any other place.
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    /// F64 rounded to the nearest, as transformers reads it if nobody asks for more.
    Rounded(Vec<f32>),
}

impl Located {
    /// Whether the file has more digits than are used.
    pub(super) fn is_rounded(&self) -> bool {
        matches!(self.store, Store::Rounded(_))
    }
}

/// All files of one checkpoint.
#[derive(Debug)]
pub(super) struct Shards {
    /// The file that lists the tensors: the only one, or the index.
    title: String,
    files: Vec<Shard>,
    /// With an index, the tensors it lists; without one, all there are.
    names: Vec<(String, TensorPlace)>,
}

impl Shards {
    /// `model.safetensors` of a folder, or what its index names.
    pub(super) fn open(dir: &Path) -> Result<Self, ModelError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.exists() {
            return Ok(Shards::single(Shard::map(&single)?));
        }
        if index.exists() {
            return Shards::indexed(&index);
        }
        for file in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
            if dir.join(file).exists() {
                let place = dir.display().to_string();
                return Err(ModelError::PickledOnly {
                    place,
                    file: file.to_owned(),
                });
            }
        }
        Err(ModelError::NoWeights {
            dir: dir.to_owned(),
        })
    }

    /// One file's bytes.
    pub(super) fn from_bytes(name: &str, bytes: Cow<'static, [u8]>) -> Result<Self, ModelError> {
        Ok(Shards::single(Shard::new(
            name.to_owned(),
            Bytes::Held(bytes),
        )?))
    }

    /// Tensors in memory, each as a file of its own.
    pub(super) fn of_tensors(
        title: &str,
        mut tensors: Vec<ForeignTensor>,
    ) -> Result<Self, ModelError> {
        // the hash does not depend on the order in which they come
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let (mut files, mut names) = (Vec::new(), Vec::new());
        for tensor in tensors {
            let ForeignTensor {
                name,
                dtype,
                shape,
                bytes,
            } = tensor;
            let found = (*bytes).as_ref().len();
            let wrong = |detail: String| ModelError::TensorPlace {
                file: title.to_owned(),
                tensor: quote(&name),
                detail,
            };
            if names.last().is_some_and(|(last, _)| *last == name) {
                return Err(wrong("is given twice: give it once".to_owned()));
            }
            let size = match dtype.as_str() {
                "F64" => 8,
                "F32" => 4,
                _ => 2,
            };
            let expected = shape.iter().try_fold(size, |n: usize, m| n.checked_mul(*m));
            if expected != Some(found) {
                let shape = show_shape(&shape);
                return Err(wrong(format!(
                    "has {found} bytes, which are not those of shape {shape} of {dtype}"
                )));
            }
            let entry = Entry {
                dtype,
                shape,
                start: 0,
                end: found,
            };
            let place = TensorPlace {
                file: files.len(),
                entry: 0,
            };
            names.push((name.clone(), place));
            files.push(Shard {
                name: title.to_owned(),
                bytes: Bytes::Foreign(bytes),
                entries: vec![(name, entry)],
            });
        }
        Ok(Shards {
            title: title.to_owned(),
            files,
            names,
        })
    }

    fn single(shard: Shard) -> Self {
        let places = shard.entries.iter().enumerate();
        let names = places.map(|(entry, (name, _))| (name.clone(), TensorPlace { file: 0, entry }));
        Shards {
            title: shard.name.clone(),
            names: names.collect(),
            files: vec![shard],
        }
    }

    fn indexed(index: &Path) -> Result<Self, ModelError> {
        let title = index.display().to_string();
        let text = file::read(index, file::LONGEST_INDEX)?;
        let map = weight_map(&text).map_err(|detail| ModelError::Index {
            file: title.clone(),
            detail,
        })?;

        // A map of its own order, so that the files and with them the hash do not depend on how the
        // index was written.
        let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, shard) in &map {
            shards.entry(shard).or_default().push(tensor);
        }
        let (mut files, mut names) = (Vec::new(), Vec::new());
        for (shard, tensors) in shards {
            let path: PathBuf = index.with_file_name(shard);
            if !path.exists() {
                return Err(ModelError::MissingShard {
                    index: title,
                    shard: quote(shard),
                });
            }
            let opened = Shard::map(&path)?;
            let entries: HashMap<&str, usize> = opened
                .entries
                .iter()
                .enumerate()
                .map(|(i, (name, _))| (name.as_str(), i))
                .collect();
            for tensor in tensors {
                let Some(&entry) = entries.get(tensor) else {
                    let (tensor, shard) = (quote(tensor), quote(shard));
                    let detail =
                        format!("it places tensor `{tensor}` in `{shard}`, which does not hold it");
                    return Err(ModelError::Index {
                        file: title,
                        detail,
                    });
                };
                names.push((
                    tensor.to_owned(),
                    TensorPlace {
                        file: files.len(),
                        entry,
                    },
                ));
            }
            files.push(opened);
        }
        Ok(Shards {
            title,
            files,
            names,
        })
    }

    /// The tensors' names as stored.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, TensorPlace)> {
        self.names
            .iter()
            .map(|(name, place)| (name.as_str(), *place))
    }

    /// What messages call the checkpoint as a whole.
    pub(super) fn title(&self) -> String {
        self.title.clone()
    }

    /// What messages call the file at `place`.
    pub(super) fn file(&self, place: TensorPlace) -> String {
        self.files[place.file].name.clone()
    }

    /// What messages call the file and the tensor at `place`.
    pub(super) fn describe(&self, place: TensorPlace) -> (String, String) {
        (
            self.file(place),
            quote(&self.files[place.file].entries[place.entry].0),
        )
    }

    /// The files' bytes, in the order of their names.
    pub(super) fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(|shard| shard.bytes.as_slice())
    }

    /// Checks the tensor at `place` against the shape that is wanted, and its type.
    pub(super) fn locate(
        &self,
        place: TensorPlace,
        shape: &[usize],
    ) -> Result<Located, ModelError> {
        let entry = &self.files[place.file].entries[place.entry].1;
        if entry.shape != shape {
            let (file, tensor) = self.describe(place);
            let (expected, found) = (show_shape(shape), show_shape(&entry.shape));
            return Err(ModelError::Shape {
                file,
                tensor,
                expected,
                found,
            });
        }
        let raw = self.raw(place);
        let store = match entry.dtype.as_str() {
            "F32" if bytemuck::try_cast_slice::<u8, f32>(raw).is_ok() => Store::InPlace(Dtype::F32),
            "F16" if bytemuck::try_cast_slice::<u8, f16>(raw).is_ok() => Store::InPlace(Dtype::F16),
            "BF16" if bytemuck::try_cast_slice::<u8, bf16>(raw).is_ok() => {
                Store::InPlace(Dtype::BF16)
            }
            "F32" => Store::F32(copy(raw)),
            "F16" => Store::F16(copy(raw)),
            "BF16" => Store::BF16(copy(raw)),
            "F64" => Store::Rounded(
                raw.par_chunks_exact(size_of::<f64>())
                    .map(|number| bytemuck::pod_read_unaligned::<f64>(number) as f32)
                    .collect(),
            ),
            other => {
                let (file, tensor) = self.describe(place);
                return Err(ModelError::Dtype {
                    file,
                    tensor,
                    found: other.to_owned(),
                });
            }
        };
        let shape = match *shape {
            [rows, columns] => [rows, columns],
            _ => [1, shape.iter().product()],
        };
        Ok(Located {
            place,
            shape,
            store,
        })
    }

    /// The tensor that [`Shards::locate`] found.
    pub(super) fn view<'a>(&'a self, located: &'a Located) -> Tensor<'a> {
        let data = match &located.store {
            // That these casts succeed was tried in `locate`, on the same bytes.
            Store::InPlace(Dtype::F32) => Data::F32(bytemuck::cast_slice(self.raw(located.place))),
            Store::InPlace(Dtype::F16) => Data::F16(bytemuck::cast_slice(self.raw(located.place))),
            Store::InPlace(Dtype::BF16) => {
                Data::BF16(bytemuck::cast_slice(self.raw(located.place)))
            }
            Store::F32(copy) | Store::Rounded(copy) => Data::F32(copy),
            Store::F16(copy) => Data::F16(copy),
            Store::BF16(copy) => Data::BF16(copy),
        };
        Tensor {
            shape: located.shape,
            data,
        }
    }

    /// Element `at` of a tensor as the file has it.
    pub(super) fn stored(&self, located: &Located, at: usize) -> f64 {
        match located.store {
            Store::Rounded(_) => {
                let number = &self.raw(located.place)[at * size_of::<f64>()..][..size_of::<f64>()];
                bytemuck::pod_read_unaligned(number)
            }
            _ => match self.view(located).data {
                Data::F32(data) => data[at].into(),
                Data::F16(data) => data[at].into(),
                Data::BF16(data) => data[at].into(),
            },
        }
    }

    /// The bytes at `place`, which the header's check found inside the file.
    fn raw(&self, place: TensorPlace) -> &[u8] {
        let shard = &self.files[place.file];
        let entry = &shard.entries[place.entry].1;
        &shard.bytes.as_slice()[entry.start..entry.end]
    }
}

/// Elements that do not lie at a multiple of their size.
fn copy<T: bytemuck::AnyBitPattern>(raw: &[u8]) -> Vec<T> {
    raw.chunks_exact(size_of::<T>())
        .map(bytemuck::pod_read_unaligned)
        .collect()
}

/// Tensor and shard of each line of an index's `weight_map`.
fn weight_map(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    let object: Map<String, Value> = serde_json::from_slice(text)
        .map_err(|e| format!("it is not a JSON object: {}", quote(&e.to_string())))?;
    let map = object
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or("it has no object `weight_map` from tensor names to files")?;
    map.iter()
        .map(|(tensor, shard)| match shard.as_str() {
            // The files lie beside the index: a name that leads elsewhere is not followed.
            Some(shard) if is_shard(shard) => Ok((tensor.clone(), shard.to_owned())),
            _ => Err(format!(
                "`weight_map` gives {} for tensor `{}`, where the name of a safetensors file beside it is expected",
                quote(&shard.to_string()),
                quote(tensor)
            )),
        })
        .collect()
}

/// Whether a name is that of a file and no path, on any system.
fn is_shard(name: &str) -> bool {
    let apart = |c: char| c.is_control() || "/\\:".contains(c);
    name.ends_with(".safetensors")
        && !name.starts_with('.')
        && !name.contains(apart)
        && name.len() <= LONGEST_NAME
}

/// The files that an index's text names, each once.
pub(super) fn shard_names(text: &[u8], file: &str) -> Result<Vec<String>, ModelError> {
    let map = weight_map(text).map_err(|detail| ModelError::Index {
        file: file.to_owned(),
        detail,
    })?;
    let mut names: Vec<String> = map.into_iter().map(|(_, shard)| shard).collect();
    names.sort();
    names.dedup();
    Ok(names)
}
