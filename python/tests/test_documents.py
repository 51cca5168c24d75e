"""Documents and notebooks: their code is run, and prints what they say."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import headlight as hl
from headlight import errors, metrics, patching

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    parts = page.split(f"```{language}\n")[1:]
    return [part.split("```")[0] for part in parts]


def test_the_page_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
    code, said = blocks(page, "python"), blocks(page, "text")
    assert len(code) == len(said) == 7
    names: dict[str, object] = {}
    for one, expected in zip(code, said, strict=True):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(one, "docs/python-api.md", "exec"), names)
        assert out.getvalue() == expected


def test_the_readme_says_it_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    names: dict[str, object] = {}
    exec(compile(code.replace("\nresult  ", "\nshown = result._repr_html_()  "), "README.md", "exec"), names)
    assert "<svg" in str(names["shown"])


def test_the_reference_has_everything_that_is_public():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    whole = {"cluster", "errors", "metrics", "patching", "ray"}
    assert {name for name in whole if f"::: headlight.{name}\n" in pages} == whole
    missing = [
        name
        for name in hl.__all__
        if f"::: headlight.{name}\n" not in pages and name not in {*whole, *errors.__all__, "__version__"}
    ]
    assert missing == []
    assert [name for name in dir(patching) if name.startswith("get_act_patch_") and f"| `{name}` |" not in pages] == []


@pytest.mark.parametrize("path", sorted((ROOT / "python" / "examples").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_and_was_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert (len(cells) > 5 and any("<svg" in json.dumps(cell["outputs"]) for cell in cells)) or path.stem == "moving"
    for number, cell in enumerate(cells, 1):
        assert cell["execution_count"] == number and "".join(cell["source"]).strip()
        exec(compile("".join(cell["source"]), f"{path.name}:{number}", "exec"), names)
    assert os.listdir(tmp_path) == []


def described() -> Iterator[tuple[str, object]]:
    """Everything that is public, by its name: classes with their methods and properties, and functions."""
    seen = set()
    for module in (hl, errors, metrics, patching):
        for name in module.__all__ if hasattr(module, "__all__") else dir(module):
            one = getattr(module, name)
            own = getattr(one, "__module__", "").startswith("headlight")
            if (
                name.startswith("_")
                or not own
                or not (inspect.isclass(one) or inspect.isfunction(one))
                or id(one) in seen
            ):
                continue
            seen.add(id(one))
            yield f"{module.__name__}.{name}", one
            for kind in one.__mro__ if inspect.isclass(one) else ():
                for inside, value in vars(kind).items() if kind.__module__.startswith("headlight") else ():
                    made = value.__func__ if isinstance(value, classmethod) else value
                    made = made.fget if isinstance(made, property) else getattr(made, "func", made)
                    if inside.startswith("_") or not inspect.isfunction(made) or id(made) in seen:
                        continue
                    seen.add(id(made))
                    yield f"{module.__name__}.{name}.{inside}", made


def test_everything_public_is_described_with_an_example():
    # which doctest runs, with what python/headlight/conftest.py puts there
    found = list(described())
    assert len(found) > 150
    assert [name for name, one in found if not (one.__doc__ or "").strip()] == []
    assert [name for name, one in found if ">>>" not in (one.__doc__ or "")] == []
