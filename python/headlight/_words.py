"""Python's values as the words that the engine takes: prompts, answers, ranges."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ._arrays import as_list, to_numpy
from ._data import Data
from .errors import PlanError

# one prompt: text, or token ids as a list or a one-dimensional array
Prompt: TypeAlias = Any
# what a range may be: "all", "together", "0,4", "2-5", a number, a list, a range, a mask, names of positions
Range: TypeAlias = Any


def whole(what: str, value: Any, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number."""
    try:
        if isinstance(value, bool):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {_short(value)}") from None
    if not least <= found <= most:
        takes = f"{least} or more" if found < least else f"at most {most}"
        raise PlanError(f"{what} is {found}: it takes {takes}")
    return found


def number(what: str, value: Any) -> float:
    """A number."""
    if not isinstance(value, str | bytes | bool):
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            pass
    raise TypeError(f"{what} is a number, not {_short(value)}")


def text(what: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a text, not {_short(value)}")
    return value


def truth(what: str, value: Any) -> bool:
    """A truth value."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{what} is True or False, not {_short(value)}")
    return bool(value)


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
    prepend_bos: bool = False,
    direction: str = "denoise",
    skip_bad: bool = False,
    known: bool = False,
    at: int | str | None = None,
    call: str = "",
    **unknown: Any,
) -> dict[str, Any]:
    """Prompts with what is asked of them by a method, which has no other arguments."""
    if unknown:
        raise TypeError(f"{call}() got an unexpected keyword argument {min(unknown)!r}")
    if at is not None and not isinstance(at, str):
        at = whole("at", at, least=-(2**31))
    if direction not in ("denoise", "noise"):
        raise PlanError(f"unknown direction `{direction}`: use denoise or noise")
    word: dict[str, Any] = {
        "pairs": [],
        "data": None,
        "targets": [],
        "wrong": [],
        "first_token": truth("first_token", first_token),
        "joint": truth("joint", joint),
        "bos": truth("prepend_bos", prepend_bos),
        "direction": direction,
        "skip_bad": truth("skip_bad", skip_bad),
        "known": truth("known", known),
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


def names(what: str, value: str | Iterable[str] | None) -> list[str]:
    """Names: one, several with commas between them, or a list."""
    if value is None:
        return []
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise TypeError(f"{what} are names, not {_short(value)}")
    found = list(value)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"{what} are names, not {_short(name)}")
    return found


def some_names(what: str, value: str | Iterable[str] | None) -> list[str]:
    """Names, of which there are some unless nothing is said."""
    found = names(what, value)
    if value is not None and not found:
        raise PlanError(f"{what} names nothing: leave it out, or name some")
    return found


def metric(what: str, value: Any) -> str | None:
    """A metric's name, if there is one: a text, or something of ``headlight.metrics``."""
    return None if value is None else metrics(what, [value])[0]


def metrics(what: str, value: Any) -> list[str]:
    """The names of metrics, likewise."""
    listed = value if isinstance(value, list | tuple) else [value]
    found = []
    for one in listed:
        name = getattr(one, "metric", None)
        if callable(one) and (not isinstance(name, str) or not isinstance(one, type)):
            said = getattr(one, "__name__", type(one).__name__)
            raise TypeError(
                f"{what} are names, such as 'logit_diff': {said} is a function of logits, which headlight.patching takes"
            )
        found += names(what, [name] if isinstance(name, str) else one if isinstance(one, str) else [one])
    return found


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
