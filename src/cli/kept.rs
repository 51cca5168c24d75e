//! `--rows`: whether a command's results are rows or averages alone, known and said before anything runs.

use super::note;
use super::table_file::TableFile;
use crate::engine::{Form, Question};
use crate::error::Error;
use crate::execute::costs::PairCost;
use crate::folder::cut::Weighed;
use crate::results::kept::{KeptRows, MOST_ROWS, RowsWish};

/// What a question's pairs take, and what of its rows is kept.
pub struct PlannedRows {
    /// What each pair takes.
    pub costs: Vec<PairCost>,
    /// The same with their rows.
    pub weighed: Vec<Weighed>,
    /// How many rows there are.
    pub rows: u64,
    /// What is kept of them.
    pub kept: KeptRows,
}

impl PlannedRows {
    /// Of a question whose table goes to this file, and of which there are averages over pairs or not.
    pub fn of(file: &TableFile, question: &Question<'_>, averages: bool) -> Result<Self, Error> {
        let costs = question.costs();
        let weighed = question.weigh(&costs);
        let rows = question.count_rows();
        let kept = file.rows.kept(rows, averages).map_err(Error::Usage)?;
        // a lens has some unless it is told otherwise, which are said and not only written
        let of_lens = matches!(question.form, Form::Lens { .. });
        if kept == KeptRows::Means && file.top.is_some() && !of_lens {
            return Err(Error::Usage(
                "--top is a column of rows, of which only averages are kept: leave it out, or give --rows all"
                    .into(),
            ));
        }
        Ok(Self {
            costs,
            weighed,
            rows,
            kept,
        })
    }

    /// Whether averages are all that is kept.
    pub fn is_means(&self) -> bool {
        self.kept == KeptRows::Means
    }

    /// Says that not every row is written, where nobody asked for that.
    pub fn say(&self, file: &TableFile) {
        if self.is_means() && file.rows == RowsWish::Auto && file.out.is_some() {
            note(format_args!(
                "{} rows are more than {MOST_ROWS}: averages over pairs are written, and every row with --rows all",
                self.rows
            ));
        }
    }

    /// Refuses what is made of rows, where a folder's parts keep none.
    pub fn check_folder(&self, file: &TableFile, flags: &[(&str, bool)]) -> Result<(), Error> {
        let given = flags.iter().find(|(_, given)| *given);
        match (file.folder().filter(|_| self.is_means()), given) {
            (Some(_), Some((flag, _))) => Err(Error::Usage(format!(
                "{flag} is made of rows, of which a folder's parts keep only averages: leave it out, give --rows all, or give --out a file"
            ))),
            _ => Ok(()),
        }
    }
}
