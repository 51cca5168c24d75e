"""The files that a question read, which nothing that comes of it is written over: src/cli/files.rs, for Python."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import PlanError

__all__ = ["Files"]

# what names a file in an experiment, whatever its format
_NAMED = re.compile(r"""\b(?:value|basis)["']?\s*[=:]\s*["']([^"'\n]+)["']""")

_OF_MODELS = re.compile(
    r"(?:model|pytorch_model|tokenizer).*\.(?:safetensors|json|bin|model)"
    r"|(?:(?:generation_)?config|vocab|added_tokens|special_tokens_map)\.json|merges\.txt|training_args\.bin"
)


class Files:
    """Files that were read, by the flags that name them on the command line.

    Args:
        model: Where the model is, if that is a folder, as one path: its files are not written over either.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._read: list[tuple[str, str]] = []

    def reads(self, flag: str, path: str | None, folder: str = "") -> Files:
        """A file, if there is one; what stands behind ``#`` names something in it."""
        if path is not None:
            self._read.append((flag, os.path.realpath(os.path.join(folder, path.rpartition("#")[0] or path))))
        return self

    def asked(self, word: Mapping[str, Any]) -> Files:
        """What the words of a question name."""
        prompts = word.get("prompts", word)
        data = prompts.get("data")
        self.reads("--data", data[0] if data is not None and data[1] is None else None)
        self.reads("--basis", word.get("basis"))
        op = word.get("op")
        if isinstance(op, str):
            kind, _, value = op.partition("=")
            if kind in ("set", "add", "subtract", "mean", "mean-by-position"):
                self.reads("--op", value or None)
        if "made" in word:
            self._experiment(word["json"], word["path"])
        return self

    def _experiment(self, text: str | None, path: str) -> None:
        folder = ""
        if text is None:
            self.reads("the experiment", path)
            folder = os.path.dirname(path)
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, ValueError):
                # whoever reads it says so
                return
        for name in _NAMED.findall(text):
            self.reads("the experiment", name, folder)

    def check(self, *written: tuple[str, str | os.PathLike[str]]) -> None:
        """Refuses to write over one of them.

        Args:
            written: Files and the flags for them; the first is what the caller named.
        """
        for flag, path in written:
            name, whole = os.fspath(path), os.path.realpath(path)
            if os.path.dirname(whole) == self._model and os.path.exists(whole) and _is_of_model(whole):
                raise PlanError(f"{flag} {name} would replace a file of the model: name another")
            for other, read in self._read:
                if read == whole:
                    raise PlanError(f"{flag} and {other} are the same file, {name}: name another for {flag}")


def _is_of_model(path: str) -> bool:
    """Whether a file in a model's folder is one of those that models consist of: results may stand there too."""
    name = os.path.basename(path)
    if _OF_MODELS.fullmatch(name):
        return True
    try:
        index = Path(path).with_name("model.safetensors.index.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return f'"{name}"' in index


def beside(path: str | os.PathLike[str]) -> list[tuple[str, Path]]:
    """What a table is written as: itself, its provenance and its averages, each with its flag."""
    given = Path(path)
    return [
        ("--out", given),
        ("the provenance of --out", given.with_name(f"{given.name}.meta.json")),
        ("the averages of --out", given.with_suffix(f".summary{given.suffix}")),
    ]
