//! Every addressable activation of GPT-2, and its names.
//!
//! Two views of the same thing, kept apart because they change for different reasons:
//!
//! - a [`Component`] is what a person names: pyvene's names are canonical, TransformerLens's hook
//!   names are accepted as aliases;
//! - a [`Stage`] is where in the computation the value stands. `value_output` and
//!   `head_value_output` are two components of one stage: they overwrite the same buffer, so
//!   patches at both act on each other in listed order.
//!
//! How one stage follows from another is said once, in [`wiring`].
//!
//! [`Site`] is a component with its layer, as parsed from a name such as `blocks.3.attn.hook_z`.

mod component;
mod meaning;
mod place;
mod stage;
pub mod wiring;

use std::str::FromStr;

use crate::text::slip_of;

pub use self::component::Component;
use self::component::NAMES;
pub use self::place::{columns, layer_of, rest, stretches};
pub use self::stage::{Stage, StageMap, Width};
pub use self::wiring::kept;

/// A component with its layer, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// What is addressed.
    pub component: Component,
    /// Layer from 0; `None` for components outside the layers, and where a name leaves it open.
    pub layer: Option<usize>,
}

/// A name that is no component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownComponent {
    /// No name at all.
    #[error("the name of a component is empty: write one such as `head_value_output`")]
    Empty,
    /// A name that is like no other.
    #[error(
        "unknown component `{name}`: write a name of pyvene's such as `head_value_output` or `block_output`, or of TransformerLens's such as `blocks.3.attn.hook_v` (`headlight components` lists all)"
    )]
    Strange {
        /// The name as given.
        name: String,
    },
    /// A slip of the hand, or another name.
    #[error("unknown component `{name}`: did you mean `{nearest}`?")]
    Misspelt {
        /// The name as given.
        name: String,
        /// The known name that is nearest to it.
        nearest: String,
    },
}

impl FromStr for Site {
    type Err = UnknownComponent;

    /// Accepts `head_value_output`, `head_value_output.3`, `hook_v`'s full form
    /// `blocks.3.attn.hook_v`, and the hook without its block (`attn.hook_v`, `hook_v`).
    fn from_str(name: &str) -> Result<Self, UnknownComponent> {
        let (layer, local) = match name.strip_prefix("blocks.").and_then(|r| r.split_once('.')) {
            Some((layer, rest)) => match layer.parse() {
                Ok(layer) => (Some(layer), rest),
                // not a block: nothing matches, but what is in it may be meant
                Err(_) => return Err(UnknownComponent::of(name, rest)),
            },
            None => match name.rsplit_once('.') {
                Some((rest, layer)) if layer.parse::<usize>().is_ok() => (layer.parse().ok(), rest),
                _ => (None, name),
            },
        };
        let found = NAMES.iter().find(|(_, canonical, hook, _)| {
            *canonical == local
                || hook.is_some_and(|h| {
                    h == local
                        || h.rsplit('.').next() == Some(local) && {
                            // `hook_scale` and `hook_normalized` alone name three layer norms: not one.
                            !matches!(local, "hook_scale" | "hook_normalized")
                        }
                })
        });
        match found {
            Some((component, ..)) if !(component.is_global() && layer.is_some()) => Ok(Site {
                component: *component,
                layer,
            }),
            _ => Err(UnknownComponent::of(name, local)),
        }
    }
}

impl UnknownComponent {
    /// `local` is the part of `name` that should have named a component.
    fn of(name: &str, local: &str) -> Self {
        let written = name.to_owned();
        if name.trim().is_empty() {
            return Self::Empty;
        }
        match labelled(local).or_else(|| nearest(&local.to_lowercase())) {
            Some(nearest) => Self::Misspelt {
                name: written,
                nearest: nearest.to_owned(),
            },
            None => Self::Strange { name: written },
        }
    }
}

/// A hook's last part, which is a name too, except where three layer norms share it.
fn last_part(hook: &'static str) -> Option<&'static str> {
    let last = hook.rsplit('.').next();
    last.filter(|last| !matches!(*last, "hook_scale" | "hook_normalized"))
}

/// The component that goes by this on an axis, as `ov` or `ov11`, or in a hook's name, as `z`.
fn labelled(label: &str) -> Option<&'static str> {
    let of = |label: &str| {
        let is = |hook: Option<&'static str>| {
            let last = hook.and_then(last_part);
            last.and_then(|last| last.strip_prefix("hook_")) == Some(label)
        };
        let found = NAMES
            .iter()
            .find(|(_, _, hook, short)| *short == label || is(*hook));
        found.map(|(_, canonical, ..)| *canonical)
    };
    of(label).or_else(|| of(label.trim_end_matches(|c: char| c.is_ascii_digit())))
}

/// The known name that this one is a slip of, or the beginning of.
fn nearest(name: &str) -> Option<&'static str> {
    let known = NAMES
        .iter()
        .flat_map(|(_, canonical, hook, _)| [Some(*canonical), *hook, hook.and_then(last_part)])
        .flatten();
    slip_of(name, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names_and_hooks_parse() {
        for (component, name, hook, _) in NAMES {
            assert_eq!(
                name.parse(),
                Ok(Site {
                    component,
                    layer: None
                })
            );
            if let Some(hook) = hook {
                let full = if component.is_global() {
                    hook.to_owned()
                } else {
                    format!("blocks.7.{hook}")
                };
                let layer = (!component.is_global()).then_some(7);
                assert_eq!(full.parse(), Ok(Site { component, layer }), "{full}");
            }
        }
        let z = Component::HeadAttentionValueOutput;
        assert_eq!(
            "hook_z".parse(),
            Ok(Site {
                component: z,
                layer: None
            })
        );
        assert_eq!(
            "head_attention_value_output.3".parse(),
            Ok(Site {
                component: z,
                layer: Some(3)
            })
        );
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        let error = "head_value_ouput".parse::<Site>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown component `head_value_ouput`: did you mean `head_value_output`?"
        );
        let meant = |name: &str| match name.parse::<Site>() {
            Err(UnknownComponent::Misspelt { nearest, .. }) => Some(nearest),
            other => {
                assert!(other.is_err(), "{name}");
                None
            }
        };
        for (name, nearest) in [
            ("ov", "head_attention_value_output"),
            ("ov11", "head_attention_value_output"),
            ("v", "head_value_output"),
            ("V", "value_output"),
            ("k.3", "head_key_output"),
            ("resid", "block_output"),
            ("resid_pre", "block_input"),
            ("z", "head_attention_value_output"),
            ("attn", "attention_output"),
            ("head_value", "head_value_output"),
            ("blocks.x.attn.hook_z", "attn.hook_z"),
        ] {
            assert_eq!(meant(name).as_deref(), Some(nearest), "{name}");
        }
        for name in ["foo", "bar", "nonsense", "x", "7", "."] {
            assert_eq!(meant(name), None, "{name}");
        }
        for name in ["", " "] {
            assert_eq!(name.parse::<Site>(), Err(UnknownComponent::Empty));
        }
        assert!("hook_scale".parse::<Site>().is_err());
        assert!("blocks.3.hook_embed".parse::<Site>().is_err());
        assert!("blocks.x.attn.hook_z".parse::<Site>().is_err());
    }
}
