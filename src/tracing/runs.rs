//! The runs of a tracing, and what each restores.

use crate::model::Config;
use crate::patch::{Op, Origin, Patch, Prompt, Run};
use crate::results::table::Row;
use crate::site::{Component, Width};

use crate::ask::window::window;

/// A component whose clean states are put back, and in how many layers at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// What is restored.
    pub component: Component,
    /// How many layers together ([`window`]).
    pub window: usize,
}

/// What is corrupted how, and what is restored.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// One grid of layers × positions each.
    pub restored: Vec<Restored>,
    /// Standard deviation of the noise.
    pub level: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// How many corrupted runs there are of each prompt.
    pub samples: u32,
}

/// Samples end here; more are a slip of the hand.
const MOST_SAMPLES: u32 = 10_000;

/// What a tracing cannot restore, or a number that leaves nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TracingError {
    /// Heads, keys, or none of a layer's.
    #[error(
        "{component} cannot be traced: name a whole component of a layer, such as block_output, mlp_output or attention_output"
    )]
    Component {
        /// The component.
        component: Component,
    },
    /// A component named twice.
    #[error("{component} is named twice: name each component once")]
    Twice {
        /// The component.
        component: Component,
    },
    /// Zero of something.
    #[error("a tracing needs at least one {what}")]
    None {
        /// `component`, `sample`, `layer in its window`.
        what: &'static str,
    },
    /// More samples than anybody means: their runs are all listed before the first is run.
    #[error(
        "{samples} samples of the noise are more than the {MOST_SAMPLES} that a tracing takes: ROME takes 10"
    )]
    Samples {
        /// As asked.
        samples: u32,
    },
    /// No standard deviation.
    #[error(
        "the noise level is {level}, where it must be finite and not negative: give --noise a number"
    )]
    Level {
        /// As computed.
        level: String,
    },
}

/// What one run of a tracing restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced {
    /// Which component, by its index, the middle layer, and where; nothing in a corrupted run by
    /// itself.
    pub restored: Option<(usize, usize, usize)>,
    /// Which draw of the noise.
    pub sample: u32,
}

impl Tracing {
    /// Checks what needs no prompt.
    ///
    /// # Errors
    ///
    /// [`TracingError`].
    pub fn check(&self) -> Result<(), TracingError> {
        let none = |what| Err(TracingError::None { what });
        for (i, Restored { component, window }) in self.restored.iter().enumerate() {
            let component = *component;
            let whole = matches!(component.width(), Width::Residual | Width::Inner);
            if component.is_global() || component.has_heads() || !whole {
                return Err(TracingError::Component { component });
            }
            if self.restored[..i].iter().any(|r| r.component == component) {
                return Err(TracingError::Twice { component });
            }
            if *window == 0 {
                return none("layer in its window");
            }
        }
        if self.restored.is_empty() {
            return none("component");
        }
        if self.samples == 0 {
            return none("sample");
        }
        if self.samples > MOST_SAMPLES {
            let samples = self.samples;
            return Err(TracingError::Samples { samples });
        }
        match self.level.is_finite() && self.level >= 0.0 {
            true => Ok(()),
            false => Err(TracingError::Level {
                level: self.level.to_string(),
            }),
        }
    }

    /// What each run restores, in the order of [`Tracing::runs`]: the corrupted runs by themselves, then
    /// by component, layer and position, each with its samples.
    pub fn cells(&self, layers: usize, length: usize) -> impl Iterator<Item = Traced> {
        let samples = self.samples;
        let cells = (0..self.restored.len()).flat_map(move |component| {
            (0..layers).flat_map(move |layer| {
                (0..length).map(move |position| Some((component, layer, position)))
            })
        });
        std::iter::once(None)
            .chain(cells)
            .flat_map(move |restored| (0..samples).map(move |sample| Traced { restored, sample }))
    }

    /// What the run of this index restores, of a prompt of so many tokens.
    pub fn traced(&self, layers: usize, length: usize, run: usize) -> Traced {
        let samples = self.samples as usize;
        let restored = (run / samples).checked_sub(1).map(|place| {
            let (layer, position) = (place / length % layers, place % length);
            (place / length / layers, layer, position)
        });
        Traced {
            restored,
            sample: (run % samples) as u32,
        }
    }

    /// The runs of a prompt of so many tokens whose subject stands at these positions.
    pub fn runs(&self, config: &Config, length: usize, subject: &[usize]) -> Vec<Run> {
        let run = |cell: Traced| {
            let noise = Op::Noise {
                level: self.level,
                seed: self.seed,
                sample: cell.sample,
            };
            let at =
                Patch::interchange(Component::TokenEmbedding, None, Vec::new(), subject.into());
            let mut patches = vec![at.with_op(noise)];
            if let Some((component, layer, position)) = cell.restored {
                let Restored {
                    component,
                    window: size,
                } = self.restored[component];
                let layers = window(layer, size, config.layers);
                patches.extend(layers.map(|layer| Patch {
                    origin: Origin::Clean(Prompt::Base),
                    ..Patch::interchange(component, Some(layer), Vec::new(), vec![position])
                }));
            }
            Run {
                name: Some(name(cell.restored, length, subject).into()),
                patches,
                ..Run::default()
            }
        };
        self.cells(config.layers, length).map(run).collect()
    }

    /// Files a row under what its run restores, by the middle layer of its window; one of a corrupted run
    /// stays filed under the embeddings that it corrupts.
    pub fn relabel(&self, cell: Traced, row: &mut Row) {
        if let Some((component, layer, position)) = cell.restored {
            row.component = Some(self.restored[component].component.name().into());
            row.layer = Some(layer as u32);
            row.position = Some(position as u32);
            row.op = Some("interchange".into());
            row.sample = Some(cell.sample);
        }
    }
}

/// What a run is called: `corrupted`, or where it restores, so that prompts of other lengths compare.
/// ROME's first, middle and last subject token, the first after the subject, those further on, and the
/// last of the prompt; a subject of one token is its last, and what stands before it is not corrupted.
pub fn name(
    restored: Option<(usize, usize, usize)>,
    length: usize,
    subject: &[usize],
) -> &'static str {
    let Some((_, _, position)) = restored else {
        return "corrupted";
    };
    let (Some(&first), Some(&last)) = (subject.first(), subject.last()) else {
        return ROLES[5];
    };
    let role = match position {
        p if p == last => 3,
        p if p == first => 1,
        p if p < first => 0,
        p if p < last => 2,
        p if p + 1 == length => 6,
        p if p == last + 1 => 4,
        _ => 5,
    };
    ROLES[role]
}

/// What positions are called, in their order.
pub const ROLES: [&str; 7] = [
    "before",
    "subject.first",
    "subject.middle",
    "subject.last",
    "next",
    "further",
    "end",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tracing(restored: Vec<Restored>) -> Tracing {
        Tracing {
            restored,
            level: 0.5,
            seed: 3,
            samples: 2,
        }
    }

    #[test]
    fn positions_have_romes_names() {
        let all = |length, subject: &[usize]| -> Vec<&str> {
            (0..length)
                .map(|p| name(Some((0, 0, p)), length, subject))
                .collect()
        };
        assert_eq!(
            all(8, &[1, 2, 3]),
            [
                "before",
                "subject.first",
                "subject.middle",
                "subject.last",
                "next",
                "further",
                "further",
                "end"
            ]
        );
        assert_eq!(all(3, &[0]), ["subject.last", "next", "end"]);
        assert_eq!(all(2, &[0]), ["subject.last", "end"]);
        assert_eq!(all(2, &[0, 1]), ["subject.first", "subject.last"]);
        assert_eq!(name(None, 2, &[0]), "corrupted");
    }

    #[test]
    fn runs_are_those_of_their_cells() {
        let mlp = Restored {
            component: Component::MlpOutput,
            window: 3,
        };
        let one = Restored {
            component: Component::BlockOutput,
            window: 1,
        };
        let tracing = tracing(vec![mlp, one]);
        tracing.check().unwrap();
        let model = crate::model::Checkpoint::demo().unwrap();
        let (runs, layers) = (tracing.runs(&model.config, 4, &[1, 2]), model.config.layers);
        let cells: Vec<Traced> = tracing.cells(layers, 4).collect();
        assert_eq!((runs.len(), cells.len()), (2 * (1 + 2 * 5 * 4), runs.len()));
        for (i, (run, cell)) in runs.iter().zip(&cells).enumerate() {
            assert_eq!(tracing.traced(layers, 4, i), *cell);
            let noise = &run.patches[0];
            assert_eq!(
                (noise.component, &noise.positions[..]),
                (Component::TokenEmbedding, &[1, 2][..])
            );
            assert!(
                matches!(noise.op, Op::Noise { level: 0.5, seed: 3, sample } if sample == cell.sample)
            );
            let layers: Vec<usize> = run.patches[1..].iter().filter_map(|p| p.layer).collect();
            let expected = match cell.restored {
                None => Vec::new(),
                Some((0, layer, _)) => window(layer, 3, 5).collect(),
                Some((_, layer, _)) => vec![layer],
            };
            assert_eq!(layers, expected);
            for patch in &run.patches[1..] {
                assert_eq!(patch.origin, Origin::Clean(Prompt::Base));
                assert_eq!(Some(patch.positions[0]), cell.restored.map(|(_, _, p)| p));
            }
        }
    }

    #[test]
    fn what_cannot_be_traced_is_refused() {
        let of = |component| {
            tracing(vec![Restored {
                component,
                window: 1,
            }])
        };
        for component in [
            Component::HeadValueOutput,
            Component::AttentionWeight,
            Component::Ln1Scale,
            Component::TokenEmbedding,
            Component::FinalOutput,
        ] {
            let error = of(component).check().unwrap_err();
            assert!(error.to_string().contains(component.name()), "{error}");
        }
        let good = of(Component::MlpActivation);
        assert_eq!(good.check(), Ok(()));
        let wrong = [
            Tracing {
                samples: 0,
                ..good.clone()
            },
            Tracing {
                level: f64::NAN,
                ..good.clone()
            },
            Tracing {
                level: -1.0,
                ..good.clone()
            },
            tracing(Vec::new()),
            tracing(vec![good.restored[0]; 2]),
            tracing(vec![Restored {
                window: 0,
                ..good.restored[0]
            }]),
        ];
        assert!(wrong.iter().all(|tracing| tracing.check().is_err()));
    }
}
