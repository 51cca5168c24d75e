"""Every bad input is an exception of the right kind, with the sentence of the command line."""

from __future__ import annotations

import pytest
from conftest import BASE, SOURCE

import headlight as hl

# what is wrong, as keywords and as flags, and which exception it is
WRONG = [
    ({"components": "head_value"}, ["--component", "head_value"], hl.PlanError),
    ({"layers": 9}, ["--layers", "9"], hl.PlanError),
    ({"heads": "7"}, ["--heads", "7"], hl.PlanError),
    ({"heads": "x"}, ["--heads", "x"], hl.PlanError),
    ({"positions": 9}, ["--positions", "9"], hl.PlanError),
    ({"positions": "Portugal"}, ["--positions", "Portugal"], hl.PlanError),
    ({"targets": " Madrid is"}, ["--target", " Madrid is"], hl.ModelError),
    ({"targets": 999_999}, ["--target-ids", "999999"], hl.PlanError),
    ({"targets": [" Rome", " Rome"]}, ["--targets", " Rome, Rome"], hl.PlanError),
    ({"metrics": "logit_diff"}, ["--metric", "logit_diff"], hl.PlanError),
    ({"op": "scale=x"}, ["--op", "scale=x"], hl.PlanError),
    ({"op": "noise=0.1", "components": "head_value_output", "seed": 1, "columns": "99"}, ["--op", "noise=0.1", "--component", "head_value_output", "--seed", "1", "--columns", "99"], hl.PlanError),
    ({"seed": 1}, ["--seed", "1"], hl.PlanError),
    ({"preset": "attn_head_out_all_pos", "positions": 3}, ["--preset", "attn_head_out_all_pos", "--positions", "3"], hl.PlanError),
    ({"basis": "none.safetensors#a"}, ["--basis", "none.safetensors#a"], hl.PlanError),
]  # fmt: skip


@pytest.mark.parametrize(
    ("keywords", "flags", "kind"), WRONG, ids=lambda x: " ".join(x) if isinstance(x, list) else None
)
def test_a_sweep_says_what_the_command_line_says(model, command, keywords, flags, kind):
    with pytest.raises(kind) as caught:
        model.sweep(BASE, SOURCE, **keywords)
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, hl.HeadlightError)
    done = command("sweep", "--base", BASE, "--source", SOURCE, *flags)
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1].removeprefix("headlight: ")
    # of what clap parses, clap says first which flag it was of
    own = str(caught.value)
    own = own.split(": ", 1)[1] if own.startswith("--") and own not in said else own
    assert own in said, (own, said)


def test_models_that_are_not_there(command):
    with pytest.raises(hl.ModelError) as caught:
        hl.Model("no/such/model/at/all")
    done = command("--model", "no/such/model/at/all", "topk", "a")
    assert done.stderr.strip() == f"headlight: {caught.value}"
    with pytest.raises(hl.DeviceError, match="unknown device `gpu`"):
        hl.Model(device="gpu")
    with pytest.raises(hl.DeviceError, match="precision bf16 runs on a GPU only"):
        hl.Model(device="cpu", precision="bf16")
    with pytest.raises(hl.PlanError, match="`lots` is not a size"):
        hl.Model(memory="lots")


def test_memory_files_and_rows(model, tmp_path):
    with pytest.raises(hl.MemoryLimitError) as caught:
        hl.Model(device="cpu", memory=1).sweep(targets=" Rome")
    assert isinstance(caught.value, MemoryError) and "give --memory more" in str(caught.value)
    result = model.sweep(targets=" Rome", heads=0)
    with pytest.raises(hl.FileError) as caught:
        result.write(tmp_path / "none" / "a.csv")
    assert isinstance(caught.value, OSError) and "there is no folder" in str(caught.value)
    with pytest.raises(hl.PlanError, match=r"must end in \.csv, \.jsonl or \.parquet"):
        result.write(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(hl.DataError, match=r"rows.json.*target"):
        model.sweep(data=[{"base": BASE, "source": SOURCE, "targte": " Rome"}])
    with pytest.raises(hl.FileError, match="cannot read the data set"):
        model.sweep(data=tmp_path / "none.csv")
    with pytest.warns(UserWarning, match="skipped 1 of 2 rows"):
        rows = [{"base": BASE, "source": SOURCE, "target": " Rome"}, {"base": BASE, "target": 5, "wrong": 1}]
        model.sweep(data=rows, skip_bad=True, heads=0)


def test_prompts_that_cannot_be(model):
    with pytest.raises(hl.PlanError, match="-1"):
        model.sweep([1, -1], [1, 2])
    with pytest.raises(TypeError, match="whole numbers"):
        model.sweep([1, "a"], [1, 2])
    with pytest.raises(hl.PlanError, match="2 base prompts and 3 source"):
        model.sweep([BASE] * 2, [SOURCE] * 3)
    with pytest.raises(hl.PlanError, match="either base and source, or data"):
        model.sweep(BASE, data=[{}])
    with pytest.raises(hl.PlanError, match="empty"):
        model([[]])
    with pytest.raises(hl.PlanError, match="nothing is padded"):
        model.to_tokens(["a", "The capital"])
    with pytest.raises(hl.ModelError, match="Madrid is"):
        model.to_single_token(" Madrid is")
    with pytest.raises(hl.ModelError, match="beyond this model's vocabulary"):
        model.to_string([999_999])
