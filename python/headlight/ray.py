"""Sweeps of Ray data sets: an actor class for ``Dataset.map_batches``.

Ray reads the pairs, starts as many models as there are GPUs, shares batches out, tries again where a worker died, and writes the
rows. For runs whose merged file should have the bytes of one run, give shards (``headlight.cluster``) to Ray as tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._arrays import as_list
from ._data import Data
from ._model import Model
from .errors import PlanError

__all__ = ["Sweeper"]


class Sweeper:
    """``Model.sweep`` of batches of pairs, with a model that is opened once a worker.

    A batch is a pyarrow table, a pandas frame or columns by name, with the fields of docs/data.md and the pair's number, as Ray
    hands it out; what comes back is a pyarrow table of the rows that ``Model.sweep(data=…)`` has of all pairs, numbers included.
    How it was made is not in it: no batch knows of the others.

    Args:
        model: What ``Model`` opens: a name, a folder that all machines see, or a hub id.
        number: The column with each pair's number, which becomes the result's column ``pair``; None leaves the numbers that
            pairs have in their batch, where ids tell them apart.
        device: As of ``Model``. Ray shows a worker only the GPUs that it was given (``num_gpus=1``).
        precision: As of ``Model``.
        threads: As of ``Model``; the CPUs that Ray gave the worker unless given.
        memory: As of ``Model``.
        sweep: Arguments of ``Model.sweep`` but prompts, data and rows: ``preset``, ``components``, ``metrics`` …

    Examples:
        >>> sweeper = Sweeper("demo", device="cpu", components="head_value_output")
        >>> pair = {"base": "The capital of Spain is", "source": "The capital of Italy is", "target": " Rome"}
        >>> found = sweeper({"pair": [7], **{name: [value] for name, value in pair.items()}})
        >>> found.num_rows, set(found["pair"].to_pylist())
        (100, {7})
    """

    def __init__(
        self,
        model: str = "demo",
        *,
        number: str | None = "pair",
        device: str = "auto",
        precision: Any = "f32",
        threads: int | None = None,
        memory: str | int | None = None,
        **sweep: Any,
    ) -> None:
        given = {"base", "source", "data", "rows", "out", "progress"} & set(sweep)
        if given:
            raise PlanError(
                f"a Sweeper's pairs come in batches, and its rows go where Ray writes them: leave out {min(given)}"
            )
        self.model = Model(model, device=device, precision=precision, threads=threads or _cpus(), memory=memory)
        self.number, self.sweep = number, sweep

    def __call__(self, batch: Any) -> Any:
        """The rows of a batch, in the order of its pairs."""
        import pyarrow as pa

        if isinstance(batch, Mapping):
            # Ray's "numpy": a column an array
            columns = {name: as_list(column) for name, column in batch.items()}
            batch = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        rows = list(Data(batch))
        numbers = None if self.number is None else [_numbered(row, self.number) for row in rows]
        result = self.model.sweep(data=rows, rows="all", progress=False, **self.sweep)
        # metadata says how a table was made, and Ray puts batches together
        table = pa.table(result).replace_schema_metadata(None)
        if numbers is None:
            return table
        at = table.schema.get_field_index("pair")
        own = pa.array([numbers[row] for row in table["pair"].to_pylist()], table.schema.field(at).type)
        return table.set_column(at, table.schema.field(at), own)


def _numbered(row: dict[str, Any], number: str) -> int:
    """The pair's number, which goes from the row."""
    if number not in row:
        raise PlanError(
            f"a pair has no column {number!r}: number the pairs where they are written, such as by "
            "table.append_column('pair', [range(len(table))]), or give number=None"
        )
    return int(row.pop(number))


def _cpus() -> int | None:
    """How many CPUs Ray gave this worker, if it is one."""
    try:
        import ray
    except ImportError:
        return None
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return None
    assigned = ray.get_runtime_context().get_assigned_resources().get("CPU", 0)
    return max(1, int(assigned)) if assigned else None
