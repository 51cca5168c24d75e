"""A model on a device, and what can be asked of it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import _headlight, _progress, _words
from ._arrays import any_torch, from_bytes, to_torch
from ._cache import Cache
from ._data import Data
from ._names import Component, Metric, Preset
from ._patch import Op, Patch, sweep_op
from ._progress import ProgressWish
from ._result import Result
from .errors import ModelError, PlanError

__all__ = ["Config", "Model", "Plan", "PromptTest"]

Precision = Literal["f32", "f64", "tf32", "bf16", "f16"]
Metrics = Sequence[Metric | str] | Metric | str


@dataclass(frozen=True)
class Config:
    """Sizes and switches of a GPT-2."""

    layers: int
    heads: int
    width: int
    head_width: int
    mlp_width: int
    vocabulary: int
    context: int
    epsilon: float
    activation: str
    tied: bool
    bos: int | None


@dataclass(frozen=True)
class LensConfig:
    """The same under TransformerLens's names, so that helper code keeps working."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    eps: float
    act_fn: str
    model_name: str
    device: str


@dataclass(frozen=True)
class Plan:
    """What a sweep would cost at most; nothing was computed.

    Attributes:
        runs: Patched runs.
        live: Those that are computed: of the others, prompts say already that they change nothing.
        operations: Floating-point operations, two each multiply-add.
    """

    runs: int
    live: int
    operations: int


@dataclass(frozen=True)
class PromptTest:
    """How a model takes an answer to a prompt, token by token, as TransformerLens's ``test_prompt`` prints it.

    Attributes:
        prompt: The prompt.
        tokens: The prompt's tokens.
        answer: Each of the answer's tokens: text, rank among all tokens (0 is the most probable), probability, and
            the most probable tokens at its place with their probabilities.
    """

    prompt: str
    tokens: list[str]
    answer: list[tuple[str, int, float, list[tuple[str, float]]]]

    def __repr__(self) -> str:
        lines = [f"prompt tokens: {self.tokens}", f"answer tokens: {[text for text, *_ in self.answer]}"]
        for text, rank, probability, top in self.answer:
            lines.append(f"{text!r}: rank {rank}, probability {probability:.4g}")
            lines += [f"  top {at}: {t!r} {p:.4g}" for at, (t, p) in enumerate(top)]
        return "\n".join(lines)


class Model:
    """A GPT-2 on a device.

    Args:
        name_or_path: ``"demo"``, a folder in Hugging Face's layout, or a hub id; OpenAI's sizes also by
            TransformerLens's names (``"gpt2-small"``).
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: ``"f32"`` unless given; ``"f64"`` on the CPU, ``"tf32"``, ``"bf16"`` and ``"f16"`` on a GPU.
        threads: All cores unless given. They are the process's: the first model that says how many has its way.
        memory: For activations, as bytes or ``"2G"``; a quarter of what is free unless given.
        offline: Take a hub id from the cache, or not at all.

    Example:
        >>> import headlight as hl
        >>> model = hl.Model("demo")
        >>> model.config.layers, model.config.heads
        (5, 4)
    """

    config: Config

    def __init__(
        self,
        name_or_path: str | os.PathLike[str] = "demo",
        *,
        device: str = "auto",
        precision: Precision = "f32",
        threads: int | None = None,
        memory: str | int | None = None,
        offline: bool = False,
    ) -> None:
        name = os.fspath(name_or_path)
        if name in ("gpt2-small", "gpt2_small") and not os.path.exists(name):
            name = "gpt2"
        before = os.environ.get("HF_HUB_OFFLINE")
        if offline:
            os.environ["HF_HUB_OFFLINE"] = "1"
        try:
            self._begin(_headlight.Opened.open(name, _wish(device, precision, threads, memory)))
        finally:
            if offline and before is None:
                del os.environ["HF_HUB_OFFLINE"]
            elif offline and before is not None:
                os.environ["HF_HUB_OFFLINE"] = before

    def _begin(self, opened: _headlight.Opened) -> None:
        self._opened = opened
        self.config = Config(**opened.config())
        self._lent: Any = None
        self._wish: dict[str, Any] = {}

    @classmethod
    def from_hf(cls, model: Any, tokenizer: Any = None, **wishes: Any) -> Model:
        """A live ``GPT2LMHeadModel`` or ``GPT2Model``: its weights are used where they lie, without a copy.

        Weights that are changed in place afterwards (an optimiser's step) are noticed where torch counts changes,
        and refused until ``refresh`` is called.

        Args:
            model: The model, on the CPU in float32, float16 or bfloat16.
            tokenizer: Its tokenizer; without, prompts are token ids.
            wishes: ``device``, ``precision``, ``threads`` and ``memory``, as ``Model`` takes them.
        """
        from ._weights import of_hf

        return cls._of(of_hf(model, tokenizer), wishes)

    @classmethod
    def from_state_dict(
        cls, weights: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Any = None, **wishes: Any
    ) -> Model:
        """Tensors by their names in a checkpoint, NumPy's or torch's, used where they lie if they are contiguous.

        Args:
            weights: Such as ``{"wte.weight": …, "h.0.ln_1.weight": …}``, with or without ``transformer.`` before.
            config: What stands in ``config.json``.
            tokenizer: A tokenizer of transformers or tokenizers, or the text of ``tokenizer.json``.
            wishes: ``device``, ``precision``, ``threads`` and ``memory``, as ``Model`` takes them.
        """
        from ._weights import of_state_dict

        return cls._of(of_state_dict(weights, config, tokenizer), wishes)

    @classmethod
    def from_transformer_lens(cls, bridge: Any, **wishes: Any) -> Model:
        """A ``TransformerBridge`` of TransformerLens 3 or later: the Hugging Face model in it, with its raw weights
        (folded and centred ones give the same interchanges, but other activations)."""
        original = getattr(bridge, "original_model", None)
        if original is None:
            raise ModelError(
                f"{type(bridge).__name__} has no original_model: give a TransformerBridge, or the Hugging Face model to from_hf"
            )
        return cls.from_hf(original, getattr(bridge, "tokenizer", None), **wishes)

    @classmethod
    def _of(cls, lent: Any, wishes: Mapping[str, Any]) -> Model:
        unknown = set(wishes) - {"device", "precision", "threads", "memory"}
        if unknown:
            raise TypeError(f"unknown argument {min(unknown)!r}: use device, precision, threads or memory")
        wish = _wish(
            wishes.get("device", "auto"), wishes.get("precision", "f32"), wishes.get("threads"), wishes.get("memory")
        )
        model = cls.__new__(cls)
        model._begin(_headlight.Opened.of_tensors(lent.name, lent.config, lent.tensors, lent.tokenizer, wish))
        model._lent, model._wish = lent, wish
        return model

    def refresh(self) -> None:
        """Takes weights that were changed in place as they are now."""
        if self._lent is not None:
            lent = self._lent.again()
            wish = self._wish
            self._begin(_headlight.Opened.of_tensors(lent.name, lent.config, lent.tensors, lent.tokenizer, wish))
            self._lent, self._wish = lent, wish

    def _ready(self) -> None:
        if self._lent is not None:
            self._lent.check()

    @property
    def name(self) -> str:
        """What it was opened by."""
        return self._opened.name

    @property
    def device(self) -> str:
        """``"cpu"``, or the GPU's name."""
        return self._opened.device

    @property
    def precision(self) -> str:
        """In what numbers it runs."""
        return self._opened.precision

    @property
    def hash(self) -> str:
        """SHA-256 of the weights' file; every weight is read the first time."""
        return self._opened.hash()

    @property
    def cfg(self) -> LensConfig:
        """Sizes under TransformerLens's names."""
        c = self.config
        return LensConfig(
            c.layers, c.heads, c.width, c.head_width, c.mlp_width, c.vocabulary, c.context, c.epsilon, c.activation,
            self.name, self.device,
        )  # fmt: skip

    def __repr__(self) -> str:
        c = self.config
        return f"Model({self.name!r}: {c.layers} layers × {c.heads} heads, width {c.width}; {self._opened.about}, {self.precision})"

    # tokens

    def to_tokens(self, text: str | Sequence[str], *, prepend_bos: bool = False) -> Any:
        """Token ids, int64 ``[batch, position]``. No BOS is added unless asked for; texts of unequal lengths are an
        error, since nothing is padded.

        Example:
            >>> import headlight as hl
            >>> hl.Model("demo").to_tokens("The capital of Spain is").shape
            (1, 5)
        """
        texts = [text] if isinstance(text, str) else list(text)
        found = [self._opened.encode(one) for one in texts]
        if prepend_bos:
            found = [[self._bos(), *ids] for ids in found]
        lengths = {len(ids) for ids in found}
        if len(lengths) > 1:
            said = ", ".join(str(len(ids)) for ids in found)
            raise PlanError(
                f"the texts have {said} tokens, and nothing is padded: give them one by one, or texts of one length"
            )
        return np.array(found, dtype=np.int64)

    def _bos(self) -> int:
        if self.config.bos is None:
            raise PlanError("--bos: the model's config.json names no bos_token_id: leave it out")
        return self.config.bos

    def to_str_tokens(self, text: Any, *, prepend_bos: bool = False) -> list[str]:
        """Each token's text, of a text or of token ids.

        Example:
            >>> import headlight as hl
            >>> hl.Model("demo").to_str_tokens("The capital of Spain is")
            ['The', ' capital', ' of', ' Spain', ' is']
        """
        ids = self._ids(text)
        return self._opened.tokens([self._bos(), *ids] if prepend_bos else ids)

    def to_single_token(self, text: str) -> int:
        """The id of a text that is one token; of one that is several, an error that names them."""
        return self._opened.target(text)

    def to_string(self, ids: Any) -> str:
        """Tokens together as text."""
        return self._opened.decode(_words.ids("given", ids))

    def _ids(self, prompt: Any, what: str = "base") -> list[int]:
        word = _words.prompt(what, prompt)
        return self._opened.encode(word) if isinstance(word, str) else word

    # forward

    def __call__(self, prompts: Any, *, positions: Literal["last", "all"] = "last") -> Any:
        """Logits, float32 ``[batch, vocabulary]`` after the last position, or ``[batch, position, vocabulary]`` of
        all; torch's where torch's ids go in."""
        if positions not in ("last", "all"):
            raise PlanError(f"positions are 'last' or 'all', not {positions!r}")
        found = self._logits(self._batch(prompts), positions == "all")
        array = found if positions == "all" else found[:, 0]
        return to_torch(array) if any_torch(prompts) else array

    def _logits(self, batch: list[list[int]], everywhere: bool) -> Any:
        self._ready()
        data = self._opened.logits(batch, everywhere)
        length = len(batch[0]) if everywhere else 1
        return from_bytes(data, "<f4", [len(batch), length, self.config.vocabulary])

    def _batch(self, prompts: Any) -> list[list[int]]:
        batch = [self._ids(one) for one in (prompts if _words.is_batch(prompts) else [prompts])]
        lengths = sorted({len(ids) for ids in batch})
        if len(lengths) > 1:
            raise PlanError(
                f"the prompts have {lengths[0]} to {lengths[-1]} tokens, and nothing is padded: give them one by one"
            )
        return batch

    def topk(self, prompt: Any, k: int = 10) -> list[tuple[str, float]]:
        """The most probable next tokens, each with its probability; ties by the lower id.

        Example:
            >>> import headlight as hl
            >>> hl.Model("demo").topk("The capital of Spain is")[0][0]
            ' Madrid'
        """
        self._ready()
        return [(text, p) for _, text, p in self._opened.topk(self._ids(prompt), k)]

    def test_prompt(self, prompt: str, answer: str, *, top_k: int = 10) -> PromptTest:
        """How probable an answer is, token by token: its rank, its probability, and what else comes first."""
        ids, answers = self._ids(prompt), self._opened.encode(answer)
        found = []
        for at, token in enumerate(answers):
            logits = self._logits([ids + answers[:at]], False)[0, 0].astype(np.float64)
            logits -= logits.max()
            p = np.exp(logits) / np.exp(logits).sum()
            best = np.argsort(-p, kind="stable")[:top_k]
            top = [(text, float(p[i])) for text, i in zip(self._opened.tokens(best.tolist()), best, strict=True)]
            rank = int((p > p[token]).sum())
            found.append((self._opened.tokens([token])[0], rank, float(p[token]), top))
        return PromptTest(prompt, self._opened.tokens(ids), found)

    def run_with_cache(
        self,
        prompts: Any,
        *,
        names: str | Sequence[str] | Callable[[str], bool] | None = None,
        names_filter: str | Sequence[str] | Callable[[str], bool] | None = None,
    ) -> tuple[Any, Cache]:
        """Logits ``[batch, position, vocabulary]``, and the activations, which are computed when they are asked for.

        Args:
            prompts: Texts or token ids, of one length.
            names: What the cache lists; everything unless given. ``names_filter`` is TransformerLens's word.
        """
        batch = self._batch(prompts)
        torch = any_torch(prompts)
        logits = self._logits(batch, True)
        return to_torch(logits) if torch else logits, Cache(self, batch, names or names_filter, torch)

    # experiments

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

        Example:
            >>> import headlight as hl
            >>> country = hl.Patch("head_value_output", 0, heads=0, positions="Spain")
            >>> r = hl.Model("demo").patch("The capital of Spain is", country, source="The capital of Italy is", targets=" Rome")
            >>> round(r["prob"][0].item(), 2)
            0.98
        """
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
        return self._runs({"pair": [pair], "run": [{"patches": words}]}, made, metrics, False, False, call)

    def run(
        self,
        experiment: Mapping[str, Any] | str | os.PathLike[str],
        *,
        metrics: Metrics = (),
        first_token: bool = False,
        progress: ProgressWish = None,
    ) -> Result:
        """An experiment: a .toml or .json file, or the same as a dictionary, in whose runs ``Patch`` may stand.

        Example:
            >>> import headlight as hl
            >>> value = hl.Patch("head_value_output", 0, heads=0, positions=3)
            >>> r = hl.Model("demo").run({
            ...     "targets": [" Rome"],
            ...     "pair": [{"base": "The capital of Spain is", "source": "The capital of Italy is"}],
            ...     "run": [{"name": "country", "patches": [value]}],
            ... })
            >>> r["name"].tolist()
            ['country']
        """
        if isinstance(experiment, str | os.PathLike):
            name = _words.path(experiment)
            word: dict[str, Any] = {"json": None, "path": name, "first_token": first_token, "made": []}
            return self._ask(self._opened.runs, word, metrics, f"Model.run({name!r})", progress)
        made: list[tuple[int, int, dict[str, Any]]] = []
        written = dict(experiment)
        runs: list[Any] = []
        for r, run in enumerate(written.get("run", [])):
            own = dict(run)
            patches = []
            for i, one in enumerate(own.get("patches", [])):
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
        return self._runs(written, made, metrics, first_token, progress, call)

    def _runs(
        self, experiment: Any, made: Any, metrics: Metrics, first_token: bool, progress: ProgressWish, call: str
    ) -> Result:
        text = json.dumps(experiment, default=_plain)
        word = {"json": text, "path": "experiment.json", "first_token": first_token, "made": made}
        return self._ask(self._opened.runs, word, metrics, call, progress)

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
        columns: Any = "all",
        basis: str | None = None,
        op: str | Op = "interchange",
        preset: Preset | str | None = None,
        direction: Literal["denoise", "noise"] = "denoise",
        metrics: Metrics = (),
        seed: int | None = None,
        first_token: bool = False,
        prepend_bos: bool = False,
        skip_bad: bool = False,
        known: bool = False,
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
            columns: Columns of the row, or coordinates of the basis.
            basis: ``"F.safetensors#name"`` of the basis in which the operator acts.
            op: What is done: an ``Op``, or as the command line spells it.
            preset: A ready-made sweep by TransformerLens's name, instead of components.
            direction: Of a data set, whether the corrupted prompt is patched (``"denoise"``) or the clean one.
            metrics: Further columns, such as ``"logit_diff"`` and ``"recovery_logit_diff"``.
            seed: Of noise.
            first_token: Let a target of several tokens count as its first.
            prepend_bos: Begin every prompt with the model's BOS token.
            skip_bad: Pass over malformed rows of a data set.
            known: Keep rows that the model answers rightly.
            out: Also write the table there.
            progress: A bar where somebody watches and it takes more than two seconds; True and False say always
                and never, and a function is told a ``Progress``.

        Example:
            >>> import headlight as hl
            >>> r = hl.Model("demo").sweep(components="head_value_output", targets=" Rome")
            >>> r.top(1)["layer"].tolist(), r.top(1)["head"].tolist(), r.top(1)["token"].tolist()
            ([0], [0], [' Spain'])
        """
        said = {
            "base": base, "source": source, "targets": targets, "wrong_targets": wrong_targets, "data": data,
            "components": components, "preset": preset, "op": None if op == "interchange" else op,
            "layers": _typed(layers), "heads": _typed(heads), "positions": _typed(positions),
        }  # fmt: skip
        word = self._sweep_word(
            base, source, targets=targets, wrong_targets=wrong_targets, data=data, components=components,
            layers=layers, heads=heads, positions=positions, columns=columns, basis=basis, op=op, preset=preset,
            direction=direction, seed=seed, first_token=first_token, prepend_bos=prepend_bos, skip_bad=skip_bad,
            known=known,
        )  # fmt: skip
        result = self._ask(self._opened.sweep, word, metrics, _words.shown("Model.sweep", said), progress)
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
        columns: Any = "all",
        basis: str | None = None,
        op: str | Op = "interchange",
        preset: str | None = None,
        seed: int | None = None,
        prepend_bos: bool = False,
        **prompts: Any,
    ) -> dict[str, Any]:
        if preset is not None and components is not None:
            raise PlanError("a preset has its own components: give either preset or components")
        return {
            "prompts": _words.asked(base, source, bos=prepend_bos, **prompts),
            "components": _words.names(components),
            "layers": _words.span("layers", layers),
            "heads": _words.span("heads", heads),
            "positions": _words.span("positions", positions),
            "columns": _words.span("columns", columns),
            "basis": basis,
            "preset": preset,
            "op": sweep_op(op),
            "seed": seed,
        }

    def plan(self, base: Any = None, source: Any = None, **asked: Any) -> Plan:
        """What a sweep with these arguments would cost; nothing is computed.

        Example:
            >>> import headlight as hl
            >>> hl.Model("demo").plan(components="head_value_output").runs
            100
        """
        for name in ("metrics", "out", "progress"):
            asked.pop(name, None)
        count, copied, clean, runs = self._opened.plan(self._sweep_word(base, source, **asked))
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
            progress: As of ``sweep``.
            prompts: ``targets``, ``wrong_targets``, ``data``, ``direction``, ``first_token``, ``bos``,
                ``skip_bad`` and ``known``, as of ``sweep``.
        """
        word = {
            "prompts": _words.asked(base, source, **prompts),
            "senders": _words.names(senders),
            "receivers": _words.names(receivers),
            "per_position": per_position,
        }
        said = {"base": base, "source": source, "senders": senders, "receivers": receivers}
        return self._ask(self._opened.edges, word, metrics, _words.shown("Model.edges", said), progress)

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
            progress: As of ``sweep``.
            prompts: As of ``edges``.
        """
        if freeze not in ("heads", "all"):
            raise PlanError(f"unknown freeze `{freeze}`: use heads or all")
        word = {
            "prompts": _words.asked(base, source, **prompts),
            "senders": _words.names(senders),
            "receivers": _words.names(receivers),
            "apart": apart,
            "freeze_all": freeze == "all",
            "freeze_scales": freeze_scales,
            "positions": _words.span("positions", positions),
            "receiver_positions": _words.span("receiver-positions", receiver_positions),
        }
        said = {"base": base, "source": source, "senders": senders, "receivers": receivers, "freeze": freeze}
        return self._ask(self._opened.paths, word, metrics, _words.shown("Model.path", said), progress)

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
            progress: As of ``sweep``.
            prompts: As of ``edges``.
        """
        word = {
            "prompts": _words.asked(prompt, None, **prompts),
            "subject": subject,
            "components": _words.names(components),
            "window": window,
            "samples": samples,
            "noise": str(noise),
            "seed": seed,
        }
        said = {"prompt": prompt, "subject": subject, "noise": noise, "samples": samples}
        return self._ask(self._opened.trace, word, metrics, _words.shown("Model.trace", said), progress)

    def cancel(self) -> None:
        """Stops what runs on this model, from another thread; whoever waits for it gets ``errors.Interrupted``."""
        self._opened.cancel()

    def _ask(self, call: Any, word: Any, metrics: Metrics, command: str, progress: ProgressWish) -> Result:
        self._ready()
        tell, close = _progress.callback(progress)
        try:
            answered = call(word, (_words.names(metrics), command), tell)
        finally:
            close()
        for note in answered.notes():
            warnings.warn(note, stacklevel=3)
        return Result(answered)


def _wish(device: str, precision: str, threads: int | None, memory: str | int | None) -> dict[str, Any]:
    if threads is not None and not 1 <= threads <= 1024:
        raise PlanError(f"threads is {threads}: it takes 1 to 1024")
    size = _headlight.size(memory) if isinstance(memory, str) else memory
    if size is not None and size <= 0:
        raise PlanError(f"`{size}` is not a size: write 512M, 2G or a number of bytes")
    return {"device": device, "precision": precision, "threads": threads, "memory": size}


def _answers(pair: dict[str, Any], name: str, found: list[str | int]) -> None:
    ids = {"targets": "target_ids", "wrong_targets": "wrong_target_ids"}[name]
    pair[name] = [one for one in found if isinstance(one, str)]
    pair[ids] = [one for one in found if not isinstance(one, str)]


def _typed(value: Any) -> Any:
    return None if isinstance(value, str) and value == "all" else value


def _plain(value: Any) -> Any:
    from ._arrays import as_list

    found = as_list(value)
    if found is value:
        raise TypeError(f"an experiment holds texts, numbers and lists, not {type(value).__name__}")
    return found
