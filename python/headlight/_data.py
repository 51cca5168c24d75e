"""Data sets: files, tables of other libraries, lists of dictionaries."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from ._arrays import as_list
from .errors import DataError

__all__ = ["Data"]


def _plain(value: Any) -> Any:
    """A value as JSON takes it: arrays as lists, NumPy's numbers as Python's, missing ones left out above."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    plain = as_list(value)
    if isinstance(plain, list):
        return [_plain(item) for item in plain]
    return plain


def _is_missing(value: Any) -> bool:
    # NaN is what pandas writes where nothing stands
    return value is None or (isinstance(value, float) and value != value)


class Data:
    """Prompt pairs, each with its own answers; what may stand in a row is said in docs/data.md.

    Args:
        rows: A list of dictionaries, a pandas or Polars frame, or a pyarrow table (or anything else that hands
            out an Arrow stream, if pyarrow is there to read it).

    Examples:
        >>> data = Data([{"base": "The capital of Spain is", "source": "The capital of Italy is", "target": " Rome"}])
        >>> len(data)
        1
    """

    def __init__(self, rows: Any) -> None:
        self._path: str | None = None
        self._rows = _records(rows)
        if not self._rows:
            raise DataError("the data set has no rows: give at least one prompt pair")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Data:
        """A file: .jsonl, .csv, .parquet or .json; it is read when something is asked of it.

        Examples:
            >>> hl.Data.read("pairs.jsonl")
            Data.read('pairs.jsonl')
        """
        data = cls.__new__(cls)
        data._path, data._rows = os.fspath(path), []
        return data

    @classmethod
    def from_records(cls, rows: Iterable[Mapping[str, Any]]) -> Data:
        """A list of dictionaries.

        Examples:
            >>> hl.Data.from_records([{"base": BASE, "source": SOURCE, "target": " Rome"}])
            Data(1 rows)
        """
        return cls(list(rows))

    @classmethod
    def of(cls, value: Any) -> Data:
        """Whatever can be a data set: one already, a file's name, or rows.

        Examples:
            >>> hl.Data.of([{"base": BASE, "source": SOURCE, "target": " Rome"}])
            Data(1 rows)
        """
        if isinstance(value, Data):
            return value
        if isinstance(value, str | os.PathLike):
            return cls.read(value)
        return cls(value)

    @classmethod
    def ioi(cls, n: int = 8, seed: int = 0, *, corruption: Literal["swap", "abc"] = "swap") -> Data:
        """Indirect-object prompts as Wang et al. (2022) make them: "When John and Mary went to the store, John gave a drink
        to", whose answer is " Mary" and not " John". Both orders of the names come in turn, half of the rows each.

        In GPT-2's tokenizer every name, place and thing is one token. Rows have ``clean``, ``corrupted``, ``answer``,
        ``wrong_answer`` and spans of both prompts: the indirect object ``io``, the subject's two places ``s1`` and ``s2``.

        Args:
            n: How many rows.
            seed: Which: the same rows for the same seed.
            corruption: ``"swap"`` gives the second subject the other name, so that the answers are exchanged, ``"abc"``
                three other names, so that nothing says which it is.

        Examples:
            >>> row = next(iter(Data.ioi(2, seed=1)))
            >>> sorted(row)
            ['answer', 'clean', 'corrupted', 'source_spans', 'spans', 'wrong_answer']
        """
        from ._ioi import rows

        return cls(rows(n, seed, corruption))

    def __len__(self) -> int:
        """How many rows; of a file, the rows are not looked at."""
        if self._path is not None:
            raise TypeError("a file's rows are counted when it is read: use a list of rows to know before")
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __getitem__(self, which: int | slice) -> Data:
        """One row, or some, as a data set.

        Examples:
            >>> hl.Data.ioi(8)[2:5]
            Data(3 rows)
        """
        if self._path is not None:
            raise TypeError("a file's rows are not read before something is asked of it: use a list of rows")
        return Data(self._rows[which] if isinstance(which, slice) else [self._rows[which]])

    def __repr__(self) -> str:
        return f"Data.read({self._path!r})" if self._path is not None else f"Data({len(self._rows)} rows)"

    def _word(self) -> tuple[str, bytes | None]:
        if self._path is not None:
            return self._path, None
        return "rows.json", json.dumps(self._rows).encode()


def _records(rows: Any) -> list[dict[str, Any]]:
    if hasattr(rows, "to_dicts"):  # Polars
        found = rows.to_dicts()
    elif hasattr(rows, "to_pylist"):  # pyarrow
        found = rows.to_pylist()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        found = rows.to_dict("records")
    elif hasattr(rows, "__arrow_c_stream__"):
        import pyarrow

        found = pyarrow.table(rows).to_pylist()
    elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes | Mapping):
        found = list(rows)
    else:
        raise TypeError(f"a data set is a list of dictionaries, a frame or a table, not {type(rows).__name__}")
    for number, row in enumerate(found):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {number} of the data set is {type(row).__name__}, and should be a dictionary")
    plain = []
    for number, row in enumerate(found):
        kept = {key: _plain(value) for key, value in row.items() if not _is_missing(value)}
        try:
            json.dumps(kept)
        except (TypeError, ValueError) as error:
            raise TypeError(f"row {number} of the data set holds what is no text, number or list: {error}") from None
        plain.append(kept)
    return plain
