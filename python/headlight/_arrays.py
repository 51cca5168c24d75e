"""Arrays in and out: NumPy's, and torch's where torch came in. Neither torch nor pandas is imported here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NamedArray"]


class NamedArray(np.ndarray[Any, np.dtype[np.float64]]):
    """A NumPy array that knows its axes; everything that takes an array takes it.

    Attributes:
        axes: The axes' names, the slowest first, such as ``("layer", "position", "head")``. Empty for what an
            operation made of it, whose axes nobody knows.
        labels: What stands along each axis, by its name.
    """

    axes: tuple[str, ...]
    labels: dict[str, list[Any]]

    def __new__(
        cls, values: Any, axes: Sequence[str] = (), labels: Mapping[str, Sequence[Any]] | None = None
    ) -> NamedArray:
        array = np.asarray(values).view(cls)
        array.axes = tuple(axes)
        array.labels = {name: list(along) for name, along in (labels or {}).items()}
        return array

    def __array_finalize__(self, other: Any) -> None:
        # what is sliced or reduced has other axes
        same = other is not None and getattr(other, "shape", None) == self.shape
        self.axes = getattr(other, "axes", ()) if same else ()
        self.labels = getattr(other, "labels", {}) if same else {}

    def transpose(self, *order: Any) -> NamedArray:
        """With its axes in another order."""
        turned = np.asarray(self).transpose(*order)
        if not self.axes:
            return NamedArray(turned)
        given = order[0] if len(order) == 1 and not isinstance(order[0], int) else order
        names = [self.axes[at] for at in given] if given else self.axes[::-1]
        return NamedArray(turned, names, self.labels)

    @property
    def T(self) -> NamedArray:
        """With its axes in reverse order."""
        return self.transpose()

    def swapaxes(self, first: Any, second: Any) -> NamedArray:
        """With two axes exchanged."""
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.transpose(order)


def from_bytes(data: bytearray, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """An array over bytes that are its own; the caller may write to it."""
    return np.frombuffer(data, dtype).reshape(tuple(shape))


def is_torch(value: object) -> bool:
    """Whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def any_torch(*values: object) -> bool:
    """Whether one of the values, or one in a list of them, is a torch tensor."""
    return any(is_torch(value) or (isinstance(value, list | tuple) and any(map(is_torch, value))) for value in values)


def to_torch(array: NDArray[Any]) -> Any:
    """The array as a torch tensor on the CPU, over the same memory; one with named axes keeps them as attributes, until
    something is made of it."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array).view(np.ndarray))
    if isinstance(array, NamedArray) and array.axes:
        tensor.axes, tensor.labels = array.axes, array.labels  # type: ignore[attr-defined, unused-ignore]
    return tensor


def to_numpy(value: Any) -> NDArray[Any]:
    """Anything with numbers as a NumPy array: torch on any device, DLPack, or what NumPy takes."""
    if is_torch(value):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        array: NDArray[Any] = value.numpy()
        return array
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def row(value: Any) -> list[float]:
    """What a function made of a row, as numbers."""
    numbers: list[float] = to_numpy(value).astype(np.float64).ravel().tolist()
    return numbers


def as_list(value: Any) -> Any:
    """Arrays of any library as lists; everything else as it is."""
    if is_torch(value) or hasattr(value, "tolist"):
        return value.tolist()
    if not isinstance(value, str | list | tuple | Mapping) and hasattr(value, "__dlpack__"):
        return to_numpy(value).tolist()
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        return [as_list(item) for item in value]
    return value
