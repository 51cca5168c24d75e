"""Heat maps by plotly: red to blue around the base, a row a layer, tokens along the other axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import NamedArray
from .errors import PlanError

if TYPE_CHECKING:
    from ._result import Result

__all__ = ["figure"]


def figure(result: Result, metric: str | None, layout: dict[str, Any]) -> Any:
    """One panel for each target and component."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    name = metric or result.metric
    targets = list(dict.fromkeys(result["target"].tolist()))
    components = list(dict.fromkeys(result["component"].tolist()))
    panels: list[tuple[str, list[str], list[str], Any]] = []
    for component in components:
        for target in targets:
            values = result._laid_out(name, target, component)
            for axis in ("pair", "sample"):
                if axis in values.axes:
                    at = values.axes.index(axis)
                    rest = [other for other in values.axes if other != axis]
                    values = NamedArray(np.nanmean(np.asarray(values), axis=at), rest, values.labels)
            if "layer" not in values.axes:
                raise PlanError("a plot has a row for each layer, and these rows have none: use to_pandas")
            along: list[str] = [axis for axis in ("position", "head") if axis in values.axes]
            turned = values.transpose([values.axes.index(axis) for axis in ("layer", *along)])
            layers = [str(layer) for layer in turned.labels["layer"]]
            columns = _columns(result, turned.labels, along)
            panels.append((f"{component} · {target}", layers, columns, np.asarray(turned).reshape(len(layers), -1)))
    wide = len(targets)
    tall = len(components)
    titles = [title for title, *_ in panels]
    fig = make_subplots(rows=tall, cols=wide, subplot_titles=titles, shared_yaxes=True)
    changes = [values - _base(result, name, targets[number % wide]) for number, (*_, values) in enumerate(panels)]
    spread = max(float(np.nanmax(np.abs(change))) for change in changes) or 1.0
    for number, ((title, layers, columns, values), change) in enumerate(zip(panels, changes, strict=True)):
        drawn = go.Heatmap(
            z=change,
            x=columns,
            y=layers,
            customdata=values,
            coloraxis="coloraxis",
            hovertemplate=f"layer %{{y}}<br>%{{x}}<br>{name} %{{customdata:.4g}} (%{{z:+.4g}})<extra>{title}</extra>",
        )
        fig.add_trace(drawn, row=number // wide + 1, col=number % wide + 1)
    fig.update_yaxes(title_text="layer", col=1)
    said = f"change of {name}" if name in ("prob", "logprob") else name
    colours = {"colorscale": "RdBu", "cmin": -spread, "cmax": spread, "colorbar_title": said}
    fig.update_layout(coloraxis=colours, **layout)
    return fig


def _columns(result: Result, labels: dict[str, list[Any]], along: list[str]) -> list[str]:
    """What stands along a panel: tokens with their positions, which do not merge where a token comes twice."""
    if "position" not in along:
        return [str(head) for head in labels.get("head", [""])]
    pairs = result.provenance["pairs"]
    tokens = pairs[0]["base_tokens"] if len(pairs) == 1 else []
    names = [f"{tokens[p]!r} ({p})" if p < len(tokens) else str(p) for p in labels["position"]]
    if "head" not in along:
        return names
    return [f"{name} h{head}" for name in names for head in labels["head"]]


def _base(result: Result, name: str, target: str) -> float:
    """What a cell of no effect holds, where that is known; of a recovery that is 0."""
    base = result["base_prob"][result["target"] == target]
    if name == "prob":
        return float(np.mean(base))
    return float(np.mean(np.log(base))) if name == "logprob" else 0.0
