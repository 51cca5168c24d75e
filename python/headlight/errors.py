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
    """

    kind: str = "internal"


class ModelError(HeadlightError, ValueError):
    """A model that cannot be opened, text that it has no tokens for, or weights that were changed."""

    kind = "model"


class DataError(HeadlightError, ValueError):
    """A data set, or a row of one: file, line and field stand in the sentence."""

    kind = "data"


class PlanError(HeadlightError, ValueError):
    """Prompts, sites, ranges, operators or metrics that do not fit the model or each other."""

    kind = "plan"


class DeviceError(HeadlightError, RuntimeError):
    """A device that is not there, cannot be used, or failed."""

    kind = "device"


class MemoryLimitError(HeadlightError, MemoryError):
    """Not even one run fits the memory that was given."""

    kind = "memory"


class FileError(HeadlightError, OSError):
    """A file that cannot be read or written."""

    kind = "file"


class Interrupted(HeadlightError):
    """Somebody called ``Model.cancel``, or stopped a shard."""

    kind = "interrupted"
