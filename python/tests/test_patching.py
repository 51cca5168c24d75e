"""`headlight.patching` against what TransformerLens's own functions gave (tests/fixtures/make_transformer_lens.py)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import BASE, FIXTURES, SOURCE

import headlight as hl
from headlight import metrics, patching


def cases():
    for name in ("tied", "odd_untied"):
        text = (FIXTURES / name / "transformer_lens.json").read_text()
        for number, case in enumerate(json.loads(text)["cases"]):
            yield pytest.param(name, case, id=f"{name}-{number}")


def answers(case):
    return [[right, *wrong] for right, wrong in zip(case["target_ids"], case["wrong_target_ids"], strict=True)]


def logit_diff_of(tokens):
    """As a notebook writes it."""

    def logit_diff(logits):
        each = [row[right] - row[wrong].mean() for row, (right, *wrong) in zip(logits[:, -1, :], tokens, strict=True)]
        return sum(each) / len(each)

    return logit_diff


@pytest.mark.parametrize(("name", "case"), list(cases()))
def test_all_eighteen_are_transformer_lenss(name, case):
    model = hl.Model(FIXTURES / name, device="cpu")
    corrupted, clean = np.array(case["base_ids"]), np.array(case["source_ids"])
    tokens = answers(case)
    _, cache = model.run_with_cache(clean)
    seen = set()
    for wanted in case["arrays"]:
        if wanted["metric"] != "logit_diff":
            continue
        seen.add(wanted["function"])
        expected = np.array(wanted["values"]).reshape(wanted["shape"])
        function = getattr(patching, wanted["function"])
        called = function(model, corrupted, cache, logit_diff_of(tokens))
        known = function(model, corrupted, cache, metrics.logit_diff(tokens))
        for found in (called, known):
            assert found.shape == expected.shape and len(found.axes) == found.ndim
            worst = np.abs(np.asarray(found) - expected).max()
            assert worst < 1e-5, (wanted["function"], worst)
    assert len(seen) == 18
    for recovery in (w for w in case["arrays"] if w["metric"] == "recovery_logit_diff"):
        base, source = case["clean"]["logit_diff"]
        scaled = metrics.logit_diff(tokens, clean=source, corrupted=base)
        found = getattr(patching, recovery["function"])(model, corrupted, clean, scaled)
        if len(corrupted) == 1:  # of several, the mean of ratios is not the ratio of means
            expected = np.array(recovery["values"]).reshape(recovery["shape"])
            assert np.abs(np.asarray(found) - expected).max() < 1e-5


def test_there_are_twenty():
    names = [name for name in vars(patching) if name.startswith("get_act_patch_")]
    assert len(names) == 18 + 2 and all(getattr(patching, name).__doc__ for name in names)
    assert all(getattr(patching, name).__name__ == name for name in names)


def test_several_metrics_prompts_apart_and_the_baseline(model):
    corrupted = model.to_tokens([BASE, "The capital of France is"])
    clean = model.to_tokens([SOURCE, BASE])
    rome, madrid = map(model.to_single_token, (" Rome", " Madrid"))
    both = {"rome": lambda logits: logits[:, -1, rome], "madrid": lambda logits: logits[:, -1, madrid]}
    apart = patching.get_act_patch_attn_head_v_all_pos(model, corrupted, clean, both, reduce="none", baseline=True)
    assert apart.values.shape == (2, 5, 4, 2) and apart.baseline.shape == (2, 2)
    assert apart.axis_names == ("layer", "head") and apart.metric_names == ("rome", "madrid") and not apart.reduced
    together = patching.get_act_patch_attn_head_v_all_pos(model, corrupted, clean, both["rome"])
    assert np.allclose(apart["rome"].mean(-1), together, atol=1e-6)
    assert np.array_equal(apart.baseline, model(corrupted)[:, [rome, madrid]].T)
    every = patching.get_act_patch_block_every(model, corrupted, clean, both["rome"], baseline=True)
    assert every.patch_type_names == ("resid_pre", "attn_out", "mlp_out") and every.values.shape == (3, 5, 5)
    frame = apart.to_dataframe() if pytest.importorskip("pandas") else None
    assert len(frame) == 5 * 4 * 2 and list(frame.columns) == ["layer", "head", "batch", "rome", "madrid"]


def test_another_position_needs_all_of_them(model):
    corrupted, clean = model.to_tokens(BASE), model.to_tokens(SOURCE)

    def third(logits):
        return logits[:, 2, 7].mean()

    with pytest.raises(IndexError, match="pass full_logits=True"):
        patching.get_act_patch_resid_pre(model, corrupted, clean, third)
    found = patching.get_act_patch_resid_pre(model, corrupted, clean, third, full_logits=True)
    base = model(corrupted, positions="all")[0, 2, 7]
    # the prompts differ at position 3 only, which position 2 does not see
    assert np.array_equal(np.asarray(found), np.full((5, 5), base))


def test_what_cannot_be_patched_is_refused(model):
    corrupted = model.to_tokens(BASE)
    with pytest.raises(hl.PlanError, match="one number for the whole batch"):
        patching.get_act_patch_resid_pre(model, corrupted, corrupted, lambda logits: logits[0, -1, :3])
    with pytest.raises(hl.PlanError, match="there are 1"):
        patching.get_act_patch_resid_pre(model, corrupted, corrupted, metrics.logit_diff([[1, 2], [3, 4]]))
    with pytest.raises(hl.PlanError, match="one length"):
        patching.get_act_patch_resid_pre(model, [[1, 2], [1, 2, 3]], [[1, 2], [1, 2, 3]], lambda logits: 0.0)

    class ActivationCache:
        cache_dict = None

    with pytest.raises(hl.PlanError, match="does not say which tokens"):
        patching.get_act_patch_resid_pre(model, corrupted, ActivationCache(), lambda logits: 0.0)


def test_however_many_logits_are_held_at_a_time(model, monkeypatch):
    corrupted, clean = model.to_tokens([BASE, "The capital of France is"]), model.to_tokens([SOURCE, BASE])

    def metric(logits):
        return logits[:, -1, :50].sum()

    whole = patching.get_act_patch_attn_head_by_pos_every(model, corrupted, clean, metric)
    monkeypatch.setattr(patching, "_HELD", 7 * 4 * 2 * model.config.vocabulary)
    assert np.array_equal(patching.get_act_patch_attn_head_by_pos_every(model, corrupted, clean, metric), whole)


def direct_paths(model, *more, **others):
    tokens = [model.to_tokens(text) for text in (BASE, SOURCE)]
    return patching.get_act_patch_direct_path(model, *tokens, None, *more, **others)


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_a_direct_path_is_an_edge(model, component):
    rome, madrid = (model.to_single_token(text) for text in (" Rome", " Madrid"))
    asked = {"targets": " Rome", "wrong_targets": " Madrid", "metrics": "logit_diff"}
    edges = model.edges(BASE, SOURCE, senders="a0.h0,a2.h3", receivers=component, **asked).array("logit_diff")
    for layer, head in ((0, 0), (2, 3)):
        found = direct_paths(model, lambda l: l[0, -1, rome] - l[0, -1, madrid], layer, head, component)  # noqa: E741
        assert found.axes == ("layer", "head") and found.shape == (5, 4)
        sender = edges.labels["sender"].index(f"a{layer}.h{head}")
        for (later, reader), value in np.ndenumerate(found):
            if later <= layer:
                assert value == 0
                continue
            receiver = edges.labels["receiver"].index(f"a{later}.h{reader}<{component}>")
            assert abs(value - np.asarray(edges)[sender, receiver]) < 1e-4
        known = direct_paths(model, metrics.logit_diff([[rome, madrid]]), layer, head, component)
        assert np.allclose(known, found, atol=1e-5)


def test_direct_paths_of_batches_and_from_everywhere(model):
    metric = metrics.logit_diff([[model.to_single_token(" Rome"), model.to_single_token(" Madrid")]] * 2)
    corrupted, clean = model.to_tokens([BASE, BASE]), model.to_tokens([SOURCE, "The capital of France is"])
    _, caches = model.run_with_cache(clean), model.run_with_cache(corrupted)
    one = patching.get_act_patch_direct_path(model, corrupted, clean, caches[1], metric, 0, 0, "v")
    apart = [
        patching.get_act_patch_direct_path(
            model,
            corrupted[at : at + 1],
            clean[at : at + 1],
            None,
            metrics.logit_diff(metric.answer_tokens[:1]),
            0,
            0,
            "v",
        )
        for at in range(2)
    ]
    assert np.allclose(one, np.mean([np.asarray(a) for a in apart], axis=0), atol=1e-4)
    every = patching.get_act_patch_direct_path_all_sources(model, corrupted, clean, None, metric, "v")
    assert every.axes == ("source_layer", "source_head", "layer", "head") and np.array_equal(every[0, 0], one)
    assert not np.asarray(every)[4].any() and np.asarray(every)[3, 0, 4].any()


def test_direct_paths_that_cannot_be(model):
    def metric(logits):
        return 0.0

    for given, kind, said in (
        ((metric, 9, 0), hl.PlanError, "src_layer is 9: it takes at most 4"),
        ((metric, 0, -1), hl.PlanError, "src_head is -1: it takes 0 or more"),
        ((metric, 0, 0, "z"), hl.PlanError, "unknown component 'z': use q, k or v"),
        ((3, 0, 0), TypeError, "a patching_metric is a function of logits, not 3"),
    ):
        with pytest.raises(kind) as caught:
            direct_paths(model, *given)
        assert str(caught.value) == said
    with pytest.raises(hl.PlanError, match="corrupted_cache is of other prompts"):
        tokens = [model.to_tokens(text) for text in (BASE, SOURCE)]
        patching.get_act_patch_direct_path(model, *tokens, tokens[1], metric, 0, 0)
