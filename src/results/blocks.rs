//! What averages are of a block of pairs, as rows of a file.
//!
//! The rows are a result's like any other, so that whatever reads and checks results reads these: what is patched
//! stands in the fixed columns, and sums stand where metrics do. Of the columns that only one run can fill,
//! numbers are NaN.

use crate::results::averages::{AveragedColumn, Averages, ColumnSums};
use crate::results::columns::with_texts;
use crate::results::moments::{MOMENTS, Moments, whole};
use crate::results::recovery::{LEVELS, LevelMeans};
use crate::results::table::{Row, Text};

/// One place and target, and what was added there of some pairs of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockAverage {
    /// Index of the last of these pairs.
    pub pair: usize,
    /// What their rows agree on.
    pub row: Row,
    /// Index of the target within its pair.
    pub index: u32,
    /// The target and its id, where all of them have the same.
    pub target: Option<(Text, u32)>,
    /// Over how many pairs.
    pub pairs: u32,
    /// Of each column that is averaged.
    pub sums: ColumnSums,
}

/// The first columns of sums: index of the target, how many pairs, and 1 where these have one target.
const FIRST: [&str; 3] = ["target_index", "pairs", "targets_agree"];

impl Averages {
    /// The columns behind the fixed ones of a file of [`BlockAverage`]s, whose rows go by names of positions or not: of
    /// each column `m` that is averaged its moments, such as `m_mean`, and, where it is a metric, sums
    /// of the quantity beside the clean prompts', such as `m_base_sum`.
    pub fn block_columns(&self, named: bool) -> Vec<String> {
        let of = |column: &AveragedColumn| {
            let levels = LEVELS.iter().filter(|_| column.levels.is_some());
            let ends = MOMENTS.iter().chain(levels);
            let names = ends.map(|end| format!("{}_{end}", column.name));
            names.collect::<Vec<_>>()
        };
        let first = FIRST.iter().map(|name| (*name).to_owned());
        let columns = first.chain(self.averaged().iter().flat_map(of));
        with_texts([false, named, false], columns.collect())
    }
}

impl BlockAverage {
    /// The same as a row, given what is averaged.
    pub fn to_row(&self, averaged: &[AveragedColumn]) -> Row {
        let (target, target_id) = self.target.clone().unwrap_or_default();
        let agree = f64::from(u8::from(self.target.is_some()));
        let mut metrics = vec![f64::from(self.index), f64::from(self.pairs), agree];
        let columns = averaged.iter().zip(&self.sums.values);
        for ((column, moments), levels) in columns.zip(&self.sums.levels) {
            metrics.extend(moments.numbers());
            if column.levels.is_some() {
                metrics.extend(levels.numbers());
            }
        }
        let nothing = f64::NAN;
        Row {
            pair: self.pair as u32,
            target,
            target_id,
            prob: nothing,
            logprob: nothing,
            logit: nothing,
            base_prob: nothing,
            source_prob: None,
            id: None,
            top_tokens: None,
            metrics,
            ..self.row.clone()
        }
    }

    /// What such a row says; nothing where its counts are none or its columns are others.
    pub fn of_row(row: Row, averaged: &[AveragedColumn]) -> Option<Self> {
        let (first, mut rest) = row.metrics.split_first_chunk::<{ FIRST.len() }>()?;
        let [index, pairs, agree] = *first;
        let mut sums = ColumnSums::default();
        for column in averaged {
            let (moments, others) = rest.split_first_chunk()?;
            sums.values.push(Moments::of_numbers(*moments)?);
            rest = others;
            let mut levels = LevelMeans::default();
            if column.levels.is_some() {
                let (numbers, others) = rest.split_first_chunk()?;
                levels = LevelMeans::of_numbers(*numbers)?;
                rest = others;
            }
            sums.levels.push(levels);
        }
        let pairs = whole(pairs).filter(|pairs| *pairs > 0)?;
        rest.is_empty().then_some(())?;
        Some(Self {
            pair: row.pair as usize,
            index: whole(index)?,
            target: (agree == 1.0).then(|| (row.target.clone(), row.target_id)),
            pairs,
            sums,
            row: Row {
                metrics: Vec::new(),
                ..row
            },
        })
    }
}
