//! `headlight import pyvene`: what pyvene saved, as an experiment file with its parameters beside it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::prompts::{Answers, token_id};
use super::setup::Setup;
use super::{Global, note};
use crate::ask::grid::IndexRange;
use crate::check::check_pair;
use crate::data::{Example, Reading};
use crate::engine::{Engine, Where};
use crate::error::Error;
use crate::files::error::FileError;
use crate::files::whole::WholeFile;
use crate::prompt::pair::{Pair, PairRuns, PromptText};
use crate::prompt::position::Position;
use crate::pyvene::columns::SubspacePart;
use crate::pyvene::configuration::{Configuration, Representation};
use crate::pyvene::experiment::{self, ImportContext, Units, Written};
use crate::pyvene::state::StoredTensor;
use crate::pyvene::steps::{self, ImportedRun, ReadsFrom, steps};

/// Flags of `import`.
#[derive(Debug, Args)]
pub struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// A folder that IntervenableModel.save wrote; no pickle code is run
    Pyvene(Box<Pyvene>),
}

#[derive(Debug, Args)]
struct Pyvene {
    /// The folder with config.json and intkey_….bin files
    folder: PathBuf,
    /// The experiment file; parameters go beside it, as .safetensors. The folder's name in the current
    /// folder unless given
    #[arg(long, value_name = "F.toml")]
    out: Option<PathBuf>,
    /// Base prompt: the one that is patched
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "base_ids",
        required_unless_present = "base_ids"
    )]
    base: Option<String>,
    /// Base prompt as token ids
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        value_parser = token_id,
        allow_negative_numbers = true
    )]
    base_ids: Option<Vec<u32>>,
    /// Source prompt: once for all groups, or once for each that reads one, in pyvene's order
    #[arg(long, value_name = "TEXT", conflicts_with = "source_ids")]
    source: Vec<String>,
    /// Source prompt as token ids; likewise
    #[arg(long, value_name = "IDS")]
    source_ids: Vec<Ids>,
    #[command(flatten)]
    answers: Answers,
    /// Positions by numbers or names (-1, subject words, all), the last unless given. This and the flags
    /// below: once for all representations, or once for each
    #[arg(long, value_name = "RANGE|NAMES", allow_negative_numbers = true)]
    positions: Vec<String>,
    /// Positions in the source, one for each of --positions
    #[arg(long, value_name = "RANGE|NAMES", allow_negative_numbers = true)]
    source_positions: Vec<String>,
    /// Heads, for representations that have them
    #[arg(long, value_name = "RANGE")]
    heads: Vec<IndexRange>,
    /// Columns of the component, or coordinates of the basis, in place of what was saved
    #[arg(long, value_name = "RANGE", conflicts_with = "subspaces")]
    columns: Vec<IndexRange>,
    /// Parts of the saved subspace_partition, as pyvene's subspaces names them
    #[arg(long, value_name = "RANGE")]
    subspaces: Vec<IndexRange>,
}

/// Token ids with commas between them.
#[derive(Debug, Clone)]
struct Ids(Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(token_id)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A prompt with its tokens.
struct Given {
    text: PromptText,
    ids: Vec<u32>,
}

impl Import {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let From::Pyvene(command) = self.from;
        command.run(global)
    }
}

impl Pyvene {
    fn run(self, global: &Global) -> Result<ExitCode, Error> {
        let configuration = Configuration::open(&self.folder)?;
        let (out, beside) = self.out()?;
        drop(WholeFile::create(&out)?);
        let setup = Setup::quiet(global)?;
        let engine = &setup.engine;
        let (base, sources) = self.prompts(engine)?;
        let wanted = steps::sources(&configuration)?;
        let given = sources.len();
        if given != 1 && given != wanted {
            return Err(Error::Usage(format!(
                "{given} source prompts were given, and the groups of this configuration read {wanted}: give --source \
                 once for all of them, or once for each"
            )));
        }
        let steps = steps(&configuration, given)?;
        let mut pair = Pair {
            base: base.ids.clone(),
            source: sources.first().map(|s| s.ids.clone()),
            ..Pair::default()
        };
        for source in &sources {
            pair.source = Some(source.ids.clone());
            check_pair(&pair, &engine.model().config)?;
        }
        pair.source = sources.first().map(|s| s.ids.clone());
        pair = self.answers.answered(pair, engine)?;
        if !pair.further_tokens.is_empty() {
            let usage = "--joint: the file that is written names answers by their ids, each of one token: leave it out";
            return Err(Error::Usage(usage.into()));
        }
        check_pair(&pair, &engine.model().config)?;
        let located = self.located(engine, &configuration, &steps, &base, &sources)?;
        let file = beside
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut asked = ImportContext {
            model: &global.model,
            config: &engine.model().config,
            base: base.text,
            sources: sources.into_iter().map(|s| s.text).collect(),
            targets: Vec::new(),
            wrong: Vec::new(),
            located,
            steps,
            file: &file,
        };
        // what cannot be written is said before anything is computed
        experiment::write(&configuration, &self.folder, &asked)?;
        if pair.targets.is_empty() {
            setup.announce();
            let mut pairs = [PairRuns {
                pair,
                runs: [].into(),
            }];
            engine.default_targets(&mut pairs)?;
            [PairRuns { pair, .. }] = pairs;
        }
        let tokenizer = engine.model().tokenizer.as_ref();
        let shown = |id: u32| tokenizer.map_or_else(|| id.to_string(), |t| t.decode_raw(id));
        let named = |ids: &[u32]| ids.iter().map(|id| (*id, shown(*id))).collect();
        (asked.targets, asked.wrong) = (named(&pair.targets), named(&pair.wrong));
        let written = experiment::write(&configuration, &self.folder, &asked)?;
        put(&written, &out, &beside)?;
        note(format_args!("wrote {}", out.display()));
        if !written.tensors.is_empty() {
            note(format_args!("wrote {}", beside.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The experiment file, and the parameters beside it.
    fn out(&self) -> Result<(PathBuf, PathBuf), Error> {
        let usage = |text: String| Err(Error::Usage(text));
        let out = match &self.out {
            Some(out) => out.clone(),
            None => {
                let whole =
                    std::fs::canonicalize(&self.folder).unwrap_or_else(|_| self.folder.clone());
                let Some(name) = whole.file_name() else {
                    return usage(
                        "the folder has no name to call the file by: give --out F.toml".into(),
                    );
                };
                let out = PathBuf::from(format!("{}.toml", name.to_string_lossy()));
                if out.exists() {
                    return usage(format!(
                        "{} is there already: give --out F.toml",
                        out.display()
                    ));
                }
                out
            }
        };
        if out.extension().and_then(|e| e.to_str()) != Some("toml") {
            return usage(format!(
                "`{}` does not end in .toml: experiments are written as that",
                out.display()
            ));
        }
        let beside = out.with_extension("safetensors");
        if beside.exists() && !is_ours(&beside) {
            // it may well be a model
            return usage(format!(
                "{} is there already and no import wrote it: give --out another name",
                beside.display()
            ));
        }
        Ok((out, beside))
    }

    fn prompts(&self, engine: &Engine) -> Result<(Given, Vec<Given>), Error> {
        let given = |text: PromptText| -> Result<Given, Error> {
            let ids = text.tokens(engine.model())?;
            Ok(Given { text, ids })
        };
        let ids = self.base_ids.clone().unwrap_or_default();
        let base = match &self.base {
            Some(words) => PromptText::Text(words.clone()),
            None => PromptText::Ids(ids),
        };
        let texts = self.source.iter().cloned().map(PromptText::Text);
        let ids = self.source_ids.iter().map(|list| list.0.clone());
        let sources = texts.chain(ids.map(PromptText::Ids));
        let (base, sources) = (given(base)?, sources.map(given).collect::<Result<_, _>>()?);
        Ok((base, sources))
    }

    /// Where each representation acts, in the prompts of its run.
    fn located(
        &self,
        engine: &Engine,
        configuration: &Configuration,
        steps: &[ImportedRun],
        base: &Given,
        sources: &[Given],
    ) -> Result<Vec<Units>, Error> {
        let all = &configuration.representations;
        let count = all.len();
        for (flag, given) in [
            ("positions", self.positions.len()),
            ("source-positions", self.source_positions.len()),
            ("heads", self.heads.len()),
            ("columns", self.columns.len()),
            ("subspaces", self.subspaces.len()),
        ] {
            if given > 1 && given != count {
                return Err(Error::Usage(format!(
                    "--{flag} is given {given} times for {count} representations: give it once for all, or once for each"
                )));
            }
        }
        let headless = |made: &Representation| !made.place.component.has_heads();
        if !self.heads.is_empty() && all.iter().all(headless) {
            return Err(Error::Usage(
                "--heads applies to nothing here: no representation has heads; leave it out".into(),
            ));
        }
        let prompt = |which: steps::PatchedPrompt| match which {
            steps::PatchedPrompt::Base => Some(base),
            steps::PatchedPrompt::Source(index) => sources.get(index),
        };
        let mut located = vec![Units::default(); count];
        for step in steps {
            for &(index, reads) in &step.patches {
                let read = match reads {
                    ReadsFrom::Nothing => None,
                    ReadsFrom::Prompt(index) | ReadsFrom::RunBefore(index) => sources.get(index),
                };
                let here = prompt(step.prompt).map_or(&[][..], |given| &given.ids);
                let there = read.map(|given| &given.ids[..]);
                located[index] = self.locate(engine, &all[index], here, there)?;
            }
        }
        Ok(located)
    }

    fn locate(
        &self,
        engine: &Engine,
        made: &Representation,
        here: &[u32],
        there: Option<&[u32]>,
    ) -> Result<Units, Error> {
        let index = made.index;
        let usage = |text: String| Error::Usage(format!("representation {index}: {text}"));
        let place = &made.place;
        let heads = match (place.component.has_heads(), of(&self.heads, index)) {
            (true, Some(span)) => span.of(engine.model().config.heads, "head")?,
            (true, None) => {
                return Err(usage(format!(
                    "{} has heads, which pyvene does not save: give --heads",
                    place.component
                )));
            }
            (false, _) => Vec::new(),
        };
        let part = match (of(&self.columns, index), of(&self.subspaces, index)) {
            (Some(span), _) => Some(SubspacePart::Columns(span.clone())),
            (None, Some(IndexRange::Some(list))) => Some(SubspacePart::Subspaces(list.clone())),
            (None, Some(IndexRange::All)) => {
                let parts = made.partition.as_ref().map_or(0, Vec::len);
                Some(SubspacePart::Subspaces((0..parts).collect()))
            }
            (None, None) => None,
        };
        let parse = |flag: &str, text: Option<&String>| -> Result<Option<Where>, Error> {
            let parsed = text.map(|text| text.parse::<Where>());
            parsed
                .transpose()
                .map_err(|e| Error::Usage(format!("--{flag}: {e}")))
        };
        let positions = parse("positions", of(&self.positions, index))?;
        let source = parse("source-positions", of(&self.source_positions, index))?;
        let all: Vec<Position> = (0..here.len())
            .map(|n| Position::Number(n.cast_signed()))
            .collect();
        if experiment::is_whole(place.component, place.unit) {
            let several = self.positions.len() > 1 || self.source_positions.len() > 1;
            if !several && (positions.is_some() || source.is_some()) {
                let unit = &made.unit;
                return Err(usage(format!(
                    "its unit {unit} means all positions: leave out --positions"
                )));
            }
            if there.is_some_and(|there| there.len() != here.len()) {
                return Err(usage(
                    "it acts at all positions, so both prompts must have as many tokens".into(),
                ));
            }
            return Ok(Units {
                heads,
                positions: (0..here.len()).collect(),
                source_positions: None,
                part,
            });
        }
        let positions = match positions {
            None => vec![Position::Number(-1)],
            Some(Where::All | Where::Together) => all,
            Some(Where::Listed(list)) => list,
        };
        let source = match source {
            None => None,
            Some(Where::Listed(list)) if list.len() == positions.len() => Some(list),
            Some(_) => {
                return Err(usage(format!(
                    "--source-positions must name one position for each of the {} in --positions",
                    positions.len()
                )));
            }
        };
        let mut example = Example::of_ids(here.to_vec(), there.map(<[u32]>::to_vec));
        example.positions = Some(positions);
        example.source_positions = source;
        let reading = Reading::of_positions(engine.model(), None, there.is_some());
        let resolved = reading.resolve(&example);
        let spots = resolved
            .map_err(|e| usage(format!("--positions: {}", e.problem)))?
            .spots;
        let (mut positions, mut source_positions) = (Vec::new(), Vec::new());
        for spot in spots {
            source_positions.extend(spot.source_positions.as_ref().unwrap_or(&spot.positions));
            positions.extend(spot.positions);
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = positions.iter().find(|p| !seen.insert(**p)) {
            // pyvene takes the last of them without a word
            return Err(usage(format!(
                "--positions names position {twice} twice: name it once"
            )));
        }
        Ok(Units {
            heads,
            source_positions: (source_positions != positions).then_some(source_positions),
            positions,
            part,
        })
    }
}

/// What a flag says of one representation: it was given once for all, or once for each.
fn of<T>(given: &[T], index: usize) -> Option<&T> {
    match given {
        [one] => Some(one),
        each => each.get(index),
    }
}

const MADE_BY: &str = "headlight import";

/// Whether an import wrote a file.
fn is_ours(path: &Path) -> bool {
    let ours = || -> Option<bool> {
        let bytes = std::fs::read(path).ok()?;
        let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
        Some(header.metadata().as_ref()?.get("made_by")? == MADE_BY)
    };
    ours().unwrap_or(false)
}

/// Writes both files, or neither.
fn put(written: &Written, out: &Path, beside: &Path) -> Result<(), Error> {
    use std::io::Write;
    let start = |path: &Path, bytes: &[u8]| -> Result<_, Error> {
        let mut file = WholeFile::create(path)?;
        file.write_all(bytes).map_err(FileError::write_to(path))?;
        Ok(file)
    };
    let experiment = start(out, written.toml.as_bytes())?;
    let mut files = Vec::new();
    if !written.tensors.is_empty() {
        files.push(start(beside, &safetensors(&written.tensors)?)?);
    }
    // an earlier experiment never stands beside other parameters
    files.push(experiment);
    Ok(WholeFile::finish_all(files)?)
}

fn safetensors(tensors: &[(String, StoredTensor)]) -> Result<Vec<u8>, Error> {
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, tensor)| tensor.values.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&data).map(|((name, tensor), data)| {
        let view = TensorView::new(Dtype::F64, tensor.shape.clone(), data);
        view.map(|view| (name.as_str(), view))
    });
    let written = views.collect::<Result<Vec<_>, _>>().and_then(|views| {
        let made_by = [("made_by".to_owned(), MADE_BY.to_owned())];
        safetensors::serialize(views, Some(made_by.into()))
    });
    written.map_err(|e| Error::Usage(format!("the parameters cannot be written: {e}")))
}
