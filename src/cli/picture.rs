//! Heat maps and pages: whether they go to a file, and how they look in the terminal.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::setup::columns;
use super::table_file::TableFile;
use crate::error::Error;
use crate::report;
use crate::report::{ColourDepth, HeatMap, PlotFormat};

/// Flags of heat maps.
#[derive(Debug, Args)]
pub struct Picture {
    /// Heat map, .svg or .png by its ending, or a page, .html, which shows it all
    #[arg(long, value_name = "F")]
    pub plot: Option<PathBuf>,
    /// Colours in the terminal: as many as TERM and COLORTERM say, where it is one, or so many
    #[arg(long, value_enum, default_value = "auto")]
    colour: Colour,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Colour {
    Auto,
    /// As many as TERM and COLORTERM say, at least 16, to a file or a pipe too
    Always,
    Never,
    #[value(name = "16")]
    Sixteen,
    #[value(name = "256")]
    Indexed,
    /// 24 bits
    #[value(name = "24bit")]
    Full,
}

impl Picture {
    /// Refuses a file that could not be written, before anything is computed.
    pub fn check(&self) -> Result<(), Error> {
        let plot = self.plot.as_deref();
        plot.map(report::check_plot).transpose()?;
        Ok(())
    }

    /// The page's file, if there is to be one.
    pub fn page(&self) -> Option<&Path> {
        let plot = self.plot.as_deref()?;
        let format = PlotFormat::of(plot).ok()?;
        (format == PlotFormat::Page).then_some(plot)
    }

    /// Writes the picture's file, if there is to be one, and notes it.
    pub fn write(&self, map: &HeatMap, written: &mut Vec<PathBuf>) -> Result<(), Error> {
        if let (Some(path), None) = (&self.plot, self.page()) {
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
        let variable = |name| std::env::var(name).ok();
        let (term, colorterm) = (variable("TERM"), variable("COLORTERM"));
        let said = ColourDepth::of(term.as_deref(), colorterm.as_deref());
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let depth = match self.colour {
            Colour::Auto if terminal && wanted => said,
            Colour::Auto | Colour::Never => ColourDepth::None,
            Colour::Always => said.max(ColourDepth::Sixteen),
            Colour::Sixteen => ColourDepth::Sixteen,
            Colour::Indexed => ColourDepth::Indexed,
            Colour::Full => ColourDepth::Full,
        };
        report::render(map, columns(), depth, out)
    }
}
