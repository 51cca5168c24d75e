"""Estimates by gradients, and circuits that are chosen by them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _headlight, _progress, _words
from ._arrays import NamedArray, from_bytes
from ._files import Files
from ._names import Metric
from ._progress import ProgressWish
from ._result import Page, Result, _inline
from ._table import Table
from .errors import PlanError

if TYPE_CHECKING:
    from ._questions import Questions

__all__ = ["Ablation", "Agreement", "Attribution", "Curve", "Faithfulness", "Graph"]

Ablation = Literal["patch", "zero", "mean", "mean-by-position"]


@dataclass(frozen=True)
class Agreement:
    """How estimates agree with exact runs, where some were verified.

    Attributes:
        top: Of the largest scores: rows, Pearson's correlation and Spearman's, None where something does not vary.
        sample: Of a random sample of the others.
        missed: What half of the largest do exactly, how many runs of the sample do more, and the share of all others
            that may, at 95 % confidence.

    Examples:
        >>> scores = model.attribute(verify_top=5, targets=" Madrid")
        >>> scores.agreement.top[0]
        5
    """

    top: tuple[int, float | None, float | None]
    sample: tuple[int, float | None, float | None]
    missed: tuple[float, int, float] | None


class Attribution(Result):
    """Scores, in rows as a sweep's or those of ``edges``: the columns ``score``, ``exact`` and ``absolute``.

    Examples:
        >>> import headlight as hl
        >>> scores = hl.Model("demo").attribute(verify_top=5, targets=" Madrid")
        >>> scores.top(1)["name"].tolist()
        ['a0.h0->m0']
    """

    def __init__(self, answered: _headlight.Answered, model: Questions, read: Files, torch: bool = False) -> None:
        super().__init__(answered, read, torch)
        self._model = model

    def top(self, n: int = 10, by: str | None = None) -> Table:
        """The rows with the largest scores, whatever their signs, or of a column the highest.

        Examples:
            >>> model.attribute(targets=" Madrid").top(2)["name"].tolist()
            ['a0.h0->m0', 'input->a0.h0<v>']
        """
        n = _words.whole("n", n)
        score = np.abs(self["score"]) if by is None else self._numbers(by)
        score = np.where(np.isnan(score), -np.inf, score)
        return self.take(np.argsort(-score, kind="stable")[:n])

    @property
    def agreement(self) -> Agreement | None:
        """How good the scores are, where ``verify_top`` ran some.

        Examples:
            >>> model.attribute(verify_top=5, targets=" Madrid").agreement.sample[0]
            5
            >>> model.attribute(targets=" Madrid").agreement is None
            True
        """
        found = self._answered.agreement()
        return None if found is None else Agreement(*found)

    def graph(self, column: str = "score") -> Graph:
        """Every edge with the mean of its scores over pairs and targets, none of them kept yet.

        Examples:
            >>> graph = model.attribute(targets=" Madrid").graph()
            >>> len(graph), len(graph.scores)
            (0, 761)
        """
        return Graph(self._model, self._answered.graph(column), self._read)


@dataclass(frozen=True)
class Faithfulness:
    """A circuit run alone: means over pairs and targets.

    Attributes:
        metric: Of the circuit.
        whole: Of the whole model.
        nothing: Of nothing of it, everything ablated.
        rows: Pairs and targets.

    Examples:
        >>> hl.Faithfulness(metric=2.0, whole=4.0, nothing=0.0, rows=1).faithfulness
        0.5
    """

    metric: float
    whole: float
    nothing: float
    rows: int

    @property
    def faithfulness(self) -> float:
        """(metric - nothing) / (whole - nothing), a ratio of means.

        Examples:
            >>> hl.Faithfulness(metric=3.0, whole=4.0, nothing=2.0, rows=1).faithfulness
            0.5
        """
        return (self.metric - self.nothing) / (self.whole - self.nothing)


@dataclass(frozen=True)
class Curve:
    """How faithful circuits of MIB's ten sizes are (Mueller et al. 2025), from a thousandth of all edges to all of them.

    Attributes:
        edges: How many edges each was to have.
        kept_by_size: How many are left of those that are chosen by the sizes of scores ...
        by_size: ... and their faithfulness.
        kept_by_sign: How many are left of those that are chosen by what the scores say would do harm ...
        by_sign: ... and their faithfulness.
        cmd: The area between ``by_size`` and 1; 0 is best.
        cpr: The area under ``by_sign``.

    Examples:
        >>> asked = {"targets": " Madrid", "wrong_targets": " Rome"}
        >>> curve = model.attribute(method="eap-ig-inputs", **asked).graph().curve(**asked)
        >>> curve.edges[:4], curve.kept_by_size[-1] == 761
        ((0, 1, 3, 7), True)
    """

    edges: tuple[int, ...]
    kept_by_size: tuple[int, ...]
    by_size: tuple[float, ...]
    kept_by_sign: tuple[int, ...]
    by_sign: tuple[float, ...]
    cmd: float
    cpr: float


class Graph:
    """Every edge of the residual graph with a score, and which of them are kept: a circuit.

    Nothing changes a graph; choosing gives another. In a notebook it is its drawing, layers upwards.

    Examples:
        >>> import headlight as hl
        >>> model = hl.Model("demo")
        >>> scores = model.attribute(method="eap-ig-inputs", targets=" Madrid", wrong_targets=" Rome")
        >>> circuit = scores.graph().greedy(40)
        >>> len(circuit), "a0.h0->m0" in circuit
        (40, True)
        >>> round(circuit.evaluate(targets=" Madrid", wrong_targets=" Rome").faithfulness, 2)
        1.0
    """

    def __init__(self, model: Questions, held: _headlight.Graph, read: Files) -> None:
        self._model, self._held, self._read = model, held, read
        self._edges = held.edges()

    @classmethod
    def from_json(cls, path: str | os.PathLike[str], model: Questions) -> Graph:
        """EAP-IG's JSON, as ``to_json``, ``headlight circuit`` and EAP-IG's own ``Graph.to_json`` write it; scores, which a
        circuit that is only run does without, are taken to have headlight's signs.

        Args:
            path: The file, whose name ends in .json.
            model: Whose edges they are: one of other layers or heads is refused.

        Examples:
            >>> model.attribute(targets=" Madrid").graph().top_n(20).to_json("circuit.json")
            >>> hl.Graph.from_json("circuit.json", model).edges[:1]
            ['input->a0.h0<k>']
        """
        if not _words.path(path).lower().endswith(".json"):
            raise PlanError(f"{_words.path(path)}: a circuit is EAP-IG's JSON, whose name ends in .json")
        return model.circuit(path)

    @property
    def edges(self) -> list[str]:
        """Names of the edges that are kept, such as ``a0.h1->a2.h0<q>``.

        Examples:
            >>> model.attribute(targets=" Madrid").graph().top_n(1).edges
            []
        """
        return [name for name, _, kept in self._edges if kept]

    @property
    def scores(self) -> dict[str, float]:
        """The score of every edge, kept or not.

        Examples:
            >>> sorted(model.attribute(targets=" Madrid").graph().scores)[:2]
            ['a0.h0->a1.h0<k>', 'a0.h0->a1.h0<q>']
        """
        return {name: score for name, score, _ in self._edges}

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes of which edges are kept, from the input up; the logits always are.

        Examples:
            >>> model.attribute(targets=" Madrid").graph().greedy(3).nodes
            ['logits']
        """
        return self._held.nodes()

    def __len__(self) -> int:
        return sum(kept for *_, kept in self._edges)

    def __iter__(self) -> Iterator[str]:
        return iter(self.edges)

    def __contains__(self, edge: object) -> bool:
        return any(kept and name == edge for name, _, kept in self._edges)

    def _of(self, held: _headlight.Graph) -> Graph:
        return Graph(self._model, held, self._read)

    def top_n(self, n: int, *, signed: bool = False) -> Graph:
        """The n largest scores, by size unless ``signed``, and of these what leads from the input to the logits.

        Examples:
            >>> circuit = model.attribute(targets=" Madrid").graph().top_n(50)
            >>> len(circuit) <= 50
            True
        """
        return self._choose("top_n", n, signed)

    def threshold(self, least: float, *, signed: bool = False) -> Graph:
        """All scores from ``least`` on, likewise.

        Examples:
            >>> len(model.attribute(targets=" Madrid").graph().threshold(1e-4))
            52
        """
        least = _words.number("threshold", least)
        if not np.isfinite(least):
            raise PlanError(f"--threshold {least}: give a number")
        return self._of(self._held.choose("threshold", least, _words.truth("signed", signed)))

    def greedy(self, n: int, *, signed: bool = False) -> Graph:
        """From the logits on, n times the largest score of the edges that reach what is kept.

        Examples:
            >>> len(model.attribute(targets=" Madrid").graph().greedy(40))
            40
        """
        return self._choose("greedy", n, signed)

    def _choose(self, how: str, n: int, signed: bool) -> Graph:
        n = _words.whole("n", n, most=2**53)
        return self._of(self._held.choose(how, float(n), _words.truth("signed", signed)))

    def keep(self, edges: Any) -> Graph:
        """With these edges kept, by their names, and no others; nothing is pruned.

        Examples:
            >>> graph = model.attribute(targets=" Madrid").graph()
            >>> graph.keep(["a0.h0->m0", "m0->logits"]).edges
            ['a0.h0->m0', 'm0->logits']
        """
        try:
            return self._of(self._held.keep(_words.names("edges", [edges] if isinstance(edges, str) else edges)))
        except KeyError as unknown:
            raise PlanError(f"the model has no edge `{unknown.args[0]}`") from None

    def prune(self) -> Graph:
        """Without edges that lead nowhere or come from nowhere.

        Examples:
            >>> graph = model.attribute(targets=" Madrid").graph().keep(["a0.h0->m0", "m0->logits"])
            >>> graph.prune().edges
            []
        """
        return self._of(self._held.prune())

    def evaluate(
        self,
        base: Any = None,
        source: Any = None,
        *,
        metric: Metric | str | None = None,
        ablation: Ablation = "patch",
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Faithfulness:
        """Runs it alone: edges outside carry the source's contributions, nothing, or means.

        Args:
            base: The prompt that is run ...
            source: ... and the one whose contributions stand outside of the circuit.
            metric: What is measured; ``logit_diff`` where all pairs have wrong answers, else ``prob``, unless given.
            ablation: What edges outside carry.
            progress: As of ``Model.sweep``.
            prompts: As of ``Model.edges``.

        Examples:
            >>> import headlight as hl
            >>> asked = {"targets": " Madrid", "wrong_targets": " Rome"}
            >>> graph = hl.Model("demo").attribute(**asked).graph()
            >>> round(graph.keep(graph.scores).evaluate(**asked).faithfulness, 2)
            1.0
        """
        self._model._ready()
        word = _words.asked(base, source, call="Graph.evaluate", **prompts)
        how = (_words.metric("metric", metric), _words.text("ablation", ablation))
        with _progress.told(progress) as tell:
            rows, whole, nothing, found = self._model._opened.evaluate(word, [self._held], how, tell)
        return Faithfulness(found[0], whole, nothing, rows)

    def curve(
        self,
        base: Any = None,
        source: Any = None,
        *,
        greedy: bool = False,
        metric: Metric | str | None = None,
        ablation: Ablation = "patch",
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Curve:
        """How faithful circuits of MIB's ten sizes are, chosen by this graph's scores; what it keeps itself does not count.

        Args:
            base: The prompt that is run ...
            source: ... and the one whose contributions stand outside of the circuits.
            greedy: Choose edges from the logits on, as ``greedy``, instead of the largest scores.
            metric: As of ``evaluate``.
            ablation: What edges outside carry.
            progress: As of ``Model.sweep``.
            prompts: As of ``Model.edges``.

        Examples:
            >>> import headlight as hl
            >>> asked = {"targets": " Madrid", "wrong_targets": " Rome"}
            >>> curve = hl.Model("demo").attribute(method="eap-ig-inputs", **asked).graph().curve(**asked)
            >>> curve.edges[-1], round(curve.by_size[-1], 2)
            (761, 1.0)
        """
        self._model._ready()
        word = _words.asked(base, source, call="Graph.curve", **prompts)
        how = (_words.metric("metric", metric), _words.text("ablation", ablation))
        greedy = _words.truth("greedy", greedy)
        with _progress.told(progress) as tell:
            sizes, (cmd, cpr) = self._model._opened.curve(word, self._held, greedy, how, tell)
        edges, kept, faithful = zip(*sizes, strict=True)
        (kept_by_size, kept_by_sign), (by_size, by_sign) = zip(*kept, strict=True), zip(*faithful, strict=True)
        return Curve(edges, kept_by_size, by_size, kept_by_sign, by_sign, cmd, cpr)

    def matrix(self, what: Literal["score", "in_graph"] = "score") -> NamedArray:
        """Scores, or 1 where an edge is kept and 0 where not: ``[sender, receiver]``, NaN where there is no edge.

        Examples:
            >>> matrix = model.attribute(targets=" Madrid").graph().matrix()
            >>> matrix.shape, matrix.labels["sender"][:2]
            ((26, 66), ['input', 'a0.h0'])
        """
        found = self._held.matrix(what)
        if found is None:
            raise PlanError(f"a graph has no matrix {what!r}: use score or in_graph")
        shape, senders, receivers, data = found
        labels: dict[str, list[Any]] = {"sender": list(senders), "receiver": list(receivers)}
        return NamedArray(from_bytes(data, "<f8", shape), ["sender", "receiver"], labels)

    def to_json(
        self, path: str | os.PathLike[str], *, convention: Literal["headlight", "eap-ig"] = "headlight"
    ) -> None:
        """Writes it as EAP-IG's JSON, scores with headlight's signs or with EAP-IG's, whose metric is a loss.

        Examples:
            >>> import json
            >>> model.attribute(targets=" Madrid").graph().top_n(20).to_json("circuit.json")
            >>> sorted(json.load(open("circuit.json")))
            ['cfg', 'edges', 'nodes']
        """
        if convention not in ("headlight", "eap-ig"):
            raise PlanError(f"unknown convention `{convention}`: use headlight or eap-ig")
        self._read.check(("--out", path))
        self._held.write(_words.path(path), convention == "eap-ig")

    def svg(self) -> str:
        """The drawing: lines as thick as scores are large, blue above zero and red below.

        Examples:
            >>> model.attribute(targets=" Madrid").graph().top_n(20).svg()[:4]
            '<svg'
        """
        return self._held.svg()

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Writes the drawing, as SVG or PNG by the file's ending.

        Examples:
            >>> model.attribute(targets=" Madrid").graph().top_n(20).plot("circuit.svg")
        """
        self._read.check(("--plot", path))
        self._held.plot(_words.path(path))

    def page(self) -> Page:
        """Every edge with its score as a page, those that are kept at first alone: nodes by layers, scores under the
        pointer, switches, downloads.

        Examples:
            >>> import headlight as hl
            >>> graph = hl.Model("demo").attribute(targets=" Madrid").graph().top_n(30)
            >>> "</html>" in graph.page().html
            True
        """
        return Page(self._held.page, self._read, self._held.plot)

    def _repr_html_(self) -> str:
        return _inline(self.svg())

    def __repr__(self) -> str:
        return f"{len(self)} of {len(self._edges)} edges\n{self._held.text()}".rstrip()
