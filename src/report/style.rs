//! What a heat map shows, and how, where somebody wants it otherwise than it comes.

use std::str::FromStr;

use super::colour::ColourMap;

/// Which number of a row is drawn: a column, as it is or as its change from the base prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DrawnValue {
    /// The column; the first metric, or else the probability, where none is named.
    pub column: Option<String>,
    /// Whether less what it is in the base prompt.
    pub change: bool,
}

impl FromStr for DrawnValue {
    type Err = String;

    /// `metric`, `change`, a column, or `change:` and a column.
    fn from_str(text: &str) -> Result<Self, String> {
        let (change, column) = match text.split_once(':') {
            Some(("change", column)) => (true, Some(column)),
            Some(_) => {
                return Err(format!(
                    "`{text}`: write metric, change, a column, or change:COLUMN"
                ));
            }
            None => match text {
                "metric" => (false, None),
                "change" => (true, None),
                column => (false, Some(column)),
            },
        };
        match column {
            Some("") => {
                Err("which column? Write metric, change, a column, or change:COLUMN".into())
            }
            _ => Ok(Self {
                column: column.map(str::to_owned),
                change,
            }),
        }
    }
}

/// How a figure looks. Everything left out is as it comes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FigureStyle {
    /// Instead of the prompts and what was patched.
    pub title: Option<String>,
    /// Values of the first and last colour.
    pub range: Option<ValueRange>,
    /// The colours.
    pub map: Option<ColourMap>,
    /// How wide the picture is, in pixels of CSS (a PNG has two to each).
    pub width: Option<f32>,
}

/// Two ends, the lower one first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    /// The lower one.
    pub low: f64,
    /// The higher one.
    pub high: f64,
}

impl FromStr for ValueRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ends = text.split_once(',').and_then(|(low, high)| {
            let end = |text: &str| text.trim().parse::<f64>().ok().filter(|x| x.is_finite());
            Some((end(low)?, end(high)?))
        });
        match ends {
            Some((low, high)) if low < high => Ok(Self { low, high }),
            _ => Err(format!(
                "`{text}` is no range: write the lower end, a comma and the higher, as in -1,1"
            )),
        }
    }
}

impl DrawnValue {
    /// A column as it is.
    #[must_use]
    pub fn of(column: &str) -> Self {
        Self {
            column: Some(column.to_owned()),
            change: false,
        }
    }

    /// The same of this column, if there is one, where none is named.
    #[must_use]
    pub fn of_first(&self, column: Option<&str>) -> Self {
        Self {
            column: self.column.clone().or_else(|| column.map(str::to_owned)),
            change: self.change,
        }
    }

    /// The column's name, of tables with these metrics.
    pub fn column<'a>(&'a self, metrics: &'a [String]) -> &'a str {
        let first = || metrics.first().map_or("prob", String::as_str);
        self.column.as_deref().unwrap_or_else(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_a_column_or_its_change() {
        let of = |text: &str| text.parse::<DrawnValue>();
        let shown = |column: Option<&str>, change| {
            Ok(DrawnValue {
                column: column.map(str::to_owned),
                change,
            })
        };
        assert_eq!(of("metric"), shown(None, false));
        assert_eq!(of("change"), shown(None, true));
        assert_eq!(of("logit_diff"), shown(Some("logit_diff"), false));
        assert_eq!(of("change:prob"), shown(Some("prob"), true));
        assert!(of("change:").is_err());
        assert!(of("mean:prob").is_err());
    }

    #[test]
    fn ranges_have_a_lower_and_a_higher_end() {
        assert_eq!(
            "-1, 2.5".parse(),
            Ok(ValueRange {
                low: -1.0,
                high: 2.5
            })
        );
        for wrong in ["1", "2,1", "1,1", "a,b", "0,inf", "nan,1", ""] {
            assert!(wrong.parse::<ValueRange>().is_err(), "{wrong}");
        }
    }
}
