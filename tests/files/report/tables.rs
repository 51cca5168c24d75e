//! Tables to test with: made up, but shaped as sweeps shape them.

use headlight::results::table::{PairProvenance, Provenance, Row, Table};

pub const OV: &str = "head_attention_value_output";
pub const V: &str = "head_value_output";

/// What a made-up sweep covers.
pub struct Sweep {
    pub base: &'static [&'static str],
    pub source: &'static [&'static str],
    pub targets: &'static [(u32, &'static str, f64, f64)],
    pub components: &'static [&'static str],
    pub layers: u32,
    pub heads: std::ops::Range<u32>,
    pub together: bool,
    pub pairs: u32,
}

/// The reference job's shape.
pub const REFERENCE: Sweep = Sweep {
    base: &["The", " capital", " of", " Spain", " is"],
    source: &["The", " capital", " of", " Italy", " is"],
    targets: &[
        (14708, " Madrid", 0.105, 0.012),
        (10598, " Rome", 0.0061, 0.157),
    ],
    components: &[OV, V],
    layers: 12,
    heads: 0..1,
    together: false,
    pairs: 1,
};

impl Sweep {
    /// Its table: nothing happens before the subject, and most in the later layers after it.
    pub fn table(&self) -> Table {
        let mut rows = Vec::new();
        let length = self.base.len() as u32;
        let differs = self
            .base
            .iter()
            .zip(self.source)
            .position(|(base, source)| base != source)
            .unwrap_or(0) as u32;
        for pair in 0..self.pairs {
            let mut run = 0;
            for layer in 0..self.layers {
                for component in self.components {
                    let headed = component.starts_with("head_");
                    for head in self.heads.clone() {
                        if !headed && head != self.heads.start {
                            continue;
                        }
                        for position in 0..if self.together { 1 } else { length } {
                            let depth = f64::from(layer) / f64::from(self.layers.max(2) - 1);
                            let wave = (f64::from(layer * 7 + head * 5 + position * 3 + pair)
                                * 0.77)
                                .sin();
                            let reach = if position < differs && !self.together {
                                0.0
                            } else if position == differs {
                                0.2 * (1.0 - depth) * (1.0 + wave) / 2.0
                            } else {
                                0.7 * depth * depth * (1.0 + wave) / 2.0
                            };
                            let reach = if *component == V { reach } else { reach * 0.6 };
                            for &(id, target, base, source) in self.targets {
                                let prob = base + (source - base) * reach;
                                rows.push(Row {
                                    pair,
                                    run,
                                    component: Some((*component).into()),
                                    layer: Some(layer),
                                    head: headed.then_some(head),
                                    position: (!self.together).then_some(position),
                                    token: (!self.together)
                                        .then(|| self.base[position as usize].into()),
                                    op: Some("interchange".into()),
                                    source_layer: Some(layer),
                                    source_head: headed.then_some(head),
                                    source_position: (!self.together).then_some(position),
                                    target: target.into(),
                                    target_id: id,
                                    prob,
                                    logprob: prob.ln(),
                                    logit: prob.ln() - 30.0,
                                    base_prob: base,
                                    source_prob: Some(source),
                                    patches: format!(
                                        r#"[{{"component":"{component}","layer":{layer},"heads":[{head}],"positions":[{position}]}}]"#
                                    )
                                    .into(),
                                    metrics: vec![reach * reach, reach * 4.0 - 1.0],
                                    ..Row::default()
                                });
                            }
                            run += 1;
                        }
                    }
                }
            }
        }
        let strings = |tokens: &[&str]| tokens.iter().map(|&token| token.to_owned()).collect();
        Table {
            metrics: vec!["kl".to_owned(), "logit_diff".to_owned()],
            rows,
            provenance: Provenance {
                version: "0.1.0".to_owned(),
                model: "gpt2".to_owned(),
                model_hash: "0123456789abcdef".repeat(4),
                device: "cpu".to_owned(),
                precision: "f32".to_owned(),
                command: "headlight sweep".to_owned(),
                pairs: vec![
                    PairProvenance {
                        base_ids: (0..length).collect(),
                        base_tokens: strings(self.base),
                        source_ids: Some((0..length).collect()),
                        source_tokens: strings(self.source),
                        ..PairProvenance::default()
                    };
                    self.pairs as usize
                ],
                part: None,
            },
        }
    }
}

/// All heads, five positions, two components: 1,440 cells a target.
pub const ALL_HEADS: Sweep = Sweep {
    heads: 0..12,
    ..REFERENCE
};

/// A prompt as long as the demo model takes.
pub const SIXTY_FOUR: Sweep = Sweep {
    base: &[" Wednesday"; 64],
    source: &[" Thursday"; 64],
    components: &[V],
    targets: &[(14708, " Madrid", 0.105, 0.012)],
    ..REFERENCE
};

/// GPT-2 XL's shape on a prompt of twenty tokens.
pub const XL: Sweep = Sweep {
    base: &[
        "When", " Mary", " and", " John", " went", " to", " the", " store", ",", " John", " gave",
        " a", " drink", " of", " cold", " water", " and", " ice", " to", "\n",
    ],
    source: &[
        "When", " Mary", " and", " John", " went", " to", " the", " store", ",", " Mary", " gave",
        " a", " drink", " of", " cold", " water", " and", " ice", " to", "\n",
    ],
    targets: &[(5335, " Mary", 0.68, 0.04), (1757, " John", 0.03, 0.71)],
    layers: 48,
    heads: 0..25,
    ..REFERENCE
};

/// A toy: four layers of four heads, some cells missing.
pub fn toy() -> Table {
    let mut table = Sweep {
        layers: 4,
        heads: 0..4,
        ..REFERENCE
    }
    .table();
    table.rows.retain(|row| row.run % 7 != 3);
    table
}

/// Tokens that are hard to label.
pub const LONG_TOKENS: Sweep = Sweep {
    base: &[
        " antidisestablishmentarianism",
        "\n\n",
        " rawdownloadcloneembedreportprint",
        "<&>\"'",
        "\u{4e2d}\u{6587}",
        " is",
    ],
    source: &[
        " antidisestablishmentarianism",
        "\n\n",
        " cloneembedreportprint",
        "<&>\"'",
        "\u{4e2d}\u{6587}",
        " is",
    ],
    ..REFERENCE
};

/// Five targets.
pub const FIVE_TARGETS: Sweep = Sweep {
    targets: &[
        (14708, " Madrid", 0.105, 0.012),
        (10598, " Rome", 0.0061, 0.157),
        (262, " the", 0.095, 0.073),
        (15142, " Barcelona", 0.0703, 0.001),
        (21574, " Milan", 0.0002, 0.0469),
    ],
    ..REFERENCE
};
