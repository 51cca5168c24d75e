"""Tables of results, column by column."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _headlight, _words
from ._arrays import from_bytes

__all__ = ["Table"]


class Table:
    """Columns by their names, which pandas, Polars, pyarrow and DuckDB read as they are (``__arrow_c_stream__``).

    Examples:
        >>> table = model.sweep(targets=" Rome").top(3)
        >>> len(table), table.columns[:2]
        (3, ['pair', 'run'])
    """

    def __init__(self, frame: _headlight.Frame) -> None:
        self._frame = frame

    def __len__(self) -> int:
        return len(self._frame)

    @property
    def columns(self) -> list[str]:
        """The columns' names, in order.

        Examples:
            >>> model.sweep(targets=" Rome").columns[-3:]
            ['base_prob', 'source_prob', 'patches']
        """
        return self._frame.names()

    def __getitem__(self, column: str) -> NDArray[Any]:
        """A column: numbers, NaN (or −1 in whole numbers) where one is missing; texts as objects.

        Examples:
            >>> model.sweep(targets=" Rome").top(2)["token"].tolist()
            [' Spain', ' is']
        """
        kind, data, _ = self._frame.column(_words.text("a column", column))
        if isinstance(data, list):
            texts = np.empty(len(data), dtype=object)
            texts[:] = data
            return texts
        return from_bytes(data, "<i8" if kind == "int" else "<f8", [len(self)])

    def missing(self, column: str) -> NDArray[np.bool_]:
        """Which of a column's values are missing.

        Examples:
            >>> model.sweep(targets=" Rome", components="mlp_output").missing("head").all().item()
            True
        """
        kind, data, mask = self._frame.column(column)
        if kind == "text":
            return np.array([text is None for text in data], dtype=bool)
        if mask is None:
            return np.zeros(len(self), dtype=bool)
        return from_bytes(mask, "u1", [len(self)]).astype(bool)

    def take(self, rows: Sequence[int] | NDArray[Any]) -> Table:
        """Some of the rows, by their numbers.

        Examples:
            >>> r = model.sweep(targets=" Rome")
            >>> len(r.take([0, 5]))
            2
        """
        numbers = [_words.whole("row", row, least=-(2**63)) for row in rows]
        for row in numbers:
            if row < 0:
                raise IndexError(f"there is no row {row}: there are {len(self)}")
        return Table(self._frame.take(numbers))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Row by row, missing values as None.

        Examples:
            >>> next(model.sweep(targets=" Rome").rows())["component"]
            'head_attention_value_output'
        """
        names = self.columns
        values = [
            [None if gone else value for value, gone in zip(self[n].tolist(), self.missing(n), strict=True)]
            for n in names
        ]
        for row in zip(*values, strict=True):
            yield dict(zip(names, row, strict=True))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> Any:
        """As a pandas DataFrame; whole numbers that may be missing are nullable ones.

        Examples:
            >>> model.sweep(targets=" Rome").to_pandas().nlargest(1, "prob")["layer"].item()
            0
        """
        import pandas as pd

        columns: dict[str, Any] = {}
        for name in self.columns:
            values, missing = self[name], self.missing(name)
            if values.dtype.kind == "i" and missing.any():
                columns[name] = pd.arrays.IntegerArray(values, missing)
            else:
                columns[name] = values
        return pd.DataFrame(columns)

    def to_polars(self) -> Any:
        """As a Polars DataFrame, without a copy.

        Examples:
            >>> model.sweep(targets=" Rome").to_polars().height
            200
        """
        import polars as pl

        return pl.DataFrame(self)

    def to_arrow(self) -> Any:
        """As a pyarrow table, without a copy; its schema's metadata says how it was made.

        Examples:
            >>> model.sweep(targets=" Rome").to_arrow().num_rows
            200
        """
        import pyarrow as pa

        return pa.table(self)

    def _lines(self, columns: Sequence[str], most: int) -> list[list[str]]:
        lines = []
        for row in self.take(range(min(most, len(self)))).rows():
            lines.append([_text(row[name]) for name in columns])
        return lines

    def _shown(self) -> list[str]:
        """The columns that say something: not the whole patch, and none that is empty."""
        return [
            n
            for n in self.columns
            if n not in ("patches", "pair", "run", "target_id") and not (len(self) and self.missing(n).all())
        ]

    def __repr__(self) -> str:
        columns = self._shown()
        lines = [columns, *self._lines(columns, 10)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
        text = "\n".join("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines)
        return text if len(self) <= 10 else f"{text}\n… {len(self)} rows"

    def _repr_html_(self) -> str:
        return self._html(10)

    def _html(self, most: int) -> str:
        columns = self._shown()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>"
            for line in self._lines(columns, most)
        )
        more = "" if len(self) <= most else f"<div>… {len(self)} rows</div>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\n", "\\n")
