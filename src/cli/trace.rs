//! `headlight trace`: causal tracing.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Global;
use super::clock::Clock;
use super::components;
use super::data::DataFlags;
use super::files::Files;
use super::kept::PlannedRows;
use super::output::Passing;
use super::picture::Picture;
use super::plan;
use super::prompts::{Answers, token_id, tokens};
use super::setup::Setup;
use super::table_file::TableFile;
use crate::engine::{Engine, Form, Pairs};
use crate::error::Error;
use crate::prompt::pair::Pair;
use crate::report;
use crate::report::{DrawnValue, HeatMap, Page, Patched, plain, write_strongest};
use crate::results::averages::Over;
use crate::results::table::Table;
use crate::site::Site;
use crate::text::counted;
use crate::tracing::arrays::{arrays, arrays_of_prompts};
use crate::tracing::averages::{TraceMeans, is_corrupted};
use crate::tracing::level::Level;
use crate::tracing::runs::{ROLES, Restored, Tracing};
use crate::tracing::window::usual;

/// Flags of `trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// The prompt
    #[arg(conflicts_with_all = ["ids", "data"])]
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
    /// What is restored, each in a grid of its own: `help` lists what there is
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES|help",
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

impl Trace {
    pub fn table(&self) -> &TableFile {
        &self.table
    }

    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        if components::asked(&self.component) {
            return components::run(global);
        }
        self.table.check(global)?;
        self.picture.check()?;
        let plot = self.table.parts.is_shard() && self.picture.plot.is_some();
        self.table.check_folder(&[("--plot", plot)])?;
        if let Some(arrays) = &self.arrays {
            report::check_arrays(arrays)?;
        }
        let files = Files::default()
            .reads("--data", self.data.data.as_deref())
            .writes("--arrays", self.arrays.as_deref())
            .writes("--plot", self.picture.plot.as_deref());
        self.table.files(files).check(global)?;
        let tracing = Tracing {
            restored: self.restored()?,
            level: 0.0,
            seed: self.seed,
            samples: self.samples,
        };
        tracing.check()?;
        let rows = self.data.read()?;
        let setup = Setup::quiet(global)?;
        let engine = &setup.engine;
        let pairs = match rows {
            Some(rows) => self.data.pairs(rows, &self.answers, engine, global)?,
            None => Pairs::Listed(vec![self.typed(engine)?]),
        };
        let subject = self.subject.as_deref().unwrap_or("subject");
        let question = engine.tracing(tracing, (self.noise, subject), pairs)?;
        let clock = Clock::loaded(engine);
        let mut question = question
            .metrics(&self.table.metric)?
            .top_tokens(self.table.top_tokens());
        self.table
            .check_folder(&[("--arrays", self.arrays.is_some())])?;
        let planned = PlannedRows::of(&self.table, &question, true)?;
        planned.check_folder(&self.table, &[("--plot", self.picture.plot.is_some())])?;
        let of_means = planned.is_means();
        if let Some(format) = setup.plan {
            return plan::write(&setup, &self.table, (&question, &planned), format);
        }
        if let Some(path) = self.table.path() {
            report::check_summary(path)?;
        }
        setup.announce();
        planned.say(&self.table);
        setup.doubt(question.pairs.iter().map(|p| &p.pair));
        engine.default_targets(&mut question.pairs)?;
        let over = question.over();
        let Form::Tracing {
            tracing, subjects, ..
        } = &question.form
        else {
            return Ok(ExitCode::SUCCESS);
        };
        let mut passing = Passing::new(&setup, &self.table, (&question, planned, true), clock)?;
        passing.alone = self.arrays.is_none() && self.picture.plot.is_none();
        let layers = engine.model().config.layers;
        let mut means = TraceMeans::new(tracing, over, layers, &question.metrics);
        if let Some(path) = self.arrays.as_deref().filter(|_| over == Over::Prompts) {
            means = means.scored(path);
        }
        let done = passing.ask(&setup, &question, vec![&mut means])?;
        means.finish()?;
        let pairs = &question.pairs;
        let made = passing.provenance(&setup, &self.table, &question);
        let whole = !self.table.parts.is_shard();
        let averages = whole.then_some(&means.averages);
        let drawn = Table {
            provenance: made.clone(),
            ..means.drawn()
        };
        let metric = means.metric().to_string();
        // of prompts of which averages alone were kept, what is drawn beside them is not known
        let drawn_here = whole && !(of_means && passing.folder.is_some());
        let map = drawn_here.then(|| -> Result<_, Error> {
            let value = self.picture.look.value().of_first(Some(&metric));
            let mut map = HeatMap::by_component(&drawn, &value)?;
            if let (true, Some(low)) = (value == DrawnValue::of(&metric), means.lowest()) {
                map.begin_at(low);
            }
            map.star(&self.starred(subjects));
            map.notes.extend(self.notes(tracing));
            Ok(map.styled(&self.picture.look.style()))
        });
        let map = map.transpose()?;
        let mut written = Vec::new();
        passing.write(
            (&setup, &question),
            &self.table,
            &made,
            averages,
            &mut written,
        )?;
        if let Some(map) = &map {
            self.picture.write(map, &mut written)?;
        }
        if let Some(path) = self.picture.page().filter(|_| whole) {
            let mut page = Page::by_component(&drawn)?.showing(&metric)?;
            page.star(&self.starred(subjects));
            self.notes(tracing)
                .into_iter()
                .for_each(|note| page.note(note));
            page.write(path)?;
            written.push(path.to_owned());
        }
        if let Some(path) = &self.arrays {
            let mut arrays = match over {
                Over::Prompts => arrays_of_prompts(tracing, layers, &mut means),
                _ => arrays(engine.model(), tracing, &pairs[0], &subjects[0], &means),
            };
            arrays.extend(question.rows());
            report::write_arrays(arrays, &engine.provenance(pairs, true), path)?;
            written.push(path.clone());
        }
        let strongest = means.strongest(10);
        passing.say(
            &setup,
            &self.table,
            &question,
            (done, &written),
            |_, out| {
                // most of a shard's is missing
                let Some(map) = &map else { return Ok(()) };
                writeln!(out)?;
                self.picture.render(map, &self.table, out)?;
                self.say(tracing, &means, out)?;
                writeln!(out, "\nstrongest")?;
                write_strongest(&strongest, Patched::Restored, out)
            },
        )
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

    /// The prompt that was typed.
    fn typed(&self, engine: &Engine) -> Result<Pair, Error> {
        let base = tokens(engine, &self.prompt, &self.ids)?;
        let base = base.ok_or_else(|| Error::Usage("give a prompt, --ids or --data".into()))?;
        if self.subject.is_none() {
            return Err(Error::Usage(
                "trace needs the words that are corrupted: give --subject, such as --subject Spain"
                    .into(),
            ));
        }
        let pair = Pair {
            base,
            ..Pair::default()
        };
        let pair = self.answers.answered(pair, engine)?;
        self.answers.read_at(self.data.begin(pair, engine)?, engine)
    }

    /// The subject's tokens, which a picture stars.
    fn starred(&self, subjects: &[Vec<usize>]) -> Vec<usize> {
        match self.data.data {
            None => subjects.concat(),
            // names, of which these are the subject's
            Some(_) => (0..ROLES.len())
                .filter(|i| ROLES[*i].starts_with("subject"))
                .collect(),
        }
    }

    /// What a picture alone would not say.
    fn notes(&self, tracing: &Tracing) -> [String; 2] {
        let layers = tracing
            .restored
            .iter()
            .map(|Restored { component, window }| match window {
                1 => format!("{component} in one layer"),
                n => format!("{component} in {n} layers around each"),
            });
        let layers: Vec<String> = layers.collect();
        [
            format!("restored: {}", layers.join(", ")),
            format!(
                "* corrupted by noise of {} ({}), the mean of {}",
                plain(tracing.level),
                self.noise,
                counted(tracing.samples as usize, "sample")
            ),
        ]
    }

    /// What noise alone does.
    fn say(
        &self,
        tracing: &Tracing,
        means: &TraceMeans<'_>,
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        writeln!(
            out,
            "\nnoise of {} ({}) on the token embeddings of the subject, {}",
            plain(tracing.level),
            self.noise,
            counted(tracing.samples as usize, "sample")
        )?;
        for average in means.averages.rows().iter().filter(|a| is_corrupted(a)) {
            let target = report::token_label(&means.target(average));
            let prob = average.moments(0);
            writeln!(
                out,
                "{target}: {} clean, {} corrupted (standard deviation {}, standard error {})",
                plain(means.clean(average.index)),
                plain(prob.mean()),
                plain(prob.deviation()),
                plain(prob.error()),
            )?;
        }
        Ok(())
    }
}
