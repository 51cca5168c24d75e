//! On which columns of a row, or coordinates of a basis, a patch acts: as written.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ask::grid::IndexRange;
use crate::site::stretches;

/// Columns as written: a list, or ranges such as `0-31,40`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Columns {
    /// One by one.
    List(Vec<usize>),
    /// As ranges.
    Ranges(String),
}

impl Columns {
    /// Columns as ranges, if they are in ascending order; one by one otherwise.
    pub fn of(columns: &[usize]) -> Self {
        if !columns.is_sorted() {
            return Self::List(columns.to_vec());
        }
        let range = |(first, length): (usize, usize)| match length {
            1 => first.to_string(),
            _ => format!("{first}-{}", first + length - 1),
        };
        let ranges: Vec<String> = stretches(columns.iter().copied())
            .into_iter()
            .map(range)
            .collect();
        Self::Ranges(ranges.join(","))
    }

    fn list(&self) -> Result<Vec<usize>, String> {
        match self {
            Self::List(list) => Ok(list.clone()),
            Self::Ranges(text) => match text.parse::<IndexRange>() {
                Ok(IndexRange::Some(list)) => Ok(list),
                _ => Err(format!(
                    "columns \"{text}\" are no range: write a list, or \"3\", \"0,4\" or \"2-5\""
                )),
            },
        }
    }
}

/// The columns that a patch names, as `columns` or as some of its partitions; `None` is all.
///
/// # Errors
///
/// A sentence: what was wrong and what would be right.
pub fn columns(
    columns: Option<&Columns>,
    partitions: Option<&[Vec<usize>]>,
    subspaces: Option<&[usize]>,
) -> Result<Option<Vec<usize>>, String> {
    let (partitions, subspaces) = match (columns, partitions, subspaces) {
        (columns, None, None) => return columns.map(Columns::list).transpose(),
        (None, Some(partitions), Some(subspaces)) => (partitions, subspaces),
        (None, Some(_), None) => {
            return Err("has partitions: say which are meant by subspaces = [0]".into());
        }
        (None, None, Some(_)) => {
            return Err("has subspaces: say what they are by partitions = [[0, 32]]".into());
        }
        (Some(_), _, _) => return Err("give either columns or partitions, not both".into()),
    };
    let mut all = Vec::new();
    for &subspace in subspaces {
        let Some(partition) = partitions.get(subspace) else {
            return Err(format!(
                "subspace {subspace} is out of range: subspaces are 0 to {}",
                partitions.len().saturating_sub(1)
            ));
        };
        all.extend(range(partition)?);
    }
    Ok(Some(all))
}

/// Most columns that a partition may name: a longer one is a slip of the hand.
const LONGEST: usize = 1 << 20;

/// A partition: its first column and the one after its last.
fn range(partition: &[usize]) -> Result<Range<usize>, String> {
    match partition {
        [first, end] if first < end && *end <= LONGEST => Ok(*first..*end),
        _ => Err(format!(
            "{partition:?} is no partition: write its first column and the one after its last, as [0, 32]"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_and_partitions_mean_what_the_manual_says() {
        let list = |text: &str| columns(Some(&Columns::Ranges(text.into())), None, None);
        assert_eq!(list("0-2,5").unwrap().unwrap(), [0, 1, 2, 5]);
        for wrong in ["all", "", "3-1", "x"] {
            assert!(list(wrong).is_err(), "{wrong}");
        }
        let parts = vec![vec![0, 2], vec![2, 5]];
        let of = |which: &[usize]| columns(None, Some(&parts), Some(which));
        assert_eq!(of(&[1]).unwrap().unwrap(), [2, 3, 4]);
        assert_eq!(of(&[1, 0]).unwrap().unwrap(), [2, 3, 4, 0, 1]);
        assert_eq!(
            of(&[2]).unwrap_err(),
            "subspace 2 is out of range: subspaces are 0 to 1"
        );
        assert!(columns(None, Some(&[vec![3, 3]]), Some(&[0])).is_err());
        assert!(columns(None, Some(&[vec![1, 2, 3]]), Some(&[0])).is_err());
        assert!(columns(None, Some(&parts), None).is_err());
        assert!(columns(None, None, Some(&[0])).is_err());
        assert!(columns(Some(&Columns::List(vec![1])), Some(&parts), Some(&[0])).is_err());
        assert_eq!(columns(None, None, None), Ok(None));
    }

    proptest! {
        #[test]
        fn any_text_is_columns_or_an_error(text in "[0-9,a-z -]{0,12}") {
            let _ = columns(Some(&Columns::Ranges(text)), None, None);
        }

        #[test]
        fn what_is_written_is_read_again(list in proptest::collection::vec(0usize..40, 1..9)) {
            let mut distinct: Vec<usize> = Vec::new();
            list.iter().for_each(|x| if !distinct.contains(x) { distinct.push(*x) });
            prop_assert_eq!(Columns::of(&distinct).list().unwrap(), distinct.clone());
            distinct.sort_unstable();
            prop_assert_eq!(Columns::of(&distinct).list().unwrap(), distinct);
        }
    }
}
