//! Heat maps and pages: whether they go to a file, and how they look in the terminal.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::setup::columns;
use super::table_file::TableFile;
use crate::error::Error;
use crate::report;
use crate::report::colour::ColourMap;
use crate::report::{
    ColourDepth, Drawing, DrawnValue, FigureStyle, HeatMap, PlotFormat, ValueRange,
};
use crate::results::metric::Metric;

/// Flags of heat maps.
#[derive(Debug, Args)]
pub struct Picture {
    /// Heat map, .svg, .png or .pdf by its ending, or a page, .html, which shows it all
    #[arg(long, value_name = "F")]
    pub plot: Option<PathBuf>,
    #[command(flatten)]
    pub look: Look,
    /// Colours in the terminal: as many as TERM and COLORTERM say, where it is one, or so many
    #[arg(long, value_enum, default_value = "auto")]
    colour: Colour,
}

/// What a heat map shows, and how.
#[derive(Debug, Clone, Args)]
pub struct Look {
    /// What cells hold: metric (the first, else prob), change (what it is less in the base prompt), a column, or
    /// change:COLUMN; metric, of edges change, unless given; a page opens with it
    #[arg(long, value_name = "metric|change|COLUMN")]
    value: Option<DrawnValue>,
    /// A title instead of the prompts and what was patched
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Values of the first and the last colour, as in -1,1
    #[arg(
        long,
        value_name = "LOW,HIGH",
        allow_negative_numbers = true,
        allow_hyphen_values = true
    )]
    range: Option<ValueRange>,
    /// Colours: viridis, rdbu, purples or greys; rdbu for changes, differences and recoveries, else viridis, unless
    /// given
    #[arg(long, value_name = "NAME")]
    cmap: Option<ColourMap>,
    /// How wide the picture is, in pixels (a PNG has two to each)
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(100..=20_000))]
    width: Option<u16>,
}

impl Look {
    /// What is shown.
    pub fn value(&self) -> DrawnValue {
        self.value.clone().unwrap_or_default()
    }

    /// What is shown of edges, of tables with these metrics: their effect unless it was said. A recovery and an
    /// estimate are effects as they stand.
    pub fn value_of_edges(&self, metrics: &[String]) -> DrawnValue {
        let first = DrawnValue::default();
        let level = first.column(metrics).parse::<Metric>();
        self.value.clone().unwrap_or(DrawnValue {
            column: None,
            change: level.is_ok_and(|metric| !metric.recovery),
        })
    }

    /// Whether what a file is to hold is a page.
    pub fn is_page(&self, plot: &Path) -> bool {
        PlotFormat::of(plot).is_ok_and(|format| format == PlotFormat::Page)
    }

    /// How the figure looks.
    pub fn style(&self) -> FigureStyle {
        FigureStyle {
            title: self.title.clone(),
            range: self.range,
            map: self.cmap,
            width: self.width.map(f32::from),
        }
    }

    /// Refuses what a page, which has switches of its own, has no use for.
    pub fn check(&self, plot: Option<&Path>) -> Result<(), Error> {
        let format = plot.and_then(|plot| PlotFormat::of(plot).ok());
        let given = [
            ("--value change", self.value().change),
            ("--title", self.title.is_some()),
            ("--range", self.range.is_some()),
            ("--cmap", self.cmap.is_some()),
            ("--width", self.width.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) if format == Some(PlotFormat::Page) => Err(Error::Usage(format!(
                "{flag} is for pictures, and a page has switches of its own: leave it out, or name a .svg, .png or .pdf"
            ))),
            _ => Ok(()),
        }
    }
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
        self.look.check(plot)
    }

    /// A heat map in the making, of rows with these columns, of which the first is drawn unless another is named.
    pub fn drawing(&self, columns: &[String], first: Option<&str>) -> Result<Drawing, Error> {
        Ok(Drawing::new(columns, &self.look.value().of_first(first))?)
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
