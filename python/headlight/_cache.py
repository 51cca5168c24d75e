"""Clean activations of prompts, computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _headlight, _names, _words
from ._arrays import NamedArray, from_bytes, to_numpy, to_torch
from ._result import Page
from .errors import ModelError, PlanError

if TYPE_CHECKING:
    from ._model import Model

__all__ = ["Attention", "Cache"]

_SHAPES = {
    2: ("batch", "position", "width"),
    3: ("batch", "position", "head", "width"),
}


class Cache(Mapping[str, Any]):
    """Activations of a batch of prompts by TransformerLens's names, by ours, or by shorthands.

    ``cache["blocks.8.hook_resid_post"]``, ``cache["resid_post", 8]``, ``cache["q", 6]`` and
    ``cache["head_query_output.6"]`` are arrays ``[batch, position, width]``, ``[batch, position, head, width]``
    for sites with heads, and ``[batch, head, query, key]`` for scores (−∞ where masked) and pattern. Without a layer,
    ``cache["resid_post"]`` is that of every layer, with ``layer`` as the first axis. Nothing is computed before it is
    asked for, and then once; what is returned is the caller's own.

    Examples:
        >>> import headlight as hl
        >>> logits, cache = hl.Model("demo").run_with_cache("The capital of Spain is")
        >>> cache["z", 0].shape
        (1, 5, 4, 32)
    """

    def __init__(self, model: Model, prompts: list[list[int]], names: Any = None, torch: bool = False) -> None:
        self.model = model
        self.prompts = prompts
        self._torch = torch
        self._opened = model._opened
        self._known: dict[tuple[str, int | None], NamedArray] = {}
        every = _names.hook_names(model.config.layers)
        if names is None:
            self._names = every
        elif callable(names):
            wanted: Callable[[str], bool] = names
            self._names = tuple(name for name in every if wanted(name))
        else:
            listed: Sequence[str] = [names] if isinstance(names, str) else _words.names("a cache's names", names)
            self._names = tuple(full for name in listed for full in self._full(name))

    def _full(self, name: str) -> list[str]:
        component, layer = self._site(name)
        whole = layer is not None or _names.is_global(component)
        layers = [layer] if whole else list(range(self.model.config.layers))
        return [_names.full_name(component, at) for at in layers]

    def _site(self, name: object) -> tuple[str, int | None]:
        """A component by its canonical name, and its layer where the name has one that the model has."""
        short, *rest = name if isinstance(name, tuple) else (name,)
        if not isinstance(short, str) or len(rest) > 2:
            raise TypeError(f"a cache is asked by a name, or by a name and a layer, not by {name!r}")
        at, kind = (*rest, None, None)[:2]
        layers = self.model.config.layers
        if at is not None:
            if isinstance(at, bool) or not isinstance(at, Integral):
                raise TypeError(f"a layer is a whole number, not {at!r}")
            at = int(at)
            if not -layers <= at < layers:
                raise PlanError(_out_of_range(at, layers))
            at %= layers
        component, layer = _headlight.site(_names.act_name(short, at, kind))
        if at is not None and _names.is_global(component):
            raise PlanError(f"{component} stands outside the layers: give no layer")
        if layer is not None and layer >= layers:
            raise PlanError(_out_of_range(layer, layers))
        return component, layer

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        try:
            return _names.full_name(*self._site(name)) in self._names
        except (PlanError, TypeError):
            return False

    def __getitem__(self, name: str | tuple[Any, ...]) -> Any:
        """Activations by a name, or by a name and a layer (from the end if negative).

        Examples:
            >>> _, cache = model.run_with_cache([BASE, SOURCE])
            >>> cache["q", 0].shape, cache["resid_post"].shape
            ((2, 5, 4, 32), (5, 2, 5, 128))
        """
        component, layer = self._site(name)
        if layer is None and not _names.is_global(component):
            each = [self._at(component, at) for at in range(self.model.config.layers)]
            found = NamedArray(np.stack(each), ("layer", *each[0].axes))
        else:
            found = self._at(component, layer).copy()
        return to_torch(found) if self._torch else found

    def _at(self, component: str, layer: int | None) -> NamedArray:
        key = (component, layer)
        if key not in self._known:
            self._known[key] = self._compute(component, layer)
        return self._known[key]

    def _attention(self, layers: list[int], scores: bool) -> str:
        self._same()
        self.model._ready()
        return self.model._opened.attention(self.prompts, layers, scores)

    def _same(self) -> None:
        if self.model._opened is not self._opened:
            raise ModelError("the model's weights were taken anew since this cache was made: call run_with_cache again")

    def _compute(self, component: str, layer: int | None) -> NamedArray:
        arrays = []
        self._same()
        for prompt in self.prompts:
            self.model._ready()
            ((shape, data),) = self.model._opened.cache(prompt, [(component, layer)])
            array = from_bytes(data, "<f8", shape).astype(np.float32)
            if array.ndim == 3 and component not in ("attention_scores", "attention_weight"):
                # TransformerLens has positions before heads
                array = array.transpose(1, 0, 2)
            arrays.append(array)
        stacked = np.stack(arrays)
        keys = component in ("attention_scores", "attention_weight")
        axes = ("batch", "head", "query", "key") if keys else _SHAPES[stacked.ndim - 1]
        return NamedArray(stacked, axes)

    def attention(self, layer: int | None = None, *, scores: bool = False) -> Attention:
        """Attention patterns as a page: a grid of queries and keys for each head.

        Args:
            layer: Of this layer, from the end if negative; of every layer unless given.
            scores: Scores before the softmax instead.

        Examples:
            >>> import headlight as hl
            >>> _, cache = hl.Model("demo").run_with_cache("The capital of Spain is")
            >>> cache.attention(0).pattern.shape, "</html>" in cache.attention(0).html
            ((1, 4, 5, 5), True)
        """
        name = "attn_scores" if _words.truth("scores", scores) else "pattern"
        _, at = self._site(name if layer is None else (name, layer))
        return Attention(self, at, scores)

    def __repr__(self) -> str:
        batch, length = len(self.prompts), len(self.prompts[0])
        return f"Cache of {len(self)} activations of {batch} × {length} tokens, computed when asked for"


class Attention(Page):
    """Attention patterns of prompts, as ``Cache.attention`` gives them. In a notebook it is its page.

    Attributes:
        pattern: Patterns, or scores: ``[batch, head, query, key]`` of a layer, with ``layer`` in front of all.

    Examples:
        >>> _, cache = model.run_with_cache(BASE)
        >>> attention = cache.attention(1)
        >>> attention._repr_html_()[:7]
        '<iframe'
    """

    def __init__(self, cache: Cache, layer: int | None, scores: bool) -> None:
        layers = range(cache.model.config.layers) if layer is None else [layer]
        super().__init__(lambda: cache._attention(list(layers), scores), cache.model._files())
        self._cache, self._layer, self._name = cache, layer, "attn_scores" if scores else "pattern"

    @property
    def pattern(self) -> Any:
        """The numbers themselves.

        Examples:
            >>> _, cache = model.run_with_cache(BASE)
            >>> cache.attention().pattern.axes
            ('layer', 'batch', 'head', 'query', 'key')
        """
        return self._cache[self._name if self._layer is None else (self._name, self._layer)]

    def to_circuitsvis(self, prompt: int = 0) -> Any:
        """A prompt's patterns of one layer as circuitsvis draws them, where it is installed.

        Args:
            prompt: Which of the batch.

        Examples:
            >>> _, cache = model.run_with_cache(BASE)
            >>> cache.attention(0).to_circuitsvis()  # doctest: +SKIP
        """
        if self._layer is None:
            raise PlanError("circuitsvis draws one layer: say which, as in cache.attention(0)")
        try:
            from circuitsvis.attention import attention_heads
        except ImportError:
            raise PlanError("circuitsvis is not installed: use show(), or install it") from None
        at = _words.whole("prompt", prompt, most=len(self._cache.prompts) - 1)
        found = np.asarray(to_numpy(self.pattern))[at]
        names = [f"L{self._layer}H{head}" for head in range(len(found))]
        tokens = self._cache.model.to_str_tokens(self._cache.prompts[at])
        return attention_heads(attention=found, tokens=tokens, attention_head_names=names)


def _out_of_range(layer: int, layers: int) -> str:
    return f"layer {layer} is out of range: layers are 0 to {layers - 1}"
