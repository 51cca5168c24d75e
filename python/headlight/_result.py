"""Results: a table, arrays with named axes, a picture, and how they were made."""

from __future__ import annotations

import html
import json
import os
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _headlight, _words
from ._arrays import NamedArray, from_bytes, to_torch
from ._files import Files, beside
from ._table import Table
from .errors import FileError, PlanError

__all__ = ["Page", "Picture", "Result"]

# along which axes a table is laid out where the question has none of its own
_AXES = ("pair", "target", "component", "layer", "head", "position", "sample")
# the same of means, which have no pair and whose pairs' targets may differ
_AXES_OF_MEANS = ("target_index", "component", "layer", "head", "position", "sample")


class Picture:
    """A heat map: SVG in notebooks, PNG where that is all there is.

    Examples:
        >>> model.sweep(targets=" Rome").picture("logit")._repr_svg_()[:4]
        '<svg'
    """

    def __init__(self, answered: _headlight.Answered, value: str | None, read: Files) -> None:
        self._answered, self._value, self._read = answered, value, read

    def _repr_svg_(self) -> str:
        return self._answered.picture(self._value, False).decode()

    def _repr_png_(self) -> bytes:
        return self._answered.picture(self._value, True)

    def _repr_html_(self) -> str:
        return _inline(self._repr_svg_())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes it, as SVG, PNG or PDF by the file's ending.

        Examples:
            >>> model.sweep(targets=" Rome").picture("logit").write("map.svg")
        """
        self._read.check(("--plot", path))
        self._answered.plot(_words.path(path), self._value)


class Page:
    """A result as a page, one HTML file that needs no network: switches, every value under the pointer, the strongest
    cells, downloads. In a notebook it stands in a frame of its own.

    Examples:
        >>> page = model.sweep(targets=" Rome").page()
        >>> page._repr_html_()[:7]
        '<iframe'
    """

    def __init__(self, make: Callable[[], str], read: Files, write: Callable[[str], None] | None = None) -> None:
        self._make, self._read, self._write = make, read, write

    @cached_property
    def html(self) -> str:
        """The file's text.

        Examples:
            >>> "</html>" in model.sweep(targets=" Rome").page().html
            True
        """
        return self._make()

    def _repr_html_(self) -> str:
        text = html.escape(self.html, quote=True)
        allowed = "allow-scripts allow-downloads allow-modals"
        return f'<iframe srcdoc="{text}" sandbox="{allowed}" width="100%" height="720" style="border:0"></iframe>'

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes it; the file's name ends in .html.

        Examples:
            >>> model.sweep(targets=" Rome").page().write("page.html")
        """
        if Path(path).suffix.lower() != ".html":
            raise PlanError(f"{path}: a page is told by the file name, which must end in .html")
        self._read.check(("--plot", path))
        if self._write is not None:
            self._write(_words.path(path))
            return
        try:
            Path(path).write_text(self.html, encoding="utf-8")
        except OSError as error:
            raise FileError(f"{_words.path(path)}: cannot write the file: {error.strerror}") from None

    def show(self) -> None:
        """Shows it: in a notebook below the cell, else in the browser, as a file that is there until the computer forgets
        its temporary ones.

        Examples:
            >>> model.sweep(targets=" Rome").page().show()  # doctest: +SKIP
        """
        ipython = sys.modules.get("IPython")
        if ipython is not None and ipython.get_ipython() is not None:
            ipython.display.display(self)
            return
        with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8", delete=False) as file:
            file.write(self.html)
        webbrowser.open(Path(file.name).as_uri())


class Result(Table):
    """What was found: one row for each pair, run and target, in that order, or, with ``rows="means"``, one for each cell
    and target, with means over pairs, their spread, counts and extremes.

    pandas, Polars, pyarrow and DuckDB read it as it is; in a notebook it shows its heat map, the strongest cells
    and how it was made. Columns are NumPy's; arrays are torch's where torch's tensors went in, on the CPU.

    Attributes:
        n_runs: How many runs there were.
        n_live: Those whose readout can differ from the base's; no others were computed.
        operations: Floating-point operations, a multiplication and an addition being two.
        seconds: By the clock, clean prompts included.

    Examples:
        >>> import headlight as hl
        >>> r = hl.Model("demo").sweep(targets=[" Madrid", " Rome"], components="head_value_output")
        >>> r.array("prob", target=" Rome").axes
        ('layer', 'head', 'position')
    """

    def __init__(self, answered: _headlight.Answered, read: Files, torch: bool = False) -> None:
        super().__init__(answered.frame())
        self._answered, self._read, self._torch = answered, read, torch
        self.n_runs, copied, self.operations, self.seconds = answered.done()
        self.n_live = self.n_runs - copied

    @property
    def baseline(self) -> Table:
        """What the clean prompts give, a row for each pair and target: ``base_prob`` and ``source_prob``, and base and
        source of each metric that was asked for.

        Examples:
            >>> import headlight as hl
            >>> r = hl.Model("demo").sweep(targets=" Madrid", wrong_targets=" Rome", metrics="logit_diff", heads=0)
            >>> r.baseline.columns[3:], round(r.baseline["base_prob"].item(), 2)
            (['base_prob', 'source_prob', 'base_logit_diff', 'source_logit_diff'], 0.98)
        """
        return Table(self._answered.baseline())

    @property
    def runs_per_second(self) -> float:
        """Runs by the clock, clean prompts included.

        Examples:
            >>> model.sweep(targets=" Rome").runs_per_second > 0
            True
        """
        return self.n_runs / self.seconds if self.seconds > 0 else float("nan")

    @property
    def is_means(self) -> bool:
        """Whether its rows are averages over pairs.

        Examples:
            >>> model.sweep(targets=" Rome").is_means
            False
        """
        return self._answered.is_means()

    @property
    def metric(self) -> str:
        """The column that is drawn unless another is named.

        Examples:
            >>> model.sweep(targets=" Rome", metrics=["kl", "rank"]).metric
            'kl'
        """
        return self._answered.drawn()

    @property
    def provenance(self) -> dict[str, Any]:
        """How it was made: version, model, device, precision, call, every pair's tokens.

        Examples:
            >>> made = model.sweep(targets=" Rome").provenance
            >>> made["model"], made["pairs"][0]["base_tokens"][-1]
            ('demo', ' is')
        """
        made: dict[str, Any] = json.loads(self._answered.provenance(False))
        return made

    @property
    def arrays(self) -> dict[str, Any]:
        """Everything that ``write_arrays`` writes, by its name.

        Examples:
            >>> sorted(model.sweep(targets=" Rome", preset="resid_pre").arrays)[:3]
            ['axes', 'component', 'head']
        """
        return {
            name: to_torch(array) if self._torch and isinstance(array, np.ndarray) else array
            for name, array in self._arrays.items()
        }

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, kind, shape, data in self._answered.arrays():
            if kind == "text":
                found[name] = list(data) if shape else data[0]
            else:
                array = from_bytes(data, "<f8" if kind == "float" else "<i8", shape)
                found[name] = array
        return found

    @property
    def collected(self) -> dict[tuple[int, int, int], Any]:
        """What ``collect`` patches read, by pair, run and patch: ``[positions, width]``, or ``[heads, positions,
        width]`` for sites with heads.

        Examples:
            >>> collect = hl.Patch("mlp_output", 1, positions="end", op="collect")
            >>> (found,) = model.patch(BASE, collect).collected.values()
            >>> found.shape
            (1, 128)
        """
        found = {(p, r, i): from_bytes(data, "<f8", shape) for p, r, i, shape, data in self._answered.collected()}
        return {at: to_torch(array) for at, array in found.items()} if self._torch else found

    def array(self, metric: str | None = None, *, target: str | int | None = None, component: str | None = None) -> Any:
        """A metric as a dense array with named axes: a ``NamedArray``, or, where torch's tensors went in, a tensor that has
        ``axes`` and ``labels`` as well.

        Of a preset, of edges, of paths and of lenses: the axes that TransformerLens and EAP-IG have, the mean over pairs (and
        over targets, of a preset or a column that is no metric, unless one is named), in whatever column.
        Of everything else, of a tracing what is restored, the axes pair, target, component, layer, head, position and sample, as far as there are
        several of them (layer, head and position wherever they are known), NaN where nothing was run.

        Args:
            metric: A column; the first metric, or the probability, unless given.
            target: The target, by its text or id, where there are several: without, they are an axis.
            component: The component, where there are several: without, they are an axis, which only those can be that
                all have heads, or all have none.

        Examples:
            >>> r = model.sweep(BASE, SOURCE, targets=" Rome", components="head_value_output")
            >>> rome = r.array("prob")
            >>> rome.axes, rome.shape
            (('layer', 'head', 'position'), (5, 4, 5))
        """
        found = self._array(metric or self.metric, target, component)
        return to_torch(found) if self._torch else found

    def _array(self, metric: str, target: str | int | None = None, component: str | None = None) -> NamedArray:
        if "axes" not in self._arrays or self._is_traced:
            return self._laid_out(metric, target, component)
        own = self._arrays.get(metric)
        if own is None and metric not in self.columns:
            raise PlanError(f"there are no arrays of {metric!r}: name it among the metrics")
        axes = self._arrays["axes"]
        labels = {name: list(self._arrays[name]) for name in axes if name in self._arrays}
        if own is not None and target is None and component is None:
            return NamedArray(own, axes, labels)
        return self._in_own_axes(metric, axes, labels, target, component)

    def _in_own_axes(
        self,
        metric: str,
        axes: list[str],
        labels: dict[str, list[Any]],
        target: str | int | None,
        component: str | None,
    ) -> NamedArray:
        """A column along the question's own axes, the mean over rows that share a place."""
        rows = self._kept(target, component)
        values: NDArray[Any] = self._numbers(metric)[rows]
        places = np.array(self._places(axes, labels, rows), dtype=np.int64)
        shape = self._arrays[self.metric].shape
        at = np.asarray(np.ravel_multi_index(tuple(places.reshape(-1, len(axes)).T), shape))
        there: NDArray[Any] = ~np.isnan(values)
        cells = int(np.prod(shape))
        sums = np.bincount(at[there], values[there], cells)
        counts = np.bincount(at[there], minlength=cells)
        with np.errstate(invalid="ignore"):
            found = NamedArray((sums / counts).reshape(shape), axes, labels)
        if component is None or "component" not in axes:
            return found
        one = axes.index("component")
        kept = [name for name in axes if name != "component"]
        return NamedArray(np.take(found, labels["component"].index(component), axis=one), kept, labels)

    def _places(self, axes: list[str], labels: dict[str, list[Any]], rows: Any) -> list[list[int]]:
        """Where rows stand along the question's own axes."""
        found = self._answered.places()
        if found:
            pairs = {pair: number for number, pair in enumerate(dict.fromkeys(self["pair"].tolist()))}
            each = zip(self["pair"][rows].tolist(), self["run"][rows].tolist(), strict=True)
            return [found[pairs[pair]][run] for pair, run in each]
        at = {name: {str(label): number for number, label in enumerate(along)} for name, along in labels.items()}
        names = self["position_name"] if "position_name" in self.columns else self["position"]
        places = []
        for row in rows:
            name = str(self["name"][row])
            sender, _, receiver = name.partition("->")
            # a path's name says where its sender sends, an edge's where it is patched
            sender, _, at_sender = sender.partition("@")
            receiver, _, at_receiver = receiver.partition("@")
            position = at_sender or at_receiver or str(names[row])
            words = {"part": name, "sender": sender, "receiver": receiver, "position": position}
            places.append([at[axis].get(words.get(axis, ""), -1) for axis in axes])
        if any(-1 in place for place in places):
            raise PlanError(f"there are no arrays of this column along {', '.join(axes)}: read the table instead")
        return places

    @property
    def _is_traced(self) -> bool:
        """Whether it is a tracing, whose arrays have ROME's names and are no columns'."""
        return "low_score" in self._arrays

    def _numbers(self, metric: str) -> Any:
        column = self[metric]
        if column.dtype == object:
            raise PlanError(f"the column {metric!r} is text: name one of numbers")
        return column

    def _kept(self, target: str | int | None, component: str | None) -> Any:
        """The numbers of the rows of a target and a component."""
        kept = np.ones(len(self), dtype=bool)
        for what, key, value in (
            ("target", "target" if isinstance(target, str) else "target_id", target),
            ("component", "component", component),
        ):
            if value is not None:
                found = self[key] == value
                if not found.any():
                    known = ", ".join(repr(t) for t in dict.fromkeys(self[what].tolist()))
                    raise PlanError(f"there is no {what} {value!r}: there are {known}")
                kept &= found
        return np.flatnonzero(kept)

    def _laid_out(self, metric: str, target: str | int | None, component: str | None) -> NamedArray:
        rows, numbers = self._kept(target, component), self._numbers(metric)
        if component is None and self._is_traced:
            # the corrupted runs themselves restore nothing, and stand at no layer
            rows = rows[self["name"][rows] != "corrupted"]
        axes, labels, places = [], {}, []
        for name in _AXES_OF_MEANS if self.is_means else _AXES:
            column = self[name][rows]
            if self.missing(name)[rows].any():
                continue
            along = list(dict.fromkeys(column.tolist()))
            if name in ("layer", "head", "position", "sample"):
                along.sort()
            if len(along) > 1 or name in ("layer", "head", "position"):
                at = {value: index for index, value in enumerate(along)}
                axes.append(name)
                labels[name] = along
                places.append([at[value] for value in column.tolist()])
        if len(set(zip(*places, strict=True))) < len(rows):
            several = dict.fromkeys(self["component"][rows].tolist())
            why = f"name one of {', '.join(map(str, several))}" if len(several) > 1 else "read the table instead"
            raise PlanError(f"several rows have one place along {', '.join(axes)}: {why}")
        values = np.full([len(labels[name]) for name in axes], np.nan)
        values[tuple(places)] = numbers[rows]
        return NamedArray(values, axes, labels)

    def top(self, n: int = 10, by: str | None = None) -> Table:
        """The strongest rows: those whose probability changed most or, by a metric, those where it is highest.

        Examples:
            >>> model.sweep(BASE, SOURCE, targets=" Rome").top(1)["component"].tolist()
            ['head_value_output']
        """
        n = _words.whole("n", n)
        if by is None and self.is_means:
            raise PlanError('means have no base that they are held against: name a column, such as by="prob"')
        score = np.abs(self["prob"] - self["base_prob"]) if by is None else self._numbers(by)
        score = np.where(np.isnan(score), -np.inf, score)
        return self.take(np.argsort(-score, kind="stable")[:n])

    def top_tokens(self, pair: int = 0, run: int = 0) -> list[tuple[str, float]]:
        """What the model says after a run: its most probable tokens, each with its probability, as many as the
        question's ``top_tokens`` asked for. The whole of it, ids and logits too, stands in the column of that name.

        Args:
            pair: The pair's number, as the column ``pair`` has it.
            run: The run's number in the pair, as the column ``run`` has it.

        Examples:
            >>> import headlight as hl
            >>> r = hl.Model("demo").sweep(components="head_value_output", layers=0, heads=0, positions=3, top_tokens=2)
            >>> [token for token, p in r.top_tokens()]
            [' Rome', ' Bratislava']
        """
        if "top_tokens" not in self.columns:
            raise PlanError("no tokens were asked for: give the question top_tokens, such as top_tokens=10")
        rows = np.flatnonzero((self["pair"] == pair) & (self["run"] == run))
        if len(rows) == 0:
            raise PlanError(f"there is no run {run} of pair {pair}")
        return [(one["token"], float(one["prob"])) for one in json.loads(self["top_tokens"][rows[0]])]

    def summary(self) -> Table | None:
        """Averages over pairs, with standard errors, where there are several pairs.

        Examples:
            >>> rows = [
            ...     {"base": BASE, "source": SOURCE, "target": " Rome"},
            ...     {"base": SOURCE, "source": BASE, "target": " Madrid"},
            ... ]
            >>> model.sweep(data=rows, components="mlp_output").summary()["pairs"][0].item()
            2
        """
        frame = self._answered.summary()
        return None if frame is None else Table(frame)

    def write(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes the table as .csv, .jsonl or .parquet by its ending, byte for byte what the command line writes;
        averages over pairs stand beside it, and provenance in it or beside it. Which files were written. A file that the
        question read is not written over.

        Examples:
            >>> model.sweep(targets=" Rome").write("sweep.csv")
            [PosixPath('sweep.csv')]
        """
        self._read.check(*beside(path))
        return [Path(file) for file in self._answered.write(_words.path(path))]

    def write_arrays(self, path: str | os.PathLike[str]) -> None:
        """Writes the arrays of a preset, of edges, paths or a tracing, as .npz or .safetensors by its ending.

        Examples:
            >>> model.sweep(targets=" Rome", preset="resid_pre").write_arrays("patch.npz")
        """
        why = self._answered.no_arrays()
        if why is not None:
            raise PlanError(why)
        if not self._arrays:
            raise PlanError("--arrays holds what a --preset runs: give one")
        self._read.check(("--arrays", path))
        self._answered.write_arrays(_words.path(path))

    def picture(self, metric: str | None = None) -> Picture:
        """The heat map as headlight draws it.

        Examples:
            >>> model.sweep(targets=" Rome").picture().write("map.svg")
        """
        return Picture(self._answered, metric, self._read)

    def page(self, metric: str | None = None) -> Page:
        """The page of all that was found, which opens with this column; of edges, their graph.

        Examples:
            >>> model.sweep(targets=" Rome").page("logprob").write("page.html")
        """
        return Page(lambda: self._answered.page(metric), self._read, lambda path: self._answered.plot(path, metric))

    def attribution_graph(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        metric: str | None = None,
        pair: int | None = None,
        target: str | int | None = None,
        n: int = 1000,
    ) -> dict[str, Any]:
        """Edges at positions as the attribution graph that Neuronpedia's and circuit-tracer's pages show.

        Args:
            path: Where its JSON goes, if anywhere.
            metric: What weighs links: a score, or a column, of which it is the change from the base; the score, else the
                first metric, else the probability unless given.
            pair: The pair, by its number; the first unless given.
            target: The target, by its text or its id; the first unless given.
            n: So many links, the largest.

        Returns:
            ``{"metadata": …, "qParams": …, "nodes": […], "links": […]}``.

        Raises:
            PlanError: The edges are not of single positions (``per_position=True``), or there is no such pair, target or
                column.

        Examples:
            >>> scores = model.attribute(targets=" Rome", per_position=True)
            >>> graph = scores.attribution_graph(n=20)
            >>> len(graph["links"]), sorted(graph)
            (20, ['links', 'metadata', 'nodes', 'qParams'])
        """
        if path is not None:
            self._read.check(("--out", path))
        named = None if target is None else str(target)
        column = None if metric is None else _words.text("a metric", metric)
        number = None if pair is None else _words.whole("pair", pair)
        to = None if path is None else _words.path(path)
        text = self._answered.attribution_graph(column, number, named, _words.whole("n", n), to)
        graph: dict[str, Any] = json.loads(text)
        return graph

    def plot(
        self, metric: str | os.PathLike[str] | None = None, path: str | os.PathLike[str] | None = None, **layout: Any
    ) -> Any:
        """The heat map: plotly's, red to blue around what the base gives, with every column of a cell under the pointer, where
        plotly is installed; else headlight's own.

        With a file's name, ``plot("x.html")`` or ``plot("kl", "x.svg")``, it is written instead: a picture, .svg, .png or
        .pdf by its ending, or a page, .html.

        Args:
            metric: What is drawn: a column, or ``"change"`` or ``"change kl"``, its change from the base.
            path: Where to.
            layout: Plotly's, such as ``width=800``.

        Examples:
            >>> model.sweep(targets=" Rome").plot("map.svg")
        """
        if path is None and metric is not None and metric not in self.columns and _is_file(metric):
            metric, path = None, metric
        column = None if metric is None else _words.text("a metric", metric)
        if path is not None and layout:
            raise PlanError(
                f"{min(layout)} is for a figure of plotly's, and a file was asked for: leave out one of them"
            )
        if path is not None:
            self._read.check(("--plot", path))
            self._answered.plot(_words.path(path), column)
            return None
        if self.is_means:
            return self.picture(column)
        try:
            import plotly  # noqa: F401
        except ImportError:
            if layout:
                raise PlanError(f"{min(layout)} is for plotly, which is not installed: leave it out") from None
            return self.picture(column)
        from ._plotly import figure

        return figure(self._answered, column, layout)

    def _provenance_line(self) -> str:
        made = self.provenance
        return (
            f"{self.n_runs} run{'s' * (self.n_runs != 1)} ({self.n_runs - self.n_live} skipped) in {self.seconds:.3f} s · model {made['model']} · "
            f"{made['device']} · {made['precision']} · headlight {made['version']}"
        )

    def _repr_html_(self) -> str:
        try:
            drawn = _inline(self._answered.picture(None, False).decode())
        except PlanError:
            # runs of several patches have no place in a grid
            drawn = ""
        if self.is_means:
            return f"<div>{drawn}{self._html(10)}<small>{html.escape(self._provenance_line())}</small></div>"
        strongest = self.top()._html(10)
        return f"<div>{drawn}<div>strongest</div>{strongest}<small>{html.escape(self._provenance_line())}</small></div>"

    def __repr__(self) -> str:
        if len(self) == 0:
            return f"Result: no rows\n{self._provenance_line()}"
        if self.is_means:
            return f"means over pairs\n{super().__repr__()}\n{self._provenance_line()}"
        return f"strongest\n{self.top()!r}\n{self._provenance_line()}"

    def _repr_mimebundle_(self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None) -> Any:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        try:
            bundle["image/png"] = self._answered.picture(None, True)
        except PlanError:
            pass
        return bundle


def _is_file(name: object) -> bool:
    """Whether somebody means a file: whatever has an ending, of which columns have none."""
    return isinstance(name, os.PathLike) or (
        isinstance(name, str) and bool(Path(name).suffix or Path(name).parent.name)
    )


def _inline(svg: str) -> str:
    """An SVG document as a part of a page."""
    return svg[svg.index("<svg") :]
