//! A heat map as a file: SVG or PNG by the file's ending.

use std::path::Path;

use super::heatmap::HeatMap;
use super::{ReportError, WholeFile, ending, figure, png, svg};

/// A format of plots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotFormat {
    /// Scalable Vector Graphics.
    Svg,
    /// Portable Network Graphics.
    Png,
}

impl PlotFormat {
    /// The format that the ending of `path` names.
    pub fn of(path: &Path) -> Result<Self, ReportError> {
        match ending(path).as_str() {
            "svg" => Ok(Self::Svg),
            "png" => Ok(Self::Png),
            _ => Err(ReportError::UnknownFormat {
                path: path.to_owned(),
                what: "plots",
                endings: ".svg or .png",
            }),
        }
    }
}

/// Draws the heat map into `path`, whole or not at all.
pub fn plot(map: &HeatMap, path: &Path) -> Result<(), ReportError> {
    let format = PlotFormat::of(path)?;
    let scene = figure::scene(map);
    let bytes = match format {
        PlotFormat::Svg => svg::document(&scene).into_bytes(),
        PlotFormat::Png => png::picture(&scene, path)?,
    };
    WholeFile::write(path, &bytes)
}

/// Checks that [`plot`] could write to `path`, as far as that can be known: for the start of a long
/// computation.
pub fn check_plot(path: &Path) -> Result<(), ReportError> {
    PlotFormat::of(path)?;
    WholeFile::create(path).map(drop)
}
