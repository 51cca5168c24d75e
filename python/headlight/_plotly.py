"""Heat maps by plotly: red to blue around the base, a row a layer, tokens along the other axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ._result import Result

__all__ = ["figure"]


def figure(result: Result, metric: str | None, layout: dict[str, Any]) -> Any:
    """One panel for each target and component."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    name = metric or result.metric
    values = result._laid_out(name, None)
    axes = list(values.axes)
    if "layer" not in axes:
        raise ValueError("a plot has a row for each layer, and these rows have none: use to_pandas")
    along: list[str] = [axis for axis in ("position", "head") if axis in axes]
    panels = [axis for axis in axes if axis not in ("layer", *along)]
    values = values.transpose([axes.index(axis) for axis in (*panels, "layer", *along)])
    shape = values.shape[: len(panels)]
    columns = _columns(result, values.labels, along)
    where = list(np.ndindex(*shape))
    titles = [" · ".join(str(values.labels[a][i]) for a, i in zip(panels, at, strict=True)) for at in where]
    wide = min(len(where), shape[-1] if shape else 1)
    tall = -(-len(where) // wide)
    fig = make_subplots(rows=tall, cols=wide, subplot_titles=titles, shared_yaxes=True)
    middle = _middle(result, name)
    spread = float(np.nanmax(np.abs(np.asarray(values) - middle))) or 1.0
    for number, at in enumerate(where):
        flat = np.asarray(values)[at].reshape(len(values.labels["layer"]), -1)
        map_ = go.Heatmap(
            z=flat,
            x=columns,
            y=[str(layer) for layer in values.labels["layer"]],
            coloraxis="coloraxis",
            hovertemplate="layer %{y}<br>%{x}<br>" + name + " %{z:.4g}<extra>" + titles[number] + "</extra>",
        )
        fig.add_trace(map_, row=number // wide + 1, col=number % wide + 1)
    fig.update_yaxes(title_text="layer", col=1)
    axis = {"colorscale": "RdBu", "cmin": middle - spread, "cmax": middle + spread, "colorbar_title": name}
    fig.update_layout(coloraxis=axis, **layout)
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


def _middle(result: Result, name: str) -> float:
    """What a cell of no effect holds."""
    if name == "prob":
        return float(np.mean(result["base_prob"]))
    if name == "logprob":
        return float(np.mean(np.log(result["base_prob"])))
    return 0.0
