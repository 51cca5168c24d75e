//! A circuit as matrices, senders × receivers.

use super::Circuit;
use crate::graph::edge::EdgeAxes;
use crate::graph::extent::EdgeAt;
use crate::results::array::{Array, Arrays, Axis};

impl Circuit {
    /// `score` and `in_graph` (1 where an edge is kept, 0 where it is not), `[senders, receivers]` and NaN where
    /// there is no edge, with what stands along the axes.
    pub fn matrices(&self) -> Arrays {
        let places = EdgeAxes::new(&self.edges, None);
        let axes = places.axes();
        let shape: Vec<usize> = axes.iter().map(Axis::length).collect();
        let matrix = |value: &dyn Fn(usize) -> f64| {
            let mut cells = vec![f64::NAN; shape.iter().product()];
            for (e, edge) in self.edges.iter().enumerate() {
                let at = EdgeAt {
                    edge: *edge,
                    position: None,
                };
                if let Some(place) = places.place(at) {
                    cells[place] = value(e);
                }
            }
            Array::Floats(shape.clone(), cells)
        };
        let mut arrays: Arrays = vec![
            ("score".into(), matrix(&|e| self.scores[e])),
            (
                "in_graph".into(),
                matrix(&|e| f64::from(u8::from(self.kept[e]))),
            ),
        ];
        let names = axes.iter().map(|axis| axis.name.to_owned()).collect();
        arrays.push(("axes".into(), Array::Texts(names)));
        arrays.extend(axes.into_iter().map(Axis::coordinates));
        arrays
    }
}
