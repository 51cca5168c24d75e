//! An operator as typed, with what its files hold.

use std::path::Path;

use super::Engine;
use crate::ask::experiment::mean_over;
use crate::ask::operator::OpText;
use crate::error::Error;
use crate::patch::{MeanOver, Op, Vector};

impl Engine {
    /// An operator as `--op` spells it; a seed is one of noise. Files are looked up in the working folder.
    ///
    /// # Errors
    ///
    /// [`Error::Vector`] and [`Error::Mean`] of its file; [`Error::Usage`] for the seed of anything but noise.
    pub fn op(&self, text: &OpText, seed: Option<u64>) -> Result<Op, Error> {
        let folder = Path::new("");
        Ok(match text {
            OpText::Ready(Op::Noise { level, .. }) => Op::Noise {
                level: *level,
                seed: seed.unwrap_or(0),
                sample: 0,
            },
            _ if seed.is_some() => {
                return Err(Error::Usage(
                    "--seed is for --op noise=level: leave it out".into(),
                ));
            }
            OpText::Ready(op) => op.clone(),
            OpText::Set(file) => Op::Set(Vector::read(file, folder)?),
            OpText::Add(file) => Op::Add(Some(Vector::read(file, folder)?)),
            OpText::Subtract(file) => Op::Subtract(Some(Vector::read(file, folder)?)),
            OpText::Mean(file) => Op::Mean(mean_over(file, &self.model, folder)?),
            OpText::MeanByPosition(file) => Op::Mean(MeanOver {
                by_position: true,
                ..mean_over(file, &self.model, folder)?
            }),
        })
    }
}
