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

    Slices, transpositions, copies and arithmetic element by element keep axes and labels true; whatever else comes of it
    (picked or sorted elements, products of matrices, sums) has none.

    Attributes:
        axes: The axes' names, the slowest first, such as ``("layer", "position", "head")``. Empty for what an
            operation made of it, whose axes nobody knows.
        labels: What stands along each axis, by its name.

    Examples:
        >>> import headlight as hl
        >>> array = hl.Model("demo").sweep(components="mlp_output", targets=" Rome").array("prob")
        >>> array[::-2].labels["layer"], array.T.axes, array.sum(axis=0).axes
        ([4, 2, 0], ('position', 'layer'), ())
    """

    _axes: tuple[str, ...]
    _labels: dict[str, list[Any]]

    def __new__(
        cls, values: Any, axes: Sequence[str] = (), labels: Mapping[str, Sequence[Any]] | None = None
    ) -> NamedArray:
        array = np.asarray(values).view(cls)
        array._axes = tuple(axes)
        array._labels = {name: list(along) for name, along in (labels or {}).items()}
        return array

    def __array_finalize__(self, other: Any) -> None:
        # nobody knows what it is a view or a copy of; whoever does says what its axes are
        self._axes, self._labels = (), {}

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes' names.

        Examples:
            >>> hl.NamedArray([[1.0, 2.0]], ["layer", "head"]).axes
            ('layer', 'head')
        """
        # a shape may be set in place
        return self._axes if len(self._axes) == self.ndim else ()

    @property
    def labels(self) -> dict[str, list[Any]]:
        """What stands along each axis.

        Examples:
            >>> hl.NamedArray([1.0, 2.0], ["head"], {"head": [0, 3]})[::-1].labels
            {'head': [3, 0]}
        """
        axes = self.axes
        of = {name: along for name, along in self._labels.items() if name in axes}
        return {name: along for name, along in of.items() if len(along) == self.shape[axes.index(name)]}

    def _named(self, values: Any) -> NamedArray:
        """An array of the same axes and labels."""
        return NamedArray(values, self.axes, self.labels)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        each = key if isinstance(key, tuple) else (key,)
        if not self.axes or not isinstance(found, NamedArray):
            return found
        if not all(isinstance(one, slice) or one is Ellipsis for one in each):
            return found
        if Ellipsis in each:
            at = each.index(Ellipsis)
            each = (*each[:at], *[slice(None)] * (self.ndim - len(each) + 1), *each[at + 1 :])
        labels = self.labels
        for name, along in zip(self.axes, each, strict=False):
            if name in labels:
                labels[name] = labels[name][along]
        found._axes, found._labels = self.axes, labels
        return found

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **more: Any) -> Any:
        plain = [np.asarray(one) if isinstance(one, NamedArray) else one for one in inputs]
        if out is not None:
            more["out"] = tuple(np.asarray(one) if isinstance(one, NamedArray) else one for one in out)
        found = getattr(ufunc, method)(*plain, **more)
        each = method == "__call__" and ufunc.signature is None
        named = [one for one in inputs if isinstance(one, NamedArray)]
        if out is not None:
            for one in out:
                if isinstance(one, NamedArray):
                    one._axes, one._labels = _common(named, one.shape) if each else ((), {})
            return found if found is None else (out[0] if len(out) == 1 else out)
        if not each:
            return found.view(NamedArray) if isinstance(found, np.ndarray) else found
        several = found if isinstance(found, tuple) else (found,)
        made = [NamedArray(one, *_common(named, one.shape)) if isinstance(one, np.ndarray) else one for one in several]
        return tuple(made) if isinstance(found, tuple) else made[0]

    def copy(self, order: Any = "C") -> NamedArray:
        """A copy, with its axes.

        Examples:
            >>> hl.NamedArray([1.0], ["head"]).copy().axes
            ('head',)
        """
        return self._named(np.asarray(self).copy(order))

    def __copy__(self) -> NamedArray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> NamedArray:
        return self.copy()

    def astype(self, *given: Any, **more: Any) -> Any:
        """The same in other numbers, with its axes.

        Examples:
            >>> hl.NamedArray([1.5], ["head"]).astype(int).axes
            ('head',)
        """
        return self._named(np.asarray(self).astype(*given, **more))

    def round(self, *given: Any, **more: Any) -> Any:
        """Rounded, with its axes.

        Examples:
            >>> hl.NamedArray([1.5], ["head"]).round().axes
            ('head',)
        """
        return self._named(np.asarray(self).round(*given, **more))

    def sort(self, *given: Any, **more: Any) -> None:
        """Sorts it in place, after which no label is true.

        Examples:
            >>> array = hl.NamedArray([2.0, 1.0], ["head"])
            >>> array.sort()
            >>> array.axes
            ()
        """
        super().sort(*given, **more)
        self._axes, self._labels = (), {}

    def partition(self, *given: Any, **more: Any) -> None:
        """Likewise.

        Examples:
            >>> array = hl.NamedArray([2.0, 1.0], ["head"])
            >>> array.partition(0)
            >>> array.axes
            ()
        """
        super().partition(*given, **more)
        self._axes, self._labels = (), {}

    def transpose(self, *order: Any) -> NamedArray:
        """With its axes in another order.

        Examples:
            >>> hl.NamedArray([[1.0, 2.0]], ["layer", "head"]).transpose(1, 0).axes
            ('head', 'layer')
        """
        turned = np.asarray(self).transpose(*order)
        if not self.axes:
            return NamedArray(turned)
        given = order[0] if len(order) == 1 and (order[0] is None or np.ndim(order[0]) == 1) else order
        at = range(self.ndim)[::-1] if given is None or len(given) == 0 else given
        return NamedArray(turned, [self.axes[axis] for axis in at], self.labels)

    @property
    def T(self) -> NamedArray:
        """With its axes in reverse order.

        Examples:
            >>> hl.NamedArray([[1.0, 2.0]], ["layer", "head"]).T.axes
            ('head', 'layer')
        """
        return self.transpose()

    def swapaxes(self, first: Any, second: Any) -> NamedArray:
        """With two axes exchanged.

        Examples:
            >>> hl.NamedArray([[1.0, 2.0]], ["layer", "head"]).swapaxes(0, 1).axes
            ('head', 'layer')
        """
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.transpose(order)


def _common(arrays: Sequence[NamedArray], shape: tuple[int, ...]) -> tuple[tuple[str, ...], dict[str, list[Any]]]:
    """Axes and labels that all agree on of those arrays that have this shape."""
    whole = [one for one in arrays if one.shape == shape and one.axes]
    if not whole or any(one.axes != whole[0].axes for one in whole):
        return (), {}
    labels = [one.labels for one in whole]
    return whole[0].axes, {
        name: along for name, along in labels[0].items() if all(other.get(name) == along for other in labels)
    }


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
    if value is None:
        raise TypeError("the function gives None for a row, and should give as many numbers: has it a return?")
    try:
        numbers: list[float] = to_numpy(value).astype(np.float64).ravel().tolist()
    except (TypeError, ValueError):
        raise TypeError(f"the function gives {value!r} for a row, and should give as many numbers") from None
    return numbers


def as_list(value: Any) -> Any:
    """Arrays of any library as lists; everything else as it is."""
    if isinstance(value, bytes | bytearray | memoryview):
        # these are texts that nobody has decoded, and no numbers
        return value
    if is_torch(value) or hasattr(value, "tolist"):
        return value.tolist()
    if not isinstance(value, str | list | tuple | Mapping) and hasattr(value, "__dlpack__"):
        return to_numpy(value).tolist()
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        return [as_list(item) for item in value]
    return value
