"""Names of activations: ours, pyvene's (which are the same) and TransformerLens's."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, TypeAlias

from . import _headlight

# every component that can be read and patched, by its canonical name
Component: TypeAlias = Literal[
    "token_embedding",
    "position_embedding",
    "block_input",
    "ln_1_scale",
    "ln_1_normalized",
    "attention_input",
    "attention_residual_input",
    "attention_query_input",
    "attention_key_input",
    "attention_value_input",
    "query_output",
    "head_query_output",
    "key_output",
    "head_key_output",
    "value_output",
    "head_value_output",
    "attention_scores",
    "attention_weight",
    "attention_value_output",
    "head_attention_value_output",
    "head_attention_output",
    "attention_output",
    "block_mid",
    "mlp_residual_input",
    "ln_2_scale",
    "ln_2_normalized",
    "mlp_input",
    "mlp_pre",
    "mlp_activation",
    "mlp_output",
    "block_output",
    "ln_f_scale",
    "ln_f_normalized",
    "final_output",
]

Preset: TypeAlias = Literal[
    "resid_pre",
    "resid_mid",
    "attn_out",
    "mlp_out",
    "block_every",
    "attn_head_out_by_pos",
    "attn_head_q_by_pos",
    "attn_head_k_by_pos",
    "attn_head_v_by_pos",
    "attn_head_pattern_by_pos",
    "attn_head_pattern_dest_src_pos",
    "attn_head_out_all_pos",
    "attn_head_q_all_pos",
    "attn_head_k_all_pos",
    "attn_head_v_all_pos",
    "attn_head_pattern_all_pos",
    "attn_head_by_pos_every",
    "attn_head_all_pos_every",
    "every-block",
    "every-head",
    "every-head-by-position",
]

Metric: TypeAlias = Literal[
    "prob",
    "logprob",
    "logit",
    "rank",
    "logit_diff",
    "prob_diff",
    "kl",
    "top1",
    "entropy",
    "loss",
    "recovery_prob",
    "recovery_logprob",
    "recovery_logit",
    "recovery_rank",
    "recovery_logit_diff",
    "recovery_prob_diff",
    "recovery_kl",
    "recovery_top1",
    "recovery_entropy",
    "recovery_loss",
]


@cache
def _components() -> dict[str, tuple[str | None, bool, bool]]:
    return {name: (hook, outside, heads) for name, hook, outside, heads in _headlight.components()}


def has_heads(component: str) -> bool:
    """Whether a component, by any of its names, has heads."""
    name, _ = _headlight.site(component)
    return _components()[name][2]


def is_global(component: str) -> bool:
    """Whether a component, by its canonical name, stands outside the layers."""
    return _components()[component][1]


def hook_name(component: str, layer: int | None) -> str | None:
    """TransformerLens's full name of a component of a layer, where it has one."""
    hook, outside, _ = _components()[component]
    return hook if hook is None or outside else f"blocks.{layer}.{hook}"


def full_name(component: str, layer: int | None) -> str:
    """TransformerLens's full name of a component of a layer, or ours where it has none."""
    return hook_name(component, layer) or (component if layer is None else f"{component}.{layer}")


# other words of TransformerLens's for its own names
_ALIASES = {
    "attn": "pattern",
    "attn_logits": "attn_scores",
    "key": "k",
    "query": "q",
    "value": "v",
    "mlp_pre": "pre",
    "mlp_post": "post",
}


def act_name(name: str, layer: int | str | None = None, kind: str | None = None) -> str:
    """A hook's full name from a shorthand, as TransformerLens's ``get_act_name`` makes it: ``("resid_post", 8)``,
    ``("q", 6)``, ``"q6"``, ``("mlp_post", 6)``, ``("normalized", 3, "ln1")``, ``("scale", None)``."""
    together = re.fullmatch(r"([a-z_]+?)(\d+)([a-z]*\d?)", name)
    if layer is None and together is not None and name not in _components():
        name, layer, kind = together[1], together[2], together[3] or kind
    name = _ALIASES.get(name, name)
    if "." in name or name.startswith("hook_") or name in _components():
        return name if layer is None or "." in name else f"{name}.{layer}"
    if name in ("scale", "normalized"):
        if layer is None:
            return f"ln_final.hook_{name}"
        return f"blocks.{layer}.{kind or 'ln1'}.hook_{name}"
    for component, (hook, outside, _) in _components().items():
        if hook is not None and hook.rsplit(".", 1)[-1] == f"hook_{name}":
            if outside:
                return hook
            return component if layer is None else f"blocks.{layer}.{hook}"
    return name if layer is None else f"{name}.{layer}"


@cache
def hook_names(layers: int) -> tuple[str, ...]:
    """Every activation of a model of so many layers by TransformerLens's name, or ours where it has none, in the
    order in which they are computed."""
    before = [hook or name for name, (hook, outside, _) in _components().items() if outside and not _is_last(name)]
    after = [hook or name for name, (hook, outside, _) in _components().items() if outside and _is_last(name)]
    within = [
        full_name(name, layer)
        for layer in range(layers)
        for name, (_, outside, _) in _components().items()
        if not outside
    ]
    return (*before, *within, *after)


def _is_last(name: str) -> bool:
    return name.startswith("ln_f") or name == "final_output"
