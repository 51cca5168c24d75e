//! What a table keeps: every row, or averages over pairs alone, where rows would be too many.

use std::fmt;
use std::str::FromStr;

/// Rows up to which a table keeps them all unless it is told otherwise: as Parquet about 1.6 GB (docs/scale.md).
pub const MOST_ROWS: u64 = 100_000_000;

/// What is to be kept, as `--rows` and `rows=` spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowsWish {
    /// Every row.
    All,
    /// Averages alone.
    Means,
    /// Every row up to [`MOST_ROWS`], and averages alone of more.
    #[default]
    Auto,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeptRows {
    /// Every row, and averages beside them.
    #[default]
    Rows,
    /// Averages alone.
    Means,
}

impl RowsWish {
    /// What is kept of so many rows, of which there are averages or not.
    ///
    /// # Errors
    ///
    /// A sentence where averages are wished for that there are not.
    pub fn kept(self, rows: u64, averages: bool) -> Result<KeptRows, String> {
        match self {
            Self::Means if !averages => Err(
                "--rows means keeps averages over pairs, of which there is one: give a data set, or leave it out"
                    .to_owned(),
            ),
            Self::Auto if averages && rows > MOST_ROWS => Ok(KeptRows::Means),
            Self::Means => Ok(KeptRows::Means),
            Self::All | Self::Auto => Ok(KeptRows::Rows),
        }
    }
}

impl FromStr for RowsWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "means" => Ok(Self::Means),
            "auto" => Ok(Self::Auto),
            _ => Err(format!("`{text}` is none of all, means, auto")),
        }
    }
}

impl fmt::Display for RowsWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Means => "means",
            Self::Auto => "auto",
        })
    }
}

impl KeptRows {
    /// As a plan says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Means => "means",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_kept_where_rows_are_too_many() {
        let kept = |wish: RowsWish, rows| wish.kept(rows, true);
        assert_eq!(kept(RowsWish::Auto, MOST_ROWS), Ok(KeptRows::Rows));
        assert_eq!(kept(RowsWish::Auto, MOST_ROWS + 1), Ok(KeptRows::Means));
        assert_eq!(kept(RowsWish::All, u64::MAX), Ok(KeptRows::Rows));
        assert_eq!(kept(RowsWish::Means, 1), Ok(KeptRows::Means));
        // one pair has no averages, however many rows
        assert_eq!(RowsWish::Auto.kept(u64::MAX, false), Ok(KeptRows::Rows));
        assert!(RowsWish::Means.kept(1, false).is_err());
    }

    #[test]
    fn wishes_read_as_they_are_written() {
        for wish in [RowsWish::All, RowsWish::Means, RowsWish::Auto] {
            assert_eq!(wish.to_string().parse(), Ok(wish));
        }
        assert!("mean".parse::<RowsWish>().unwrap_err().contains("means"));
    }
}
