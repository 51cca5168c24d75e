//! Whether a Parquet file's values are those that its own statistics describe.
//!
//! A damaged page often decodes, to other values: an index of a dictionary that is lost becomes 0, and every row the
//! first one's. Most writers say of each stretch of a column which values are its least and its greatest and how many
//! are missing (Parquet's `Statistics`), which is looked at beside the checksums of pages, which few files have.

use parquet::basic::SortOrder;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::FileReader;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

/// A value as far as it is compared.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Value {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bytes(Vec<u8>),
}

/// What is known of a column's values, or was found of them.
#[derive(Debug, Default)]
struct Bounds {
    least: Option<Value>,
    greatest: Option<Value>,
    missing: Option<u64>,
    rows: Option<u64>,
}

/// Reads every column that has statistics once more, and holds its values against them.
///
/// # Errors
///
/// One that names the column, where its values are others; those of reading it.
pub(super) fn check(file: &dyn FileReader) -> Result<()> {
    let about = file.metadata().file_metadata();
    let groups = file.metadata().row_groups().iter();
    if about.num_rows() != groups.map(|group| group.num_rows()).sum::<i64>() {
        let problem = "its row groups have other numbers of rows than the file says";
        return Err(ParquetError::General(problem.to_owned()));
    }
    let writer = about.created_by().unwrap_or("");
    for index in 0..file.num_row_groups() {
        let group = file.get_row_group(index)?;
        for number in 0..group.num_columns() {
            let chunk = group.metadata().column(number);
            let order = chunk.column_descr().sort_order();
            let signed = order == SortOrder::SIGNED;
            let found = found(
                group.get_column_reader(number)?,
                chunk.column_descr_ptr(),
                signed,
            )?;
            if found
                .rows
                .is_some_and(|rows| i64::try_from(rows) != Ok(group.metadata().num_rows()))
            {
                return Err(wrong(chunk, index, "the number of rows is"));
            }
            let Some(statistics) = chunk.statistics() else {
                continue;
            };
            let said = said(statistics, order);
            // Arrow's C++ has never shortened a text here, and says that it did not since version 21
            let whole = [statistics.min_is_exact(), statistics.max_is_exact()]
                .map(|exact| exact || writer.starts_with("parquet-cpp"));
            if let Some(what) = differs(&said, &found, whole) {
                return Err(wrong(chunk, index, what));
            }
        }
    }
    Ok(())
}

fn wrong(chunk: &ColumnChunkMetaData, group: usize, what: &str) -> ParquetError {
    let column = chunk.column_path().string();
    ParquetError::General(format!(
        "column {column}, row group {group}: {what} not what the file's own statistics say, so it is damaged"
    ))
}

/// In what two differ; texts may have been shortened in the statistics unless they are `whole`.
fn differs(said: &Bounds, found: &Bounds, whole: [bool; 2]) -> Option<&'static str> {
    if let (Some(said), Some(found)) = (said.missing, found.missing)
        && said != found
    {
        return Some("the number of missing values is");
    }
    let (Some(least), Some(greatest)) = (&found.least, &found.greatest) else {
        return None;
    };
    let fits =
        |said: &Option<Value>, found: &Value, whole: bool, greatest: bool| match (said, found) {
            (None, _) => true,
            (Some(said), found) if whole || !matches!(said, Value::Bytes(_)) => said == found,
            // a beginning, and of the greatest one that was made greater
            (Some(Value::Bytes(said)), Value::Bytes(found)) => match greatest {
                false => found.starts_with(said),
                true => found <= said,
            },
            _ => false,
        };
    if !fits(&said.least, least, whole[0], false) {
        return Some("the least value is");
    }
    (!fits(&said.greatest, greatest, whole[1], true)).then_some("the greatest value is")
}

/// What statistics say, as far as their order is one that values are compared in here.
fn said(statistics: &Statistics, order: SortOrder) -> Bounds {
    let missing = statistics.null_count_opt();
    let unknown = Bounds {
        missing,
        ..Bounds::default()
    };
    // the older fields compare texts as signed bytes
    if statistics.is_min_max_deprecated() || order == SortOrder::UNDEFINED {
        return unknown;
    }
    let signed = order == SortOrder::SIGNED;
    macro_rules! bounds {
        ($values:expr, $value:expr) => {
            Bounds {
                least: $values.min_opt().map($value),
                greatest: $values.max_opt().map($value),
                missing,
                rows: None,
            }
        };
    }
    match statistics {
        Statistics::Int32(values) => bounds!(values, |x: &i32| int(*x, signed)),
        Statistics::Int64(values) => bounds!(values, |x: &i64| long(*x, signed)),
        Statistics::Float(values) => bounds!(values, |x: &f32| Value::Float(f64::from(*x))),
        Statistics::Double(values) => bounds!(values, |x: &f64| Value::Float(*x)),
        Statistics::ByteArray(values) if !signed => {
            bounds!(values, |x: &parquet::data_type::ByteArray| Value::Bytes(
                x.data().to_vec()
            ))
        }
        _ => unknown,
    }
}

fn int(x: i32, signed: bool) -> Value {
    match signed {
        true => Value::Signed(x.into()),
        false => Value::Unsigned(x.cast_unsigned().into()),
    }
}

fn long(x: i64, signed: bool) -> Value {
    match signed {
        true => Value::Signed(x),
        false => Value::Unsigned(x.cast_unsigned()),
    }
}

/// The bounds of what is really there.
fn found(reader: ColumnReader, column: ColumnDescPtr, signed: bool) -> Result<Bounds> {
    let max_def = column.max_def_level();
    let flat = column.max_rep_level() == 0;
    match reader {
        ColumnReader::Int32ColumnReader(r) => each(r, (max_def, flat), |x| Some(int(*x, signed))),
        ColumnReader::Int64ColumnReader(r) => each(r, (max_def, flat), |x| Some(long(*x, signed))),
        ColumnReader::FloatColumnReader(r) => each(r, (max_def, flat), |x| {
            (!x.is_nan()).then(|| Value::Float(f64::from(*x)))
        }),
        ColumnReader::DoubleColumnReader(r) => each(r, (max_def, flat), |x| {
            (!x.is_nan()).then_some(Value::Float(*x))
        }),
        ColumnReader::ByteArrayColumnReader(r) => each(r, (max_def, flat), |x| {
            Some(Value::Bytes(x.data().to_vec()))
        }),
        _ => Ok(Bounds::default()),
    }
}

/// Goes over a column; missing values are counted where they are rows.
fn each<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    (max_def, flat): (i16, bool),
    value: impl Fn(&T::T) -> Option<Value>,
) -> Result<Bounds> {
    let (mut levels, mut repeats, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (mut least, mut greatest): (Option<Value>, Option<Value>) = (None, None);
    let (mut missing, mut rows) = (0, 0);
    loop {
        levels.clear();
        repeats.clear();
        values.clear();
        let (records, ..) =
            reader.read_records(4096, Some(&mut levels), Some(&mut repeats), &mut values)?;
        if records == 0 {
            break;
        }
        rows += records as u64;
        missing += levels.iter().filter(|level| **level < max_def).count() as u64;
        for value in values.iter().filter_map(&value) {
            if least.as_ref().is_none_or(|least| value < *least) {
                least = Some(value.clone());
            }
            if greatest.as_ref().is_none_or(|greatest| value > *greatest) {
                greatest = Some(value);
            }
        }
    }
    Ok(Bounds {
        least,
        greatest,
        missing: flat.then_some(missing),
        rows: Some(rows),
    })
}
