//! `--shard`: which of how many, as typed or by what a batch system says.

use std::str::FromStr;

use crate::error::Error;

/// One of some shards, or whichever the job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardWish {
    /// This of so many.
    Given {
        /// Its index, from 0.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// As the environment says.
    Auto,
}

impl FromStr for ShardWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let wrong = || format!("`{text}` is no shard: write 3/7 (from 0/7 to 6/7), or auto");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
        let (index, count) = (number(index)?, number(count)?);
        match index < count && count <= MOST {
            true => Ok(Self::Given { index, count }),
            false => Err(wrong()),
        }
    }
}

/// More shards than anybody has machines; their names have five digits.
const MOST: usize = 99_999;

/// Variables that say which of how many processes one is, of MPI's launchers, Slurm's steps and torchrun.
const RANKS: [(&str, &str); 4] = [
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("RANK", "WORLD_SIZE"),
];

impl ShardWish {
    /// Which of how many.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where the environment does not say.
    pub fn resolve(self) -> Result<(usize, usize), Error> {
        match self {
            Self::Given { index, count } => Ok((index, count)),
            Self::Auto => auto(|name| std::env::var(name).ok()),
        }
    }
}

/// Which of how many the variables say: tasks of an array, of each of them its processes.
fn auto(variable: impl Fn(&str) -> Option<String>) -> Result<(usize, usize), Error> {
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    let array = || {
        let (id, count) = (
            number("SLURM_ARRAY_TASK_ID")?,
            number("SLURM_ARRAY_TASK_COUNT")?,
        );
        let first = number("SLURM_ARRAY_TASK_MIN").unwrap_or(0);
        let last = number("SLURM_ARRAY_TASK_MAX").unwrap_or(first + count.saturating_sub(1));
        Some((id, first, last, count))
    };
    let rank = RANKS
        .iter()
        .find_map(|(rank, size)| Some((number(rank)?, number(size)?)));
    let (index, count) = match (array(), rank) {
        (None, None) => {
            return Err(Error::Usage(
                "--shard auto: neither Slurm's nor MPI's variables say which of how many this is: give --shard 3/7"
                    .into(),
            ));
        }
        (Some((id, first, last, count)), rank) => {
            // an array with gaps, as of tasks that are run again, no longer says how many there were
            if last + 1 != first + count || id < first {
                return Err(Error::Usage(format!(
                    "--shard auto: the array has {count} tasks between {first} and {last}, which are no shards: give --shard {id}/N"
                )));
            }
            let (rank, size) = rank.unwrap_or((0, 1));
            ((id - first) * size + rank, count * size)
        }
        (None, Some(rank)) => rank,
    };
    match index < count && count <= MOST {
        true => Ok((index, count)),
        false => Err(Error::Usage(format!(
            "--shard auto: the job's variables say {index} of {count}, which is no shard: give --shard 3/7"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<(usize, usize), String> {
        let variable = |name: &str| {
            let mut all = variables.iter();
            all.find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        auto(variable).map_err(|error| error.to_string())
    }

    #[test]
    fn shards_as_they_are_written() {
        let given = |index, count| Ok(ShardWish::Given { index, count });
        assert_eq!("3/7".parse(), given(3, 7));
        assert_eq!("0/1".parse(), given(0, 1));
        assert_eq!("auto".parse(), Ok(ShardWish::Auto));
        for wrong in ["7/7", "1", "/3", "-1/3", "a/b", "0/0", "1/100000"] {
            let said = wrong.parse::<ShardWish>().unwrap_err();
            assert!(said.contains(wrong), "{said}");
        }
    }

    #[test]
    fn jobs_say_which_they_are() {
        let array = [
            ("SLURM_ARRAY_TASK_ID", "12"),
            ("SLURM_ARRAY_TASK_COUNT", "10"),
            ("SLURM_ARRAY_TASK_MIN", "10"),
            ("SLURM_ARRAY_TASK_MAX", "19"),
        ];
        assert_eq!(of(&array), Ok((2, 10)));
        let steps = [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "4")];
        assert_eq!(of(&steps), Ok((1, 4)));
        assert_eq!(of(&[array.as_slice(), &steps].concat()), Ok((9, 40)));
        assert_eq!(of(&[("RANK", "3"), ("WORLD_SIZE", "8")]), Ok((3, 8)));
        let mpi = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
        assert_eq!(of(&mpi), Ok((0, 2)));
        assert!(of(&[]).unwrap_err().contains("--shard 3/7"));
        let again = [
            ("SLURM_ARRAY_TASK_ID", "5"),
            ("SLURM_ARRAY_TASK_COUNT", "2"),
            ("SLURM_ARRAY_TASK_MIN", "3"),
            ("SLURM_ARRAY_TASK_MAX", "5"),
        ];
        assert!(of(&again).unwrap_err().contains("--shard 5/N"));
        assert!(of(&[("RANK", "8"), ("WORLD_SIZE", "8")]).is_err());
    }
}
