//! `headlight trace`: causal tracing.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::data::{DataFlags, Fallback};
use super::files::Files;
use super::picture::Picture;
use super::prompts::{Answers, default_targets, token_id, tokens};
use super::setup::Setup;
use super::table_file::{TableFile, write_done, write_lost, write_prompts};
use super::{Global, print};
use crate::ask::grid::Span;
use crate::data::{Example, Reading, Resolved, Stretch};
use crate::error::Error;
use crate::execute::{Outcome, PairOutcome};
use crate::patch::Run;
use crate::prompt::pair::{Pair, PairRuns};
use crate::prompt::position::Position;
use crate::report::{HeatMap, Patched, plain, strongest, write_strongest};
use crate::results::metric::Reading as Read;
use crate::results::metric::{Metric, Quantity};
use crate::results::table::Table;
use crate::site::Site;
use crate::text::counted;
use crate::tracing::arrays::{arrays, arrays_of_prompts};
use crate::tracing::averages::{Means, Over, is_corrupted, means, result};
use crate::tracing::level::Level;
use crate::tracing::runs::{ROLES, Restored, Tracing};
use crate::tracing::window::usual;
use crate::{data, report};

/// Flags of `trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// The prompt
    #[arg(required_unless_present_any = ["ids", "data"], conflicts_with_all = ["ids", "data"])]
    prompt: Option<String>,
    /// The prompt as token ids
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "IDS",
        value_parser = token_id,
        allow_negative_numbers = true,
        conflicts_with = "data"
    )]
    ids: Option<Vec<u32>>,
    /// What is corrupted: words of the prompt, a token's number, or a range such as 2-4; of a data set
    /// the name of a span, subject unless given
    #[arg(long, value_name = "WORDS")]
    subject: Option<String>,
    #[command(flatten)]
    answers: Answers,
    #[command(flatten)]
    data: DataFlags,
    /// What is restored, each in a grid of its own
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        default_value = "block_output,mlp_output,attention_output"
    )]
    component: Vec<String>,
    /// How many layers are restored together; 1 for the residual stream and 10 for others unless given
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// How many corrupted runs there are of each prompt
    #[arg(long, default_value_t = 10, value_name = "N")]
    samples: u32,
    /// Standard deviation of the noise: 3s is three of the subjects' token embeddings
    #[arg(
        long,
        default_value = "3s",
        value_name = "3s|LEVEL",
        allow_negative_numbers = true
    )]
    noise: Level,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    table: TableFile,
    #[command(flatten)]
    picture: Picture,
    /// Scores under ROME's names, of a data set by what positions are to the subject: .npz or
    /// .safetensors by its ending
    #[arg(long, value_name = "F")]
    arrays: Option<PathBuf>,
}

/// Prompts, and where the subject of each stands.
#[derive(Default)]
struct Prompts {
    pairs: Vec<PairRuns>,
    subjects: Vec<Vec<usize>>,
}

impl Prompts {
    fn push(&mut self, Resolved { pair, spots }: Resolved) {
        let runs = [].into();
        self.pairs.push(PairRuns { pair, runs });
        let subject = spots.into_iter().next().map(|spot| spot.positions);
        self.subjects.push(subject.unwrap_or_default());
    }

    /// The ids of all subjects' tokens.
    fn subject_ids(&self) -> Vec<u32> {
        let of = |(PairRuns { pair, .. }, subject): (&PairRuns, &Vec<usize>)| -> Vec<u32> {
            subject.iter().map(|p| pair.base[*p]).collect()
        };
        self.pairs.iter().zip(&self.subjects).flat_map(of).collect()
    }
}

impl Trace {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        self.table.check()?;
        self.picture.check()?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--arrays", self.arrays.as_deref())
            .writes("--plot", self.picture.plot.as_deref());
        self.table.files(files).check(global)?;
        let restored = self.restored()?;
        let mut tracing = Tracing {
            restored,
            level: 0.0,
            seed: self.seed,
            samples: self.samples,
        };
        tracing.check()?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let mut prompts = match rows {
            Some(rows) => self.rows(rows, &setup)?,
            None => self.typed(&setup)?,
        };
        tracing.level = self.noise.of(&setup.model, &prompts.subject_ids());
        tracing.check()?;
        let mut known: HashMap<(usize, &[usize]), Arc<[Run]>> = HashMap::new();
        for (PairRuns { pair, runs }, subject) in prompts.pairs.iter_mut().zip(&prompts.subjects) {
            // prompts of one shape have the same runs
            let length = pair.base.len();
            let all = known.entry((length, subject));
            let make = || tracing.runs(&setup.model.config, length, subject).into();
            *runs = all.or_insert_with(make).clone();
        }
        self.table.check_pairs(&prompts.pairs, true)?;
        setup.announce();
        default_targets(&setup, &mut prompts.pairs)?;
        let (pairs, metrics) = (&prompts.pairs, &self.table.metric);
        let (outcome, time) = setup.execute(pairs, 10, metrics)?;
        let provenance = self.table.provenance(&setup, pairs);
        let table = result(&setup.model, &tracing, pairs, &outcome, metrics, provenance);
        let over = match self.data.data {
            Some(_) => Over::Prompts,
            None => Over::Samples,
        };
        let means = means(&table, over);
        let mut written = self.table.write(&table, Some(&means.summary))?;
        let map = self.map(&tracing, &prompts, (&means, over), &table)?;
        self.picture.write(&map, &mut written)?;
        if let Some(path) = &self.arrays {
            let metric = self.metric();
            let named = |name: &String| *name == metric.to_string();
            let index = means.summary.metrics.iter().position(named).unwrap_or(0);
            let clean = clean(pairs, &outcome, metric);
            let arrays = match over {
                Over::Samples => {
                    let (prompt, subject) = (&pairs[0], &prompts.subjects[0]);
                    let scores = (index, clean[0]);
                    arrays(&setup.model, &tracing, prompt, subject, &means, scores)
                }
                Over::Prompts => {
                    let layers = setup.model.config.layers;
                    arrays_of_prompts(&tracing, layers, &means, (index, &clean))
                }
            };
            report::write_arrays(&arrays, &setup.provenance(pairs), path)?;
            written.push(path.clone());
        }
        self.table.write_stdout(&table)?;
        print(&mut self.table.people(), |out| {
            write_prompts(&setup, pairs, &outcome, table.rows.len(), out)?;
            writeln!(out)?;
            self.picture.render(&map, &self.table, out)?;
            self.say(&tracing, &means, out)?;
            writeln!(out, "\nstrongest")?;
            let restored = means.restored(&table);
            write_strongest(&strongest(&restored, None, 10), Patched::Restored, out)?;
            let lost = table.rows.iter().filter(|row| !row.logprob.is_finite());
            write_lost(lost.count(), table.rows.len(), out)?;
            write_done(&outcome.plan, time, &written, out)
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn restored(&self) -> Result<Vec<Restored>, Error> {
        let of = |name: &String| {
            let Site { component, layer } = name.trim().parse()?;
            if layer.is_some() {
                return Err(Error::Usage(format!(
                    "`{name}` names a layer: a tracing restores every layer, so leave it out"
                )));
            }
            let window = self.window.unwrap_or_else(|| usual(component));
            Ok(Restored { component, window })
        };
        self.component.iter().map(of).collect()
    }

    /// The subject of a typed prompt: tokens by number, else words; or what a data set calls it.
    fn subject(subject: &str) -> (Stretch, Position) {
        let words = || Stretch::Words(subject.to_owned());
        let numbers = match subject.parse() {
            Ok(Span::Some(numbers)) => Some(numbers),
            _ => None,
        };
        let stretch = numbers.and_then(|numbers| {
            let whole = numbers.windows(2).all(|two| two[1] == two[0] + 1);
            let (first, last) = (numbers.first()?, numbers.last()?);
            whole.then_some(Stretch::Tokens(*first, *last))
        });
        (stretch.unwrap_or_else(words), Position::named(subject))
    }

    fn typed(&self, setup: &Setup) -> Result<Prompts, Error> {
        let Some(subject) = &self.subject else {
            return Err(Error::Usage(
                "trace needs the words that are corrupted: give --subject, such as --subject Spain"
                    .into(),
            ));
        };
        let pair = Pair {
            base: tokens(setup, &self.prompt, &self.ids)?.unwrap_or_default(),
            targets: self.answers.targets(setup)?,
            wrong: self.answers.wrong(setup)?,
            ..Pair::default()
        };
        let pair = self.data.begin(pair, &setup.model.config)?;
        crate::check::check_pair(&pair, &setup.model.config)?;
        let fallback = Fallback::of(&self.answers, setup)?;
        let mut example = Example::of_ids(pair.base.clone(), None);
        example.spans.push(data::Span {
            name: "subject".into(),
            base: Self::subject(subject).0,
            source: None,
        });
        let positions = [Position::named("subject")];
        let reading = Reading {
            bos: None,
            positions: Some(&positions),
            targets_optional: true,
            ..self.data.reading(setup, &fallback)?
        };
        let resolved = reading.resolve(&example);
        let resolved = resolved.map_err(|e| {
            // the span's name says nothing here: there is but one, and nobody typed it
            let problem = e.problem.trim_start_matches("\"subject\": ");
            Error::Usage(format!("--subject: {problem}"))
        })?;
        let mut prompts = Prompts::default();
        prompts.push(Resolved { pair, ..resolved });
        Ok(prompts)
    }

    fn rows(&self, rows: data::Rows, setup: &Setup) -> Result<Prompts, Error> {
        let fallback = Fallback::of(&self.answers, setup)?;
        let subject = self.subject.as_deref().unwrap_or("subject");
        let positions = [Self::subject(subject).1];
        let reading = Reading {
            positions: Some(&positions),
            targets_optional: true,
            ..self.data.reading(setup, &fallback)?
        };
        let mut prompts = Prompts::default();
        let visit = |_: &Example, resolved| Ok(Ok(resolved));
        let rows = self.data.each(rows, &reading, setup, visit)?;
        rows.into_iter().for_each(|row| prompts.push(row));
        Ok(prompts)
    }

    /// What is drawn: the first metric, else the probability.
    fn metric(&self) -> Metric {
        let first = self.table.metric.first().copied();
        first.unwrap_or(Metric::plain(Quantity::Prob))
    }

    /// A grid a component, the subject's tokens starred.
    fn map(
        &self,
        tracing: &Tracing,
        prompts: &Prompts,
        (means, over): (&Means, Over),
        table: &Table,
    ) -> Result<HeatMap, Error> {
        let drawn = means.drawn(table);
        let mut map = HeatMap::by_component(&drawn, &self.metric().to_string())?;
        let starred: Vec<usize> = match over {
            Over::Samples => prompts.subjects.concat(),
            // names, of which these are the subject's
            Over::Prompts => (0..ROLES.len())
                .filter(|i| ROLES[*i].starts_with("subject"))
                .collect(),
        };
        for group in map.facets.iter_mut().flat_map(|facet| &mut facet.groups) {
            if group
                .position
                .is_some_and(|p| starred.contains(&(p as usize)))
            {
                group.label.push('*');
            }
        }
        let layers = tracing
            .restored
            .iter()
            .map(|Restored { component, window }| match window {
                1 => format!("{component} in one layer"),
                n => format!("{component} in {n} layers around each"),
            });
        let layers: Vec<String> = layers.collect();
        map.notes.push(format!("restored: {}", layers.join(", ")));
        map.notes.push(format!(
            "* corrupted by noise of {} ({}), the mean of {}",
            plain(tracing.level),
            self.noise,
            counted(tracing.samples as usize, "sample")
        ));
        Ok(map)
    }

    /// What noise alone does.
    fn say(&self, tracing: &Tracing, means: &Means, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(
            out,
            "\nnoise of {} ({}) on the token embeddings of the subject, {}",
            plain(tracing.level),
            self.noise,
            counted(tracing.samples as usize, "sample")
        )?;
        for average in means.summary.rows.iter().filter(|a| is_corrupted(a)) {
            let target = report::token_label(&means.target(average));
            let clean = means.clean.get(average.index as usize).copied();
            let prob = &average.values[0];
            writeln!(
                out,
                "{target}: {} clean, {} corrupted (standard deviation {}, standard error {})",
                plain(clean.unwrap_or(f64::NAN)),
                plain(prob.mean()),
                plain(prob.deviation()),
                plain(prob.error()),
            )?;
        }
        Ok(())
    }
}

/// A metric of each clean prompt, for its first target.
fn clean(pairs: &[PairRuns], outcome: &Outcome, metric: Metric) -> Vec<f64> {
    let of = |(PairRuns { pair, .. }, read): (&PairRuns, &PairOutcome)| {
        read.base.last().map_or(f64::NAN, |base| {
            let reading = Read {
                pair,
                base,
                source: None,
                run: base,
            };
            metric.of(&reading, 0)
        })
    };
    pairs.iter().zip(&outcome.pairs).map(of).collect()
}
