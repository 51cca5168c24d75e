"""Patches and operators, as programs write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _words
from ._arrays import as_list, to_numpy
from ._names import Component
from .errors import PlanError

__all__ = ["Op", "Patch"]

_MADE: dict[str, Any] = {
    "label": "array",
    "values": [],
    "rows": 1,
    "prompts": [],
    "level": 0.0,
    "seed": 0,
    "sample": 0,
    "call": None,
    "reads_source": False,
}


@dataclass(frozen=True)
class Op:
    """What a patch does to the value b that stands at its site, given the source's value s.

    Made by its class methods; wherever an operator is expected, the command line's spelling will do as well,
    such as ``"zero"`` or ``"scale=0.5"``.

    Examples:
        >>> hl.Op.scale(0.5), hl.Op.zero()
        (scale=0.5, zero)
    """

    label: str
    _text: str | None = None
    _keys: dict[str, Any] | None = None
    _made: dict[str, Any] | None = None

    @classmethod
    def interchange(cls) -> Op:
        """s: the default.

        Examples:
            >>> model.sweep(BASE, SOURCE, heads=0, op=hl.Op.interchange()).n_runs
            50
        """
        return cls("interchange", "interchange", {"op": "interchange"})

    @classmethod
    def zero(cls) -> Op:
        """0.

        Examples:
            >>> model.sweep(BASE, components="mlp_output", op=hl.Op.zero()).n_runs
            25
        """
        return cls("zero", "zero", {"op": "zero"})

    @classmethod
    def skip(cls) -> Op:
        """What the site's module reads in the source: the module is skipped.

        Examples:
            >>> model.sweep(BASE, SOURCE, components="mlp_output", op=hl.Op.skip()).n_runs
            25
        """
        return cls("skip", "skip", {"op": "skip"})

    @classmethod
    def collect(cls) -> Op:
        """b stays as it is, and is found in ``Result.collected``.

        Examples:
            >>> collect = hl.Patch("mlp_output", 1, positions=3, op=hl.Op.collect())
            >>> list(model.patch(BASE, collect).collected)
            [(0, 0, 0)]
        """
        return cls("collect", "collect", {"op": "collect"})

    @classmethod
    def knockout(cls) -> Op:
        """Of scores, −∞: the query does not see the key, and the softmax is of the others.

        Examples:
            >>> model.sweep(BASE, positions="end", keys="Spain", op=hl.Op.knockout())["op"][0]
            'knockout'
        """
        return cls("knockout", "knockout", {"op": "knockout"})

    @classmethod
    def set(cls, value: Any, *, label: str = "array") -> Op:
        """A constant: one row of the site (of one head, where it has heads), or one row a position, as an array or
        ``"F.safetensors#tensor"``; or a number, which then stands everywhere.

        Examples:
            >>> import numpy as np
            >>> model.sweep(BASE, heads=0, op=hl.Op.set(np.zeros(32), label="nothing"))["op"][0]
            'set=nothing'
        """
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            text = f"set={float(value)!r}"
            return cls(text, text, {"op": "set", "value": repr(float(value))})
        return cls._constant("set", value, label)

    @classmethod
    def add(cls, value: Any = None, *, label: str = "array") -> Op:
        """b + s, or b plus a constant.

        Examples:
            >>> hl.Op.add(), hl.Op.add("directions.safetensors#happy")
            (add, add=directions.safetensors#happy)
        """
        return cls("add", "add", {"op": "add"}) if value is None else cls._constant("add", value, label)

    @classmethod
    def subtract(cls, value: Any = None, *, label: str = "array") -> Op:
        """b − s, or b minus a constant.

        Examples:
            >>> hl.Op.subtract()
            subtract
        """
        if value is None:
            return cls("subtract", "subtract", {"op": "subtract"})
        return cls._constant("subtract", value, label)

    @classmethod
    def mean(cls, prompts: Sequence[Any], *, by_position: bool = False, label: str = "prompts") -> Op:
        """The mean of the site's activation over all positions of these prompts, or, position by position, over those
        that are as long as the one that is patched.

        Examples:
            >>> hl.Op.mean([BASE, SOURCE], label="capitals")
            mean=capitals
        """
        kind = "mean-by-position" if by_position else "mean"
        nothing = hasattr(prompts, "__len__") and len(prompts) == 0
        words = [] if nothing else _words.prompts("mean's", prompts)
        return cls(f"{kind}={label}", None, {"op": "zero"}, {**_MADE, "kind": kind, "label": label, "prompts": words})

    @classmethod
    def scale(cls, factor: float) -> Op:
        """factor · b.

        Examples:
            >>> hl.Op.scale(2)
            scale=2
        """
        number = _words.number("a factor", factor)
        return cls(f"scale={factor!r}", f"scale={number!r}", {"op": "scale", "alpha": number})

    @classmethod
    def interpolate(cls, alpha: float) -> Op:
        """b + α(s − b).

        Examples:
            >>> hl.Op.interpolate(0.5)
            interpolate=0.5
        """
        number = _words.number("alpha", alpha)
        text = f"interpolate={number!r}"
        return cls(text, text, {"op": "interpolate", "alpha": number})

    @classmethod
    def noise(cls, level: float, seed: int = 0, sample: int = 0) -> Op:
        """b plus normal noise of this standard deviation, which follows from the seed, the pair, the site, the
        position, the column and the sample alone.

        Examples:
            >>> hl.Op.noise(0.1, seed=3)
            noise=0.1
        """
        how = {
            "level": _words.number("a level", level),
            "seed": _words.whole("seed", seed, most=2**64 - 1),
            "sample": _words.whole("sample", sample, most=2**32 - 1),
        }
        made, keys = {**_MADE, "kind": "noise", **how}, {"op": "noise", **how}
        return cls(f"noise={level!r}", None, keys, made)

    @classmethod
    def function(cls, f: Callable[..., Any], *, reads_source: bool = True, label: str | None = None) -> Op:
        """Whatever f makes of b and s, each a float64 array of one row (of one head, where the site has heads): as
        many numbers. It is called once a row, in no order, with the interpreter held: a slow path. With
        ``reads_source=False`` it is called with b alone, and no source is needed.

        Examples:
            >>> half = hl.Op.function(lambda b, s: (b + s) / 2, label="half way")
            >>> model.sweep(BASE, SOURCE, heads=0, layers=0, op=half)["op"][0]
            'function=half way'
        """
        if not callable(f):
            raise TypeError(f"an operator's function is called with rows, and {f!r} cannot be")
        name = label or getattr(f, "__name__", "function")
        made = {**_MADE, "kind": "function", "label": name, "call": f, "reads_source": reads_source}
        return cls(f"function={name}", None, {"op": "interchange" if reads_source else "zero"}, made)

    @classmethod
    def _constant(cls, kind: str, value: Any, label: str) -> Op:
        if isinstance(value, str):
            return cls(f"{kind}={value}", f"{kind}={value}", {"op": kind, "value": value})
        try:
            if value is None or isinstance(value, bytes):
                raise TypeError
            array = np.atleast_1d(to_numpy(value).astype(np.float64))
        except (TypeError, ValueError):
            raise TypeError(f"the constant of `{kind}` is numbers, or F.safetensors#tensor, not {value!r}") from None
        if array.ndim > 2:
            raise PlanError(f"the constant of `{kind}` has {array.ndim} axes: give one row, or a row a position")
        if not np.isfinite(array).all():
            raise PlanError(f"the constant of `{kind}` has numbers that are not finite")
        made = {
            **_MADE,
            "kind": kind,
            "label": label,
            "values": array.ravel().tolist(),
            "rows": array.shape[0] if array.ndim == 2 else 1,
        }
        return cls(f"{kind}={label}", None, {"op": "zero"}, made)

    def _sweep(self) -> str | dict[str, Any]:
        return self._made if self._made is not None else (self._text or self.label)

    def __str__(self) -> str:
        return self.label

    __repr__ = __str__


def sweep_op(op: str | Op) -> str | dict[str, Any]:
    """An operator as a sweep takes it."""
    return op if isinstance(op, str) else _made(op)._sweep()


def _made(op: Any) -> Op:
    if not isinstance(op, Op):
        raise TypeError(f"an operator is an Op, or a text such as 'zero', not {op!r}")
    return op


def _keys_of(op: str | Op) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """An operator as an experiment spells it, and what no experiment can hold."""
    if not isinstance(op, str):
        op = _made(op)
        kept = op._made if op._made is not None and op._made["kind"] != "noise" else None
        return dict(op._keys or {}), kept
    name, given, value = op.partition("=")
    if not given:
        return {"op": name}, None
    if name in ("scale", "interpolate", "noise"):
        try:
            number = float(value)
        except ValueError:
            raise PlanError(f"`{name}` needs a finite number after `=`, not `{value}`") from None
        return {"op": name, "level" if name == "noise" else "alpha": number}, None
    return {"op": name, "value": value}, None


@dataclass(frozen=True)
class Patch:
    """One operator over lists of heads and positions of one site; lists mean one patch over all of them.

    Args:
        component: A component, by its name or TransformerLens's hook; with its layer it may stand by itself, as in
            ``"head_value_output.3"`` or ``"blocks.3.attn.hook_v"``.
        layer: From 0; None for components outside the layers, and where the component's text has it.
        heads: From 0; all of them unless given, where the component has heads.
        positions: Numbers (negative ones from the end), ``"end"``, or words of the prompt; all unless given.
        keys: Of scores and pattern, the keys to touch: numbers, ``"end"``, or words of the prompt.
        columns: Columns of the row, or coordinates of the basis.
        basis: ``"F.safetensors#name"`` of the basis in which the operator acts.
        error_term: Whether the row keeps what the basis does not hold of it.
        op: What is done.
        source: Whose clean activations are read: ``"source"``, ``"base"`` (a freeze), or a further prompt's name.
        source_run: The earlier run that is read instead, by its name.
        source_layer: The layer that is read.
        source_heads: The heads that are read, one for each of ``heads``.
        source_positions: The positions that are read, one for each of ``positions``.

    Examples:
        >>> Patch("head_value_output", 0, heads=0, positions="Spain").layer
        0
    """

    component: Component | str
    layer: int | None = None
    heads: Any = None
    positions: Any = None
    keys: Any = None
    columns: Any = None
    basis: str | None = None
    error_term: bool = True
    op: str | Op = "interchange"
    source: str = "source"
    source_run: str | None = None
    source_layer: int | None = None
    source_heads: Any = None
    source_positions: Any = None

    def _is_named(self) -> bool:
        """Whether positions go by names that are also looked up in the source."""
        reads = not isinstance(self.op, Op) or self.op._made is None or self.op._made["reads_source"]
        elsewhere = self.source != "source" or self.source_run is not None or self.source_positions is not None
        return (
            reads
            and not elsewhere
            and self.positions is not None
            and any(isinstance(p, str) for p in places(self.positions))
        )

    def _word(self, heads: int, length: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """As an experiment spells it, for a model of so many heads and a base of so many tokens; and an operator
        that no experiment can hold."""
        from ._names import has_heads

        # whatever else is given, a component that nobody knows is said
        headed = has_heads(_words.text("component", self.component))
        word: dict[str, Any] = {"component": self.component}
        if self.layer is not None:
            word["layer"] = _words.whole("layer", self.layer)
        if self.heads is not None:
            word["heads"] = _words.numbers("heads", self.heads)
        elif headed:
            word["heads"] = list(range(heads))
        word["positions"] = places(self.positions) if self.positions is not None else list(range(length))
        if self.keys is not None:
            word["keys"] = places(self.keys)
        if self.source_heads is not None:
            word["source_heads"] = _words.numbers("source_heads", self.source_heads)
        if self.columns is not None:
            word["columns"] = self.columns if isinstance(self.columns, str) else _words.numbers("columns", self.columns)
        if self.source_positions is not None:
            word["source_positions"] = places(self.source_positions)
        for name in ("basis", "source_run"):
            if getattr(self, name) is not None:
                word[name] = _words.text(name, getattr(self, name))
        if self.source_layer is not None:
            word["source_layer"] = _words.whole("source_layer", self.source_layer)
        if not _words.truth("error_term", self.error_term):
            word["error_term"] = False
        if self.source != "source":
            word["source"] = _words.text("source", self.source)
        keys, made = _keys_of(self.op)
        word.update(keys)
        return word, made


def places(value: Any) -> list[int | str]:
    """Positions as an experiment spells them: numbers and names."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, slice) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return [*_words.numbers("positions", value)]
    found = as_list(value)
    listed: list[int | str] = found if isinstance(found, list) else [found]
    for one in listed:
        if isinstance(one, bool) or not isinstance(one, int | str):
            raise TypeError(f"positions are numbers or names, not {one!r}")
    return listed
