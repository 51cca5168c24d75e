"""Heat maps by plotly: red to blue around what the base gives, in the grids of headlight's own pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _headlight
from ._arrays import from_bytes

__all__ = ["figure"]


def figure(answered: _headlight.Answered, metric: str | None, layout: dict[str, Any]) -> Any:
    """One panel for each target and component."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    wide, said, grids = answered.grids(metric)
    tall = -(-len(grids) // wide)
    titles = [title for title, *_ in grids]
    fig = make_subplots(rows=tall, cols=wide, subplot_titles=titles, shared_yaxes=True)
    drawn: list[NDArray[Any]] = []
    centred = True
    for number, (title, rows, groups, measured) in enumerate(grids):
        columns = _columns(groups)
        shape = (len(rows), len(columns))
        values = [from_bytes(data, "<f8", shape) for *_, data in measured]
        _, base, *_ = measured[0]
        # a cell that is as the base is has no colour
        drawn.append(values[0] if base is None else values[0] - base)
        centred = centred and base is not None
        panel = go.Heatmap(
            z=drawn[-1],
            x=columns,
            y=rows,
            customdata=values[0],
            hovertext=_told(rows, columns, measured, values),
            hovertemplate=f"%{{hovertext}}<extra>{title}</extra>",
            coloraxis="coloraxis",
        )
        fig.add_trace(panel, row=number // wide + 1, col=number % wide + 1)
    what = f"change of {said}" if centred and "change of" not in said else said
    fig.update_layout(coloraxis={**_colours(drawn, centred), "colorbar_title": what}, **layout)
    return fig


def _colours(drawn: list[NDArray[Any]], centred: bool) -> dict[str, Any]:
    """Both sides of zero as far as the further one goes; of values without a zero, all that there are."""
    some = np.concatenate([values[np.isfinite(values)] for values in drawn])
    low, high = (float(some.min()), float(some.max())) if some.size else (0.0, 0.0)
    if centred or low < 0 < high or low == high:
        spread = max(-low, high) or 1.0
        return {"colorscale": "RdBu", "cmin": -spread, "cmax": spread}
    return {"colorscale": "Viridis", "cmin": low, "cmax": high}


def _columns(groups: list[tuple[str, int | None, list[str]]]) -> list[str]:
    """What stands along a panel: tokens with their positions and heads, which plotly merges where two are one text."""
    names: list[str] = []
    for label, position, heads in groups:
        place = label if position is None or label == str(position) else f"{label} ({position})"
        inside = [f"h{head}" if head.isdigit() and place else head for head in heads]
        names += [" ".join(part for part in (place, one) if part) for one in inside]
    seen: dict[str, int] = {}
    for at, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[at] = f"{name} [{seen[name]}]"
    return names


def _told(rows: list[str], columns: list[str], measured: list[Any], values: list[NDArray[Any]]) -> NDArray[Any]:
    """All that is known of each cell."""
    told = np.empty((len(rows), len(columns)), dtype=object)
    for at in np.ndindex(told.shape):
        lines = [f"<b>{rows[at[0]]}</b> {columns[at[1]]}"]
        for (name, base, source, _), cells in zip(measured, values, strict=True):
            if np.isnan(cells[at]):
                continue
            line = f"{name} {cells[at]:.4g}"
            if base is not None:
                change = cells[at] - base
                # what averages leave is no change
                line += f" ({0.0 if abs(change) < 1e-12 else change:+.4g} from base {base:.4g})"
            if source is not None:
                line += f", source {source:.4g}"
            lines.append(line)
        told[at] = "<br>".join(lines if len(lines) > 1 else [*lines, "not run"])
    return told
