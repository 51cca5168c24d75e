//! Heat maps: whether they go to a file, and how they look in the terminal.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::setup::columns;
use super::table_file::TableFile;
use crate::error::Error;
use crate::report;
use crate::report::HeatMap;

/// Flags of heat maps.
#[derive(Debug, Args)]
pub struct Picture {
    /// Heat map: .svg or .png by its ending
    #[arg(long, value_name = "F")]
    pub plot: Option<PathBuf>,
    /// Colour in the terminal
    #[arg(long, value_enum, default_value = "auto")]
    colour: Colour,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Picture {
    /// Refuses a file that could not be written, before anything is computed.
    pub fn check(&self) -> Result<(), Error> {
        match &self.plot {
            Some(plot) => Ok(report::check_plot(plot)?),
            None => Ok(()),
        }
    }

    /// Writes the plot's file, if there is to be one, and notes it.
    pub fn write(&self, map: &HeatMap, written: &mut Vec<PathBuf>) -> Result<(), Error> {
        if let Some(path) = &self.plot {
            report::plot(map, path)?;
            written.push(path.clone());
        }
        Ok(())
    }

    /// Draws the heat map where text for people goes.
    pub fn render(
        &self,
        map: &HeatMap,
        table: &TableFile,
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        let terminal = match table.is_stdout() {
            true => std::io::stderr().is_terminal(),
            false => std::io::stdout().is_terminal(),
        };
        let colour = match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        report::render(map, columns(), colour, out)
    }
}
