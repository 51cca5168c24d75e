"""Arrays with named axes: labels follow what is done, or are gone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from conftest import BASE, SOURCE

import headlight as hl
from headlight import metrics, patching

AXES = ("layer", "head", "position")


@pytest.fixture
def array():
    labels = {"layer": [0, 1, 2], "head": [0, 1, 2], "position": ["a", "b", "c"]}
    return hl.NamedArray(np.arange(27.0).reshape(3, 3, 3), AXES, labels)


def true(found, array):
    """Whether every label is that of the numbers that stand under it."""
    places = [[array.labels[axis].index(one) for one in found.labels[axis]] for axis in array.axes]
    order = [found.axes.index(axis) for axis in array.axes]
    return np.array_equal(np.asarray(found).transpose(order), np.asarray(array)[np.ix_(*places)])


FOLLOW = {
    "whole": lambda a: a[:],
    "ellipsis": lambda a: a[...],
    "reversed": lambda a: a[::-1],
    "reversed inside": lambda a: a[:, ::-1],
    "the last reversed": lambda a: a[..., ::-1],
    "some": lambda a: a[1:, :2, ::2],
    "flipped": lambda a: np.flip(a, 2),
    "both ways": lambda a: a[::-1].T[:, ::-1],
    "transposed": lambda a: np.transpose(a, [2, 0, 1]),
    "by an array of axes": lambda a: np.transpose(a, np.array([1, 0, 2])),
    "by NumPy's numbers": lambda a: a.transpose(*np.array([1, 2, 0])),
    "from the end": lambda a: a.transpose(-1, 0, 1),
    "by None": lambda a: a.transpose(None),
    "moved": lambda a: np.moveaxis(a, 0, -1),
    "exchanged": lambda a: np.swapaxes(a, 0, -1),
    "copied": lambda a: copy.deepcopy(a.copy()),
    "of other numbers": lambda a: a.astype(np.float32),
    "computed": lambda a: np.sqrt(a * a) + 0 * a,
    "changed in place": lambda a: np.multiply(a, 1, out=a.copy()),
}


@pytest.mark.parametrize("name", FOLLOW)
def test_labels_follow(array, name):
    found = FOLLOW[name](array)
    assert isinstance(found, hl.NamedArray) and sorted(found.axes) == sorted(AXES) and set(found.labels) == set(AXES)
    assert true(found, array)


def added(a):
    a += a[:, ::-1]
    return a


def in_place(a):
    a.sort()
    return a


def reshaped(a):
    a.shape = (9, 3)
    return a


GONE = {
    "picked": lambda a: a[[2, 0, 1]],
    "picked by a mask": lambda a: a[np.array([True, True, True])],
    "one of an axis": lambda a: a[0],
    "a new axis": lambda a: a[None],
    "sorted": lambda a: np.sort(-a),
    "sorted in place": in_place,
    "partitioned": lambda a: np.partition(a, 1),
    "a product of matrices": lambda a: a @ a,
    "the same as a function": lambda a: np.matmul(a, a),
    "dot": lambda a: np.dot(a, a),
    "taken": lambda a: a.take([1, 0, 2], axis=0),
    "rolled": lambda a: np.roll(a, 1, axis=0),
    "a sum": lambda a: a.sum(0),
    "reshaped": lambda a: a.reshape(3, 3, 3),
    "reshaped in place": reshaped,
    "flat": lambda a: a.ravel(),
    "joined": lambda a: np.concatenate([a, a])[:3],
}


@pytest.mark.parametrize("name", GONE)
def test_labels_are_gone(array, name):
    found = GONE[name](array.copy())
    assert (getattr(found, "axes", ()), getattr(found, "labels", {})) == ((), {})


def test_only_what_all_agree_on_is_kept(array):
    turned = array[:, ::-1]
    found = array + turned
    assert found.axes == AXES and set(found.labels) == {"layer", "position"}
    assert np.array_equal(found, np.asarray(array) + np.asarray(turned))
    assert added(array.copy()).labels == found.labels
    assert (array + array.T).axes == () and (array + np.ones((3, 3, 3))).axes == AXES
    assert (array[:, :1] + array).axes == AXES


ASKED = {"targets": " Rome", "wrong_targets": " Madrid"}


@pytest.mark.parametrize("name", patching._AXES)
def test_a_presets_axes_are_the_same_whatever_the_metric(model, name):
    result = model.sweep(BASE, SOURCE, preset=name, metrics=["logit_diff", "prob"], **ASKED)
    named = result.array("logit_diff")
    assert named.shape == result.array("prob").shape
    # a column that is no metric, and one target of several
    for found in (result.array("logprob"), result.array("base_prob"), result.array("prob", target=" Rome")):
        assert (found.axes, found.shape, found.labels) == (named.axes, named.shape, named.labels)
    there = ~np.isnan(result.array("logprob"))
    assert np.array_equal(result.array("prob", target=" Rome")[there], result.array("prob")[there])
    assert np.allclose(np.log(result.array("prob")[there]), result.array("logprob")[there])
    # a function of logits and the engine's own
    right, wrong = (model.to_single_token(text) for text in (" Rome", " Madrid"))
    tokens = [model.to_tokens(text) for text in (BASE, SOURCE)]
    patch = getattr(patching, f"get_act_patch_{name}")
    function, own = (
        patch(model, *tokens, metric)
        for metric in (lambda logits: logits[0, -1, right] - logits[0, -1, wrong], metrics.logit_diff([[right, wrong]]))
    )
    assert (function.axes, function.shape) == (own.axes, own.shape) and np.allclose(function, own, atol=1e-4)
    assert np.allclose(np.asarray(own)[there], np.asarray(named)[there], atol=1e-4)


def test_one_component_of_a_preset_is_an_array_without_that_axis(model):
    result = model.sweep(BASE, SOURCE, preset="attn_head_by_pos_every", metrics="logit_diff", **ASKED)
    whole, one = result.array(), result.array(component="head_value_output")
    assert (whole.axes, one.axes) == (("component", "layer", "position", "head"), ("layer", "position", "head"))
    assert np.array_equal(one, whole[whole.labels["component"].index("head_value_output")])


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.edges(BASE, SOURCE, receivers="logits", targets=" Rome", per_position=True),
        lambda m: m.edges(BASE, SOURCE, receivers="heads", targets=" Rome"),
        lambda m: m.path(BASE, SOURCE, targets=" Rome", positions="all"),
        lambda m: m.path(BASE, SOURCE, targets=" Rome", positions=["Spain", "end"]),
        lambda m: m.path(BASE, SOURCE, targets=" Rome", receivers="a3.h1.q,a4.h0.v", apart=True),
        lambda m: m.lens(BASE, targets=" Rome", positions=["Spain", "end"]),
        lambda m: m.direct_logit_attribution(BASE, targets=" Rome"),
        lambda m: m.attribute(BASE, SOURCE, targets=" Rome"),
    ],
)
def test_a_column_along_axes_of_a_questions_own(model, ask):
    result = ask(model)
    whole, one = result.array(), result.array(target=" Rome")
    assert (one.axes, one.labels) == (whole.axes, whole.labels)
    assert np.array_equal(one, whole, equal_nan=True)
    assert result.array("base_prob").axes == whole.axes


def test_a_tracings_array_is_what_was_restored(model):
    result = model.trace(BASE, subject="Spain", samples=2, targets=" Madrid")
    whole = result.array()
    assert whole.axes == ("component", "layer", "position", "sample") and whole.shape == (3, 5, 5, 2)
    assert not np.isnan(whole).any()
    # ROME's own are means over samples, [component, position, layer]
    assert np.allclose(np.asarray(whole).mean(-1).transpose(0, 2, 1), result.arrays["scores"])
    assert whole.labels["component"] == ["block_output", "mlp_output", "attention_output"]
