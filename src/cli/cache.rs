//! `headlight cache`: clean activations of a prompt as a safetensors file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::files::Files;
use super::prompts::OnePrompt;
use super::setup::Setup;
use super::{Global, collect, components, note};
use crate::ask::grid::{IndexRange, by_layer};
use crate::error::Error;
use crate::execute::activations::Activation;
use crate::prompt::pair::PairRuns;
use crate::report::{
    Activations, AttentionPrompt, attention_page, check_activations, check_attention, check_page,
};
use crate::site::{Component, Site};

/// Flags of `cache`.
#[derive(Debug, Args)]
pub struct Cache {
    #[command(flatten)]
    prompt: OnePrompt,
    /// Components, by pyvene's names or TransformerLens's hooks (`help` lists them), and of every position `logits`
    /// (positions × vocabulary) and `loss`, −ln p of the prompt's own next token
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES|help",
        required = true
    )]
    component: Vec<String>,
    /// Layers: all, 3, 0,4 or 2-5
    #[arg(long, default_value = "all", value_name = "RANGE")]
    layers: IndexRange,
    /// Where to: tensors `component.layer`, f32; of a data set `ROW.component.layer`
    #[arg(long, value_name = "F.safetensors")]
    out: Option<PathBuf>,
    /// Attention patterns (attention_weight or attention_scores) as a page: .html
    #[arg(long, value_name = "F.html")]
    plot: Option<PathBuf>,
}

impl Cache {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        if components::asked(&self.component) {
            return components::run(global);
        }
        let (out, plot) = (self.out.as_deref(), self.plot.as_deref());
        if out.is_none() && plot.is_none() {
            let usage = "nothing says where the activations go: give --out F.safetensors";
            return Err(Error::Usage(usage.into()));
        }
        out.map(check_activations).transpose()?;
        plot.map(check_page).transpose()?;
        let files = Files::default().writes("--out", out);
        files.writes("--plot", plot).check(global)?;
        let names = || self.component.iter().map(|name| name.trim());
        let said: Vec<Said> = names().filter_map(Said::named).collect();
        if let Some(twice) = (1..said.len()).find(|i| said[..*i].contains(&said[*i])) {
            let name = said[twice].name();
            return Err(Error::Usage(format!(
                "{name} is named twice: name each component once"
            )));
        }
        let sites = names()
            .filter(|name| Said::named(name).is_none())
            .map(str::parse::<Site>)
            .collect::<Result<Vec<_>, _>>()?;
        if sites.is_empty() && self.layers != IndexRange::All {
            let usage = "--layers applies to nothing here: logits and loss stand outside the layers; leave it out";
            return Err(Error::Usage(usage.into()));
        }
        let drawn = match (plot, &sites[..]) {
            (None, _) => None,
            (Some(path), [site]) => {
                check_attention(site.component)?;
                Some((site.component, path))
            }
            (Some(_), _) => {
                let usage = "--plot shows one component: give attention_weight or attention_scores";
                return Err(Error::Usage(usage.into()));
            }
        };
        let setup = Setup::quiet(global)?;
        let (engine, config) = (&setup.engine, &setup.engine.model().config);
        let pairs = self.prompt.pairs(engine, global)?;
        let by_layer = match sites.is_empty() {
            true => Vec::new(),
            false => by_layer(&sites, &self.layers, config)?,
        };
        let by_layer = by_layer.into_iter();
        let sites = by_layer.flat_map(|(component, layers)| {
            layers.into_iter().map(move |layer| (component, layer))
        });
        let sites: Vec<(Component, Option<usize>)> = sites.collect();
        setup.announce();
        setup.doubt(&pairs);
        let mut kept = out.map(Activations::new);
        let mut patterns = Vec::new();
        for pair in &pairs {
            let row = pair.row.as_ref().map(|row| row.number);
            let mut found = match sites.is_empty() {
                true => Vec::new(),
                false => engine.cache(&pair.base, &sites)?,
            };
            if !said.is_empty() {
                let logits = engine.logits_everywhere(&pair.base)?;
                let each = said.iter();
                found.extend(each.map(|said| said.of(&logits, &pair.base, config.vocab)));
            }
            if let Some(kept) = &mut kept {
                for Activation {
                    name,
                    shape,
                    values,
                } in &found
                {
                    let name = row.map_or(name.clone(), |row| format!("{row}.{name}"));
                    kept.add(name, shape.clone(), values)?;
                }
            }
            if drawn.is_some() {
                let layers = sites.iter().map(|(_, layer)| layer.unwrap_or(0));
                patterns.push(layers.zip(found).collect());
            }
        }
        if let Some((component, path)) = drawn {
            let clean = pairs.iter().map(|pair| PairRuns {
                pair: pair.clone(),
                runs: [].into(),
            });
            let made = engine.provenance(&clean.collect::<Vec<_>>(), false);
            let prompts = made.pairs.iter().zip(patterns);
            let prompts = prompts.map(|(prompt, layers)| AttentionPrompt { prompt, layers });
            let prompts: Vec<AttentionPrompt<'_>> = prompts.collect();
            attention_page(component, &prompts, &made)?.write(path)?;
            note(format_args!("wrote {}", path.display()));
        }
        let Some(kept) = kept else {
            return Ok(ExitCode::SUCCESS);
        };
        let ids: Vec<&[u32]> = pairs.iter().map(|pair| &pair.base[..]).collect();
        let ids = match &ids[..] {
            [only] if self.prompt.file().is_none() => format!("{only:?}"),
            several => format!("{several:?}"),
        };
        collect::write(engine, kept, ("ids", ids))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a prompt's own logits say, which is no site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Logits, of every position.
    Logits,
    /// −ln p of the prompt's own next token, of every position that has one.
    Loss,
}

impl Said {
    fn named(name: &str) -> Option<Self> {
        [Self::Logits, Self::Loss]
            .into_iter()
            .find(|said| said.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Loss => "loss",
        }
    }

    fn of(self, logits: &[f64], ids: &[u32], vocab: usize) -> Activation {
        let (shape, values) = match self {
            Self::Logits => (vec![ids.len(), vocab], logits.to_vec()),
            Self::Loss => {
                let rows = logits.chunks_exact(vocab).zip(&ids[1..]);
                (
                    vec![ids.len() - 1],
                    rows.map(|(row, next)| loss(row, *next)).collect(),
                )
            }
        };
        Activation {
            name: self.name().to_owned(),
            shape,
            values,
        }
    }
}

/// −ln p of a token, by the logits of all.
fn loss(logits: &[f64], token: u32) -> f64 {
    let most = logits
        .iter()
        .fold(f64::NEG_INFINITY, |most, x| most.max(*x));
    let sum: f64 = logits.iter().map(|x| (x - most).exp()).sum();
    sum.ln() + most - logits[token as usize]
}
