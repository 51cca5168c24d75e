"""Python's values as the words that the engine takes: prompts, answers, ranges."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ._arrays import as_list, to_numpy
from ._data import Data
from .errors import PlanError

# one prompt: text, or token ids as a list or a one-dimensional array
Prompt: TypeAlias = Any
# what a range may be: "all", "together", "0,4", "2-5", a number, a list, a range, a mask, names of positions
Range: TypeAlias = Any


def ids(what: str, value: Any) -> list[int]:
    """Token ids of one prompt."""
    found = as_list(value)
    if not isinstance(found, list):
        raise TypeError(f"the {what} prompt is text or token ids, not {type(value).__name__}")
    if len(found) == 1 and isinstance(found[0], list):
        # [1, positions], as tokenizers give it
        found = found[0]
    for token in found:
        if isinstance(token, bool) or not isinstance(token, int):
            raise TypeError(f"the {what} prompt has {token!r} among its token ids, which are whole numbers")
        if not 0 <= token < 2**32:
            raise PlanError(f"the {what} prompt has token id {token}: it takes token ids from 0 up, such as 464,3139")
    return found


def prompt(what: str, value: Prompt) -> str | list[int]:
    """One prompt."""
    if isinstance(value, str):
        return value
    return ids(what, value)


def is_batch(value: Any) -> bool:
    """Whether a value is several prompts."""
    if isinstance(value, str):
        return False
    shape = getattr(value, "shape", None)
    if shape is not None:
        return len(shape) == 2
    if not isinstance(value, Sequence) or not value:
        return False
    return isinstance(value[0], str) or not isinstance(as_list(value[0]), int)


def prompts(what: str, value: Any) -> list[str | list[int]]:
    """One prompt or several."""
    return [prompt(what, one) for one in value] if is_batch(value) else [prompt(what, value)]


def answers(what: str, value: Any) -> list[str | int]:
    """One answer or several: each a text, which is taken whole, or a token id."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    found = as_list(value)
    if isinstance(found, int) and not isinstance(found, bool):
        found = [found]
    if not isinstance(found, list):
        raise TypeError(f"{what} are texts or token ids, not {type(value).__name__}")
    for one in found:
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise TypeError(f"{what} are texts or token ids, not {one!r}")
        if isinstance(one, int) and not 0 <= one < 2**32:
            raise PlanError(f"{what} have token id {one}: it takes token ids from 0 up, such as 464,3139")
    return found


def _is_each(value: Any) -> bool:
    """Whether answers are given a pair at a time."""
    found = as_list(value) if value is not None and not isinstance(value, str) else None
    return isinstance(found, list) and bool(found) and isinstance(found[0], list)


def asked(
    base: Any,
    source: Any,
    *,
    targets: Any = None,
    wrong_targets: Any = None,
    data: Any = None,
    first_token: bool = False,
    joint: bool = False,
    bos: bool = False,
    direction: str = "denoise",
    skip_bad: bool = False,
    known: bool = False,
    at: int | str | None = None,
) -> dict[str, Any]:
    """Prompts with what is asked of them."""
    if direction not in ("denoise", "noise"):
        raise PlanError(f"unknown direction `{direction}`: use denoise or noise")
    word: dict[str, Any] = {
        "pairs": [],
        "data": None,
        "targets": [],
        "wrong": [],
        "first_token": first_token,
        "joint": joint,
        "bos": bos,
        "direction": direction,
        "skip_bad": skip_bad,
        "known": known,
        "at": None if at is None else str(at),
    }
    if data is not None:
        if base is not None or source is not None:
            raise PlanError("prompts and a data set were both given: give either base and source, or data")
        word["data"] = Data.of(data)._word()
    elif direction != "denoise" or skip_bad or known:
        raise PlanError("direction, skip_bad and known are for rows of a data set: give data too")
    if base is None and source is not None:
        raise PlanError("a source prompt without a base prompt: give --base too")
    each_targets, each_wrong = _is_each(targets), _is_each(wrong_targets)
    if base is not None:
        bases = prompts("base", base)
        sources: list[Any] = [None] * len(bases) if source is None else prompts("source", source)
        if len(sources) == 1:
            sources = sources * len(bases)
        if len(bases) == 1 and len(sources) > 1:
            bases = bases * len(sources)
        if len(sources) != len(bases):
            raise PlanError(f"there are {len(bases)} base prompts and {len(sources)} source prompts: give as many")
        word["pairs"] = [
            {"base": b, "source": s, "targets": [], "wrong": []} for b, s in zip(bases, sources, strict=True)
        ]
    for name, given, each, key in (
        ("targets", targets, each_targets, "targets"),
        ("wrong_targets", wrong_targets, each_wrong, "wrong"),
    ):
        if not each:
            word[key] = answers(name, given)
            continue
        if len(given) != len(word["pairs"]):
            raise PlanError(
                f"{name} are given for {len(given)} pairs, and there are {len(word['pairs'])}: give a list for each pair"
            )
        for pair, own in zip(word["pairs"], given, strict=True):
            pair[key] = answers(name, own)
    return word


def span(what: str, value: Range) -> str:
    """A range as it is typed."""
    if value is None:
        return "all"
    if isinstance(value, str):
        return value
    if isinstance(value, slice):
        if value.stop is None or value.stop < 0 or (value.start or 0) < 0:
            raise PlanError(f"--{what}: a slice needs an end, such as slice(2, 5)")
        value = range(value.start or 0, value.stop, value.step or 1)
    shape = getattr(value, "shape", None)
    if shape is not None:
        array = to_numpy(value)
        value = np.flatnonzero(array) if array.dtype == np.bool_ else array
    found = as_list(value)
    if not isinstance(found, list):
        found = [found]
    if found and all(isinstance(one, bool) for one in found):
        found = [at for at, one in enumerate(found) if one]
    if not found:
        raise PlanError(f"--{what}: nothing is named: leave it out, or name some")
    for one in found:
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise TypeError(f"{what} are numbers or names, not {one!r}")
    return ",".join(str(one) for one in found)


def numbers(what: str, value: Range) -> list[int]:
    """Whole numbers, from 0."""
    text = value if isinstance(value, str) else span(what, value)
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise PlanError(f"--{what}: `{text}` is not a range: write all, 3, 0,4 or 2-5")
        found += range(int(low), int(high if dash else low) + 1)
    return found


def names(value: str | Sequence[str] | None) -> list[str]:
    """Names: one, several with commas between them, or a list."""
    if value is None:
        return []
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    return [str(name) for name in value]


def path(value: str | os.PathLike[str]) -> str:
    """A file's name."""
    return os.fspath(value)


def shown(call: str, arguments: Mapping[str, Any]) -> str:
    """A call as provenance keeps it: what was not left out."""
    said = (f"{name}={_short(value)}" for name, value in arguments.items() if value is not None)
    return f"{call}({', '.join(said)})"


def _short(value: Any) -> str:
    if hasattr(value, "shape"):
        value = as_list(value)
    text = repr(value)
    return text if len(text) <= 200 else text[:199] + "…"
