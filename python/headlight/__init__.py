"""Activation patching on GPT-2: every layer, head and position in one ragged batch.

>>> import headlight as hl
>>> model = hl.Model("demo")
>>> r = model.sweep("The capital of Spain is", "The capital of Italy is", targets=[" Madrid", " Rome"])
>>> len(r), r.n_runs
(400, 200)

In a notebook, ``r`` is its heat map. Words mean what they mean on the command line, and errors say the same.
"""

from __future__ import annotations

from . import errors, metrics, patching
from ._arrays import NamedArray
from ._cache import Attention, Cache
from ._data import Data
from ._facts import Config, Plan, PromptTest
from ._graph import Agreement, Attribution, Curve, Faithfulness, Graph
from ._headlight import __version__
from ._model import Model
from ._patch import Op, Patch
from ._progress import Progress
from ._pyvene import from_pyvene
from ._result import Page, Picture, Result
from ._table import Table
from .errors import (
    DataError,
    DeviceError,
    FileError,
    HeadlightError,
    Interrupted,
    MemoryLimitError,
    ModelError,
    PlanError,
)

__all__ = [
    "Agreement",
    "Attention",
    "Attribution",
    "Cache",
    "Config",
    "Curve",
    "Data",
    "DataError",
    "DeviceError",
    "Faithfulness",
    "FileError",
    "Graph",
    "HeadlightError",
    "Interrupted",
    "MemoryLimitError",
    "Model",
    "ModelError",
    "NamedArray",
    "Op",
    "Page",
    "Patch",
    "Picture",
    "Plan",
    "PlanError",
    "Progress",
    "PromptTest",
    "Result",
    "Table",
    "__version__",
    "errors",
    "from_pyvene",
    "metrics",
    "patching",
]
