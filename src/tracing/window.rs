//! How many layers are restored together ([`crate::ask::window`] says which).

use crate::site::Component;

/// How many layers ROME restores together: one state of the residual stream, ten outputs of MLPs or
/// attentions, each of which adds to the stream but a little.
pub fn usual(component: Component) -> usize {
    match component {
        Component::BlockInput | Component::BlockMid | Component::BlockOutput => 1,
        _ => 10,
    }
}
