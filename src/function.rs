//! Operators that are a function of the caller's own.
//!
//! The engine sees no more of one than its label: it is called for each row at which it stands, in no
//! order, perhaps on several threads, and must give the same result for the same numbers, or results
//! depend on how a sweep is cut.

use std::fmt;
use std::sync::Arc;

/// What is called: the numbers that stand, changed in place, and those that are read.
type Call = dyn Fn(&mut [f64], &[f64]) + Send + Sync;

/// An operator on the numbers of one row (of one head where the component has heads).
#[derive(Clone)]
pub struct Function {
    label: String,
    reads_source: bool,
    call: Arc<Call>,
}

impl Function {
    /// A function of b, which it changes in place, and of s, the source's numbers at the same columns.
    pub fn new(label: &str, call: impl Fn(&mut [f64], &[f64]) + Send + Sync + 'static) -> Self {
        Self {
            label: label.to_owned(),
            reads_source: true,
            call: Arc::new(call),
        }
    }

    /// A function of b alone, for pairs without a source.
    pub fn of_base(label: &str, call: impl Fn(&mut [f64]) + Send + Sync + 'static) -> Self {
        Self {
            label: label.to_owned(),
            reads_source: false,
            call: Arc::new(move |b, _| call(b)),
        }
    }

    /// How the caller named it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether it reads a source.
    pub fn reads_source(&self) -> bool {
        self.reads_source
    }

    /// Changes b in place. `s` is as long, or empty where no source is read.
    pub fn apply(&self, b: &mut [f64], s: &[f64]) {
        (self.call)(b, s);
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({})", self.label)
    }
}

/// The same function is the same closure; two closures of one text are two.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.call, &other.call) && self.label == other.label
    }
}
