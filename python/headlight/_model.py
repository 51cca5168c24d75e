"""A model on a device: its words, its logits, its activations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np

from . import _headlight, _progress, _words
from ._arrays import from_bytes, to_torch
from ._cache import Cache
from ._facts import Config, LensConfig, PromptTest
from ._progress import ProgressWish
from ._questions import ArraysOf, Questions
from .errors import ModelError, PlanError

__all__ = ["HELD", "Model"]

# bytes of logits that are handed over at a time
HELD = 1 << 25

Precision: TypeAlias = Literal["f32", "f64", "tf32", "bf16", "f16"]


class Model(Questions):
    """A GPT-2 on a device.

    Args:
        name_or_path: ``"demo"``, a folder in Hugging Face's layout, or a hub id; OpenAI's sizes also by
            TransformerLens's names (``"gpt2-small"``).
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"cuda:0,1"`` and ``"all"`` for several
            GPUs of one kind, which share patched runs out.
        precision: ``"f32"`` unless given; ``"f64"`` on the CPU, ``"tf32"``, ``"bf16"`` and ``"f16"`` on a GPU.
        threads: All cores unless given. They are the process's: the first model that says how many has its way.
        memory: For activations, as bytes or ``"2G"``; a quarter of what is free unless given.
        offline: Take a hub id from the cache, or not at all.
        arrays: Whose arrays come back: ``"auto"``, torch's tensors where a call is given some and else NumPy's, or always
            ``"torch"`` or ``"numpy"``.

    Examples:
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
        arrays: ArraysOf = "auto",
    ) -> None:
        self._arrays_of = _arrays_of(arrays)
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
        # of a folder, wherever the process goes
        self._place = os.path.realpath(opened.name)
        self.config = Config(**opened.config())
        self._lent: Any = None
        self._wish: dict[str, Any] = {}

    @classmethod
    def from_hf(cls, model: Any, tokenizer: Any = None, **wishes: Any) -> Model:
        """A live ``GPT2LMHeadModel`` or ``GPT2Model``: its weights are used where they lie, without a copy.

        Weights that are changed in place afterwards (an optimiser's step) are noticed where torch counts changes or a
        sample of their bytes shows them, and refused until ``refresh`` is called. The first question reads them all, for
        the hash in its provenance.

        Args:
            model: The model, on the CPU in float32, float16 or bfloat16.
            tokenizer: Its tokenizer; without, prompts are token ids.
            wishes: ``device``, ``precision``, ``threads``, ``memory`` and ``arrays``, as ``Model`` takes them.

        Examples:
            >>> from transformers import AutoTokenizer, GPT2LMHeadModel  # doctest: +SKIP
            >>> hf, tokenizer = (of.from_pretrained("gpt2") for of in (GPT2LMHeadModel, AutoTokenizer))  # doctest: +SKIP
            >>> model = hl.Model.from_hf(hf, tokenizer)  # doctest: +SKIP
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
            wishes: ``device``, ``precision``, ``threads``, ``memory`` and ``arrays``, as ``Model`` takes them.

        Examples:
            >>> weights = {"wte.weight": np.zeros((5, 2), np.float32)}
            >>> try:
            ...     hl.Model.from_state_dict(weights, {"n_layer": 1, "n_head": 1, "n_embd": 2, "vocab_size": 5})
            ... except hl.ModelError as error:
            ...     print("has no tensor `wpe.weight`" in str(error))
            True
        """
        from ._weights import of_state_dict

        return cls._of(of_state_dict(weights, config, tokenizer), wishes)

    @classmethod
    def from_transformer_lens(cls, bridge: Any, **wishes: Any) -> Model:
        """A ``TransformerBridge`` of TransformerLens 3 or later: the Hugging Face model in it, with its raw weights
        (folded and centred ones give the same interchanges, but other activations).

        Examples:
            >>> from transformer_lens.model_bridge import TransformerBridge  # doctest: +SKIP
            >>> model = hl.Model.from_transformer_lens(TransformerBridge.boot_transformers("gpt2"))  # doctest: +SKIP
        """
        original = getattr(bridge, "original_model", None)
        if original is None:
            raise ModelError(
                f"{type(bridge).__name__} has no original_model: give a TransformerBridge, or the Hugging Face model to from_hf"
            )
        return cls.from_hf(original, getattr(bridge, "tokenizer", None), **wishes)

    @classmethod
    def _of(cls, lent: Any, wishes: Mapping[str, Any]) -> Model:
        unknown = set(wishes) - {"device", "precision", "threads", "memory", "arrays"}
        if unknown:
            raise TypeError(f"unknown argument {min(unknown)!r}: use device, precision, threads, memory or arrays")
        wish = _wish(
            wishes.get("device", "auto"), wishes.get("precision", "f32"), wishes.get("threads"), wishes.get("memory")
        )
        model = cls.__new__(cls)
        model._arrays_of = _arrays_of(wishes.get("arrays", "auto"))
        model._begin(_headlight.Opened.of_tensors(lent.name, lent.config, lent.tensors, lent.tokenizer, wish))
        model._lent, model._wish = lent, wish
        return model

    def refresh(self) -> None:
        """Takes weights that were changed in place as they are now.

        Examples:
            >>> model.refresh()  # after optimizer.step() on what from_hf was given
        """
        if self._lent is not None:
            lent = self._lent.again()
            wish = self._wish
            self._begin(_headlight.Opened.of_tensors(lent.name, lent.config, lent.tensors, lent.tokenizer, wish))
            self._lent, self._wish = lent, wish

    def _ready(self) -> None:
        if self._lent is not None:
            self._lent.check()

    @contextmanager
    def _as_taken(self) -> Iterator[None]:
        if self._lent is None:
            # a file's weights stay as they are
            yield
            return
        opened = self._opened
        self._ready()
        opened.hash_ahead()
        yield
        opened.hash()
        self._ready()

    @property
    def name(self) -> str:
        """What it was opened by.

        Examples:
            >>> model.name
            'demo'
        """
        return self._opened.name

    @property
    def device(self) -> str:
        """``"cpu"``, or the GPU's name.

        Examples:
            >>> model.device
            'cpu'
        """
        return self._opened.device

    @property
    def precision(self) -> str:
        """In what numbers it runs.

        Examples:
            >>> model.precision
            'f32'
        """
        return self._opened.precision

    @property
    def hash(self) -> str:
        """SHA-256 of the weights' file, or of the tensors; every weight is read the first time.

        Examples:
            >>> len(model.hash)
            64
        """
        self._ready()
        return self._opened.hash()

    @property
    def cfg(self) -> LensConfig:
        """Sizes under TransformerLens's names.

        Examples:
            >>> model.cfg.n_heads, model.cfg.d_head
            (4, 32)
        """
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

        Examples:
            >>> import headlight as hl
            >>> hl.Model("demo").to_tokens("The capital of Spain is").shape
            (1, 5)
        """
        texts = [text] if isinstance(text, str | bytes) or not isinstance(text, Iterable) else list(text)
        for one in texts:
            _words.text("what tokens are made of", one)
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

        Examples:
            >>> import headlight as hl
            >>> hl.Model("demo").to_str_tokens("The capital of Spain is")
            ['The', ' capital', ' of', ' Spain', ' is']
        """
        ids = self._ids(text)
        return self._opened.tokens([self._bos(), *ids] if prepend_bos else ids)

    def to_single_token(self, text: str) -> int:
        """The id of a text that is one token; of one that is several, an error that names them.

        Examples:
            >>> model.to_string([model.to_single_token(" Rome")])
            ' Rome'
        """
        return self._opened.target(_words.text("a token", text))

    def to_string(self, ids: Any) -> str:
        """Tokens together as text.

        Examples:
            >>> model.to_string(model.to_tokens(BASE)[0])
            'The capital of Spain is'
        """
        return self._opened.decode(_words.ids("given", ids))

    # forward

    def __call__(
        self, prompts: Any, *, positions: Literal["last", "all"] = "last", progress: ProgressWish = None
    ) -> Any:
        """Logits, float32 ``[batch, vocabulary]`` after the last position, or ``[batch, position, vocabulary]`` of
        all; torch's where torch's ids go in.

        Args:
            prompts: Texts or token ids, of one length.
            positions: ``"last"`` or ``"all"``.
            progress: As of ``sweep``, of prompts.

        Examples:
            >>> import headlight as hl
            >>> model = hl.Model("demo")
            >>> model(["The capital of Spain is", "The capital of Italy is"]).shape == (2, model.config.vocabulary)
            True
        """
        if positions not in ("last", "all"):
            raise PlanError(f"positions are 'last' or 'all', not {positions!r}")
        found = self._logits(self._batch(prompts), positions == "all", progress)
        array = found if positions == "all" else found[:, 0]
        return to_torch(array) if self._torch(prompts) else array

    def _logits(self, batch: list[list[int]], everywhere: bool, progress: ProgressWish = False) -> Any:
        c, length = self.config, len(batch[0]) if everywhere else 1
        for ids in batch:
            if not 0 < len(ids) <= c.context or max(ids) >= c.vocabulary:
                # whatever is wrong is said before anything is computed
                self._ready()
                self._opened.logits([ids], False)
        logits = np.empty([len(batch), length, c.vocabulary], "<f4")
        # some at a time, so that an interrupt is heard in between
        step = max(1, HELD // (4 * length * c.vocabulary))
        with _progress.counted(progress, "prompts", len(batch)) as count:
            for first in range(0, len(batch), step):
                self._ready()
                some = batch[first : first + step]
                data = self._opened.logits(some, everywhere)
                logits[first : first + len(some)] = from_bytes(data, "<f4", [len(some), length, c.vocabulary])
                count(first + len(some))
        return logits

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

        Examples:
            >>> import headlight as hl
            >>> hl.Model("demo").topk("The capital of Spain is")[0][0]
            ' Madrid'
        """
        k = min(_words.whole("k", k, least=1), self.config.vocabulary)
        self._ready()
        return [(text, p) for _, text, p in self._opened.topk(self._ids(prompt), k)]

    def test_prompt(self, prompt: str, answer: str, *, top_k: int = 10) -> PromptTest:
        """How probable an answer is, token by token: its rank, its probability, and what else comes first.

        Examples:
            >>> model.test_prompt(BASE, " Rome", top_k=1).answer[0][3][0][0]
            ' Madrid'
        """
        self._ready()
        top_k = _words.whole("top_k", top_k)
        ids, answers = self._ids(prompt), self._opened.encode(_words.text("answer", answer))
        if not answers:
            raise PlanError("the answer is empty: give at least one token")
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
        progress: ProgressWish = None,
    ) -> tuple[Any, Cache]:
        """Logits ``[batch, position, vocabulary]``, and the activations, which are computed when they are asked for.

        Args:
            prompts: Texts or token ids, of one length.
            names: What the cache lists; everything unless given. ``names_filter`` is TransformerLens's word.
            progress: Of the logits, as of ``sweep``.

        Examples:
            >>> import headlight as hl
            >>> logits, cache = hl.Model("demo").run_with_cache("The capital of Spain is", names="resid_post")
            >>> logits.shape[:2], len(cache)
            ((1, 5), 5)
        """
        batch = self._batch(prompts)
        torch = self._torch(prompts)
        logits = self._logits(batch, True, progress)
        return to_torch(logits) if torch else logits, Cache(self, batch, names or names_filter, torch)


def _arrays_of(arrays: ArraysOf) -> ArraysOf:
    if arrays not in ("auto", "numpy", "torch"):
        raise PlanError(f"unknown arrays {arrays!r}: use auto, numpy or torch")
    return arrays


def _wish(device: str, precision: str, threads: int | None, memory: str | int | None) -> dict[str, Any]:
    _words.text("device", device)
    _words.text("precision", precision)
    if threads is not None and not 1 <= _words.whole("threads", threads, least=-(2**63)) <= 1024:
        raise PlanError(f"threads is {threads}: it takes 1 to 1024")
    size = _headlight.size(memory) if isinstance(memory, str) else memory
    if size is not None and _words.whole("memory", size, least=-(2**63)) <= 0:
        raise PlanError(f"`{size}` is not a size: write 512M, 2G or a number of bytes")
    return {"device": device, "precision": precision, "threads": threads, "memory": size}
