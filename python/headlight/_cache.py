"""Clean activations of prompts, computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _headlight, _names
from ._arrays import NamedArray, from_bytes, to_torch

if TYPE_CHECKING:
    from ._model import Model

__all__ = ["Cache"]

_SHAPES = {
    2: ("batch", "position", "width"),
    3: ("batch", "position", "head", "width"),
}


class Cache(Mapping[str, Any]):
    """Activations of a batch of prompts by TransformerLens's names, by ours, or by shorthands.

    ``cache["blocks.8.hook_resid_post"]``, ``cache["resid_post", 8]``, ``cache["q", 6]`` and
    ``cache["head_query_output.6"]`` are arrays ``[batch, position, width]``, ``[batch, position, head, width]``
    for sites with heads, and ``[batch, head, query, key]`` for scores (−∞ where masked) and pattern. Nothing is
    computed before it is asked for, and then once; what is returned is the caller's own.

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
        self._known: dict[tuple[str, int | None], NamedArray] = {}
        every = _names.hook_names(model.config.layers)
        if names is None:
            self._names = every
        elif callable(names):
            wanted: Callable[[str], bool] = names
            self._names = tuple(name for name in every if wanted(name))
        else:
            listed: Sequence[str] = [names] if isinstance(names, str) else list(names)
            self._names = tuple(full for name in listed for full in self._full(name))

    def _full(self, name: str) -> list[str]:
        component, layer = _headlight.site(_names.act_name(name))
        whole = layer is not None or _names.is_global(component)
        layers = [layer] if whole else list(range(self.model.config.layers))
        return [_names.hook_name(component, at) or (component if at is None else f"{component}.{at}") for at in layers]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str | tuple[Any, ...]) -> Any:
        if isinstance(name, tuple):
            short, *rest = name
            if rest and isinstance(rest[0], int) and rest[0] < 0:
                rest[0] += self.model.config.layers
            text = _names.act_name(short, *rest)
        else:
            text = _names.act_name(name)
        component, layer = _headlight.site(text)
        if layer is None and not _names.is_global(component):
            raise KeyError(f"{text!r} stands in every layer: say which, as in cache[{text!r}, 0]")
        key = (component, layer)
        if key not in self._known:
            self._known[key] = self._compute(component, layer)
        found = self._known[key].copy()
        return to_torch(found) if self._torch else found

    def _compute(self, component: str, layer: int | None) -> NamedArray:
        arrays = []
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

    def __repr__(self) -> str:
        batch, length = len(self.prompts), len(self.prompts[0])
        return f"Cache of {len(self)} activations of {batch} × {length} tokens, computed when asked for"
