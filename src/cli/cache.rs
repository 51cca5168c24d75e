//! `headlight cache`: clean activations of a prompt as a safetensors file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::files::Files;
use super::prompts::OnePrompt;
use super::setup::{Setup, Task};
use super::{Global, note};
use crate::ask::grid::{Span, by_layer};
use crate::backend::Backend;
use crate::check::check_pair;
use crate::error::Error;
use crate::execute::activations::{Activation, activations};
use crate::prompt::pair::Pair;
use crate::report::{check_activations, write_activations};
use crate::site::{Component, Site};

/// Flags of `cache`.
#[derive(Debug, Args)]
pub struct Cache {
    #[command(flatten)]
    prompt: OnePrompt,
    /// Components, by pyvene's names or TransformerLens's hooks
    #[arg(long, value_delimiter = ',', value_name = "NAMES", required = true)]
    component: Vec<String>,
    /// Layers: all, 3, 0,4 or 2-5
    #[arg(long, default_value = "all", value_name = "RANGE")]
    layers: Span,
    /// Where to: tensors `component.layer`, f32
    #[arg(long, value_name = "F.safetensors")]
    out: PathBuf,
}

impl Cache {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        check_activations(&self.out)?;
        Files::default()
            .writes("--out", Some(&self.out))
            .check(global)?;
        let sites = self
            .component
            .iter()
            .map(|name| name.trim().parse::<Site>())
            .collect::<Result<Vec<_>, _>>()?;
        let setup = Setup::quiet(global)?;
        let ids = self.prompt.tokens(&setup)?;
        check_pair(
            &Pair {
                base: ids.clone(),
                ..Pair::default()
            },
            &setup.model.config,
        )?;
        let sites: Vec<(Component, Option<usize>)> =
            by_layer(&sites, &self.layers, &setup.model.config)?
                .into_iter()
                .flat_map(|(component, layers)| {
                    layers.into_iter().map(move |layer| (component, layer))
                })
                .collect();
        setup.announce();
        let kept = setup.on_device(Export {
            setup: &setup,
            ids: &ids,
            sites: &sites,
        })?;
        let named: Vec<_> = kept
            .iter()
            .map(|a| (a.name.clone(), &a.shape[..], &a.values[..]))
            .collect();
        let about = HashMap::from([
            ("format".to_owned(), "pt".to_owned()),
            ("model".to_owned(), setup.model.name.clone()),
            ("ids".to_owned(), format!("{ids:?}")),
        ]);
        write_activations(&self.out, &named, about)?;
        note(format_args!(
            "wrote {} tensors to {}",
            kept.len(),
            self.out.display()
        ));
        Ok(ExitCode::SUCCESS)
    }
}

struct Export<'a> {
    setup: &'a Setup,
    ids: &'a [u32],
    sites: &'a [(Component, Option<usize>)],
}

impl Task for Export<'_> {
    type Output = Vec<Activation>;

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Vec<Activation>, Error> {
        let limits = self.setup.limits(memory);
        Ok(activations(backend, self.ids, self.sites, &limits)?)
    }
}
