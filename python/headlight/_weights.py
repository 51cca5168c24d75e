"""Weights of other libraries, lent to the engine where they lie."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import is_torch, to_numpy
from .errors import ModelError

__all__ = ["Lent", "of_hf", "of_state_dict"]

# bytes of each tensor that are looked at before every run
_SAMPLED = 256

_TYPES = {
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "float64": "F64",
}


@dataclass
class Lent:
    """What a model is opened with.

    Attributes:
        name: What it is called.
        config: ``config.json``.
        tensors: Name, type, shape, address, bytes and owner of each.
        tokenizer: ``tokenizer.json``, if there is a tokenizer.
        watched: Tensors that count their changes, with the count and address at which they were taken.
        samples: Some bits of each tensor that is used where it lies, as they were taken: what nobody counts
            (NumPy's writes, ``parameter.data``) changes them too, unless it is as good as nothing.
        origin: Where the weights come from, to take them again.
    """

    name: str
    config: bytes
    tensors: list[tuple[str, str, list[int], int, int, Any]]
    tokenizer: bytes | None
    watched: list[tuple[Any, int, int]]
    samples: list[tuple[NDArray[Any], bytes]]
    origin: Any

    def check(self) -> None:
        """Refuses weights that were changed since they were taken."""
        counted = any(t._version != version or t.data_ptr() != address for t, version, address in self.watched)
        if counted or any(sample.tobytes() != taken for sample, taken in self.samples):
            raise ModelError(f"the weights of {self.name} have changed since they were taken: call model.refresh()")

    def again(self) -> Lent:
        """The same weights as they are now."""
        made: Lent = self.origin()
        return made


def of_hf(model: Any, tokenizer: Any) -> Lent:
    """A live model of transformers'."""
    if hasattr(model, "peft_config"):
        raise ModelError(
            "the model has adapters (PEFT), which are no part of GPT-2: merge them first (merge_and_unload)"
        )
    if getattr(model, "is_quantized", False):
        raise ModelError("the model is quantised, and its weights are no numbers that can be used: load it without")
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "to_json_string"):
        raise ModelError(
            f"{type(model).__name__} is no model of transformers: give a GPT2LMHeadModel, or use from_state_dict"
        )
    if getattr(config, "pruned_heads", None):
        raise ModelError(
            "the model has pruned heads, whose layers have other shapes than its config says: load it without"
        )
    weights = dict(model.named_parameters(remove_duplicate=False))
    lent = of_state_dict(weights, json.loads(config.to_json_string(use_diff=False)), tokenizer)
    lent.name = getattr(config, "name_or_path", "") or type(model).__name__
    lent.origin = lambda: of_hf(model, tokenizer)
    return lent


def of_state_dict(weights: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Any) -> Lent:
    """Tensors by name."""
    if not isinstance(weights, Mapping) or not isinstance(config, Mapping):
        said = type(config if isinstance(weights, Mapping) else weights).__name__
        raise TypeError(f"weights and config are dictionaries, of tensors and of what config.json says, not {said}")
    tensors: list[tuple[str, str, list[int], int, int, Any]] = []
    watched: list[tuple[Any, int, int]] = []
    samples: list[tuple[NDArray[Any], bytes]] = []
    addresses: dict[int, str] = {}
    tied = bool(config.get("tie_word_embeddings", True))
    for name, tensor in weights.items():
        if is_torch(tensor):
            kind = _TYPES.get(str(tensor.dtype))
            watched.append((tensor, tensor._version, tensor.data_ptr()))
            # a view of the same memory, unless it lies on another device or in pieces
            found = tensor.detach().cpu().contiguous()
            address, size = found.data_ptr(), found.numel() * found.element_size()
            shape = list(found.shape)
        else:
            found = np.ascontiguousarray(to_numpy(tensor))
            kind = _TYPES.get(str(found.dtype))
            address, size, shape = found.ctypes.data, found.nbytes, list(found.shape)
        if kind is None:
            # masks and counters that checkpoints carry along
            continue
        if tied and name.endswith("lm_head.weight") and address in addresses:
            continue
        addresses[address] = name
        if size:
            sample = _sample(address, size)
            samples.append((sample, sample.tobytes()))
        tensors.append((name, kind, shape, address, size, found))
    written = dict(config)
    written.setdefault("model_type", "gpt2")
    lent = Lent(
        name="state_dict",
        config=json.dumps(written, default=str).encode(),
        tensors=tensors,
        tokenizer=_tokenizer(tokenizer),
        watched=watched,
        samples=samples,
        origin=lambda: of_state_dict(weights, config, tokenizer),
    )
    return lent


def _sample(address: int, size: int) -> NDArray[Any]:
    """A view of every so many bytes of a tensor, from its first to about its last; who looks at it keeps the tensor."""
    whole: NDArray[Any] = np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)
    # an odd step meets every byte of a number in turn
    return whole[:: max(1, size // _SAMPLED) | 1]


def _tokenizer(tokenizer: Any) -> bytes | None:
    """The text of ``tokenizer.json``."""
    if tokenizer is None:
        return None
    if isinstance(tokenizer, bytes):
        return tokenizer
    if isinstance(tokenizer, str):
        return tokenizer.encode()
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(fast, "to_str"):
        text: str = fast.to_str()
        return text.encode()
    module = sys.modules.get(type(tokenizer).__module__)
    where = f" of {module.__name__}" if module is not None else ""
    raise ModelError(
        f"{type(tokenizer).__name__}{where} is no tokenizer with a tokenizer.json: use AutoTokenizer's fast one"
    )
