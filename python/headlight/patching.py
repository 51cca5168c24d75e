"""TransformerLens's ``get_act_patch_*``: the same names, arguments, axes and values.

``from headlight import patching`` is the line that changes in a notebook. A metric is any function of logits, called
once a cell with ``[batch, position, vocabulary]`` of which, unless ``full_logits=True``, only the last position
is there (index −1 works); or ``headlight.metrics.LogitDiff``, which the engine computes itself, without handing
logits out.

Where tokens are torch's, so are logits and results.

Weights are raw here: TransformerLens's processed ones (``fold_ln``, ``center_writing_weights``,
``fold_value_biases``) give the same interchanges up to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from . import _headlight, _progress, _words
from ._arrays import NamedArray, as_list, from_bytes, to_numpy, to_torch
from ._cache import Cache
from ._model import HELD as _HELD
from ._model import Model
from .errors import PlanError
from .metrics import LogitDiff

__all__ = [
    "Patching",
    "PatchingResult",
    "get_act_patch_attn_head_all_pos_every",
    "get_act_patch_attn_head_by_pos_every",
    "get_act_patch_attn_head_k_all_pos",
    "get_act_patch_attn_head_k_by_pos",
    "get_act_patch_attn_head_out_all_pos",
    "get_act_patch_attn_head_out_by_pos",
    "get_act_patch_attn_head_pattern_all_pos",
    "get_act_patch_attn_head_pattern_by_pos",
    "get_act_patch_attn_head_pattern_dest_src_pos",
    "get_act_patch_attn_head_q_all_pos",
    "get_act_patch_attn_head_q_by_pos",
    "get_act_patch_attn_head_v_all_pos",
    "get_act_patch_attn_head_v_by_pos",
    "get_act_patch_attn_out",
    "get_act_patch_block_every",
    "get_act_patch_direct_path",
    "get_act_patch_direct_path_all_sources",
    "get_act_patch_mlp_out",
    "get_act_patch_resid_mid",
    "get_act_patch_resid_pre",
]

_AXES: dict[str, tuple[str, ...]] = {
    "resid_pre": ("layer", "pos"),
    "resid_mid": ("layer", "pos"),
    "attn_out": ("layer", "pos"),
    "mlp_out": ("layer", "pos"),
    "attn_head_out_by_pos": ("layer", "pos", "head"),
    "attn_head_q_by_pos": ("layer", "pos", "head"),
    "attn_head_k_by_pos": ("layer", "pos", "head"),
    "attn_head_v_by_pos": ("layer", "pos", "head"),
    "attn_head_pattern_by_pos": ("layer", "head", "dest_pos"),
    "attn_head_pattern_dest_src_pos": ("layer", "head", "dest_pos", "src_pos"),
    "attn_head_out_all_pos": ("layer", "head"),
    "attn_head_q_all_pos": ("layer", "head"),
    "attn_head_k_all_pos": ("layer", "head"),
    "attn_head_v_all_pos": ("layer", "head"),
    "attn_head_pattern_all_pos": ("layer", "head"),
    "attn_head_all_pos_every": ("patch_type", "layer", "head"),
    "attn_head_by_pos_every": ("patch_type", "layer", "pos", "head"),
    "block_every": ("patch_type", "layer", "pos"),
}

_KINDS = {
    "attn_head_all_pos_every": ("out", "q", "k", "v", "pattern"),
    "attn_head_by_pos_every": ("out", "q", "k", "v", "pattern"),
    "block_every": ("resid_pre", "attn_out", "mlp_out"),
}


@dataclass
class PatchingResult:
    """What ``reduce="none"``, ``baseline=True`` or several metrics return.

    Attributes:
        values: ``[metric?, *axes, batch?]``.
        axis_names: Of the axes between.
        metric_names: The metrics, in order.
        reduced: Whether prompts were averaged.
        baseline: The metrics of the corrupted prompts themselves, ``[metric?, batch?]``.
        has_metric_axis: Whether there is a first axis of metrics.
        patch_type_names: What stands along ``patch_type``.

    Examples:
        >>> tokens = [model.to_tokens(text) for text in (BASE, SOURCE)]
        >>> found = get_act_patch_resid_pre(model, *tokens, lambda logits: logits[0, -1, 0], baseline=True)
        >>> found.values.shape, found.axis_names
        ((5, 5), ('layer', 'pos'))
    """

    values: Any
    axis_names: tuple[str, ...]
    metric_names: tuple[str, ...]
    reduced: bool
    baseline: Any = None
    has_metric_axis: bool = False
    patch_type_names: tuple[str, ...] = field(default=())

    def __getitem__(self, metric: str) -> Any:
        """One metric's values.

        Examples:
            >>> tokens = [model.to_tokens(text) for text in (BASE, SOURCE)]
            >>> several = {"first": lambda logits: logits[0, -1, 0], "second": lambda logits: logits[0, -1, 1]}
            >>> get_act_patch_resid_pre(model, *tokens, several)["second"].shape
            (5, 5)
        """
        if metric not in self.metric_names:
            raise KeyError(f"there is no metric {metric!r}: there are {', '.join(self.metric_names)}")
        return self.values[self.metric_names.index(metric)] if self.has_metric_axis else self.values

    def to_dataframe(self) -> Any:
        """One row a cell (and prompt), a column a metric.

        Examples:
            >>> tokens = [model.to_tokens(text) for text in (BASE, SOURCE)]
            >>> found = get_act_patch_resid_pre(model, *tokens, {"first": lambda logits: logits[0, -1, 0]})
            >>> list(found.to_dataframe().columns)
            ['layer', 'pos', 'first']
        """
        import pandas as pd

        arrays = [np.asarray(self[name]) for name in self.metric_names]
        axes = [*self.axis_names, *(() if self.reduced else ("batch",))]
        at = np.indices(arrays[0].shape).reshape(len(axes), -1)
        frame = dict(zip(axes, at, strict=True))
        return pd.DataFrame({**frame, **{n: a.ravel() for n, a in zip(self.metric_names, arrays, strict=True)}})


class Patching(Protocol):
    """A function of this module.

    Examples:
        >>> tokens = [model.to_tokens(text) for text in (BASE, SOURCE)]
        >>> metric = hl.metrics.logit_diff([[model.to_single_token(" Rome"), model.to_single_token(" Madrid")]])
        >>> get_act_patch_attn_head_v_all_pos(model, *tokens, metric).shape
        (5, 4)
    """

    def __call__(
        self,
        model: Model,
        corrupted_tokens: Any,
        clean_cache: Any,
        patching_metric: Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]],
        *,
        reduce: str = "scalar",
        baseline: bool = False,
        full_logits: bool = False,
    ) -> Any:
        """The metric of every patch.

        Args:
            model: A headlight model.
            corrupted_tokens: ``[batch, position]``: the prompts that are patched.
            clean_cache: What activations are taken from: headlight's ``run_with_cache`` of the clean prompts, or their tokens.
            patching_metric: A function of logits, or several by name.
            reduce: ``"none"`` keeps prompts apart.
            baseline: Also return the metric of the corrupted prompts themselves.
            full_logits: Hand the metric every position, instead of the last.
        """
        ...


def _clean(clean_cache: Any) -> Any:
    """The clean prompts' tokens."""
    if isinstance(clean_cache, Cache):
        return clean_cache.prompts
    if hasattr(clean_cache, "cache_dict"):
        raise PlanError(
            "a TransformerLens ActivationCache does not say which tokens it is of, and its model may have been processed: "
            "give model.run_with_cache(clean_tokens)[1] of headlight's, or the clean tokens"
        )
    return clean_cache


def _numbers(metric: Callable[[Any], Any], logits: Any, each: bool, batch: int) -> Any:
    """A metric of one cell: a number, or one for each prompt."""
    try:
        found = metric(logits)
    except IndexError as error:
        raise IndexError(
            f"{error}: the metric reads another position than the last, and only the last is there; pass full_logits=True"
        ) from error
    if found is None:
        raise TypeError("the metric gives None, and should give a number: has it a return?")
    try:
        array = np.asarray(to_numpy(found), dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"the metric gives {found!r}, and should give a number") from None
    if each:
        if array.shape != (batch,):
            raise PlanError(
                f'reduce="none" needs a metric of one number a prompt, [{batch}], and this one gives {list(array.shape)}'
            )
        return array
    if array.size != 1 and array.shape != (batch,):
        raise PlanError(f"a metric gives one number for the whole batch, and this one gives {list(array.shape)}")
    return array.mean()


def _patch(
    name: str,
    model: Model,
    corrupted_tokens: Any,
    clean_cache: Any,
    patching_metric: Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]],
    reduce: str,
    baseline: bool,
    full_logits: bool,
) -> Any:
    if reduce not in ("scalar", "mean", "none"):
        raise PlanError(f"unknown reduce {reduce!r}: use scalar, mean or none")
    if not isinstance(model, Model):
        raise TypeError(
            f"the model is one of headlight's, not {type(model).__name__}: headlight.Model.from_hf makes one"
        )
    several = isinstance(patching_metric, Mapping)
    metrics = dict(patching_metric) if isinstance(patching_metric, Mapping) else {"metric": patching_metric}
    for metric in metrics.values():
        if not callable(metric):
            raise TypeError(f"a patching_metric is a function of logits, or several by name, not {metric!r}")
    if not metrics:
        raise PlanError("no metric is given: give a function of logits, or several by name")
    clean = _clean(clean_cache)
    torch = model._torch(corrupted_tokens)
    corrupted, source = _batch("corrupted_tokens", corrupted_tokens), _batch("clean tokens", clean)
    each = reduce == "none"
    if len(metrics) == 1 and not each and isinstance(next(iter(metrics.values())), LogitDiff):
        (metric,) = metrics.values()
        assert isinstance(metric, LogitDiff)
        values, own = _known(name, model, corrupted, source, metric)
        found, base = {next(iter(metrics)): values}, {next(iter(metrics)): own}
    else:
        found, base = _computed(name, model, corrupted, source, metrics, each, full_logits, torch)
    axes, kinds = _AXES[name], _KINDS.get(name, ())
    names = tuple(metrics)
    stacked = np.stack([found[n] for n in names]) if several else found[names[0]]
    values = stacked.astype(np.float32)
    if not (several or each or baseline):
        return to_torch(values) if torch else NamedArray(values, axes)
    own = np.stack([np.asarray(base[n]) for n in names]) if several else np.asarray(base[names[0]])
    return PatchingResult(
        values=to_torch(values) if torch else values,
        axis_names=axes,
        metric_names=names,
        reduced=not each,
        baseline=(to_torch(np.atleast_1d(own.astype(np.float32))) if torch else own) if baseline else None,
        has_metric_axis=several,
        patch_type_names=kinds,
    )


def _batch(what: str, tokens: Any) -> list[list[int]]:
    found = as_list(tokens)
    if not isinstance(found, list) or any(isinstance(one, str) for one in found):
        raise TypeError(
            f"{what} are token ids [batch, position], not {type(tokens).__name__}: model.to_tokens makes them"
        )
    if found and not isinstance(found[0], list):
        found = [found]
    return [_words.ids("batch's", row) for row in found]


def _known(
    name: str, model: Model, corrupted: list[list[int]], clean: list[list[int]], metric: LogitDiff
) -> tuple[Any, Any]:
    """A metric that the engine computes itself."""
    answers = metric.answer_tokens
    if len(answers) != len(corrupted):
        raise PlanError(f"the metric has answers for {len(answers)} prompts, and there are {len(corrupted)}")
    result = model.sweep(
        corrupted,
        clean,
        preset=name,
        targets=[[right] for right, *_ in answers],
        wrong_targets=[wrong for _, *wrong in answers],
        metrics="logit_diff",
    )
    own = metric.scaled(float(np.mean(result._arrays["logit_diff_base"])))
    values = metric.scaled(np.array(result._array("logit_diff")))
    # TransformerLens runs what cannot be patched, too
    return np.where(np.isnan(values), own, values), own


def _computed(
    name: str,
    model: Model,
    corrupted: list[list[int]],
    clean: list[list[int]],
    metrics: Mapping[str, Callable[[Any], Any]],
    each: bool,
    full: bool,
    torch: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics that are functions of logits."""
    model._ready()
    cells = model._opened.cells(model._sweep_word(corrupted, clean, preset=name))
    return _of_cells(model, cells, metrics, each, full, torch, len(corrupted), len(corrupted[0]), True)


def _of_cells(
    model: Model,
    cells: _headlight.Cells,
    metrics: Mapping[str, Callable[[Any], Any]],
    each: bool,
    full: bool,
    torch: bool,
    batch: int,
    length: int,
    watched: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of each cell's logits, and of the corrupted prompts'."""
    length = length if full else 1
    one = [batch, length, model.config.vocabulary]
    size = 4 * int(np.prod(one))
    if len(cells) * size > 1 << 30:
        warnings.warn(
            "the metric is a function, so the logits of every cell are handed out: headlight.metrics.logit_diff is computed without",
            stacklevel=5,
        )

    def values(logits: Any) -> dict[str, Any]:
        given = to_torch(logits) if torch else logits
        return {n: _numbers(metric, given, each, batch) for n, metric in metrics.items()}

    base = values(from_bytes(cells.base(full), "<f4", one))
    shape = [*cells.shape, batch] if each else list(cells.shape)
    # what cannot be patched, such as keys behind a query, is as it was
    found = {n: np.broadcast_to(base[n], shape).copy() for n in metrics}
    places = cells.places
    step = max(1, _HELD // size)
    with _progress.counted(None if watched else False, "runs", len(cells) * batch) as done:
        for first in range(0, len(cells), step):
            count = min(step, len(cells) - first)
            model._ready()
            chunk = from_bytes(cells.logits(first, count, full), "<f4", [count, *one])
            for at, logits in enumerate(chunk, first):
                for n, value in values(logits).items():
                    found[n][tuple(places[at])] = value
                done((at + 1) * batch)
    return found, base


def _sent(
    model: Model, corrupted_tokens: Any, clean_cache: Any, corrupted_cache: Any, patching_metric: Any, component: str
) -> tuple[list[list[int]], list[list[int]]]:
    """The prompts of a direct path, once all else is right."""
    if not isinstance(model, Model):
        raise TypeError(
            f"the model is one of headlight's, not {type(model).__name__}: headlight.Model.from_hf makes one"
        )
    if not callable(patching_metric):
        raise TypeError(f"a patching_metric is a function of logits, not {patching_metric!r}")
    if component not in ("q", "k", "v"):
        raise PlanError(f"unknown component {component!r}: use q, k or v")
    corrupted, clean = _batch("corrupted_tokens", corrupted_tokens), _batch("clean tokens", _clean(clean_cache))
    if corrupted_cache is not None and _batch("corrupted tokens", _clean(corrupted_cache)) != corrupted:
        raise PlanError("corrupted_cache is of other prompts than corrupted_tokens: leave it out, or give theirs")
    return corrupted, clean


def get_act_patch_direct_path(
    model: Model,
    corrupted_tokens: Any,
    clean_cache: Any,
    corrupted_cache: Any,
    patching_metric: Callable[[Any], Any],
    src_layer: int,
    src_head: int,
    component: Literal["q", "k", "v"] = "q",
    verbose: bool = True,
) -> Any:
    """TransformerLens's ``get_act_patch_direct_path``: what one head tells each later head alone, an array ``[layer, head]`` of
    the metric over the whole batch. What the source head writes in the clean prompt rather than in the corrupted one is
    added, at every position, to what a later head reads as its query's, key's or value's input.

    Args:
        model: A headlight model.
        corrupted_tokens: ``[batch, position]``: the prompts that are patched.
        clean_cache: headlight's ``run_with_cache`` of the clean prompts, or their tokens.
        corrupted_cache: The same of the corrupted ones; None will do.
        patching_metric: A function of logits, of which only the last position is there.
        src_layer: The layer of the head that sends.
        src_head: Its number.
        component: Which input: ``"q"``, ``"k"`` or ``"v"``.
        verbose: A bar where somebody watches and it takes more than two seconds.

    Returns:
        0 in the rows up to ``src_layer``, which nothing can be sent to.

    Examples:
        >>> import headlight as hl
        >>> model = hl.Model("demo")
        >>> corrupted, clean = model.to_tokens("The capital of Spain is"), model.to_tokens("The capital of Italy is")
        >>> rome, madrid = model.to_single_token(" Rome"), model.to_single_token(" Madrid")
        >>> metric = hl.metrics.logit_diff([[rome, madrid]])
        >>> get_act_patch_direct_path(model, corrupted, clean, None, metric, 0, 0, "v").shape
        (5, 4)
    """
    corrupted, clean = _sent(model, corrupted_tokens, clean_cache, corrupted_cache, patching_metric, component)
    layer = _words.whole("src_layer", src_layer, most=model.config.layers - 1)
    head = _words.whole("src_head", src_head, most=model.config.heads - 1)
    torch = model._torch(corrupted_tokens)
    found = np.zeros((model.config.layers, model.config.heads))
    metrics = {"metric": patching_metric}
    model._ready()
    word = _words.asked(corrupted, clean)
    cells = model._opened.direct_paths(word, (layer, head), f"attention_{_INPUTS[component]}_input")
    if len(cells):
        sent, _ = _of_cells(model, cells, metrics, False, False, torch, len(corrupted), len(corrupted[0]), verbose)
        found[layer + 1 :] = sent["metric"][layer + 1 :]
    values = found.astype(np.float32)
    return to_torch(values) if torch else NamedArray(values, ("layer", "head"))


_INPUTS = {"q": "query", "k": "key", "v": "value"}


def get_act_patch_direct_path_all_sources(
    model: Model,
    corrupted_tokens: Any,
    clean_cache: Any,
    corrupted_cache: Any,
    patching_metric: Callable[[Any], Any],
    component: Literal["q", "k", "v"] = "q",
    verbose: bool = True,
) -> Any:
    """TransformerLens's ``get_act_patch_direct_path_all_sources``: the same from every head, an array ``[source layer, source
    head, layer, head]``, 0 where nothing can be sent.

    Args:
        model: A headlight model.
        corrupted_tokens: ``[batch, position]``: the prompts that are patched.
        clean_cache: headlight's ``run_with_cache`` of the clean prompts, or their tokens.
        corrupted_cache: The same of the corrupted ones; None will do.
        patching_metric: A function of logits, of which only the last position is there.
        component: Which input: ``"q"``, ``"k"`` or ``"v"``.
        verbose: A bar where somebody watches and it takes more than two seconds.

    Examples:
        >>> import headlight as hl
        >>> model = hl.Model("demo")
        >>> corrupted, clean = model.to_tokens("The capital of Spain is"), model.to_tokens("The capital of Italy is")
        >>> metric = hl.metrics.logit_diff([[model.to_single_token(" Rome"), model.to_single_token(" Madrid")]])
        >>> get_act_patch_direct_path_all_sources(model, corrupted, clean, None, metric, "v").shape
        (5, 4, 5, 4)
    """
    _sent(model, corrupted_tokens, clean_cache, corrupted_cache, patching_metric, component)
    layers, heads = model.config.layers, model.config.heads
    found = np.zeros((layers, heads, layers, heads), dtype=np.float32)
    with _progress.counted(None if verbose else False, "heads", layers * heads) as done:
        for at, (layer, head) in enumerate(np.ndindex(layers, heads), 1):
            one = get_act_patch_direct_path(
                model, corrupted_tokens, clean_cache, None, patching_metric, layer, head, component, False
            )
            found[layer, head] = to_numpy(one)
            done(at)
    axes = ("source_layer", "source_head", "layer", "head")
    return to_torch(found) if model._torch(corrupted_tokens) else NamedArray(found, axes)


def _made(name: str) -> Patching:
    axes = ", ".join(_AXES[name])
    kinds = f"\n\nAlong ``patch_type``: {', '.join(_KINDS[name])}." if name in _KINDS else ""

    def patch(
        model: Model,
        corrupted_tokens: Any,
        clean_cache: Any,
        patching_metric: Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]],
        *,
        reduce: str = "scalar",
        baseline: bool = False,
        full_logits: bool = False,
    ) -> Any:
        return _patch(name, model, corrupted_tokens, clean_cache, patching_metric, reduce, baseline, full_logits)

    patch.__name__ = patch.__qualname__ = f"get_act_patch_{name}"
    patch.__doc__ = f"""TransformerLens's ``get_act_patch_{name}``: an array ``[{axes}]`` of the metric over the whole batch.{kinds}

Args:
    model: A headlight model.
    corrupted_tokens: ``[batch, position]``: the prompts that are patched.
    clean_cache: What activations are taken from: headlight's ``run_with_cache`` of the clean prompts, or their tokens.
    patching_metric: A function of logits, or several by name.
    reduce: ``"none"`` keeps prompts apart.
    baseline: Also return the metric of the corrupted prompts themselves.
    full_logits: Hand the metric every position, instead of the last.

Examples:
    >>> tokens = [model.to_tokens(text) for text in (BASE, SOURCE)]
    >>> metric = hl.metrics.logit_diff([[model.to_single_token(" Rome"), model.to_single_token(" Madrid")]])
    >>> get_act_patch_{name}(model, *tokens, metric).axes
    {_AXES[name]}"""
    return patch


get_act_patch_resid_pre = _made("resid_pre")
get_act_patch_resid_mid = _made("resid_mid")
get_act_patch_attn_out = _made("attn_out")
get_act_patch_mlp_out = _made("mlp_out")
get_act_patch_attn_head_out_by_pos = _made("attn_head_out_by_pos")
get_act_patch_attn_head_q_by_pos = _made("attn_head_q_by_pos")
get_act_patch_attn_head_k_by_pos = _made("attn_head_k_by_pos")
get_act_patch_attn_head_v_by_pos = _made("attn_head_v_by_pos")
get_act_patch_attn_head_pattern_by_pos = _made("attn_head_pattern_by_pos")
get_act_patch_attn_head_pattern_dest_src_pos = _made("attn_head_pattern_dest_src_pos")
get_act_patch_attn_head_out_all_pos = _made("attn_head_out_all_pos")
get_act_patch_attn_head_q_all_pos = _made("attn_head_q_all_pos")
get_act_patch_attn_head_k_all_pos = _made("attn_head_k_all_pos")
get_act_patch_attn_head_v_all_pos = _made("attn_head_v_all_pos")
get_act_patch_attn_head_pattern_all_pos = _made("attn_head_pattern_all_pos")
get_act_patch_attn_head_all_pos_every = _made("attn_head_all_pos_every")
get_act_patch_attn_head_by_pos_every = _made("attn_head_by_pos_every")
get_act_patch_block_every = _made("block_every")
