//! What the documents say of the whole, held against it: ARCHITECTURE.md's floors, docs/python.md's code.
//! (Commands in documents are run beside what they are of.)

mod floors;
#[allow(dead_code)] // of the command line's tests, which use all of it
#[path = "../common/lab.rs"]
mod lab;
mod names;
mod python;
