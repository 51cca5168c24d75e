//! An opened model: its words, and what can be asked of it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headlight::check::check_pair;
use headlight::circuit::Circuit;
use headlight::circuit::curve::{SIZES, count};
use headlight::circuit::evaluate::Ablation;
use headlight::circuit::select::Selection;
use headlight::execute::costs::PairCost;
use headlight::prompt::pair::PairRuns;
use headlight::report::{AttentionPrompt, attention_page};
use headlight::{
    Activation, Checkpoint, Component, DeviceWish, Engine, Error, Metric, Pair, Position,
    Precision, Question, Site,
};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};

use crate::answer::{Answered, MethodWord, Unfinished, Wishes, answer, attributed};
use crate::ask::{
    Asked, EdgesWord, LensWord, PathsWord, PromptsWord, RunsWord, SweepWord, TraceWord,
};
use crate::fault::{Fault, raise};
use crate::graph::Graph;
use crate::logits::{Cells, gather};
use crate::memory::{Lent, doubles, singles, tensors, tokenizer};
use crate::operator::Failure;
use crate::worker::{Progress, Watched, Worker, aside};

/// A model on a device.
#[pyclass(frozen, module = "headlight._headlight")]
pub struct Opened {
    worker: Arc<Worker>,
    model: Checkpoint,
    described: Described,
    unfinished: Unfinished,
}

/// What does not change of an engine.
struct Described {
    device: String,
    about: String,
    precision: &'static str,
    threads: usize,
}

/// Device, precision, threads and memory, as typed.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Wish {
    device: String,
    precision: String,
    threads: Option<usize>,
    memory: Option<u64>,
}

impl Wish {
    fn open(
        self,
        py: Python<'_>,
        model: impl FnOnce() -> Result<Checkpoint, Error> + Send + 'static,
    ) -> PyResult<Opened> {
        let usage = |said: String| Fault::Device(said).raise(py);
        let device: DeviceWish = self.device.parse().map_err(usage)?;
        let named = |p: &Precision| p.name() == self.precision;
        let all = [
            Precision::F32,
            Precision::F64,
            Precision::Tf32,
            Precision::Bf16,
            Precision::F16,
        ];
        let precision = all.into_iter().find(named).ok_or_else(|| {
            usage(format!(
                "unknown precision `{}`: use f32, f64, tf32, bf16 or f16",
                self.precision
            ))
        })?;
        let (threads, memory) = (self.threads.and_then(NonZeroUsize::new), self.memory);
        let make = move || {
            let builder = Engine::of(model()?).device(device).precision(precision);
            builder.threads(threads).memory(memory).build()
        };
        let describe = |engine: &Engine| {
            let described = Described {
                device: engine.device().name(),
                about: engine.device().describe(engine.threads()),
                precision: engine.precision().name(),
                threads: engine.threads(),
            };
            (engine.model().clone(), described)
        };
        let (worker, (model, described)) = Worker::start(py, make, describe)?;
        Ok(Opened {
            worker: worker.into(),
            model,
            described,
            unfinished: Unfinished::default(),
        })
    }
}

/// Of a size of circuits: edges asked for, and edges kept and faithfulness, chosen by size and by sign.
type CurveSize = (usize, [usize; 2], [f64; 2]);

/// Metrics, what the provenance calls the call, how many of the most probable tokens after each run are wanted, and
/// what is kept of rows, as `--rows` spells it.
type Wished = (Vec<String>, String, usize, String);

impl Opened {
    fn answered(
        &self,
        py: Python<'_>,
        asked: Asked,
        (metrics, command, top_tokens, rows): Wished,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        let watched = Watched::by(progress);
        let told: Arc<Progress> = watched.progress.clone();
        let unfinished = self.unfinished.clone();
        self.worker.ask(py, &watched, move |engine| {
            let failure = Failure::default();
            let (question, targets, averages) = asked.question(engine, &failure)?;
            let wishes = Wishes {
                metrics,
                top_tokens,
                rows,
                targets,
                averages,
                command,
                unfinished,
            };
            answer(engine, question, wishes, &told, &failure)
        })
    }

    fn attributed(
        &self,
        py: Python<'_>,
        asked: Asked,
        method: MethodWord,
        command: String,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        let watched = Watched::by(progress);
        let told = watched.progress.clone();
        self.worker.ask(py, &watched, move |engine| {
            let (question, _, averages) = asked.question(engine, &Failure::default())?;
            let about = (averages, command);
            Ok::<_, Fault>(attributed(engine, question, &method, about, &told)?)
        })
    }

    fn text<T>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&headlight::model::Tokenizer) -> Result<T, headlight::model::ModelError>,
    ) -> PyResult<T> {
        let read = self.model.text().and_then(read);
        read.map_err(|error| raise(py, &error.into()))
    }

    /// Prompts without targets, each within the model.
    fn prompts(&self, py: Python<'_>, prompts: Vec<Vec<u32>>) -> PyResult<Vec<Pair>> {
        let pair = |base| {
            let pair = Pair {
                base,
                ..Pair::default()
            };
            let checked = check_pair(&pair, &self.model.config);
            checked.map_err(|error| raise(py, &error.into()))?;
            Ok(pair)
        };
        prompts.into_iter().map(pair).collect()
    }
}

/// Pairs on which circuits are run, and how.
fn circuits_of<'e>(
    engine: &'e Engine,
    prompts: PromptsWord,
    metric: Option<String>,
    ablation: &str,
) -> Result<(Question<'e>, Metric, Ablation), Error> {
    let mut question = engine.without_runs(prompts.pairs(engine)?)?;
    let metric = metric.as_deref().map(str::parse::<Metric>).transpose()?;
    let metric = question.metric_or_default(metric);
    engine.default_targets(&mut question.pairs)?;
    let ablation = ablation.parse().map_err(Error::Usage)?;
    Ok((question, metric, ablation))
}

#[pymethods]
impl Opened {
    /// A model by its name.
    #[staticmethod]
    fn open(py: Python<'_>, name: String, wish: Wish) -> PyResult<Self> {
        wish.open(py, move || Ok(Checkpoint::resolve(&name)?))
    }

    /// A model of tensors in memory, which stay where they are: `config.json`, tensors, and `tokenizer.json`.
    #[staticmethod]
    fn of_tensors(
        py: Python<'_>,
        name: String,
        config: Vec<u8>,
        lent: Vec<Lent>,
        tokenizer_json: Option<Vec<u8>>,
        wish: Wish,
    ) -> PyResult<Self> {
        wish.open(py, move || {
            let tokenizer = tokenizer(tokenizer_json, &name)?;
            Ok(Checkpoint::from_tensors(
                &name,
                &config,
                tensors(lent),
                tokenizer,
            )?)
        })
    }

    /// What it was opened by.
    #[getter]
    fn name(&self) -> &str {
        &self.model.name
    }

    /// `cpu`, or the GPU's name.
    #[getter]
    fn device(&self) -> &str {
        &self.described.device
    }

    /// Where it runs, and why there, in a line.
    #[getter]
    fn about(&self) -> &str {
        &self.described.about
    }

    #[getter]
    fn precision(&self) -> &str {
        self.described.precision
    }

    #[getter]
    fn threads(&self) -> usize {
        self.described.threads
    }

    #[getter]
    fn has_tokenizer(&self) -> bool {
        self.model.tokenizer.is_some()
    }

    /// SHA-256 of the weights.
    fn hash(&self, py: Python<'_>) -> PyResult<String> {
        let model = self.model.clone();
        aside(py, move || model.hash())
    }

    /// Begins with it.
    fn hash_ahead(&self) {
        self.model.hash_ahead();
    }

    /// Sizes and switches.
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let config = &self.model.config;
        let dict = PyDict::new(py);
        for (name, size) in [
            ("layers", config.layers),
            ("heads", config.heads),
            ("width", config.width),
            ("head_width", config.head_width()),
            ("mlp_width", config.inner),
            ("vocabulary", config.vocab),
            ("context", config.context),
        ] {
            dict.set_item(name, size)?;
        }
        dict.set_item("epsilon", config.layer_norm_epsilon)?;
        dict.set_item("activation", config.activation.name())?;
        dict.set_item("tied", config.tied)?;
        dict.set_item("bos", config.bos)?;
        Ok(dict)
    }

    /// A text's tokens.
    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        self.text(py, |tokenizer| tokenizer.encode(text))
    }

    /// A text that is one token.
    fn target(&self, py: Python<'_>, text: &str) -> PyResult<u32> {
        self.text(py, |tokenizer| tokenizer.target(text))
    }

    /// Tokens together as text.
    fn decode(&self, py: Python<'_>, ids: Vec<u32>) -> PyResult<String> {
        let checked = self.model.check_ids(&ids);
        checked.map_err(|error| raise(py, &error.into()))?;
        self.text(py, |tokenizer| Ok(tokenizer.decode(&ids)))
    }

    /// Each token's text, its id in brackets without a tokenizer.
    fn tokens(&self, py: Python<'_>, ids: Vec<u32>) -> PyResult<Vec<String>> {
        let checked = self.model.check_ids(&ids);
        checked.map_err(|error| raise(py, &error.into()))?;
        let raw = |id: &u32| match &self.model.tokenizer {
            Some(tokenizer) => tokenizer.decode_raw(*id),
            None => format!("[{id}]"),
        };
        Ok(ids.iter().map(raw).collect())
    }

    /// The most probable next tokens: id, text, probability.
    fn topk(
        &self,
        py: Python<'_>,
        ids: Vec<u32>,
        number: usize,
    ) -> PyResult<Vec<(u32, String, f64)>> {
        let nobody = Watched::nobody();
        let list = self.worker.ask(py, &nobody, move |engine| {
            let list = engine.topk(&ids, number)?;
            let one =
                |c: headlight::results::candidate::Candidate| (c.id, engine.token(c.id), c.prob);
            Ok(list.into_iter().map(one).collect())
        })?;
        Ok(list)
    }

    /// Logits of prompts of one length, singles `[prompts, positions, vocabulary]`: of every position, or of the
    /// last alone.
    fn logits<'py>(
        &self,
        py: Python<'py>,
        prompts: Vec<Vec<u32>>,
        everywhere: bool,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let pairs = self.prompts(py, prompts)?;
        let without = |pair| PairRuns {
            pair,
            runs: [].into(),
        };
        let pairs: Vec<PairRuns> = pairs.into_iter().map(without).collect();
        let found = self.worker.ask(py, &Watched::nobody(), move |engine| {
            Ok(gather(engine, pairs, everywhere)?.base)
        })?;
        singles(py, &found)
    }

    /// A prompt's clean activations at sites, each a component's name and its layer: shape and doubles.
    fn cache<'py>(
        &self,
        py: Python<'py>,
        ids: Vec<u32>,
        sites: Vec<(String, Option<usize>)>,
    ) -> PyResult<Vec<(Vec<usize>, Bound<'py, PyByteArray>)>> {
        let parsed = sites.iter().map(|(name, layer)| {
            let site: Site = name.parse()?;
            Ok((site.component, *layer))
        });
        let parsed: Result<Vec<(Component, Option<usize>)>, Error> = parsed.collect();
        let sites = parsed.map_err(|error| raise(py, &error))?;
        let found = self.worker.ask(py, &Watched::nobody(), move |engine| {
            Ok(engine.cache(&ids, &sites)?)
        })?;
        let array =
            |Activation { shape, values, .. }| Ok((shape, doubles(py, values.into_iter())?));
        found.into_iter().map(array).collect()
    }

    /// The page of attention patterns (or scores) of prompts in some layers, as the text of a file.
    fn attention(
        &self,
        py: Python<'_>,
        prompts: Vec<Vec<u32>>,
        layers: Vec<usize>,
        scores: bool,
    ) -> PyResult<String> {
        let component = match scores {
            true => Component::AttentionScores,
            false => Component::AttentionWeight,
        };
        let pairs = self.prompts(py, prompts)?;
        self.worker.ask(py, &Watched::nobody(), move |engine| {
            let sites: Vec<_> = layers.iter().map(|l| (component, Some(*l))).collect();
            let mut patterns = Vec::with_capacity(pairs.len());
            for pair in &pairs {
                let found = engine.cache(&pair.base, &sites)?;
                patterns.push(layers.iter().copied().zip(found).collect());
            }
            let without = |pair| PairRuns {
                pair,
                runs: [].into(),
            };
            let pairs: Vec<PairRuns> = pairs.into_iter().map(without).collect();
            let mut made = engine.provenance(&pairs, false);
            // what this process was started with says nothing of it
            made.command = "Cache.attention()".to_owned();
            let prompts = made.pairs.iter().zip(patterns);
            let prompts = prompts.map(|(prompt, layers)| AttentionPrompt { prompt, layers });
            let prompts: Vec<AttentionPrompt<'_>> = prompts.collect();
            let page = attention_page(component, &prompts, &made).map_err(Error::from)?;
            Ok(page.html())
        })
    }

    fn sweep(
        &self,
        py: Python<'_>,
        word: SweepWord,
        wishes: Wished,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        self.answered(py, Asked::Sweep(word.into()), wishes, progress)
    }

    fn runs(
        &self,
        py: Python<'_>,
        word: RunsWord,
        wishes: Wished,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        self.answered(py, Asked::Runs(word), wishes, progress)
    }

    fn edges(
        &self,
        py: Python<'_>,
        word: EdgesWord,
        wishes: Wished,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        self.answered(py, Asked::Edges(word), wishes, progress)
    }

    fn paths(
        &self,
        py: Python<'_>,
        word: PathsWord,
        wishes: Wished,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        self.answered(py, Asked::Paths(word), wishes, progress)
    }

    fn trace(
        &self,
        py: Python<'_>,
        word: TraceWord,
        wishes: Wished,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        self.answered(py, Asked::Trace(word), wishes, progress)
    }

    /// Estimates of a sweep's runs.
    fn attribute_nodes(
        &self,
        py: Python<'_>,
        word: SweepWord,
        method: MethodWord,
        command: String,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        self.attributed(py, Asked::Sweep(word.into()), method, command, progress)
    }

    /// Estimates of edges.
    fn attribute_edges(
        &self,
        py: Python<'_>,
        word: EdgesWord,
        method: MethodWord,
        command: String,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        self.attributed(py, Asked::Edges(word), method, command, progress)
    }

    /// Scores and circuits in a file: a table's column, or EAP-IG's JSON.
    fn read_graph(&self, py: Python<'_>, path: PathBuf, column: &str) -> PyResult<Graph> {
        let read = Graph::read(&path, column, &self.model.config);
        read.map_err(|error| raise(py, &error))
    }

    /// Circuits run alone: pairs and targets, and means of the whole model, of nothing and of each.
    fn evaluate(
        &self,
        py: Python<'_>,
        prompts: PromptsWord,
        graphs: Vec<Py<Graph>>,
        how: (Option<String>, String),
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(usize, f64, f64, Vec<f64>)> {
        let circuits = graphs.iter().map(|graph| {
            let circuit = graph.get().circuit.clone();
            (String::new(), circuit)
        });
        let circuits: Vec<_> = circuits.collect();
        let watched = Watched::by(progress);
        let told = watched.progress.clone();
        self.worker.ask(py, &watched, move |engine| {
            let (question, metric, ablation) = circuits_of(engine, prompts, how.0, &how.1)?;
            told.follow(engine, question.circuit_runs(circuits.len()));
            let found = question.evaluate(&circuits, metric, ablation, &mut [])?;
            Ok((found.rows, found.whole, found.nothing, found.circuits))
        })
    }

    /// Circuits of MIB's ten sizes, chosen by the sizes of a graph's scores and by their signs: edges asked for,
    /// edges kept, faithfulness, and CMD and CPR.
    fn curve(
        &self,
        py: Python<'_>,
        prompts: PromptsWord,
        graph: Py<Graph>,
        greedy: bool,
        how: (Option<String>, String),
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Vec<CurveSize>, [f64; 2])> {
        let scored = graph.get().circuit.clone();
        let watched = Watched::by(progress);
        let told = watched.progress.clone();
        self.worker.ask(py, &watched, move |engine| {
            let (question, metric, ablation) = circuits_of(engine, prompts, how.0, &how.1)?;
            told.follow(engine, question.curve_runs());
            let choice = match greedy {
                true => Selection::Greedy,
                false => Selection::Top,
            };
            let curve = question.curve(&scored, choice, (metric, ablation), &mut [])?;
            let [by_size, by_sign] = curve.faithfulness();
            let kept = |at: usize| curve.circuits[at].1.count();
            let sizes = SIZES.into_iter().enumerate().map(|(i, share)| {
                let kept = [kept(i), kept(i + SIZES.len())];
                (
                    count(share, scored.edges.len()),
                    kept,
                    [by_size[i], by_sign[i]],
                )
            });
            Ok((sizes.collect(), curve.areas()))
        })
    }

    /// ACDC: the circuit, edges that were tried, and runs.
    fn acdc(
        &self,
        py: Python<'_>,
        prompts: PromptsWord,
        how: (String, String),
        threshold: f64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Graph, usize, usize)> {
        let config = self.model.config.clone();
        let watched = Watched::by(progress);
        let told = watched.progress.clone();
        self.worker.ask(py, &watched, move |engine| {
            let (question, metric, ablation) = circuits_of(engine, prompts, Some(how.0), &how.1)?;
            let edges = Circuit::new(&config, &HashMap::new()).edges.len();
            told.total.store(edges as u64, Ordering::Relaxed);
            let tell = |edges: usize| told.done.store(edges as u64, Ordering::Relaxed);
            let found = question.acdc(metric, ablation, threshold, &tell)?;
            let search = found.search;
            Ok((Graph::new(found.circuit, config), search.tried, search.runs))
        })
    }

    fn lens(
        &self,
        py: Python<'_>,
        word: LensWord,
        wishes: Wished,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Answered> {
        self.answered(py, Asked::Lens(word), wishes, progress)
    }

    /// Where positions by number or name stand in the base, and where they are read in the source, if elsewhere.
    fn places(
        &self,
        py: Python<'_>,
        base: Vec<u32>,
        source: Vec<u32>,
        positions: Vec<String>,
    ) -> PyResult<(Vec<usize>, Option<Vec<usize>>)> {
        self.worker.ask(py, &Watched::nobody(), move |engine| {
            let pair = engine.pair_of(Pair {
                base,
                source: Some(source),
                ..Pair::default()
            });
            let positions = positions.iter().map(|text| Position::named(text));
            let patch = pair.patch("block_output.0")?.at_all(positions)?;
            Ok((patch.positions, patch.source_positions))
        })
    }

    /// What a sweep would cost: runs, runs whose readout is the base's, operations of clean prompts and of runs.
    fn plan(&self, py: Python<'_>, word: SweepWord) -> PyResult<(usize, usize, u64, u64)> {
        self.worker.ask(py, &Watched::nobody(), move |engine| {
            let (question, ..) = Asked::Sweep(word.into()).question(engine, &Failure::default())?;
            let costs = question.costs();
            let last = |cost: &PairCost| {
                let runs = cost.read_out.last().copied().unwrap_or(0);
                (runs as usize, cost.flops.last().copied().unwrap_or(0))
            };
            let all = costs.iter().map(last);
            let (count, runs) = all.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
            Ok((
                count,
                costs.iter().map(|cost| cost.copied).sum(),
                costs.iter().map(|cost| cost.clean).sum(),
                runs,
            ))
        })
    }

    /// A sweep's cells, whose logits are asked for a few at a time.
    fn cells(&self, py: Python<'_>, word: SweepWord) -> PyResult<Cells> {
        let worker = self.worker.clone();
        self.worker.ask(py, &Watched::nobody(), move |engine| {
            let (question, ..) = Asked::Sweep(word.into()).question(engine, &Failure::default())?;
            Cells::new(question, worker, engine.model().config.vocab)
        })
    }

    /// One head's clean-minus-corrupted contribution added to what each later head reads, a cell each.
    fn direct_paths(
        &self,
        py: Python<'_>,
        prompts: PromptsWord,
        sender: (usize, usize),
        component: &str,
    ) -> PyResult<Cells> {
        let reads: Result<Site, _> = component.parse();
        let reads = reads.map_err(|error| raise(py, &error.into()))?;
        let worker = self.worker.clone();
        self.worker.ask(py, &Watched::nobody(), move |engine| {
            let question = engine.without_runs(prompts.pairs(engine)?)?;
            Ok(Cells::of_direct_paths(
                engine,
                question,
                sender,
                reads.component,
                worker,
            )?)
        })
    }

    /// The rows of the question that was interrupted last, once.
    fn unfinished(&self, py: Python<'_>) -> PyResult<Option<Answered>> {
        // it may still be about to end
        self.check(py)?;
        let mut kept = self.unfinished.lock();
        Ok(kept.as_mut().map_or(None, |kept| kept.take()))
    }

    /// Stops what runs, from another thread.
    fn cancel(&self) {
        self.worker.cancel();
    }

    /// Why it cannot be asked, if it cannot.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.worker
            .ask(py, &Watched::nobody(), |_| Ok::<_, Fault>(()))
    }
}
