"""pyvene's live configurations as patches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._arrays import as_list
from ._patch import Patch
from .errors import PlanError

__all__ = ["from_pyvene"]

# interventions that are operators, by the names of their classes
_OPERATORS = {
    "VanillaIntervention": "interchange",
    "ZeroIntervention": "zero",
    "AdditionIntervention": "add",
    "SubtractionIntervention": "subtract",
    "CollectIntervention": "collect",
    "SkipIntervention": "skip",
}

_UNITS = ("pos", "h", "h.pos")


def from_pyvene(config: Any, unit_locations: Mapping[str, Any], *, example: int = 0) -> list[Patch]:
    """The patches of one run that a pyvene configuration describes: what ``pv_model(base, sources, unit_locations)``
    does to the base, for ``Model.patch`` with the same prompts.

    Args:
        config: An ``IntervenableConfig``, an ``IntervenableModel``, or a list of representations (dictionaries will
            do). The n-th group reads the n-th source: the first is ``source``, others are named ``source_1`` and so
            on, and are given as ``prompts``.
        unit_locations: As pyvene takes them: ``{"sources->base": 4}``, ``{"sources->base": (3, 4)}``, or
            ``(source, base)`` with ``[intervention][example][unit]``, for ``h.pos`` ``[intervention][2][example][unit]``,
            heads first; ``{"base": …}`` where nothing is read.
        example: Which example of the batch.

    Returns:
        Patches in the order in which they act.

    Raises:
        PlanError: What has trained parameters (save it, and use ``headlight import pyvene``), serial mode, and what
            pyvene would take silently for something else.

    Examples:
        >>> at = {"sources->base": ([[[[0]], [[3]]]], [[[[0]], [[3]]]])}
        >>> from_pyvene([{"layer": 0, "component": "head_value_output", "unit": "h.pos"}], at)[0].heads
        [0]
    """
    config = getattr(config, "config", config)
    representations = getattr(config, "representations", config)
    if isinstance(representations, Mapping):
        representations = [representations]
    if getattr(config, "mode", "parallel") != "parallel":
        raise PlanError("the configuration is serial: save it, and use `headlight import pyvene`")
    if not isinstance(representations, Iterable) or isinstance(representations, str | bytes):
        raise TypeError(f"a configuration is pyvene's, or a list of representations, not {config!r}")
    representations = list(representations)
    kinds = _kinds(config, representations)
    source_at, base_at, reads = _locations(unit_locations)
    patches: list[Patch] = []
    groups: dict[Any, int] = {}
    for number, representation in enumerate(representations):
        get = (
            representation.get
            if isinstance(representation, Mapping)
            else lambda k, r=representation: getattr(r, k, None)
        )
        component, unit = str(get("component")), get("unit") or "pos"
        if unit not in _UNITS:
            raise PlanError(f"representation {number} has the unit {unit!r}: use {', '.join(_UNITS)}")
        for name in ("low_rank_dimension", "source_representation", "hidden_source_representation"):
            if get(name) is not None:
                raise PlanError(f"representation {number} has a {name}: save it, and use `headlight import pyvene`")
        heads, positions = _one(base_at, number, unit, example, "base")
        from_heads, from_positions = _one(source_at, number, unit, example, "source") if reads else (heads, positions)
        key = get("group_key")
        source = groups.setdefault(number if key is None else ("group", key), len(groups))
        op = _OPERATORS[kinds[number]]
        patches.append(
            Patch(
                component,
                get("layer"),
                heads=heads,
                positions=positions,
                op=op,
                source="source" if source == 0 or not reads else f"source_{source}",
                source_heads=None if from_heads == heads else from_heads,
                source_positions=None if from_positions == positions else from_positions,
            )
        )
    return patches


def _kinds(config: Any, representations: Sequence[Any]) -> list[str]:
    """The intervention's class of each representation."""
    common = getattr(config, "intervention_types", None)
    found = []
    for number, representation in enumerate(representations):
        get = (
            representation.get
            if isinstance(representation, Mapping)
            else lambda k, r=representation: getattr(r, k, None)
        )
        own = get("intervention_type") or get("intervention")
        if own is None:
            own = common[number] if isinstance(common, list | tuple) else common
        name = "VanillaIntervention" if own is None else getattr(own, "__name__", type(own).__name__)
        if name not in _OPERATORS:
            raise PlanError(
                f"representation {number} is a {name}, which has parameters of its own or is unknown here: save it, and use "
                "`headlight import pyvene`"
            )
        found.append(name)
    return found


def _locations(given: Mapping[str, Any]) -> tuple[Any, Any, bool]:
    if set(given) == {"base"}:
        return None, given["base"], False
    if set(given) != {"sources->base"}:
        raise PlanError(
            f"unit_locations has {sorted(given)}: it takes 'sources->base', or 'base' where nothing is read"
        )
    value = given["sources->base"]
    if isinstance(value, tuple) and len(value) == 2:
        source, base = value
        return source, base, source is not None
    if isinstance(value, int):
        return value, value, True
    raise PlanError(
        "unit_locations['sources->base'] is a position, or a pair (source, base): a flat list means source → base in pyvene"
    )


def _one(value: Any, number: int, unit: str, example: int, what: str) -> tuple[list[int] | None, list[int] | None]:
    """Heads and positions of one representation in one example."""
    if isinstance(value, int):
        if unit != "pos":
            raise PlanError(
                f"the {what} locations of representation {number} are one number, and its unit is {unit!r}: give all"
            )
        return None, [value]
    found = as_list(value)

    def at(index: int, of: Any, name: str) -> Any:
        if not isinstance(of, list) or index >= len(of):
            raise PlanError(f"the {what} locations have no {name} {index}: they are [intervention][example][unit]")
        return of[index]

    own = at(number, found, "intervention")
    if own is None:
        raise PlanError(
            f"the {what} locations of representation {number} are left out: in pyvene that patches the whole tensor"
        )
    if unit == "h.pos":
        heads, positions = at(0, own, "list of heads"), at(1, own, "list of positions")
        return at(example, heads, "example"), at(example, positions, "example")
    units = at(example, own, "example")
    return (units, None) if unit == "h" else (None, units)
