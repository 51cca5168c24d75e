//! Named arrays, whatever they hold and whichever file they go to.

/// An array, the last axis the fastest. A shape of no axes is a single value.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Doubles.
    Floats(Vec<usize>, Vec<f64>),
    /// Indices, as 64-bit integers.
    Indices(Vec<usize>, Vec<usize>),
    /// Texts, one axis.
    Texts(Vec<String>),
    /// One text.
    Text(String),
}

/// Arrays by their names, in the order in which they are written.
pub type Arrays = Vec<(String, Array)>;

impl Array {
    /// Indices along one axis.
    pub fn indices(list: Vec<usize>) -> Self {
        Self::Indices(vec![list.len()], list)
    }

    /// As an entry of metadata, where it does not hold doubles.
    pub(crate) fn json(&self) -> Option<String> {
        match self {
            Self::Floats(..) => None,
            // one value stands by itself
            Self::Indices(shape, list) if shape.is_empty() => list.first().map(usize::to_string),
            Self::Indices(_, list) => Some(serde_json::json!(list).to_string()),
            Self::Texts(list) => Some(serde_json::json!(list).to_string()),
            Self::Text(text) => Some(text.clone()),
        }
    }
}
