"""What goes wrong. Every exception says it in one sentence, the one that the command line prints."""

from __future__ import annotations

__all__ = [
    "DataError",
    "DeviceError",
    "FileError",
    "HeadlightError",
    "Interrupted",
    "MemoryLimitError",
    "ModelError",
    "PlanError",
]


class HeadlightError(Exception):
    """Any error of headlight's own.

    Attributes:
        kind: What went wrong, as one word: ``"model"``, ``"data"``, ``"plan"``, ``"device"``, ``"memory"``,
            ``"file"``, ``"interrupted"`` or ``"internal"``.

    Examples:
        >>> try:
        ...     model.sweep(layers=9)
        ... except hl.HeadlightError as error:
        ...     print(error.kind, error)
        plan layer 9 is out of range: layers are 0 to 4
    """

    kind: str = "internal"


class ModelError(HeadlightError, ValueError):
    """A model that cannot be opened, text that it has no tokens for, or weights that were changed.

    Examples:
        >>> try:
        ...     model.to_single_token(" Madrid is")
        ... except hl.ModelError as error:
        ...     print(error.kind)
        model
    """

    kind = "model"


class DataError(HeadlightError, ValueError):
    """A data set, or a row of one: file, line and field stand in the sentence.

    Examples:
        >>> try:
        ...     hl.Data([])
        ... except hl.DataError as error:
        ...     print(error)
        the data set has no rows: give at least one prompt pair
    """

    kind = "data"


class PlanError(HeadlightError, ValueError):
    """Prompts, sites, ranges, operators or metrics that do not fit the model or each other.

    Examples:
        >>> try:
        ...     model.sweep(heads=7)
        ... except hl.PlanError as error:
        ...     print(error)
        head 7 is out of range: heads are 0 to 3
    """

    kind = "plan"


class DeviceError(HeadlightError, RuntimeError):
    """A device that is not there, cannot be used, or failed.

    Examples:
        >>> try:
        ...     hl.Model("demo", device="gpu")
        ... except hl.DeviceError as error:
        ...     print(error.kind)
        device
    """

    kind = "device"


class MemoryLimitError(HeadlightError, MemoryError):
    """Not even one run fits the memory that was given.

    Examples:
        >>> try:
        ...     hl.Model("demo", device="cpu", memory=1).sweep()
        ... except hl.MemoryLimitError as error:
        ...     print(error.kind)
        memory
    """

    kind = "memory"


class FileError(HeadlightError, OSError):
    """A file that cannot be read or written.

    Examples:
        >>> try:
        ...     model.run("nothing.toml")
        ... except hl.FileError as error:
        ...     print(isinstance(error, OSError))
        True
    """

    kind = "file"


class Interrupted(HeadlightError):
    """Somebody called ``Model.cancel``, or stopped a shard.

    Examples:
        >>> issubclass(hl.Interrupted, hl.HeadlightError)
        True
    """

    kind = "interrupted"
