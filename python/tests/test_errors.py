"""Every bad input is an exception of the right kind, with the sentence of the command line."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import BASE, SOURCE

import headlight as hl
from headlight import metrics, patching

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


def swept(**asked):
    return lambda m: m.sweep(BASE, SOURCE, targets=" Rome", **asked)


def traced(**asked):
    return lambda m: m.trace(BASE, subject="Spain", **asked)


def attributed(**asked):
    return lambda m: m.attribute(BASE, SOURCE, targets=" Rome", **asked)


def patched(component, *given, **asked):
    return lambda m: m.patch(BASE, hl.Patch(component, *given, **asked), source=SOURCE, targets=" Rome")


def by_metric(metric):
    return lambda m: patching.get_act_patch_resid_pre(m, m.to_tokens(BASE), m.to_tokens(SOURCE), metric)


def made(**asked):
    return lambda m: hl.Model("demo", **asked)


LEFT_OUT = "it takes 0 or more"
SAID = [
    (swept(seed="a", op="noise=0.1"), TypeError, "seed is a whole number, not 'a'"),
    (swept(seed=1.5, op="noise=0.1"), TypeError, "seed is a whole number, not 1.5"),
    (swept(seed=-1, op="noise=0.1"), hl.PlanError, f"seed is -1: {LEFT_OUT}"),
    (swept(seed=2**70, op="noise=0.1"), hl.PlanError, f"seed is {2**70}: it takes at most {2**64 - 1}"),
    (swept(window=-1), hl.PlanError, f"window is -1: {LEFT_OUT}"),
    (swept(window="2"), TypeError, "window is a whole number, not '2'"),
    (swept(basis=3), TypeError, "basis is a text, not 3"),
    (swept(preset=3), TypeError, "preset is a text, not 3"),
    (swept(op=3), TypeError, "an operator is an Op, or a text such as 'zero', not 3"),
    (swept(components=3), TypeError, "components are names, not 3"),
    (swept(components=[]), hl.PlanError, "components names nothing: leave it out, or name some"),
    (swept(metrics=[3]), TypeError, "metrics are names, not 3"),
    (swept(first_token="yes"), TypeError, "first_token is True or False, not 'yes'"),
    (swept(at=1.5), TypeError, "at is a whole number, not 1.5"),
    (swept(top_tokens=1.5), TypeError, "top_tokens is a whole number, not 1.5"),
    (swept(progress=3), TypeError, "progress is None, True, False or a function, not 3"),
    (swept(op=hl.Op.function(lambda b, s: None)), TypeError, "the function gives None for a row, and should give as many numbers: has it a return?"),
    (attributed(steps=-1, method="eap-ig-inputs"), hl.PlanError, f"steps is -1: {LEFT_OUT}"),
    (attributed(verify_top=-1), hl.PlanError, f"verify_top is -1: {LEFT_OUT}"),
    (attributed(verify_top=1.5), TypeError, "verify_top is a whole number, not 1.5"),
    (attributed(method=3), TypeError, "method is a text, not 3"),
    (traced(samples=-1), hl.PlanError, f"samples is -1: {LEFT_OUT}"),
    (traced(samples="x"), TypeError, "samples is a whole number, not 'x'"),
    (traced(window=-1), hl.PlanError, f"window is -1: {LEFT_OUT}"),
    (traced(seed=None), TypeError, "seed is a whole number, not None"),
    (traced(noise=[1]), TypeError, "noise is a number, not [1]"),
    (made(threads=1.5), TypeError, "threads is a whole number, not 1.5"),
    (made(threads=True), TypeError, "threads is a whole number, not True"),
    (made(memory=1.5), TypeError, "memory is a whole number, not 1.5"),
    (made(device=0), TypeError, "device is a text, not 0"),
    (made(precision=None), TypeError, "precision is a text, not None"),
    (lambda m: m.topk(BASE, -1), hl.PlanError, "k is -1: it takes 1 or more"),
    (lambda m: m.topk(BASE, 1.5), TypeError, "k is a whole number, not 1.5"),
    (lambda m: m.test_prompt(BASE, ""), hl.PlanError, "the answer is empty: give at least one token"),
    (lambda m: m.test_prompt(BASE, " Rome", top_k=-1), hl.PlanError, f"top_k is -1: {LEFT_OUT}"),
    (patched("z", 0), hl.PlanError, "unknown component `z`: did you mean `head_attention_value_output`?"),
    (patched("z", 0, heads=0), hl.PlanError, "unknown component `z`: did you mean `head_attention_value_output`?"),
    (patched("head_value_output", -1), hl.PlanError, f"layer is -1: {LEFT_OUT}"),
    (patched("head_value_output", "x"), TypeError, "layer is a whole number, not 'x'"),
    (patched("head_value_output", 0, positions=1.5), TypeError, "positions are numbers or names, not 1.5"),
    (patched("head_value_output", 0, op=3), TypeError, "an operator is an Op, or a text such as 'zero', not 3"),
    (lambda m: m(b"The"), TypeError, "the base prompt is text or token ids, not bytes"),
    (lambda m: m([bytearray(b"The")]), TypeError, "the base prompt is text or token ids, not bytearray"),
    (lambda m: m.to_tokens(b"The"), TypeError, "what tokens are made of is a text, not b'The'"),
    (lambda m: m.sweep(BASE, SOURCE, targets=b"a"), TypeError, "targets are texts or token ids, not bytes"),
    (by_metric(lambda logits: None), TypeError, "the metric gives None, and should give a number: has it a return?"),
    (by_metric(lambda logits: "x"), TypeError, "the metric gives 'x', and should give a number"),
    (by_metric(3), TypeError, "a patching_metric is a function of logits, or several by name, not 3"),
    (by_metric({}), hl.PlanError, "no metric is given: give a function of logits, or several by name"),
    (lambda m: m.run(3), TypeError, "an experiment is a file's name or a dictionary, not 3"),
    (lambda m: m.run({"run": [3]}), TypeError, "run 0 is a dictionary, such as {'patches': […]}, not 3"),
    (lambda m: m.run({"pair": [{"base": BASE}, {"base": 3}], "run": []}), hl.PlanError, "the experiment's pair[1].base: invalid type: integer `3`, expected a string"),
    (lambda m: m.run({"pair": [{"base": BASE}], "run": [{"patches": [{"component": "mlp_output", "layer": -1}]}]}), hl.PlanError, "the experiment's run[0].patches[0].layer: invalid value: integer `-1`, expected a whole number from 0"),
    (lambda m: m.edges(BASE, SOURCE, foo=1), TypeError, "Model.edges() got an unexpected keyword argument 'foo'"),
    (lambda m: m.plan(BASE, SOURCE, foo=1), TypeError, "Model.plan() got an unexpected keyword argument 'foo'"),
    (lambda m: m.acdc(threshold="x"), TypeError, "threshold is a number, not 'x'"),
    (lambda m: m.sweep(data=3), TypeError, "a data set is a list of dictionaries, a frame or a table, not int"),
    (lambda m: m.sweep().take([-1]), IndexError, "there is no row -1: there are 400"),
    (lambda m: m.sweep().top(-1), hl.PlanError, f"n is -1: {LEFT_OUT}"),
    (lambda m: m.attribute().graph().top_n(1.5), TypeError, "n is a whole number, not 1.5"),
    (lambda m: hl.Op.noise(0.1, seed=-1), hl.PlanError, f"seed is -1: {LEFT_OUT}"),
    (lambda m: hl.Op.scale("x"), TypeError, "a factor is a number, not 'x'"),
    (lambda m: hl.Op.set(None), TypeError, "the constant of `set` is numbers, or F.safetensors#tensor, not None"),
    (lambda m: hl.Op.function(3), TypeError, "an operator's function is called with rows, and 3 cannot be"),
    (lambda m: metrics.LogitDiff([[1, "x"]]), TypeError, "answer_tokens are token ids, which are whole numbers, and not 'x'"),
    (lambda m: hl.Model.from_state_dict(3, {}), TypeError, "weights and config are dictionaries, of tensors and of what config.json says, not int"),
    (lambda m: hl.from_pyvene(3, {}), TypeError, "a configuration is pyvene's, or a list of representations, not 3"),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "kind", "sentence"), SAID, ids=[f"{at}" for at in range(len(SAID))])
def test_what_is_wrong_is_said_in_pythons_words(model, ask, kind, sentence):
    with pytest.raises(kind) as caught:
        ask(model)
    assert str(caught.value) == sentence and type(caught.value) is kind


def test_whole_numbers_may_be_numpys(model):
    plain = model.sweep(BASE, SOURCE, targets=" Rome", op="noise=0.1", seed=3, window=2)
    given = model.sweep(BASE, SOURCE, targets=" Rome", op="noise=0.1", seed=np.int64(3), window=np.uint8(2))
    assert np.array_equal(plain["prob"], given["prob"])
    assert len(model.topk(BASE, np.int32(3))) == 3


def test_a_file_that_is_not_there_is_a_files_error(model, command):
    with pytest.raises(hl.FileError) as caught:
        model.run("nope.toml")
    assert isinstance(caught.value, OSError)
    assert command("run", "nope.toml").stderr.strip() == f"headlight: {caught.value}"


def test_a_mean_over_one_text_is_over_that_prompt(model):
    one, several = (
        model.sweep(BASE, targets=" Rome", components="mlp_output", op=hl.Op.mean(prompts))
        for prompts in (SOURCE, [SOURCE])
    )
    assert np.array_equal(one["prob"], several["prob"])


def test_bos_is_asked_for_in_one_word(model):
    lengths = [
        len(ask(prepend_bos=True).provenance["pairs"][0]["base_tokens"])
        for ask in (
            lambda **more: model.sweep(BASE, SOURCE, heads=0, **more),
            lambda **more: model.edges(BASE, SOURCE, receivers="logits", **more),
            lambda **more: model.path(BASE, SOURCE, **more),
            lambda **more: model.lens(BASE, **more),
            lambda **more: model.trace(BASE, subject="Spain", samples=1, **more),
            lambda **more: model.attribute(BASE, SOURCE, of="nodes", components="mlp_output", **more),
        )
    ]
    assert lengths == [6] * 6
