"""No result is written over what its question read, in the sentence of the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import BASE, FIXTURES, SOURCE

import headlight as hl

Command = Callable[..., "subprocess.CompletedProcess[str]"]
DATA = FIXTURES.parent / "data"


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command works there, too."""
    monkeypatch.chdir(tmp_path)
    for name in ("capitals.csv", "bases.safetensors"):
        shutil.copy(DATA / name, name)
    return tmp_path


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    return done.stderr.strip().splitlines()[-1].removeprefix("headlight: ")


def test_a_data_set_is_not_written_over(
    model: hl.Model, command: Command, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Path("capitals.csv").read_bytes()
    wanted = said(command("sweep", "--data", "capitals.csv", "--out", "capitals.csv"))
    assert wanted == "--out and --data are the same file, capitals.csv: name another for --out"
    result = model.sweep(data="capitals.csv", preset="attn_head_out_all_pos")
    for write in (
        lambda: result.write("capitals.csv"),
        # before anything is computed
        lambda: model.sweep(data="capitals.csv", out="capitals.csv"),
    ):
        with pytest.raises(hl.PlanError) as caught:
            write()
        assert str(caught.value) == wanted
    # by another name, and from another folder
    Path("link.csv").symlink_to("capitals.csv")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for name in ("../link.csv", "../elsewhere/../capitals.csv", lab / "capitals.csv"):
        with pytest.raises(hl.PlanError, match="--out and --data are the same file"):
            result.write(name)
    monkeypatch.chdir(lab)
    with pytest.raises(hl.PlanError, match="--arrays and --data are the same file"):
        shutil.copy("capitals.csv", "rows.csv")
        os_names = model.sweep(data="rows.csv", preset="attn_head_out_all_pos")
        Path("rows.npz").symlink_to("rows.csv")
        os_names.write_arrays("rows.npz")
    assert Path("capitals.csv").read_bytes() == kept
    assert result.write("fine.csv")[0].exists()


def test_nor_are_averages_and_provenance_put_there(model: hl.Model, command: Command) -> None:
    shutil.copy("capitals.csv", "a.summary.csv")
    wanted = said(command("sweep", "--data", "a.summary.csv", "--out", "a.csv"))
    with pytest.raises(hl.PlanError) as caught:
        model.sweep(data="a.summary.csv").write("a.csv")
    assert str(caught.value) == wanted
    assert not Path("a.csv").exists()


def test_nor_pictures_and_pages(model: hl.Model, lab: Path) -> None:
    for ending, write in (
        ("svg", lambda r, name: r.plot(name)),
        ("png", lambda r, name: r.picture().write(name)),
        ("html", lambda r, name: r.page().write(name)),
    ):
        Path(f"rows.{ending}").symlink_to("capitals.csv")
        with pytest.raises(hl.PlanError, match="--plot and --data are the same file"):
            write(model.sweep(data="capitals.csv"), f"rows.{ending}")


def test_nor_bases_operators_and_experiments(model: hl.Model, command: Command, lab: Path) -> None:
    flags = ["--basis", "bases.safetensors#das", "--component", "head_value_output", "--layers", "0"]
    Path("b.csv").symlink_to("bases.safetensors")
    wanted = said(command("sweep", *flags, "--out", "b.csv"))
    with pytest.raises(hl.PlanError) as caught:
        model.sweep(basis="bases.safetensors#das", components="head_value_output", layers=0, out="b.csv")
    assert str(caught.value) == wanted

    Path("p.csv").write_text("The capital of France is\n")
    wanted = said(command("sweep", "--op", "mean=p.csv", "--out", "p.csv"))
    with pytest.raises(hl.PlanError) as caught:
        model.sweep(op="mean=p.csv", out="p.csv")
    assert str(caught.value) == wanted

    row = hl.Op.set(np.ones(32, dtype=np.float64))
    model.sweep(components="head_value_output", layers=0, op=row, out="fine.csv")

    pair = {"base": BASE, "source": SOURCE}
    patch = {"component": "head_value_output", "layer": 0, "heads": [0], "positions": [3]}
    patch["basis"] = "bases.safetensors#das"
    experiment = {"targets": [" Rome"], "pair": [pair], "run": [{"patches": [patch]}]}
    Path("e.json").write_text(json.dumps(experiment))
    Path("e.csv").symlink_to("e.json")
    found = model.run("e.json")
    for out in ("e.csv", "b.csv"):
        wanted = said(command("run", "e.json", "--out", out))
        assert "--out and the experiment are the same file" in wanted
        with pytest.raises(hl.PlanError) as caught:
            found.write(out)
        assert str(caught.value) == wanted
    with pytest.raises(hl.PlanError, match="--out and the experiment are the same file"):
        model.run(experiment).write("b.csv")
    assert found.write("fine.csv")


def test_nor_the_models_own_files(command: Command, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(
        FIXTURES.parents[1] / "src" / "model" / "demo", "model", ignore=shutil.ignore_patterns("*.md", "*.png")
    )
    model = hl.Model("model", device="cpu")
    kept = Path("model/config.json").read_bytes()
    pair = {"base": BASE, "source": SOURCE, "targets": " Madrid"}
    result = model.sweep(components="head_value_output", **pair)
    with pytest.raises(hl.PlanError) as caught:
        model.attribute(**pair).graph().to_json("model/config.json")
    wanted = said(
        command(
            "--model", "model", "sweep", "--base", BASE, "--source", SOURCE, "--preset", "every-head",
            "--arrays", "model/model.safetensors",
        )
    )  # fmt: skip
    assert wanted == "--arrays model/model.safetensors would replace a file of the model: name another"
    assert str(caught.value) == "--out model/config.json would replace a file of the model: name another"
    with pytest.raises(hl.PlanError) as caught:
        model.sweep(preset="every-head", **pair).write_arrays("model/model.safetensors")
    assert str(caught.value) == wanted
    assert Path("model/config.json").read_bytes() == kept
    # wherever the process is by now
    monkeypatch.chdir("model")
    with pytest.raises(hl.PlanError, match="would replace a file of the model"):
        result.write("tokenizer.json")
    monkeypatch.chdir(lab)
    result.write("model/results.csv")


def test_a_circuit_is_not_written_over_the_scores_it_is_of(model: hl.Model, command: Command) -> None:
    scores = model.attribute(targets=" Madrid", wrong_targets=" Rome")
    scores.write("s.csv")
    Path("s.json").symlink_to("s.csv")
    with pytest.raises(hl.PlanError, match=r"^--out and SCORES are the same file, s\.json: name another for --out$"):
        model.circuit("s.csv").greedy(10).to_json("s.json")


def test_a_folder_is_the_commands(model: hl.Model, lab: Path) -> None:
    for name in ("runs/", lab):
        with pytest.raises(hl.PlanError, match=r"runs in folders are the command's: .*headlight\.cluster\.shards"):
            model.sweep(out=name)
    assert not Path("runs").exists()
