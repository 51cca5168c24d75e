"""What the examples in docstrings find there: the package, a model, a result, and a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headlight as hl


@pytest.fixture(autouse=True)
def _examples(request: pytest.FixtureRequest) -> Iterator[None]:
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    folder: Path = request.getfixturevalue("tmp_path")
    names: dict[str, Any] = request.getfixturevalue("doctest_namespace")
    model = request.getfixturevalue("_demo")
    names.update(hl=hl, model=model, BASE="The capital of Spain is", SOURCE="The capital of Italy is")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


@pytest.fixture(scope="session")
def _demo() -> hl.Model:
    return hl.Model("demo", device="cpu")
