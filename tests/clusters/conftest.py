"""What tests of clusters share: a data set, and the bytes of one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PAIRS = 150
SWEEP = "sweep --data many.jsonl --component hook_z,hook_v,mlp_output --device cpu --threads 1".split()


def pairs() -> list[dict[str, object]]:
    """Pairs of countries, some of them of one country twice."""
    countries = ["Spain", "Italy", "France", "Germany", "Japan"]
    return [
        {
            "base": f"The capital of {countries[i % 5]} is",
            "source": f"The capital of {countries[(i + 1 + i // 5) % 5]} is",
            "targets": [" Madrid"],
        }
        for i in range(PAIRS)
    ]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a data set that takes some seconds."""
    monkeypatch.chdir(tmp_path)
    Path("many.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs()))
    return tmp_path


@pytest.fixture
def whole(lab: Path) -> Callable[..., list[bytes]]:
    """The bytes of one run, rows and averages."""

    def run(name: str, command: list[str] = SWEEP) -> list[bytes]:
        line = [sys.executable, "-m", "headlight", *command, "--out", name]
        subprocess.run(line, check=True, capture_output=True, timeout=120)
        return taken(name)

    return run


def taken(name: str) -> list[bytes]:
    """A table's bytes and its averages', which go."""
    files = [Path(name), Path(name.replace(".", ".summary."))]
    found = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    return found
