//! Figures that others have published of models whose weights cannot be shipped, and the same computed here.
//!
//! Whoever has OpenAI's weights sees in one command whether this program gives them what tutorials and papers
//! print. A [`Figures`] is a file beside this one: what was asked, what was published, by whom, and how far off a
//! figure may be, which is what it was rounded to or read off a plot with. [`compare`] asks an [`Engine`] the same.
//! The demo model has such a file too, of figures that another program computed.

mod ask;
mod data_sets;
mod layout;

use std::path::Path;

pub use self::layout::{Figures, Inquiry, Published, Subject};
use crate::engine::Engine;
use crate::error::Error;
use crate::model::Config;

/// The files.
const FILES: [&str; 3] = [
    include_str!("demo.json"),
    include_str!("gpt2.json"),
    include_str!("gpt2-xl.json"),
];

/// What was published beside what is computed here.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// What of.
    pub what: String,
    /// Who published it.
    pub by: String,
    /// How many numbers were compared.
    pub count: usize,
    /// The published number of the worst of them.
    pub published: f64,
    /// The same, computed here.
    pub here: f64,
    /// How far apart they may be.
    pub within: f64,
}

impl Compared {
    /// How far apart the worst two are.
    pub fn off(&self) -> f64 {
        (self.here - self.published).abs()
    }

    /// Whether that is near enough; NaN is not.
    pub fn passes(&self) -> bool {
        self.off() <= self.within
    }
}

/// Numbers that belong to one line, of which the worst is kept.
struct Line {
    compared: Compared,
}

impl Line {
    fn new(what: String, by: &str, within: f64) -> Self {
        Self {
            compared: Compared {
                what,
                by: by.to_owned(),
                count: 0,
                published: 0.0,
                here: 0.0,
                within,
            },
        }
    }

    fn add(&mut self, published: f64, here: f64) {
        let line = &mut self.compared;
        let off = (here - published).abs();
        // what is not a number is worse than any
        if line.count == 0 || off.is_nan() || off > line.off() {
            (line.published, line.here) = (published, here);
        }
        line.count += 1;
    }
}

/// What was compared, and what could not be.
#[derive(Debug, Clone, Default)]
pub struct Comparisons {
    /// A line a figure, or several.
    pub lines: Vec<Compared>,
    /// Files of data sets that figures are of, where no folder was given.
    pub left_out: Vec<String>,
}

impl Figures {
    /// Those of a model of this shape.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] of a shape of which nothing is published here.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let all = FILES.iter().map(|text| layout::read(text));
        let all: Vec<Self> = all.collect::<Result<_, _>>()?;
        let names: Vec<String> = all.iter().map(|f| f.model.name.clone()).collect();
        let found = all.into_iter().find(|f| f.model.is(config));
        found.ok_or_else(|| {
            Error::Usage(format!(
                "figures are published of {}, and this model has {} layers of width {} and {} tokens: give one of them",
                names.join(", "),
                config.layers,
                config.width,
                config.vocab
            ))
        })
    }
}

/// Computes all of them, and hands each line on as it is there. Those of data sets are read in `folder`.
///
/// # Errors
///
/// As the questions that are asked; [`Error::Data`] where a data set is not what was published.
pub fn compare(
    engine: &Engine,
    figures: &Figures,
    folder: Option<&Path>,
    each: &mut dyn FnMut(&Compared),
) -> Result<Comparisons, Error> {
    let mut all = Comparisons::default();
    for figure in &figures.figures {
        let lines = match (figure.file(), folder) {
            (Some(file), None) => {
                if !all.left_out.iter().any(|known| known == file) {
                    all.left_out.push(file.to_owned());
                }
                continue;
            }
            (Some(file), Some(folder)) => data_sets::lines(engine, figure, &folder.join(file))?,
            (None, _) => ask::lines(engine, figure)?,
        };
        for line in lines {
            each(&line.compared);
            all.lines.push(line.compared);
        }
    }
    Ok(all)
}
