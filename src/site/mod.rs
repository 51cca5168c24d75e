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
//! [`Site`] is a component with its layer, as parsed from a name such as `blocks.3.attn.hook_z`.

mod component;
mod stage;

use std::str::FromStr;

use self::component::NAMES;
pub use self::component::{Component, Width};
pub use self::stage::Stage;

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
#[error("unknown component `{name}`: did you mean `{nearest}`?")]
pub struct UnknownComponent {
    /// The name as given.
    pub name: String,
    /// The known name that is nearest to it.
    pub nearest: String,
}

impl FromStr for Site {
    type Err = UnknownComponent;

    /// Accepts `head_value_output`, `head_value_output.3`, `hook_v`'s full form
    /// `blocks.3.attn.hook_v`, and the hook without its block (`attn.hook_v`, `hook_v`).
    fn from_str(name: &str) -> Result<Self, UnknownComponent> {
        let (layer, local) = match name.strip_prefix("blocks.").and_then(|r| r.split_once('.')) {
            Some((layer, rest)) => match layer.parse() {
                Ok(layer) => (Some(layer), rest),
                // not a block: nothing matches, and the suggestion is made from the whole name
                Err(_) => (None, name),
            },
            None => match name.rsplit_once('.') {
                Some((rest, layer)) if layer.parse::<usize>().is_ok() => (layer.parse().ok(), rest),
                _ => (None, name),
            },
        };
        let found = NAMES.iter().find(|(_, canonical, hook)| {
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
            Some((component, _, _)) if !(component.is_global() && layer.is_some()) => Ok(Site {
                component: *component,
                layer,
            }),
            _ => Err(UnknownComponent {
                name: name.to_owned(),
                nearest: nearest(&local.to_lowercase()),
            }),
        }
    }
}

fn nearest(name: &str) -> String {
    // a hook's last part is a name too, except where three layer norms share it
    let short = |hook: &'static str| {
        hook.rsplit('.')
            .next()
            .filter(|h| !matches!(*h, "hook_scale" | "hook_normalized"))
    };
    let known = NAMES
        .iter()
        .flat_map(|(_, canonical, hook)| [Some(*canonical), *hook, hook.and_then(short)])
        .flatten();
    known
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
        .unwrap_or("head_value_output")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names_and_hooks_parse() {
        for (component, name, hook) in NAMES {
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
        assert!("hook_scale".parse::<Site>().is_err());
        assert!("blocks.3.hook_embed".parse::<Site>().is_err());
        assert!("blocks.x.attn.hook_z".parse::<Site>().is_err());
    }
}
