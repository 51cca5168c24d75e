//! Result tables in files, and heat maps and pages of them.
//!
//! [`TableWriter`] and [`read`] know three formats, told apart by the file's ending; every format holds
//! the same columns under the same names. A [`HeatMap`] is made of rows as they come ([`Drawing`]) or of a
//! table, and then drawn on a terminal, as SVG or as PNG; a [`Page`] likewise, for a browser. Files appear whole or not at all
//! ([`crate::files::whole`]).

mod arrays;
mod attribution_graph;
mod canvas;
mod circuit;
pub mod colour;
mod csv;
mod depth;
mod edge_names;
mod error;
mod figure;
mod grid;
pub mod heatmap;
mod jsonl;
mod labels;
mod lens;
mod matrix;
mod measure;
mod npz;
mod numbers;
mod page;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "pdf")]
mod pdf;
mod places;
mod plot;
#[cfg(feature = "png")]
mod png;
mod possible;
mod safetensors;
mod scene;
mod scores;
#[cfg(feature = "parquet")]
mod seal;
mod strongest;
mod style;
mod svg;
mod table;
mod terminal;
mod topk;

use std::path::Path;

pub use self::arrays::{ArraysFormat, check_arrays, write_arrays};
pub use self::attribution_graph::{GraphLinks, GraphWish, attribution_graph};
pub use self::circuit::{circuit_svg, plot_circuit, write_circuit};
pub use self::depth::ColourDepth;
pub use self::edge_names::are_whole_edges;
pub use self::error::ReportError;
pub use self::heatmap::{Drawing, HeatMap};
pub(crate) use self::labels::one_line;
pub use self::labels::{site_label, token_label};
pub use self::lens::{LensLine, write_lens};
pub use self::matrix::EdgeMatrix;
pub(crate) use self::numbers::plain;
pub use self::page::{
    AttentionPrompt, CellPage, EdgePage, Page, attention_page, check_attention, circuit_page,
};
pub use self::plot::{PictureFormat, PlotFormat, check_page, check_plot, plot, plot_table};
pub use self::possible::check_possible;
pub use self::safetensors::{Activations, check_activations};
pub use self::scores::{agreement, share, write_scores};
pub use self::strongest::{Patched, write_strongest};
pub use self::style::{DrawnValue, FigureStyle, ValueRange};
pub use self::table::{
    CsvStream, EachRows, TableFormat, TableWriter, check_bytes, check_summary, check_writable,
    meta_path, read, read_about, read_rows, summary_path, write, write_averages, write_csv,
    write_means, write_means_csv, write_summary,
};
pub use self::terminal::render;
pub use self::topk::{Told, TopkFormat, write_topk, write_topk_of_rows};

/// The ending of a file name in lower case, without the dot.
fn ending(path: &Path) -> String {
    path.extension()
        .map(|ending| ending.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}
