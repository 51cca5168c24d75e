//! A result drawn into a file: a picture, SVG, PNG or PDF, or a page, by the file's ending.

use std::path::Path;

use super::heatmap::HeatMap;
use super::page::Page;
#[cfg(feature = "pdf")]
use super::pdf;
#[cfg(feature = "png")]
use super::png;
use super::scene::Scene;
use super::style::{DrawnValue, FigureStyle};
use super::{ReportError, ending, figure, svg};
use crate::files::whole::WholeFile;
use crate::results::table::Table;

/// A format of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// Scalable Vector Graphics.
    Svg,
    /// Portable Network Graphics (feature `png`).
    #[cfg(feature = "png")]
    Png,
    /// Portable Document Format, one page (feature `pdf`).
    #[cfg(feature = "pdf")]
    Pdf,
}

/// A format of plots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotFormat {
    /// A heat map.
    Picture(PictureFormat),
    /// A [`Page`](super::Page), HTML.
    Page,
}

impl PlotFormat {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    ///
    /// [`ReportError::UnknownFormat`] for any other ending than `.svg`, `.png`, `.pdf` and `.html`.
    pub fn of(path: &Path) -> Result<Self, ReportError> {
        match ending(path).as_str() {
            "svg" => Ok(Self::Picture(PictureFormat::Svg)),
            #[cfg(feature = "png")]
            "png" => Ok(Self::Picture(PictureFormat::Png)),
            #[cfg(not(feature = "png"))]
            "png" => Err(ReportError::LeftOut {
                path: path.to_owned(),
                format: "PNG",
                instead: ".svg or .html",
            }),
            #[cfg(feature = "pdf")]
            "pdf" => Ok(Self::Picture(PictureFormat::Pdf)),
            #[cfg(not(feature = "pdf"))]
            "pdf" => Err(ReportError::LeftOut {
                path: path.to_owned(),
                format: "PDF",
                instead: ".svg or .html",
            }),
            "html" => Ok(Self::Page),
            _ => Err(ReportError::UnknownFormat {
                path: path.to_owned(),
                what: "plots",
                endings: ".svg, .png, .pdf or .html",
            }),
        }
    }
}

impl PictureFormat {
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
            PictureFormat::Svg => svg::document(scene).into_bytes(),
            #[cfg(feature = "png")]
            PictureFormat::Png => png::picture(scene, path)?,
            #[cfg(feature = "pdf")]
            PictureFormat::Pdf => pdf::document(scene),
        })
    }
}

/// Checks that a plot could be written to `path`, as far as that can be known: for the start of a long
/// computation.
///
/// # Errors
///
/// As [`PlotFormat::of`] and [`WholeFile::create`].
pub fn check_plot(path: &Path) -> Result<PlotFormat, ReportError> {
    let format = PlotFormat::of(path)?;
    WholeFile::create(path)?;
    Ok(format)
}

/// The same of what only a page shows.
///
/// # Errors
///
/// As [`check_plot`]; [`ReportError::UnknownFormat`] for a picture.
pub fn check_page(path: &Path) -> Result<(), ReportError> {
    match ending(path).as_str() {
        "html" => check_plot(path).map(drop),
        _ => Err(ReportError::UnknownFormat {
            path: path.to_owned(),
            what: "pages",
            endings: ".html",
        }),
    }
}

/// Draws the heat map into `path`, whole or not at all.
///
/// # Errors
///
/// As [`PlotFormat::of`], and for a page, which a heat map is not enough for; [`ReportError::TooLarge`] for a picture
/// that no PNG can hold; [`FileError::Write`](crate::files::error::FileError::Write) where the disk does not take it.
pub fn plot(map: &HeatMap, path: &Path) -> Result<(), ReportError> {
    match PlotFormat::of(path)? {
        PlotFormat::Picture(format) => Ok(WholeFile::write(path, &format.draw(map, path)?)?),
        PlotFormat::Page => Err(ReportError::UnknownFormat {
            path: path.to_owned(),
            what: "heat maps",
            endings: ".svg, .png or .pdf",
        }),
    }
}

/// Draws a table into `path`, as a picture of this look, or as a page, by its ending; a page opens with the column
/// that is drawn.
///
/// # Errors
///
/// As [`check_plot`], [`plot`], [`HeatMap::new`] and [`Page::new`].
pub fn plot_table(
    table: &Table,
    (value, style): (&DrawnValue, &FigureStyle),
    path: &Path,
) -> Result<(), ReportError> {
    match check_plot(path)? {
        PlotFormat::Picture(_) => plot(&HeatMap::new(table, value)?.styled(style), path),
        PlotFormat::Page => {
            let page = Page::new(table)?;
            let page = match &value.column {
                Some(column) => page.showing(column)?,
                None => page,
            };
            page.write(path)
        }
    }
}
