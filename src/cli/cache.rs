//! `headlight cache`: clean activations of a prompt as a safetensors file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::files::Files;
use super::prompts::OnePrompt;
use super::setup::Setup;
use super::{Global, collect, components};
use crate::ask::grid::{IndexRange, by_layer};
use crate::error::Error;
use crate::execute::activations::Activation;
use crate::report::{Activations, check_activations};
use crate::site::{Component, Site};

/// Flags of `cache`.
#[derive(Debug, Args)]
pub struct Cache {
    #[command(flatten)]
    prompt: OnePrompt,
    /// Components, by pyvene's names or TransformerLens's hooks: `help` lists them
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
}

impl Cache {
    pub fn run(self, global: &Global) -> Result<ExitCode, Error> {
        if components::asked(&self.component) {
            return components::run(global);
        }
        let Some(file) = &self.out else {
            let usage = "nothing says where the activations go: give --out F.safetensors";
            return Err(Error::Usage(usage.into()));
        };
        check_activations(file)?;
        Files::default().writes("--out", Some(file)).check(global)?;
        let sites = self
            .component
            .iter()
            .map(|name| name.trim().parse::<Site>())
            .collect::<Result<Vec<_>, _>>()?;
        let setup = Setup::quiet(global)?;
        let (engine, config) = (&setup.engine, &setup.engine.model().config);
        let pairs = self.prompt.pairs(engine)?;
        let by_layer = by_layer(&sites, &self.layers, config)?.into_iter();
        let sites = by_layer.flat_map(|(component, layers)| {
            layers.into_iter().map(move |layer| (component, layer))
        });
        let sites: Vec<(Component, Option<usize>)> = sites.collect();
        setup.announce();
        setup.doubt(&pairs);
        let mut kept = Activations::new(file);
        for pair in &pairs {
            let row = pair.row.as_ref().map(|row| row.number);
            let found = engine.cache(&pair.base, &sites)?;
            for Activation {
                name,
                shape,
                values,
            } in found
            {
                let name = row.map_or(name.clone(), |row| format!("{row}.{name}"));
                kept.add(name, shape, &values)?;
            }
        }
        let ids: Vec<&[u32]> = pairs.iter().map(|pair| &pair.base[..]).collect();
        let ids = match &ids[..] {
            [only] if self.prompt.file().is_none() => format!("{only:?}"),
            several => format!("{several:?}"),
        };
        collect::write(engine, kept, ("ids", ids))?;
        Ok(ExitCode::SUCCESS)
    }
}
