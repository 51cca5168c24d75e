//! `headlight components`: what can be named of the model at hand; `--component help` of every command that takes
//! one says the same.

use std::process::ExitCode;

use super::setup::Setup;
use super::{Global, print};
use crate::error::Error;
use crate::site::Component;

/// Whether somebody asks what there is instead of naming it.
pub fn asked(names: &[String]) -> bool {
    names.iter().any(|name| name.trim() == "help")
}

/// Prints every component: name, layers, shape, meaning, aliases.
pub fn run(global: &Global) -> Result<ExitCode, Error> {
    let engine = Setup::quiet(global)?.engine;
    let config = &engine.model().config;
    let widest = |text: &dyn Fn(Component) -> String| {
        let widths = Component::all().map(|component| text(component).chars().count());
        widths.max().unwrap_or(0)
    };
    let layers = |component: Component| match component.is_global() {
        true => "–".to_owned(),
        false => format!("0-{}", config.layers - 1),
    };
    let (name, shape) = (
        widest(&|component| component.name().to_owned()),
        widest(&|component| component.shape(config)),
    );
    let layer = widest(&layers).max("layers".len());
    print(&mut std::io::stdout().lock(), |out| {
        writeln!(
            out,
            "{:name$}  {:layer$}  {:shape$}  what it is",
            "component", "layers", "shape"
        )?;
        for component in Component::all() {
            writeln!(
                out,
                "{:name$}  {:layer$}  {:shape$}  {}",
                component.name(),
                layers(component),
                component.shape(config),
                component.meaning(),
            )?;
            let aliases = component.aliases();
            if !aliases.is_empty() {
                writeln!(out, "  or {}", aliases.join(", "))?;
            }
        }
        writeln!(
            out,
            "\nA layer may stand in the name: head_value_output.{0} or blocks.{0}.attn.hook_v.",
            config.layers - 1
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
