"""The indirect-object task's prompts (Wang et al. 2022), of which every name, place and thing is one token of GPT-2's."""

from __future__ import annotations

import random
from typing import Any

from . import _words
from .errors import PlanError

__all__ = ["rows"]

_NAMES = (
    "Mary John Tom James Dan Sean Amy Scott Adam Kate Jack Alex Sam Paul David Anna Sarah Laura Peter Simon Michael "
    "Robert Lisa Emily Kevin Jason Mark Eric Andrew Steven"
).split()

_PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "house", "station")

_THINGS = ("ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack")

# the first two names of each are in either order
_TEMPLATES = (
    "Then, {0} and {1} went to the {place}. {2} gave a {thing} to",
    "When {0} and {1} went to the {place}, {2} gave a {thing} to",
    "After {0} and {1} went to the {place}, {2} gave a {thing} to",
    "Then, {0} and {1} had a long argument at the {place}. {2} gave a {thing} to",
    "While {0} and {1} were working at the {place}, {2} gave a {thing} to",
    "Friends {0} and {1} found a {thing} at the {place}. {2} gave it to",
)


def rows(n: int, seed: int, corruption: str) -> list[dict[str, Any]]:
    """So many rows of a data set."""
    if corruption not in ("swap", "abc"):
        raise PlanError(f"unknown corruption `{corruption}`: use swap or abc")
    chosen = random.Random(_words.whole("seed", seed))
    return [_row(chosen, at % 2 == 0, corruption) for at in range(_words.whole("n", n, least=1, most=1_000_000))]


def _row(chosen: random.Random, subject_first: bool, corruption: str) -> dict[str, Any]:
    subject, other, *third = chosen.sample(_NAMES, 5)
    told = {"place": chosen.choice(_PLACES), "thing": chosen.choice(_THINGS)}
    template = chosen.choice(_TEMPLATES)
    both = (subject, other) if subject_first else (other, subject)
    clean = (*both, subject)
    corrupted = (*both, other) if corruption == "swap" else tuple(third)
    s1, io = (0, 1) if subject_first else (1, 0)
    return {
        "clean": template.format(*clean, **told),
        "corrupted": template.format(*corrupted, **told),
        "answer": f" {other}",
        "wrong_answer": f" {subject}",
        # of the prompt that is patched, and of the one that is read
        "spans": _spans(corrupted, s1, io),
        "source_spans": _spans(clean, s1, io),
    }


def _spans(names: tuple[str, ...], s1: int, io: int) -> dict[str, Any]:
    """Where the three names stand: by the word, and, where it comes twice, by which of the two."""

    def span(at: int) -> Any:
        before = names[:at].count(names[at])
        return {"words": names[at], "nth": before} if names.count(names[at]) > 1 else names[at]

    return {"s1": span(s1), "io": span(io), "s2": span(2)}
