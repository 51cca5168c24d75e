//! The residual graph: what writes into the residual stream, what reads it, and the edges between.
//!
//! Everything that enters the residual stream stays in it, so what a layer norm reads is a sum with
//! one summand for each *sender* before it: the embeddings, every head, every MLP. A *receiver* is one
//! such reading: the query, key or value of a head, an MLP, or the final layer norm, before the logits.
//! An *edge* is a receiver with one of the senders before it. GPT-2 small has 157 senders, 445 receivers
//! and 32,491 edges.
//!
//! | concept | where |
//! |---|---|
//! | senders and receivers, and what they are called | [`node`] |
//! | edges, and which of them are meant | [`edge`] |
//! | an edge at every position, or at one | [`extent`] |
//! | what a sender contributes in the source and not in the base | [`contribution`] |
//! | patching one edge at a time | [`patching`] |
//! | results as senders × receivers (× positions) | [`edge::EdgeAxes`] |
//! | patching what a sender tells some receivers along direct paths | [`path`] |
//!
//! Names are those of EAP-IG and auto-circuit: `input`, `a3.h5`, `m2`, `logits`, `a9.h6<q>`, and
//! `a3.h5->a9.h6<q>`.

pub mod contribution;
pub mod edge;
pub mod extent;
pub mod node;
pub mod patching;
pub mod path;
