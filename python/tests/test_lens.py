"""Lenses and the most probable tokens: the command line's bytes, and what the model says itself."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import BASE, SOURCE

import headlight as hl


def test_a_lens_writes_the_bytes_of_the_command_line(model, command, tmp_path):
    (here,) = model.lens(BASE, targets=[" Madrid", " Rome"], positions="all").write(tmp_path / "here.csv")
    done = command("lens", BASE, "--targets", " Madrid, Rome", "--positions", "all", "--out", "there.csv")
    assert done.returncode == 0, done.stderr
    assert here.read_bytes() == (tmp_path / "there.csv").read_bytes()


def test_the_last_stream_is_the_model(model):
    result = model.lens(BASE, targets=" Madrid", components="block_output", top_tokens=10)
    assert result.top_tokens(run=len(result) - 1) == model.topk(BASE, 10)
    assert result["prob"][-1] == result["base_prob"][-1]
    assert result.array("prob").axes == ("part", "position")
    with pytest.raises(hl.PlanError, match="there is no run 99"):
        result.top_tokens(run=99)
    with pytest.raises(hl.PlanError, match="give a prompt"):
        model.lens()
    with pytest.raises(hl.PlanError, match="leave out at"):
        model.lens(BASE, at=3)


@pytest.mark.parametrize("by", ["layer", "component", "head"])
def test_parts_add_up_to_the_logits(model, by):
    madrid, rome = model.to_single_token(" Madrid"), model.to_single_token(" Rome")
    result = model.direct_logit_attribution(BASE, by=by, targets=" Madrid", wrong_targets=" Rome")
    logits = model(BASE)[0].astype(np.float64)
    assert abs(result["logit"].sum() - logits[madrid]) < 1e-4
    assert abs(result["logit_diff"].sum() - (logits[madrid] - logits[rome])) < 1e-4
    assert np.isnan(result["prob"]).all()
    with pytest.raises(hl.PlanError, match="use layer, component or head"):
        model.direct_logit_attribution(BASE, by="neuron")
    with pytest.raises(hl.errors.HeadlightError, match="has no kl"):
        model.direct_logit_attribution(BASE, by=by, metrics="kl")


def test_what_the_model_says_after_a_patch(model):
    country = hl.Patch("head_value_output", 0, heads=0, positions="Spain")
    result = model.patch(BASE, country, source=SOURCE, targets=" Rome", top_tokens=3)
    (token, p), *others = result.top_tokens()
    assert token == " Rome" and p == result["prob"][0] and len(others) == 2
    with pytest.raises(hl.PlanError, match="give the question top_tokens"):
        model.patch(BASE, country, source=SOURCE, targets=" Rome").top_tokens()


def test_what_heads_add_is_in_the_cache(model):
    _, cache = model.run_with_cache(BASE)
    heads = cache["blocks.1.attn.hook_result"]
    assert heads.shape == (1, 5, model.config.heads, model.config.width)
    # all of them are what attention adds, but for the bias, which every position has
    rest = cache["attn_out", 1] - heads.sum(axis=2)
    assert np.abs(rest - rest[:, :1]).max() < 1e-5


def test_readouts_elsewhere_are_those_of_a_prompt_that_ends_there(model):
    wanted = {"components": "head_value_output", "layers": 0, "targets": " is", "metrics": "kl"}
    cut = model.sweep("The capital of Spain", "The capital of Italy", **wanted)
    here = model.sweep(BASE, SOURCE, at=3, positions="0-3", **wanted)
    for column in ("prob", "base_prob", "source_prob", "kl"):
        assert np.array_equal(cut[column], here[column]), column
    assert here.provenance["pairs"][0]["readout"] == 3
