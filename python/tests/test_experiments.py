"""Patches, experiments, edges, paths and tracings, held against the command line; activations against patches."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import BASE, SOURCE

import headlight as hl

COUNTRY = hl.Patch("head_value_output", 0, heads=0, positions="Spain")


def test_a_patch_is_a_cell_of_a_sweep(model):
    sweep = model.sweep(BASE, SOURCE, targets=" Rome", components="head_value_output")
    cell = sweep.array("prob")[0, 0, 3]
    for patch in (
        COUNTRY,
        hl.Patch("head_value_output.0", heads=[0], positions=3),
        hl.Patch("blocks.0.attn.hook_v", heads=0, positions=[-2]),
        hl.Patch("head_value_output", 0, heads=range(1), positions=np.array([0, 0, 0, 1, 0], dtype=bool)),
    ):
        assert model.patch(BASE, patch, source=SOURCE, targets=" Rome")["prob"].tolist() == [cell]
    # every head and position, unless some are named
    all_of_it = model.patch(BASE, hl.Patch("head_value_output", 0), source=SOURCE, targets=" Rome")
    together = model.sweep(
        BASE, SOURCE, targets=" Rome", components="head_value_output", layers=0, heads="together", positions="together"
    )
    assert all_of_it["prob"].tolist() == together["prob"].tolist()
    # without targets, what comes first after either prompt
    assert model.patch(BASE, COUNTRY, source=SOURCE)["target"].tolist() == [" Madrid", " Rome"]


def test_patches_act_together_freeze_and_read_other_prompts(model):
    last = hl.Patch("block_output", 4, positions="end", source="france")
    paris = model.patch(BASE, last, prompts={"france": "The capital of France is"}, targets=" Paris")
    assert paris["prob"][0] > 0.9
    frozen = hl.Patch("block_output", 4, source="base")
    held = model.patch(BASE, [COUNTRY, frozen], source=SOURCE, targets=" Rome")
    assert held["prob"][0] == held["base_prob"][0]
    noisy = model.patch(BASE, hl.Patch("token_embedding", positions=3, op=hl.Op.noise(0.5, seed=1)), targets=" Madrid")
    assert noisy["sample"].tolist() == [0] and noisy["op"].tolist() == ["noise=0.5"]
    seen = []
    called = hl.Op.function(lambda b: seen.append(b.shape) or b, reads_source=False)
    same = model.patch(BASE, hl.Patch("mlp_output", 2, positions=[1, 4], op=called), targets=" Madrid")
    assert seen == [(128,), (128,)] and same["prob"][0] == same["base_prob"][0]


def test_what_is_collected_is_what_the_cache_holds(model):
    patch = hl.Patch("head_value_output", 1, heads=[0, 2], positions=[1, 3], op="collect")
    collected = model.patch(BASE, patch, targets=" Rome").collected[0, 0, 0]
    _, cache = model.run_with_cache(BASE)
    values = cache["v", 1][0].transpose(1, 0, 2)[[0, 2]][:, [1, 3]]
    assert collected.shape == (2, 2, 32) and np.array_equal(collected.astype(np.float32), values)


EXPERIMENT = {
    "targets": [" Madrid", " Rome"],
    "pair": [{"base": BASE, "source": SOURCE, "prompts": {"france": "The capital of France is"}}],
    "run": [
        {"name": "italy in france", "prompt": "france", "patches": [{"component": "head_value_output", "layer": 0, "heads": [0], "positions": [3]}]},
        {"name": "rome", "patches": [{"component": "block_output", "layer": 4, "positions": [-1], "source_run": "italy in france"}]},
    ],
}  # fmt: skip


def test_an_experiment_is_a_dictionary_or_a_file(model, command, tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps(EXPERIMENT))
    with_patches = {**EXPERIMENT, "run": [dict(run) for run in EXPERIMENT["run"]]}
    with_patches["run"][0]["patches"] = [hl.Patch("head_value_output", 0, heads=0, positions=3)]
    done = command("run", "experiment.json", "--out", "there.csv")
    assert done.returncode == 0, done.stderr
    for number, experiment in enumerate((EXPERIMENT, with_patches, tmp_path / "experiment.json")):
        (written,) = model.run(experiment).write(tmp_path / f"{number}.csv")
        assert written.read_bytes() == (tmp_path / "there.csv").read_bytes()
    with pytest.raises(hl.PlanError, match="unknown field `patchs`"):
        model.run({**EXPERIMENT, "run": [{"patchs": []}]})


def test_edges_are_those_of_the_command_line(model, command, tmp_path):
    wanted = {"senders": "a0.h0", "receivers": ["a1", "logits"]}
    result = model.edges(BASE, SOURCE, targets=" Rome", **wanted)
    result.write(tmp_path / "here.csv")
    result.write_arrays(tmp_path / "here.npz")
    line = [
        "edges",
        "--base",
        BASE,
        "--source",
        SOURCE,
        "--target",
        " Rome",
        "--senders",
        "a0.h0",
        "--receivers",
        "a1,logits",
    ]
    done = command(*line, "--out", "there.csv", "--arrays", "there.npz")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
    here, there = (np.load(tmp_path / f"{name}.npz") for name in ("here", "there"))
    assert set(here) == set(there)
    for name in set(here) - {"headlight"}:
        assert np.array_equal(here[name], there[name], equal_nan=here[name].dtype.kind == "f"), name
    assert result.array().axes == tuple(there["axes"])


def test_paths_are_those_of_the_command_line(model, command, tmp_path):
    result = model.path(BASE, SOURCE, targets=" Rome", receivers="a2.h0.q", freeze="all", positions="all")
    result.write(tmp_path / "here.csv")
    line = [
        "path",
        "--base",
        BASE,
        "--source",
        SOURCE,
        "--target",
        " Rome",
        "--receivers",
        "a2.h0.q",
        "--freeze",
        "all",
        "--positions",
        "all",
    ]
    done = command(*line, "--out", "there.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
    assert result.array().axes[:2] == ("sender", "receiver")


def test_a_tracing_is_that_of_the_command_line(model, command, tmp_path):
    result = model.trace(BASE, subject="Spain", samples=3)
    files = result.write(tmp_path / "here.csv")
    result.picture().write(tmp_path / "here.svg")
    done = command("trace", BASE, "--subject", "Spain", "--samples", "3", "--out", "there.csv", "--arrays", "there.npz")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in files] == ["here.csv", "here.summary.csv"]
    for here, there in zip(files, ["there.csv", "there.summary.csv"], strict=True):
        assert here.read_bytes() == (tmp_path / there).read_bytes()
    with np.load(tmp_path / "there.npz") as there:
        assert np.array_equal(result.arrays["scores"], there["scores"])
    with pytest.raises(hl.PlanError, match="give --subject"):
        model.trace(BASE)


def test_the_cache_goes_by_every_name(model):
    logits, cache = model.run_with_cache([BASE, SOURCE])
    assert logits.shape == (2, 5, model.config.vocabulary) and len(cache) > 5 * 25
    for shape, names in {
        (2, 5, 128): ["blocks.3.hook_resid_post", ("resid_post", 3), ("resid_post", -2), "block_output.3", ("block_output", 3)],
        (2, 5, 4, 32): ["blocks.3.attn.hook_z", ("z", 3), "head_attention_value_output.3"],
        (2, 4, 5, 5): ["blocks.3.attn.hook_pattern", ("pattern", 3), "attention_weight.3"],
        (2, 5, 512): ["blocks.3.mlp.hook_post", ("post", 3), "mlp_activation.3"],
    }.items():  # fmt: skip
        first = cache[names[0]]
        assert first.shape == shape
        for name in names:
            assert np.array_equal(cache[name], first), name
    # TransformerLens's layout: each position's heads side by side are the row
    assert np.array_equal(cache["z", 0].reshape(2, 5, 128), cache["attention_value_output", 0])
    assert np.allclose(cache["pattern", 2].sum(-1), 1, atol=1e-6)
    assert np.array_equal(cache["resid_post", 4], cache["block_output.4"]) and "blocks.0.hook_resid_pre" in cache
    # what is returned is the caller's own
    cache["z", 0][:] = 0
    assert cache["z", 0].any()
    _, some = model.run_with_cache(BASE, names_filter=lambda name: name.endswith("hook_z"))
    assert list(some) == [f"blocks.{layer}.attn.hook_z" for layer in range(5)]
    with pytest.raises(hl.PlanError):
        cache["hook_zz", 1]


def test_logits_are_those_that_are_read(model):
    logits = model([BASE, SOURCE])
    p = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    top = model.topk(BASE, 3)
    assert [model.to_single_token(text) for text, _ in top] == np.argsort(-p[0])[:3].tolist()
    assert np.allclose([x for _, x in top], np.sort(p[0])[::-1][:3], rtol=1e-5)
    everywhere = model([BASE, SOURCE], positions="all")
    assert np.array_equal(everywhere[:, -1], logits)
    # a causal model's earlier positions are its shorter prompts' last
    short = model([model.to_tokens(BASE)[0, :3]])
    assert np.array_equal(everywhere[0, 2], short[0])
    test = model.test_prompt(BASE, " Rome", top_k=2)
    assert test.answer[0][3][0][0] == " Madrid" and test.answer[0][1] > 0 and "rank" in repr(test)
