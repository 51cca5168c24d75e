"""What can be asked of a model: the commands that patch, as methods."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from . import _headlight, _progress, _words
from ._arrays import any_torch, as_list
from ._data import Data
from ._facts import Config, Plan
from ._files import Files, beside
from ._graph import Ablation, Attribution, Graph
from ._names import Component, Metric, Preset
from ._patch import Op, Patch, sweep_op
from ._progress import ProgressWish
from ._result import Result
from .errors import PlanError

__all__ = ["Questions"]

Metrics: TypeAlias = Sequence[Metric | str] | Metric | str
# whose arrays come back: those of what went in, or always the one library's
ArraysOf: TypeAlias = Literal["auto", "numpy", "torch"]
# what is kept: every row, averages over pairs, or either by how many rows there are
RowsWish: TypeAlias = Literal["all", "means", "auto"]


class Questions:
    """Questions of an opened model."""

    config: Config
    _opened: _headlight.Opened
    _arrays_of: ArraysOf = "auto"
    _read_last: Files
    _place: str

    def _ready(self) -> None:
        """Refuses to go on where the model is no longer what it was."""

    @contextmanager
    def _as_taken(self) -> Iterator[None]:
        """Around what is computed to be kept: weights are what they were when they were taken, and provenance will have
        the hash of those, whatever becomes of them later."""
        yield

    def _torch(self, *given: Any) -> bool:
        """Whether arrays come back as torch's tensors, of a call to which these went in."""
        return any_torch(*given) if self._arrays_of == "auto" else self._arrays_of == "torch"

    def _files(self) -> Files:
        return Files(self._place)

    def _ids(self, prompt: Any, what: str = "base") -> list[int]:
        """A prompt's tokens."""
        word = _words.prompt(what, prompt)
        return self._opened.encode(word) if isinstance(word, str) else word

    def patch(
        self,
        base: Any,
        patches: Patch | Sequence[Patch],
        *,
        source: Any = None,
        prompts: Mapping[str, Any] | None = None,
        targets: Any = None,
        wrong_targets: Any = None,
        metrics: Metrics = (),
        top_tokens: int = 0,
    ) -> Result:
        """One run: the base prompt with patches acting together, in the order given.

        Args:
            base: The prompt that is patched.
            patches: What is overwritten.
            source: The prompt that activations are taken from.
            prompts: Further prompts by name, which patches may read.
            targets: What is read out; the most probable token after either prompt unless given.
            wrong_targets: What metrics hold against them.
            metrics: Further columns.
            top_tokens: How many of the most probable tokens after each run are kept, for ``Result.top_tokens``.

        Examples:
            >>> import headlight as hl
            >>> country = hl.Patch("head_value_output", 0, heads=0, positions="Spain")
            >>> r = hl.Model("demo").patch(
            ...     "The capital of Spain is", country, source="The capital of Italy is", targets=" Rome"
            ... )
            >>> round(r["prob"][0].item(), 2)
            0.98
        """
        self._ready()
        ids = self._ids(base)
        each = [patches] if isinstance(patches, Patch) else list(patches)
        pair: dict[str, Any] = {"base_ids": ids}
        if source is not None:
            pair["source_ids"] = self._ids(source, "source")
        if prompts:
            pair["prompts"] = {name: _words.prompt(name, one) for name, one in prompts.items()}
        right = _words.answers("targets", targets)
        if not right:
            tops = [self._opened.topk(p, 1)[0][0] for p in (ids, pair.get("source_ids")) if p]
            right = list(dict.fromkeys(tops))
        _answers(pair, "targets", right)
        _answers(pair, "wrong_targets", _words.answers("wrong_targets", wrong_targets))
        words, made = [], []
        for number, one in enumerate(each):
            if not isinstance(one, Patch):
                raise TypeError(f"patch {number} is {type(one).__name__}, and should be a Patch")
            word, op = one._word(self.config.heads, len(ids))
            if "source_ids" in pair and one._is_named():
                # words that the source has not are read where they stand in the base
                here, there = self._opened.places(ids, pair["source_ids"], [str(p) for p in word["positions"]])
                word["positions"] = here
                if there is not None:
                    word["source_positions"] = there
            words.append(word)
            if op is not None:
                made.append((0, number, op))
        call = _words.shown("Model.patch", {"base": base, "patches": each, "source": source, "targets": targets})
        return self._runs(
            {"pair": [pair], "run": [{"patches": words}]},
            made,
            metrics,
            _words.asked(None, None),
            False,
            call,
            top_tokens,
            self._torch(base, source, targets, wrong_targets, *(prompts or {}).values()),
        )

    def run(
        self,
        experiment: Mapping[str, Any] | str | os.PathLike[str],
        *,
        data: Data | Any = None,
        direction: Literal["denoise", "noise"] = "denoise",
        metrics: Metrics = (),
        top_tokens: int = 0,
        rows: RowsWish = "auto",
        first_token: bool = False,
        joint: bool = False,
        prepend_bos: bool = False,
        skip_bad: bool = False,
        known: bool = False,
        progress: ProgressWish = None,
    ) -> Result:
        """An experiment: a .toml or .json file, or the same as a dictionary, in whose runs ``Patch`` may stand.

        Args:
            experiment: The file's name, or ``{"pair": […], "run": […], …}``.
            data: A data set whose rows are the pairs, for an experiment without any.
            direction: Of a data set, which prompt is patched.
            metrics: Further columns.
            top_tokens: How many of the most probable tokens after each run are kept, for ``Result.top_tokens``.
            rows: As of ``sweep``.
            first_token: Let a target of several tokens count as its first.
            joint: Let a target of several tokens count whole: the probability of all, each after those before it.
            prepend_bos: Begin every prompt with the model's BOS token.
            skip_bad: Pass over malformed rows.
            known: Keep rows that the model answers rightly.
            progress: As of ``sweep``.

        Examples:
            >>> import headlight as hl
            >>> value = hl.Patch("head_value_output", 0, heads=0, positions=3)
            >>> r = hl.Model("demo").run(
            ...     {
            ...         "targets": [" Rome"],
            ...         "pair": [{"base": "The capital of Spain is", "source": "The capital of Italy is"}],
            ...         "run": [{"name": "country", "patches": [value]}],
            ...     }
            ... )
            >>> r["name"].tolist()
            ['country']
        """
        asked = _words.asked(
            None, None, data=data, first_token=first_token, joint=joint, prepend_bos=prepend_bos, direction=direction,
            skip_bad=skip_bad, known=known,
        )  # fmt: skip
        if isinstance(experiment, str | os.PathLike):
            name = _words.path(experiment)
            several = {"first_token": first_token, "joint": joint}
            word: dict[str, Any] = {"json": None, "path": name, **several, "prompts": asked, "made": []}
            return self._ask(self._opened.runs, word, metrics, f"Model.run({name!r})", progress, top_tokens, rows=rows)
        made: list[tuple[int, int, dict[str, Any]]] = []
        if not isinstance(experiment, Mapping):
            raise TypeError(f"an experiment is a file's name or a dictionary, not {experiment!r}")
        written = dict(experiment)
        runs: list[Any] = []
        for r, run in enumerate(_listed("run", written.get("run", []), "dictionaries")):
            if not isinstance(run, Mapping):
                raise TypeError(f"run {r} is a dictionary, such as {{'patches': […]}}, not {run!r}")
            own = dict(run)
            patches = []
            for i, one in enumerate(_listed(f"the patches of run {r}", own.get("patches", []), "patches")):
                if isinstance(one, Patch):
                    if one.positions is None:
                        raise PlanError(f"run {r}, patch {i} names no positions: in an experiment, say which")
                    one, op = one._word(self.config.heads, 0)
                    if op is not None:
                        made.append((r, i, op))
                patches.append(one)
            runs.append({**own, "patches": patches})
        written["run"] = runs
        call = _words.shown("Model.run", {"experiment": experiment})
        return self._runs(written, made, metrics, asked, progress, call, top_tokens, rows=rows)

    def _runs(
        self, experiment: Any, made: Any, metrics: Metrics, asked: dict[str, Any], progress: ProgressWish, call: str,
        top_tokens: int, torch: bool = False, rows: RowsWish = "auto",
    ) -> Result:  # fmt: skip
        text = json.dumps(experiment, default=_plain)
        several = {name: asked[name] for name in ("first_token", "joint")}
        word = {"json": text, "path": "experiment.json", **several, "prompts": asked, "made": made}
        try:
            return self._ask(self._opened.runs, word, metrics, call, progress, top_tokens, torch, rows)
        except PlanError as error:
            raise PlanError(_in_experiment(text, str(error))) from None

    def sweep(
        self,
        base: Any = None,
        source: Any = None,
        *,
        targets: Any = None,
        wrong_targets: Any = None,
        data: Data | Any = None,
        components: Sequence[Component | str] | Component | str | None = None,
        layers: Any = "all",
        heads: Any = "all",
        positions: Any = "all",
        keys: Any = None,
        window: int = 1,
        columns: Any = "all",
        basis: str | None = None,
        error_term: bool = True,
        op: str | Op = "interchange",
        preset: Preset | str | None = None,
        direction: Literal["denoise", "noise"] = "denoise",
        metrics: Metrics = (),
        top_tokens: int = 0,
        rows: RowsWish = "auto",
        seed: int | None = None,
        first_token: bool = False,
        joint: bool = False,
        prepend_bos: bool = False,
        skip_bad: bool = False,
        known: bool = False,
        at: int | str | None = None,
        out: str | os.PathLike[str] | None = None,
        progress: ProgressWish = None,
    ) -> Result:
        """One run a cell: every component, layer, head and position by itself.

        Args:
            base: The prompt that is patched, as text or token ids, or several; the demo's own unless given.
            source: The prompt that activations are taken from, or one for each base.
            targets: What is read out, each text taken whole: one, several, or a list for each pair; the most
                probable token after either prompt unless given.
            wrong_targets: What ``logit_diff`` and ``prob_diff`` hold against them.
            data: A data set instead of prompts: a ``Data``, a file's name, or rows.
            components: z and v of every head unless given, by pyvene's names or TransformerLens's hooks.
            layers: ``"all"``, ``"0,4"``, ``"2-5"``, a number, a list, a range or a mask.
            heads: The same, or ``"together"``: one run patches them all.
            positions: The same, negative numbers from the end, or names: ``"end"``, ``"subject.last"``, a word.
            keys: Of scores and pattern, the keys: numbers, names such as ``"subject"``, or ``"all"``; one run each. Every
                key that a query sees in one run unless given.
            window: How many layers one run patches together, around the one that it is filed under.
            columns: Columns of the row, or coordinates of the basis; ``"each"`` and ``"each:0-31"`` are one run a column.
            basis: ``"F.safetensors#name"`` of the basis in which the operator acts.
            error_term: Whether rows keep what an autoencoder or principal components do not hold of them.
            op: What is done: an ``Op``, or as the command line spells it.
            preset: A ready-made sweep by TransformerLens's name, instead of components.
            direction: Of a data set, whether the corrupted prompt is patched (``"denoise"``) or the clean one.
            metrics: Further columns, such as ``"logit_diff"`` and ``"recovery_logit_diff"``.
            top_tokens: How many of the most probable tokens after each run are kept, for ``Result.top_tokens``.
            rows: ``"all"``, ``"means"`` (averages over pairs alone, which are the result's rows then), or ``"auto"``: all of
                them up to 100 million, and means of more.
            seed: Of noise.
            first_token: Let a target of several tokens count as its first.
            joint: Let a target of several tokens count whole: the probability of all, each after those before it.
            prepend_bos: Begin every prompt with the model's BOS token.
            skip_bad: Pass over malformed rows of a data set.
            known: Keep rows that the model answers rightly.
            at: Where prompts are read out, by number or name, in each prompt by itself; the end unless given.
            out: Also write the table there, as ``Result.write`` does.
            progress: A bar where somebody watches and it takes more than two seconds; True and False say always
                and never, and a function is told a ``Progress``.

        Examples:
            >>> import headlight as hl
            >>> r = hl.Model("demo").sweep(components="head_value_output", targets=" Rome")
            >>> r.top(1)["layer"].tolist(), r.top(1)["head"].tolist(), r.top(1)["token"].tolist()
            ([0], [0], [' Spain'])
        """
        said = {
            "base": base, "source": source, "targets": targets, "wrong_targets": wrong_targets, "data": data,
            "components": components, "preset": preset, "op": None if op == "interchange" else op,
            "layers": _typed(layers), "heads": _typed(heads), "positions": _typed(positions),
            "keys": keys, "window": None if window == 1 else window,
        }  # fmt: skip
        word = self._sweep_word(
            base, source, targets=targets, wrong_targets=wrong_targets, data=data, components=components,
            layers=layers, heads=heads, positions=positions, keys=keys, window=window, columns=columns, basis=basis,
            error_term=error_term, op=op, preset=preset,
            direction=direction, seed=seed, first_token=first_token, joint=joint, prepend_bos=prepend_bos,
            skip_bad=skip_bad, known=known, at=at,
        )  # fmt: skip
        if out is not None:
            _check_table(out)
            self._files().asked(word).check(*beside(out))
        torch = self._torch(base, source, targets, wrong_targets)
        result = self._ask(
            self._opened.sweep, word, metrics, _words.shown("Model.sweep", said), progress, top_tokens, torch, rows
        )
        if out is not None:
            result.write(out)
        return result

    def _sweep_word(
        self,
        base: Any = None,
        source: Any = None,
        *,
        components: Any = None,
        layers: Any = "all",
        heads: Any = "all",
        positions: Any = "all",
        keys: Any = None,
        window: int = 1,
        columns: Any = "all",
        basis: str | None = None,
        error_term: bool = True,
        op: str | Op = "interchange",
        preset: str | None = None,
        seed: int | None = None,
        prepend_bos: bool = False,
        call: str = "Model.sweep",
        **prompts: Any,
    ) -> dict[str, Any]:
        if basis is None and not error_term:
            raise PlanError("has an error_term without a basis: leave it out")
        if preset is not None and components is not None:
            raise PlanError("a preset has its own components: give either preset or components")
        return {
            "prompts": _words.asked(base, source, prepend_bos=prepend_bos, call=call, **prompts),
            "components": _words.some_names("components", components),
            "layers": _words.span("layers", layers),
            "heads": _words.span("heads", heads),
            "positions": _words.span("positions", positions),
            "keys": None if keys is None else _words.span("keys", keys),
            "window": _words.whole("window", window),
            "columns": _words.span("columns", columns),
            "basis": None if basis is None else _words.text("basis", basis),
            "no_error_term": not _words.truth("error_term", error_term),
            "preset": None if preset is None else _words.text("preset", preset),
            "op": sweep_op(op),
            "seed": None if seed is None else _words.whole("seed", seed, most=2**64 - 1),
        }

    def plan(self, base: Any = None, source: Any = None, **asked: Any) -> Plan:
        """What a sweep with these arguments would cost; nothing is computed.

        Examples:
            >>> import headlight as hl
            >>> hl.Model("demo").plan(components="head_value_output").runs
            100
        """
        for name in ("metrics", "top_tokens", "rows", "out", "progress"):
            asked.pop(name, None)
        self._ready()
        word = self._sweep_word(base, source, call="Model.plan", **asked)
        count, copied, clean, runs = self._opened.plan(word)
        return Plan(count, count - copied, clean + runs)

    def edges(
        self,
        base: Any = None,
        source: Any = None,
        *,
        senders: str | Sequence[str] = "all",
        receivers: str | Sequence[str] = "all",
        per_position: bool = False,
        metrics: Metrics = (),
        top_tokens: int = 0,
        rows: RowsWish = "auto",
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Result:
        """Every edge between heads and MLPs patched by itself, exactly.

        Args:
            base: The prompt that is patched ...
            source: ... and the one that contributions are taken from.
            senders: What contributes: ``"all"``, ``"heads"``, ``"mlps"``, ``"input"``, ``"a3"``, ``"a3.h5"``, ``"m2"``.
            receivers: What reads: the same, ``"logits"``, ``"q"``, ``"a9.h6.q"``.
            per_position: One run for each position, instead of all together.
            metrics: Further columns.
            top_tokens: How many of the most probable tokens after each run are kept, for ``Result.top_tokens``.
            rows: As of ``sweep``.
            progress: As of ``sweep``.
            prompts: ``targets``, ``wrong_targets``, ``data``, ``direction``, ``first_token``, ``joint``,
                ``prepend_bos``, ``skip_bad`` and ``known``, as of ``sweep``.

        Examples:
            >>> r = model.edges(BASE, SOURCE, targets=" Rome", receivers="logits")
            >>> len(r), r.array().axes
            (26, ('sender', 'receiver'))
        """
        word = {
            "prompts": _words.asked(base, source, call="Model.edges", **prompts),
            "senders": _words.some_names("senders", senders),
            "receivers": _words.some_names("receivers", receivers),
            "per_position": _words.truth("per_position", per_position),
        }
        said = {"base": base, "source": source, "senders": senders, "receivers": receivers}
        torch = self._torch(base, source, *prompts.values())
        return self._ask(
            self._opened.edges, word, metrics, _words.shown("Model.edges", said), progress, top_tokens, torch, rows
        )

    def attribute(
        self,
        base: Any = None,
        source: Any = None,
        *,
        of: Literal["edges", "nodes"] = "edges",
        method: str = "attribution",
        steps: int | None = None,
        rule: Literal["left", "midpoint", "trapezoid"] | None = None,
        gradient_at: Literal["base", "source", "both"] | None = None,
        metric: Metric | str | None = None,
        absolute: bool = False,
        verify_top: int | None = None,
        seed: int = 0,
        senders: str | Sequence[str] = "all",
        receivers: str | Sequence[str] = "all",
        per_position: bool = False,
        components: Sequence[Component | str] | Component | str | None = None,
        layers: Any = "all",
        heads: Any = "all",
        positions: Any = "all",
        columns: Any = "all",
        preset: Preset | str | None = None,
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Attribution:
        """Estimates, by gradients, of what ``edges`` or a sweep would measure, for all of them at once.

        Args:
            base: The prompt that is patched ...
            source: ... and the one whose activations would be put in.
            of: Edges, or nodes: what a sweep over components patches.
            method: ``"attribution"`` (of edges EAP), ``"clean-corrupted"``, ``"eap-ig-inputs"``,
                ``"eap-ig-activations"``, ``"relp"``, of nodes ``"atp-star"``, of edges ``"ifr"``.
            steps: Of a path; 5 unless given.
            rule: Where they stand; midpoints unless given.
            gradient_at: Where the gradient is taken, of ``"attribution"`` and ``"relp"``.
            metric: Of what; ``logit_diff`` where all pairs have wrong answers, else ``prob``, unless given.
            absolute: Also sizes of scores, whose means over pairs do not cancel.
            verify_top: Run the exact patches of so many of the largest scores, and of as many others.
            seed: Of that sample.
            senders: Of edges, as of ``edges``.
            receivers: Of edges.
            per_position: Of edges.
            components: Of nodes, as of ``sweep``.
            layers: Of nodes.
            heads: Of nodes.
            positions: Of nodes.
            columns: Of nodes.
            preset: Of nodes.
            progress: As of ``sweep``.
            prompts: As of ``edges``.

        Examples:
            >>> import headlight as hl
            >>> r = hl.Model("demo").attribute(of="nodes", components="mlp_output", method="relp", targets=" Madrid")
            >>> len(r), r.array("score").axes
            (25, ('layer', 'position'))
        """
        how = {
            "method": _words.text("method", method),
            "steps": None if steps is None else _words.whole("steps", steps),
            "rule": None if rule is None else _words.text("rule", rule),
            "gradient_at": None if gradient_at is None else _words.text("gradient_at", gradient_at),
            "metric": _words.metric("metric", metric),
            "absolute": _words.truth("absolute", absolute),
            "verify_top": None if verify_top is None else _words.whole("verify_top", verify_top),
            "seed": _words.whole("seed", seed, most=2**64 - 1),
        }
        said = _words.shown("Model.attribute", {"of": of, "base": base, "source": source, "method": method})
        if of == "nodes":
            word = self._sweep_word(
                base, source, components=components, layers=layers, heads=heads, positions=positions, columns=columns,
                preset=preset, call="Model.attribute", **prompts,
            )  # fmt: skip
            with self._as_taken(), _progress.told(progress) as tell:
                answered = self._opened.attribute_nodes(word, how, said, tell)
        elif of == "edges":
            word = {
                "prompts": _words.asked(base, source, call="Model.attribute", **prompts),
                "senders": _words.some_names("senders", senders),
                "receivers": _words.some_names("receivers", receivers),
                "per_position": _words.truth("per_position", per_position),
            }
            with self._as_taken(), _progress.told(progress) as tell:
                answered = self._opened.attribute_edges(word, how, said, tell)
        else:
            raise PlanError(f"attribution is of edges or nodes, not of {of!r}")
        for note in answered.notes():
            warnings.warn(note, stacklevel=2)
        return Attribution(answered, self, self._files().asked(word), self._torch(base, source, *prompts.values()))

    def circuit(self, path: str | os.PathLike[str], *, column: str = "score") -> Graph:
        """A circuit out of EAP-IG's JSON (which MIB takes too), or the scores of a table that ``attribute`` wrote.

        Args:
            path: A .json with what is kept, or a .csv, .jsonl or .parquet with scores, of which nothing is kept yet.
            column: Of a table: ``"score"``, ``"exact"`` or ``"absolute"``.

        Examples:
            >>> model.attribute(targets=" Madrid").write("scores.csv")
            [PosixPath('scores.csv')]
            >>> len(model.circuit("scores.csv").greedy(40))
            40
        """
        name = _words.path(path)
        read = self._files().reads("circuit.json" if name.endswith(".json") else "SCORES", name)
        return Graph(self, self._opened.read_graph(name, _words.text("column", column)), read)

    def acdc(
        self,
        base: Any = None,
        source: Any = None,
        *,
        threshold: float,
        metric: Metric | str = "kl",
        ablation: Ablation = "patch",
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Graph:
        """A circuit found by exact runs (Conmy et al. 2023): from the logits backwards, an edge goes if without it the
        metric is less than a threshold further away from the whole model's.

        Args:
            base: The prompt that is run ...
            source: ... and the one whose contributions stand outside of the circuit.
            threshold: Above 0; with ``kl`` in nats.
            metric: What is measured, a mean over pairs and targets.
            ablation: What edges outside carry.
            progress: As of ``sweep``, of edges.
            prompts: As of ``edges``.

        Examples:
            >>> import headlight as hl
            >>> circuit = hl.Model("demo").acdc(threshold=0.1, targets=" Madrid")
            >>> len(circuit) < 761, "logits" in circuit.nodes
            (True, True)
        """
        self._ready()
        word = _words.asked(base, source, call="Model.acdc", **prompts)
        how = (_words.metric("metric", metric) or "kl", _words.text("ablation", ablation))
        threshold = _words.number("threshold", threshold)
        with _progress.told(progress, "edges") as tell:
            found, _, _ = self._opened.acdc(word, how, threshold, tell)
        return Graph(self, found, self._files().asked(word))

    def path(
        self,
        base: Any = None,
        source: Any = None,
        *,
        senders: str | Sequence[str] = "heads",
        receivers: str | Sequence[str] = "logits",
        apart: bool = False,
        freeze: Literal["heads", "all"] = "heads",
        freeze_scales: bool = False,
        positions: Any = "together",
        receiver_positions: Any = "all",
        metrics: Metrics = (),
        top_tokens: int = 0,
        rows: RowsWish = "auto",
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Result:
        """Path patching: what each sender tells some receivers, with what lies between them held.

        Args:
            base: The prompt that is patched ...
            source: ... and the one that senders' values are taken from.
            senders: What sends, each by itself.
            receivers: What receives, all of them together.
            apart: Patch each receiver by itself.
            freeze: What is held at the base's values on the way: other heads, or heads and MLPs.
            freeze_scales: Hold the layer norms' scales too.
            positions: Where senders send.
            receiver_positions: Where receivers receive.
            metrics: Further columns.
            top_tokens: How many of the most probable tokens after each run are kept, for ``Result.top_tokens``.
            rows: As of ``sweep``.
            progress: As of ``sweep``.
            prompts: As of ``edges``.

        Examples:
            >>> r = model.path(BASE, SOURCE, targets=" Rome", receivers="a3.h1.q")
            >>> r.array("prob").labels["receiver"]
            ['a3.h1<q>']
        """
        if freeze not in ("heads", "all"):
            raise PlanError(f"unknown freeze `{freeze}`: use heads or all")
        word = {
            "prompts": _words.asked(base, source, call="Model.path", **prompts),
            "senders": _words.some_names("senders", senders),
            "receivers": _words.some_names("receivers", receivers),
            "apart": _words.truth("apart", apart),
            "freeze_all": freeze == "all",
            "freeze_scales": _words.truth("freeze_scales", freeze_scales),
            "positions": _words.span("positions", positions),
            "receiver_positions": _words.span("receiver-positions", receiver_positions),
        }
        said = {"base": base, "source": source, "senders": senders, "receivers": receivers, "freeze": freeze}
        torch = self._torch(base, source, *prompts.values())
        return self._ask(
            self._opened.paths, word, metrics, _words.shown("Model.path", said), progress, top_tokens, torch, rows
        )

    def trace(
        self,
        prompt: Any = None,
        *,
        subject: str | None = None,
        components: Sequence[Component | str] | str = ("block_output", "mlp_output", "attention_output"),
        window: int | None = None,
        samples: int = 10,
        noise: str | float = "3s",
        seed: int = 0,
        metrics: Metrics = (),
        top_tokens: int = 0,
        rows: RowsWish = "auto",
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Result:
        """Causal tracing: noise on a subject, and what restored states bring back.

        Args:
            prompt: The prompt.
            subject: Its words that are corrupted, or their tokens' numbers (``"2-3"``).
            components: What is restored.
            window: How many layers together; 1 for the residual stream and 10 for others unless given.
            samples: How many corrupted runs there are of each prompt.
            noise: Standard deviation: a number, or ``"3s"``, three of the subjects' token embeddings.
            seed: Of the noise.
            metrics: Further columns; the first is what arrays and the picture hold.
            top_tokens: How many of the most probable tokens after each run are kept, for ``Result.top_tokens``.
            rows: As of ``sweep``.
            progress: As of ``sweep``.
            prompts: As of ``edges``.

        Examples:
            >>> r = model.trace(BASE, subject="Spain", samples=2, targets=" Madrid")
            >>> r.array().axes
            ('component', 'layer', 'position', 'sample')
        """
        word = {
            "prompts": _words.asked(prompt, None, call="Model.trace", **prompts),
            "subject": subject if subject is None or isinstance(subject, str) else _words.span("subject", subject),
            "components": _words.some_names("components", components),
            "window": None if window is None else _words.whole("window", window),
            "samples": _words.whole("samples", samples, most=2**32 - 1),
            "noise": noise if isinstance(noise, str) else str(_words.number("noise", noise)),
            "seed": _words.whole("seed", seed, most=2**64 - 1),
        }
        said = {"prompt": prompt, "subject": subject, "noise": noise, "samples": samples}
        torch = self._torch(prompt, *prompts.values())
        return self._ask(
            self._opened.trace, word, metrics, _words.shown("Model.trace", said), progress, top_tokens, torch, rows
        )

    def lens(
        self,
        prompt: Any = None,
        *,
        components: Sequence[Component | str] | Component | str = ("block_input.0", "block_output"),
        layers: Any = "all",
        positions: Any = "end",
        metrics: Metrics = ("prob", "rank"),
        top_tokens: int = 5,
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Result:
        """The logit lens: residual streams read as if they were the last.

        Args:
            prompt: The prompt, or several.
            components: Streams: ``block_input``, ``block_mid``, ``block_output``, each with a layer or of ``layers``.
            layers: Of streams that name none.
            positions: Where, each by itself: ``"end"``, ``"all"``, numbers or names.
            metrics: Further columns.
            top_tokens: How many of the most probable tokens of each stream are kept, for ``Result.top_tokens``.
            progress: As of ``sweep``.
            prompts: As of ``edges``.

        Examples:
            >>> import headlight as hl
            >>> r = hl.Model("demo").lens("The capital of Spain is", targets=" Madrid")
            >>> r["name"].tolist()[-1], r["rank"].tolist()[-1]
            ('block_output.4', 0.0)
        """
        listed = _words.some_names("components", components)
        word = self._lens_word("Model.lens", prompt, listed, layers, positions, None, prompts)
        said = {"prompt": prompt, "components": components, "positions": positions}
        torch = self._torch(prompt, *prompts.values())
        return self._ask(
            self._opened.lens, word, metrics, _words.shown("Model.lens", said), progress, top_tokens, torch
        )

    def direct_logit_attribution(
        self,
        prompt: Any = None,
        *,
        by: Literal["layer", "component", "head"] = "head",
        positions: Any = "end",
        metrics: Metrics = (),
        progress: ProgressWish = None,
        **prompts: Any,
    ) -> Result:
        """What each part of the model adds to the targets' logits, with the final layer norm's scale held at the
        run's own: the column ``logit``, and ``logit_diff`` where there are wrong targets. Parts sum to the logit.

        Args:
            prompt: The prompt, or several.
            by: Which parts are told apart.
            positions: Where, each by itself: ``"end"``, ``"all"``, numbers or names.
            metrics: ``"logit"`` or ``"logit_diff"``; the latter where there are wrong targets unless given.
            progress: As of ``sweep``.
            prompts: As of ``edges``.

        Examples:
            >>> import headlight as hl
            >>> r = hl.Model("demo").direct_logit_attribution("The capital of Spain is", targets=" Madrid", by="component")
            >>> r["name"].tolist()[:4]
            ['embed', 'pos_embed', 'a0', 'm0']
        """
        call = "Model.direct_logit_attribution"
        word = self._lens_word(call, prompt, [], "all", positions, _words.text("by", by), prompts)
        said = {"prompt": prompt, "by": by, "positions": positions}
        command = _words.shown(call, said)
        torch = self._torch(prompt, *prompts.values())
        return self._ask(self._opened.lens, word, metrics, command, progress, torch=torch)

    def _lens_word(
        self,
        call: str,
        prompt: Any,
        components: Any,
        layers: Any,
        positions: Any,
        by: str | None,
        prompts: Mapping[str, Any],
    ) -> dict[str, Any]:
        if "at" in prompts:
            raise PlanError("a lens is read where positions says: give that, or leave out at")
        return {
            "prompts": _words.asked(prompt, None, call=call, **prompts),
            "components": components,
            "layers": _words.span("layers", layers),
            "positions": _words.span("positions", positions),
            "by": by,
        }

    def unfinished(self) -> Result | None:
        """The rows, in order, that a question had when it was interrupted last; they are handed out once.

        Examples:
            >>> model.unfinished() is None  # nothing was interrupted
            True
        """
        with self._as_taken():
            answered = self._opened.unfinished()
        return None if answered is None else Result(answered, self._read_last)

    def cancel(self) -> None:
        """Stops what runs on this model, from another thread; whoever waits for it gets ``errors.Interrupted``.

        Examples:
            >>> model.cancel()  # from another thread than the one that asked
        """
        self._opened.cancel()

    def _ask(
        self, call: Any, word: Any, metrics: Metrics, command: str, progress: ProgressWish, top_tokens: int = 0,
        torch: bool = False, rows: RowsWish = "auto",
    ) -> Result:  # fmt: skip
        if _words.whole("top_tokens", top_tokens, least=-(2**63)) < 0:
            raise PlanError(f"top_tokens is {top_tokens}: it takes 0, for none, or more")
        named = _words.metrics("metrics", metrics)
        # where these stand now, wherever the process goes
        self._read_last = read = self._files().asked(word)
        with self._as_taken(), _progress.told(progress) as tell:
            answered = call(word, (named, command, int(top_tokens), rows), tell)
        for note in answered.notes():
            warnings.warn(note, stacklevel=3)
        return Result(answered, read, torch)


def _check_table(out: str | os.PathLike[str]) -> None:
    """Refuses a folder before anything is computed."""
    name = _words.path(out)
    if name.endswith(("/", os.sep)) or os.path.isdir(name):
        raise PlanError(
            f"--out {name}: runs in folders are the command's: give a file, start `headlight sweep --out {name}`, "
            "or take headlight.cluster.shards"
        )


def _answers(pair: dict[str, Any], name: str, found: list[str | int]) -> None:
    ids = {"targets": "target_ids", "wrong_targets": "wrong_target_ids"}[name]
    pair[name] = [one for one in found if isinstance(one, str)]
    pair[ids] = [one for one in found if not isinstance(one, str)]


def _typed(value: Any) -> Any:
    return None if isinstance(value, str) and value == "all" else value


def _listed(what: str, value: Any, of: str) -> Any:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{what} is a list of {of}, not {value!r}")
    return value


def _in_experiment(text: str, said: str) -> str:
    """What is wrong with an experiment that was a dictionary: by its keys, and not by a place in a file that nobody wrote."""
    found = re.fullmatch(r"experiment\.json:1:(\d+): (.*)", said, re.DOTALL)
    if found is None:
        return said
    path: list[str | int] = []
    key, position = "", 0
    before = text.encode()[: int(found[1])].decode(errors="ignore")
    for token in re.finditer(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[\[\]{},]', before):
        mark, position = token[0], token.end()
        if token[2]:
            key = token[1]
            path[-1:] = [key]
        elif mark in "[{":
            path.append(0 if mark == "[" else "")
        elif mark in "]}" and position < len(before):
            path.pop()
        elif mark == "," and path and isinstance(path[-1], int):
            path[-1] += 1
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path if part != "").lstrip(".")
    wrong = found[2].replace("expected usize", "expected a whole number from 0")
    return f"the experiment's {where}: {wrong}" if where else f"the experiment: {wrong}"


def _plain(value: Any) -> Any:
    found = as_list(value)
    if found is value:
        raise TypeError(f"an experiment holds texts, numbers and lists, not {type(value).__name__}")
    return found
