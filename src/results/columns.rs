//! The columns of a result: one list by which rows are written, read and averaged.
//!
//! A format decides how a [`Cell`] is spelt and nothing else, so names, order and nullability
//! cannot differ between CSV, JSONL and Parquet.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

use crate::results::table::{Row, Table, Text};

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// A missing value: empty in CSV, null elsewhere.
    Missing,
    /// A count, an index or an id.
    Int(u32),
    /// Text.
    Text(&'a str),
    /// A number.
    Float(f64),
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Cell::Int`].
    Int,
    /// [`Cell::Text`].
    Text,
    /// [`Cell::Float`].
    Float,
}

impl Kind {
    /// What a field of this kind should look like, for error messages.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Int => "a whole number from 0 to 4294967295",
            Self::Text => "text",
            Self::Float => "a number",
        }
    }
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it holds.
    pub kind: Kind,
    /// Whether a value may be missing.
    pub nullable: bool,
}

impl Column {
    /// A column in which no value is missing.
    pub fn of(name: impl Into<Cow<'static, str>>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            nullable: false,
        }
    }
}

/// What a field of a row is to a file.
trait Field: Sized {
    const KIND: Kind;
    const NULLABLE: bool = false;

    fn cell(&self) -> Cell<'_>;

    /// The field of a cell of the right kind.
    fn of(cell: Cell<'_>) -> Option<Self>;
}

impl Field for u32 {
    const KIND: Kind = Kind::Int;

    fn cell(&self) -> Cell<'_> {
        Cell::Int(*self)
    }

    fn of(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Int(value) => Some(value),
            _ => None,
        }
    }
}

impl Field for Text {
    const KIND: Kind = Kind::Text;

    fn cell(&self) -> Cell<'_> {
        Cell::Text(self)
    }

    fn of(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Text(value) => Some(value.into()),
            _ => None,
        }
    }
}

impl Field for f64 {
    const KIND: Kind = Kind::Float;

    fn cell(&self) -> Cell<'_> {
        Cell::Float(*self)
    }

    fn of(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Float(value) => Some(value),
            _ => None,
        }
    }
}

impl<T: Field> Field for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;

    fn cell(&self) -> Cell<'_> {
        self.as_ref().map_or(Cell::Missing, T::cell)
    }

    fn of(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Missing => Some(None),
            cell => T::of(cell).map(Some),
        }
    }
}

/// A column that every result has.
pub(crate) struct Fixed {
    pub name: &'static str,
    pub kind: Kind,
    pub nullable: bool,
    pub get: for<'a> fn(&'a Row) -> Cell<'a>,
    /// Stores a cell of the right kind; any other is a mistake of the caller and is ignored.
    set: fn(&mut Row, Cell<'_>),
}

impl Fixed {
    /// As a column of a file.
    pub fn column(&self) -> Column {
        Column {
            nullable: self.nullable,
            ..Column::of(self.name, self.kind)
        }
    }
}

macro_rules! fixed {
    ($($field:ident: $type:ty,)*) => {
        [$(Fixed {
            name: stringify!($field),
            kind: <$type as Field>::KIND,
            nullable: <$type as Field>::NULLABLE,
            get: |row| row.$field.cell(),
            set: |row, cell| {
                if let Some(value) = Field::of(cell) {
                    row.$field = value;
                }
            },
        }),*]
    };
}

/// The fixed columns, in file order.
pub(crate) static FIXED: [Fixed; 21] = fixed![
    pair: u32,
    run: u32,
    name: Option<Text>,
    component: Option<Text>,
    layer: Option<u32>,
    head: Option<u32>,
    position: Option<u32>,
    token: Option<Text>,
    op: Option<Text>,
    source_layer: Option<u32>,
    source_head: Option<u32>,
    source_position: Option<u32>,
    sample: Option<u32>,
    target: Text,
    target_id: u32,
    prob: f64,
    logprob: f64,
    logit: f64,
    base_prob: f64,
    source_prob: Option<f64>,
    patches: Text,
];

/// The column behind the fixed ones that holds a data set's own ids, where it has some.
pub const ID: &str = "id";

/// The column behind that one which holds names of positions, where some go by one.
pub const POSITION_NAME: &str = "position_name";

/// The column behind those that holds what the model says after a run, where that was asked for: a JSON array of its
/// most probable tokens, each as `headlight topk --format json` writes it.
pub const TOP_TOKENS: &str = "top_tokens";

/// The columns of text that stand behind the fixed ones, in this order, where a result has them.
const TEXTS: [&str; 3] = [ID, POSITION_NAME, TOP_TOKENS];

/// The names of columns behind the fixed ones: which of [`TEXTS`] stand there, then metrics.
pub(crate) fn with_texts(there: [bool; 3], metrics: Vec<String>) -> Vec<String> {
    let there = TEXTS.iter().zip(there).filter(|(_, there)| *there);
    let texts = there.map(|(name, _)| (*name).to_owned());
    texts.chain(metrics).collect()
}

/// The metrics among names of columns behind the fixed ones.
pub(crate) fn metrics(names: &[String]) -> &[String] {
    TEXTS
        .iter()
        .fold(names, |rest, text| match rest.split_first() {
            Some((first, others)) if first == text => others,
            _ => rest,
        })
}

/// All columns of a table, in file order: the fixed ones, then these, which are metrics and, before them, [`ID`],
/// [`POSITION_NAME`] and [`TOP_TOKENS`].
pub fn columns(names: &[String]) -> Vec<Column> {
    let fixed = FIXED.iter().map(Fixed::column);
    let others = names.iter().map(|name| {
        let kind = if TEXTS.contains(&&**name) {
            Kind::Text
        } else {
            Kind::Float
        };
        Column::of(name.clone(), kind)
    });
    fixed.chain(others).collect()
}

/// The names of a table's columns behind the fixed ones.
pub fn names(table: &Table) -> Vec<String> {
    let first = table.rows.first();
    let there = first.map_or([false; 3], |row| texts(row).map(|text| text.is_some()));
    with_texts(there, table.metrics.clone())
}

/// A row's texts behind the fixed columns, in the order of [`TEXTS`].
fn texts(row: &Row) -> [&Option<Text>; 3] {
    [&row.id, &row.position_name, &row.top_tokens]
}

/// All cells of a row, in file order.
pub fn cells(row: &Row) -> impl Iterator<Item = Cell<'_>> {
    let fixed = FIXED.iter().map(move |column| (column.get)(row));
    let texts = texts(row).into_iter().flatten();
    fixed
        .chain(texts.map(|text| Cell::Text(text)))
        .chain(row.metrics.iter().map(|&value| Cell::Float(value)))
}

/// What the column of this number and name holds, and whether a value may be missing.
pub(crate) fn kind(number: usize, name: &str) -> (Kind, bool) {
    match FIXED.get(number) {
        Some(column) => (column.kind, column.nullable),
        None if TEXTS.contains(&name) => (Kind::Text, false),
        None => (Kind::Float, false),
    }
}

/// Stores the cell of the column of this number and name; metrics come in their order.
pub(crate) fn set(row: &mut Row, (number, name): (usize, &str), cell: Cell<'_>) {
    match (FIXED.get(number), cell) {
        (Some(column), cell) => (column.set)(row, cell),
        (None, Cell::Float(value)) => row.metrics.push(value),
        (None, Cell::Text(text)) if name == ID => row.id = Some(text.into()),
        (None, Cell::Text(text)) if name == TOP_TOKENS => row.top_tokens = Some(text.into()),
        (None, Cell::Text(text)) => row.position_name = Some(text.into()),
        (None, _) => {}
    }
}

/// Splits a file's header into the fixed columns, which must stand first and in order, those of text after them,
/// and the metrics.
pub(crate) fn metrics_of_header(header: &[String]) -> Result<Vec<String>, String> {
    for (index, column) in FIXED.iter().enumerate() {
        match header.get(index) {
            Some(found) if found == column.name => {}
            _ if !header.iter().any(|name| name == column.name) => {
                let names: Vec<&str> = FIXED.iter().map(|column| column.name).collect();
                return Err(format!(
                    "the column {} is missing; a result has {}",
                    column.name,
                    names.join(", ")
                ));
            }
            Some(found) => {
                return Err(format!(
                    "column {} should be {}, but is {found:?}",
                    index + 1,
                    column.name
                ));
            }
            None => return Err(format!("the column {} is missing", column.name)),
        }
    }
    let metrics = metrics(&header[FIXED.len()..]);
    check_metrics(metrics)?;
    Ok(metrics.to_vec())
}

/// Refuses metric names that would make a file ambiguous.
pub(crate) fn check_metrics(metrics: &[String]) -> Result<(), String> {
    let mut seen: HashSet<&str> = FIXED.iter().map(|column| column.name).collect();
    seen.extend(TEXTS);
    for name in metrics {
        if name.is_empty() {
            return Err("a metric column has no name".to_owned());
        }
        if !seen.insert(name) {
            return Err(format!("there are two columns {name}"));
        }
    }
    Ok(())
}

/// Spells a number as the shortest text that reads back to the same bits: `0.1`, `1e-7`, `-inf`,
/// `NaN`. (A NaN's payload is not kept.)
pub(crate) fn write_float(text: &mut String, value: f64) {
    // `{:?}` rather than `{}`: the latter writes 1e-300 with three hundred zeros. Text takes everything.
    let _ = write!(text, "{value:?}");
}

/// The same, by itself.
pub(crate) fn float_text(value: f64) -> String {
    format!("{value:?}")
}
