"""Clean activations: what can be asked for, under which names, and what cannot."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import BASE

import headlight as hl


@pytest.mark.parametrize(
    "name",
    [
        ("z", 99),
        ("resid_post", 99),
        "blocks.99.attn.hook_z",
        "head_value_output.99",
        ("normalized", 99, "ln2"),
        ("z", 5),
    ],
)
def test_a_layer_that_is_not_there_is_said_as_the_command_says_it(model, command, name, tmp_path):
    _, cache = model.run_with_cache(BASE)
    with pytest.raises(hl.PlanError) as caught:
        cache[name]
    layer = 5 if name == ("z", 5) else 99
    assert str(caught.value) == f"layer {layer} is out of range: layers are 0 to 4"
    done = command("cache", BASE, "--component", "head_value_output", "--layers", layer, "--out", "a.safetensors")
    assert done.stderr.strip() == f"headlight: {caught.value}"
    if isinstance(name, str):
        with pytest.raises(hl.PlanError, match=f"^{caught.value}$"):
            model.run_with_cache(BASE, names=name)


def test_layers_from_the_end_and_what_is_no_layer(model):
    _, cache = model.run_with_cache(BASE)
    assert np.array_equal(cache["z", -1], cache["z", 4]) and np.array_equal(cache["z", np.int64(0)], cache["z", 0])
    for layer in (-6, np.int64(-6)):
        with pytest.raises(hl.PlanError, match=r"^layer -6 is out of range: layers are 0 to 4$"):
            cache["z", layer]
    for layer in (1.5, True, "0"):
        with pytest.raises(TypeError, match=r"^a layer is a whole number, not "):
            cache["z", layer]
    with pytest.raises(TypeError, match=r"^a cache is asked by a name, or by a name and a layer, not by 3$"):
        cache[3]
    with pytest.raises(hl.PlanError, match=r"^token_embedding stands outside the layers: give no layer$"):
        cache["embed", 0]
    assert ("z", 4) in cache and "q0" in cache and ("z", 5) not in cache and "zz" not in cache and 3 not in cache


# what TransformerLens's get_act_name makes of each
SHORT = {
    ("q", 0): "blocks.0.attn.hook_q",
    "k1": "blocks.1.attn.hook_k",
    ("value", 2): "blocks.2.attn.hook_v",
    ("attn_out", 3): "blocks.3.hook_attn_out",
    ("mlp_out", 3): "blocks.3.hook_mlp_out",
    ("attn", 1): "blocks.1.attn.hook_pattern",
    ("pattern", 1, "attn"): "blocks.1.attn.hook_pattern",
    ("attn_logits", 1): "blocks.1.attn.hook_attn_scores",
    ("mlp_pre", 4): "blocks.4.mlp.hook_pre",
    ("mlp_post", 4): "blocks.4.mlp.hook_post",
    ("normalized", 1, "ln2"): "blocks.1.ln2.hook_normalized",
    "scale4ln1": "blocks.4.ln1.hook_scale",
    "scale": "ln_final.hook_scale",
    "embed": "hook_embed",
    "pos_embed": "hook_pos_embed",
    "resid_post3": "blocks.3.hook_resid_post",
}


@pytest.mark.parametrize(("short", "full"), SHORT.items(), ids=str)
def test_short_names_are_transformer_lenss(model, short, full):
    _, cache = model.run_with_cache(BASE)
    assert np.array_equal(cache[short], cache[full]) and short in cache and full in cache


def test_a_name_without_a_layer_is_that_of_every_layer(model):
    _, cache = model.run_with_cache(BASE)
    for name in ("resid_post", "hook_resid_post", "block_output"):
        found = cache[name]
        assert found.axes == ("layer", "batch", "position", "width") and found.shape == (5, 1, 5, 128)
        assert all(np.array_equal(found[layer], cache["resid_post", layer]) for layer in range(5))
    assert cache["pattern"].axes == ("layer", "batch", "head", "query", "key")
    _, some = model.run_with_cache(BASE, names="resid_post")
    assert list(some) == [f"blocks.{layer}.hook_resid_post" for layer in range(5)]
