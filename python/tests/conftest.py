"""What tests share: the demo model, and the command line of the same build."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import headlight as hl

BASE, SOURCE = "The capital of Spain is", "The capital of Italy is"
FIXTURES = Path(__file__).parents[2] / "tests" / "fixtures"


@pytest.fixture(scope="session")
def model() -> hl.Model:
    return hl.Model("demo", device="cpu", memory="512M")


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a folder of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "headlight", *map(str, arguments), "--device", "cpu"]
        return subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=120)

    return run
