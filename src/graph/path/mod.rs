//! Path patching: what one sender tells some receivers by itself, and what that changes.
//!
//! Wang et al. 2023, "Interpretability in the Wild", appendix B, and Goldowsky-Dill et al. 2023,
//! "Localizing Model Behavior with Path Patching". A path is two runs of the base prompt:
//!
//! 1. the *sender run*: the sender's output is the source's, and everything between it and the
//!    receivers that is not part of the path is held at the base's clean value ([`Freeze`]);
//! 2. the *receiver run*: the receivers are what they were in the sender run, nothing is held, and all
//!    that follows them is computed.
//!
//! Of the logits as the receiver, the sender run itself is read out. Nothing is linearised. A sender run
//! is a step that receiver runs read, so both go through the light cone: what is held is not computed,
//! nor is what no receiver reads.

mod receiver;

pub use self::receiver::{PathReceiver, Receivers, receivers};
use super::node::{self, Sender};
use crate::model::Config;
use crate::patch::{Op, Origin, Patch, Prompt, Run};
use crate::prompt::pair::Pair;
use crate::prompt::position::Spot;
use crate::results::array::Axis;
use crate::results::table::Row;
use crate::site::Component;

/// What is held at the base's clean values between sender and receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freeze {
    /// Every head but the sender; MLPs are computed again, so that paths go through them (Wang et al.).
    #[default]
    Heads,
    /// Heads and MLPs: paths go along the residual stream alone.
    All,
}

/// Which paths are patched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Each by itself.
    pub senders: Vec<Sender>,
    /// Each of these with every sender before it.
    pub receivers: Vec<Receivers>,
    /// What is held.
    pub freeze: Freeze,
    /// Whether the scales of the layer norms along the path are held too, those that the receivers read
    /// through (ln_f's for the logits) among them.
    pub freeze_scales: bool,
}

/// What one run that is read out stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathCell {
    /// What is sent.
    pub sender: Sender,
    /// Where, by the index of the spot.
    pub spot: usize,
    /// To which receivers, by their index.
    pub receivers: usize,
}

/// Receivers that cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A name of nothing that a path ends in.
    #[error(
        "`{name}` is no receiver of a path: write a9.h6<q>, a9, q, k, v, m5, logits, or a residual stream such as block_input.5{reason}"
    )]
    Unknown {
        /// As given.
        name: String,
        /// What is wrong with it, as the end of the sentence, or nothing.
        reason: String,
    },
    /// The logits beside others.
    #[error(
        "`logits` reads the sender run itself and `{other}` what follows from it: patch them apart, each receiver by itself"
    )]
    Logits {
        /// The other's name.
        other: String,
    },
    /// Nothing between the nodes that are meant.
    #[error(
        "no path goes from these senders to these receivers: a sender reaches only what is computed after it"
    )]
    NoPath,
    /// Nothing to send.
    #[error("a sender's output is taken from a source prompt: give one")]
    NoSource,
    /// Positions of one prompt that the other does not have.
    #[error(
        "the base prompt has {base} tokens and the source {source_length}: what is sent at every position goes where it was taken, so give prompts of equal length, or positions by name, such as end"
    )]
    Lengths {
        /// Tokens of the base.
        base: usize,
        /// Tokens of the source.
        source_length: usize,
    },
}

impl Paths {
    /// Checks that some sender stands before some receiver.
    ///
    /// # Errors
    ///
    /// [`PathError::NoPath`].
    pub fn check(&self, config: &Config) -> Result<(), PathError> {
        match self.cells(config, 1).next() {
            Some(_) => Ok(()),
            None => Err(PathError::NoPath),
        }
    }

    /// Checks that a pair has what is sent; `everywhere` if that is at every position.
    ///
    /// # Errors
    ///
    /// [`PathError::NoSource`], [`PathError::Lengths`].
    pub fn check_pair(pair: &Pair, everywhere: bool) -> Result<(), PathError> {
        let source = pair.source.as_deref().ok_or(PathError::NoSource)?;
        match (pair.base.len(), source.len()) {
            (base, source_length) if everywhere && base != source_length => {
                Err(PathError::Lengths {
                    base,
                    source_length,
                })
            }
            _ => Ok(()),
        }
    }

    /// What each run that is read out stands for, by sender, spot and receivers: every path on which the
    /// sender is computed before a receiver.
    pub fn cells<'a>(
        &'a self,
        config: &'a Config,
        spots: usize,
    ) -> impl Iterator<Item = PathCell> + 'a {
        self.senders.iter().flat_map(move |&sender| {
            let index = sender.index(config);
            let reached =
                move |(_, receivers): &(usize, &Receivers)| index < receivers.upstream(config);
            (0..spots).flat_map(move |spot| {
                let receivers = self.receivers.iter().enumerate().filter(reached);
                receivers.map(move |(receivers, _)| PathCell {
                    sender,
                    spot,
                    receivers,
                })
            })
        })
    }

    /// What stands along its results: senders, receivers, and where senders send, if these are several
    /// places, by `labels`.
    pub fn axes(&self, labels: &[String]) -> Vec<Axis> {
        let senders = self.senders.iter().map(Sender::to_string);
        let receivers = self.receivers.iter().map(|r| r.name.clone());
        let mut axes = vec![
            Axis::named("sender", senders.collect()),
            Axis::named("receiver", receivers.collect()),
        ];
        if labels.len() > 1 {
            axes.push(Axis::named("position", labels.to_vec()));
        }
        axes
    }

    /// The runs of a prompt of so many tokens: those of [`Paths::cells`], then the sender runs that they
    /// read. The senders are the source's at these spots; receivers are patched at positions `at`.
    pub fn runs(&self, config: &Config, length: usize, spots: &[Spot], at: &[usize]) -> Vec<Run> {
        let cells: Vec<PathCell> = self.cells(config, spots.len()).collect();
        let (mut runs, mut steps): (Vec<Run>, Vec<(PathCell, Run)>) = (Vec::new(), Vec::new());
        for cell in &cells {
            let (spot, receivers) = (&spots[cell.spot], &self.receivers[cell.receivers]);
            let name = format!("{}->{}", sent(cell.sender, spot), receivers.name);
            if receivers.are_logits() {
                runs.push(Run {
                    name: Some(name),
                    patches: self.sender_run(cell.sender, spot, length, &receivers.all, config),
                    ..Run::default()
                });
                continue;
            }
            let known = steps
                .last()
                .is_some_and(|(c, _)| (c.sender, c.spot) == (cell.sender, cell.spot));
            if !known {
                let reading = self.receivers.iter().filter(|r| !r.are_logits());
                let all: Vec<PathReceiver> = reading.flat_map(|r| &r.all).copied().collect();
                let step = Run {
                    name: Some(sent(cell.sender, spot)),
                    step: true,
                    patches: self.sender_run(cell.sender, spot, length, &all, config),
                    ..Run::default()
                };
                steps.push((*cell, step));
            }
            // what stands before the sender is the base's in both runs
            let index = cell.sender.index(config);
            let after = receivers.all.iter().filter(|r| index < r.upstream(config));
            let step = Origin::Run(cells.len() + steps.len() - 1);
            let patches = after.filter_map(|receiver| receiver.patch(at.to_vec()));
            runs.push(Run {
                name: Some(name),
                patches: patches
                    .map(|patch| Patch {
                        origin: step,
                        ..patch
                    })
                    .collect(),
                ..Run::default()
            });
        }
        runs.extend(steps.into_iter().map(|(_, step)| step));
        runs
    }

    /// The sender's output from the source, and what is held as far as these receivers see it.
    fn sender_run(
        &self,
        sender: Sender,
        spot: &Spot,
        length: usize,
        receivers: &[PathReceiver],
        config: &Config,
    ) -> Vec<Patch> {
        let (component, layer, head) = site(sender);
        let mut patches = vec![Patch {
            source_positions: spot.source_positions.clone(),
            ..Patch::interchange(
                component,
                Some(layer),
                head.into_iter().collect(),
                spot.positions.clone(),
            )
        }];
        // nothing before the sender's first position can differ
        let first = spot.positions.iter().copied().min().unwrap_or(length);
        let mut hold = |component, layer| {
            patches.push(Patch {
                origin: Origin::Clean(Prompt::Base),
                ..Patch::interchange(component, layer, Vec::new(), (first..length).collect())
            });
        };
        // the first layer whose attention reads the sender, and whose MLP does
        let (attention, mlp) = match sender {
            Sender::Input => (0, 0),
            Sender::Head { layer, .. } => (layer + 1, layer),
            Sender::Mlp { layer } => (layer + 1, layer + 1),
        };
        let between = receivers.iter().map(|receiver| receiver.layers(config));
        let between = between.max().unwrap_or(0);
        for layer in mlp..config.layers.min(between + 1) {
            if layer >= attention && self.freeze_scales {
                hold(Component::Ln1Scale, Some(layer));
            }
            if layer == between {
                // queries, keys and values read through its ln_1, and nothing reads what follows
                break;
            }
            if layer >= attention {
                hold(Component::AttentionValueOutput, Some(layer));
            }
            if self.freeze_scales {
                hold(Component::Ln2Scale, Some(layer));
            }
            if self.freeze == Freeze::All {
                hold(Component::MlpOutput, Some(layer));
            }
        }
        let logits = PathReceiver::Node(node::Receiver::Logits);
        if self.freeze_scales && receivers.contains(&logits) {
            hold(Component::LnFScale, None);
        }
        patches
    }

    /// Files a row of one of [`Paths::cells`] under what sends, for the receivers are in its name. `spots` are
    /// where senders send.
    pub fn relabel(cell: PathCell, spots: &[Spot], row: &mut Row) {
        let (component, layer, head) = site(cell.sender);
        let one = |positions: &[usize]| match positions {
            [only] => Some(*only as u32),
            _ => None,
        };
        let spot = &spots[cell.spot];
        row.component = Some(component.name().into());
        row.layer = Some(layer as u32);
        row.head = head.map(|head| head as u32);
        row.position = one(&spot.positions);
        row.position_name = spot.place_name().map(Into::into);
        let there = spot.source_positions.as_ref().unwrap_or(&spot.positions);
        row.source_position = one(there);
        (row.source_layer, row.source_head) = (row.layer, row.head);
        row.op = Some(Op::Interchange.label().into());
    }

    /// Where the value of one of [`Paths::cells`] stands along [`Paths::axes`] of so many labels.
    pub fn place(&self, cell: PathCell, labels: usize) -> Option<usize> {
        let sender = self.senders.iter().position(|s| *s == cell.sender)?;
        Some((sender * self.receivers.len() + cell.receivers) * labels + cell.spot)
    }
}

/// Where a sender's output stands.
fn site(sender: Sender) -> (Component, usize, Option<usize>) {
    match sender {
        Sender::Input => (Component::BlockInput, 0, None),
        Sender::Head { layer, head } => (Component::HeadAttentionValueOutput, layer, Some(head)),
        Sender::Mlp { layer } => (Component::MlpOutput, layer, None),
    }
}

/// A sender and, where it does not send at every position, where: `a3.h5`, `a3.h5@end`, `a3.h5@4`.
fn sent(sender: Sender, spot: &Spot) -> String {
    match &spot.name {
        Some(name) if name == Spot::ALL => sender.to_string(),
        _ => format!("{sender}@{}", spot.label()),
    }
}
