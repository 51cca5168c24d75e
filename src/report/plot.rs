//! A heat map as a file: SVG or PNG by the file's ending.

use std::path::Path;

use super::heatmap::HeatMap;
#[cfg(feature = "png")]
use super::png;
use super::scene::Scene;
use super::{ReportError, ending, figure, svg};
use crate::files::whole::WholeFile;

/// A format of plots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotFormat {
    /// Scalable Vector Graphics.
    Svg,
    /// Portable Network Graphics (feature `png`).
    #[cfg(feature = "png")]
    Png,
}

impl PlotFormat {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    ///
    /// [`ReportError::UnknownFormat`] for any other ending than `.svg` and `.png`.
    pub fn of(path: &Path) -> Result<Self, ReportError> {
        match ending(path).as_str() {
            "svg" => Ok(Self::Svg),
            #[cfg(feature = "png")]
            "png" => Ok(Self::Png),
            #[cfg(not(feature = "png"))]
            "png" => Err(ReportError::LeftOut {
                path: path.to_owned(),
                format: "PNG",
                instead: ".svg",
            }),
            _ => Err(ReportError::UnknownFormat {
                path: path.to_owned(),
                what: "plots",
                endings: ".svg or .png",
            }),
        }
    }

    /// The heat map as the bytes of a file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`ReportError::TooLarge`] for a picture that no PNG can hold.
    pub fn draw(self, map: &HeatMap, path: &Path) -> Result<Vec<u8>, ReportError> {
        self.paint(&figure::scene(map), path)
    }

    /// A figure as the bytes of a file.
    #[cfg_attr(not(feature = "png"), expect(unused_variables))]
    pub(super) fn paint(self, scene: &Scene, path: &Path) -> Result<Vec<u8>, ReportError> {
        Ok(match self {
            PlotFormat::Svg => svg::document(scene).into_bytes(),
            #[cfg(feature = "png")]
            PlotFormat::Png => png::picture(scene, path)?,
        })
    }
}

/// Draws the heat map into `path`, whole or not at all.
///
/// # Errors
///
/// As [`check_plot`]; [`ReportError::TooLarge`] for a picture that no PNG can hold;
/// [`FileError::Write`](crate::files::error::FileError::Write) where the disk does not take it.
pub fn plot(map: &HeatMap, path: &Path) -> Result<(), ReportError> {
    let bytes = PlotFormat::of(path)?.draw(map, path)?;
    Ok(WholeFile::write(path, &bytes)?)
}

/// Checks that [`plot`] could write to `path`, as far as that can be known: for the start of a long
/// computation.
///
/// # Errors
///
/// As [`PlotFormat::of`] and [`WholeFile::create`].
pub fn check_plot(path: &Path) -> Result<(), ReportError> {
    PlotFormat::of(path)?;
    WholeFile::create(path)?;
    Ok(())
}
