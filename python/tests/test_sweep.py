"""Sweeps: the bytes of the command line, and everything that reads a result."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from conftest import BASE, SOURCE

import headlight as hl

PAIRS = [
    {"base": BASE, "source": SOURCE, "target": " Rome", "wrong_target": " Madrid"},
    {"base": "The capital of France is", "source": BASE, "target": " Madrid", "wrong_target": " Paris"},
]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_sweep_writes_the_bytes_of_the_command_line(model, command, tmp_path, ending):
    result = model.sweep(BASE, SOURCE, targets=[" Madrid", " Rome"], metrics=["rank", "kl"])
    (here,) = result.write(tmp_path / f"here.{ending}")
    done = command(
        "sweep", "--base", BASE, "--source", SOURCE, "--targets", " Madrid, Rome", "--metric", "rank,kl",
        "--out", f"there.{ending}", "--memory", "512M",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    there = tmp_path / f"there.{ending}"
    if ending != "parquet":
        assert here.read_bytes() == there.read_bytes()
        metas = [json.loads(p.with_name(p.name + ".meta.json").read_text()) for p in (here, there)]
    else:
        # the call stands in the file's own metadata, and is another
        pq = pytest.importorskip("pyarrow.parquet")
        tables = [pq.read_table(p) for p in (here, there)]
        assert tables[0].equals(tables[1])
        metas = [json.loads(t.schema.metadata[b"headlight"]) for t in tables]
    assert metas[0].pop("command").startswith("Model.sweep(base='The capital")
    assert "sweep" in metas[1].pop("command")
    assert metas[0] == metas[1] and metas[0]["model_hash"]


def test_a_data_set_writes_its_averages_too(model, command, tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    wanted = {"components": "head_value_output", "metrics": "recovery_logit_diff"}
    of_file = model.sweep(data=tmp_path / "pairs.json", **wanted).write(tmp_path / "file.csv")
    of_rows = model.sweep(data=PAIRS, **wanted).write(tmp_path / "rows.csv")
    done = command(
        "sweep", "--data", "pairs.json", "--component", "head_value_output", "--metric", "recovery_logit_diff",
        "--out", "there.csv",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [p.name for p in of_file] == ["file.csv", "file.summary.csv"]
    for here, name in zip([*of_file, *of_rows], ["there.csv", "there.summary.csv"] * 2, strict=True):
        assert here.read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_summary_is_the_file_beside(model, tmp_path):
    result = model.sweep(data=PAIRS, components="head_value_output", positions="end", metrics="recovery_logit_diff")
    _, beside = result.write(tmp_path / "a.csv")
    found, written = result.summary(), list(csv.DictReader(beside.read_text().splitlines()))
    assert found.columns == list(written[0]) and "position_name" in found.columns
    assert len(found) == len(written) == 20
    for name in ("layer", "head", "pairs", "recovery_logit_diff", "recovery_logit_diff_mean", "recovery_logit_diff_n"):
        assert found[name].tolist() == [float(row[name]) for row in written], name


def test_an_experiment_of_a_data_sets_rows(model):
    patch = {"component": "head_value_output", "layer": 0, "heads": [0], "positions": [3]}
    result = model.run({"run": [{"patches": [patch]}]}, data=PAIRS)
    assert result["pair"].tolist() == [0, 1] and (result["prob"] > 0.5).all()
    with pytest.raises(hl.PlanError, match="the experiment has pairs of its own"):
        model.run({"pair": [{"base": BASE}], "run": [{"patches": [patch]}]}, data=PAIRS)


def test_spaces_that_were_forgotten_are_said(model):
    with pytest.warns(UserWarning, match="has no space before it"):
        model.sweep(BASE, SOURCE, targets="Rome", heads=0, first_token=True)


def test_rows_of_other_libraries_are_the_same_data(model):
    expected = model.sweep(data=PAIRS, components="head_value_output")["prob"]
    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    for rows in (pd.DataFrame(PAIRS), pl.DataFrame(PAIRS), pa.Table.from_pylist(PAIRS), hl.Data(PAIRS)):
        assert np.array_equal(model.sweep(data=rows, components="head_value_output")["prob"], expected)


def test_a_result_is_read_by_pandas_polars_and_arrow(model):
    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    result = model.sweep(BASE, SOURCE, targets=" Rome", components=["head_value_output", "mlp_output"])
    table = pa.table(result)
    assert table.num_rows == len(result) == 125
    assert json.loads(table.schema.metadata[b"headlight"])["model"] == "demo"
    frames = [result.to_pandas(), pl.DataFrame(result).to_pandas(), result.to_polars().to_pandas()]
    if hasattr(pd.DataFrame, "from_arrow"):
        frames.append(pd.DataFrame.from_arrow(result))
    for frame in frames:
        assert list(frame.columns) == result.columns
        assert np.array_equal(frame["prob"].to_numpy(), result["prob"])
        assert frame["head"].isna().sum() == 25 and frame["head"].notna().sum() == 100
        assert frame["token"].tolist() == table["token"].to_pylist()


def test_a_result_is_read_by_duckdb(model):
    duckdb = pytest.importorskip("duckdb")
    result = model.sweep(BASE, SOURCE, targets=" Rome", components="head_value_output")
    ((layer, head, position, prob),) = duckdb.sql(
        "select layer, head, position, prob from result order by prob desc limit 1"
    ).fetchall()
    assert (layer, head, position) == (0, 0, 3) and prob == result["prob"].max()


class OfSomeOtherLibrary:
    """An array that NumPy knows only by DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **wishes):
        return self._array.__dlpack__(**wishes)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_anything_with_dlpack_will_do(model):
    ids = model.to_tokens([BASE, SOURCE])
    base, source = map(OfSomeOtherLibrary, ids)
    zero = hl.Op.set(OfSomeOtherLibrary(np.zeros(128)))
    again = model.sweep(base, source, targets=" Rome", components="block_output", op=zero)
    assert np.array_equal(
        again["prob"], model.sweep(BASE, SOURCE, targets=" Rome", components="block_output", op="zero")["prob"]
    )


def test_arrays_have_named_axes(model):
    result = model.sweep(BASE, SOURCE, targets=[" Madrid", " Rome"], components="head_value_output")
    rome = result.array("prob", target=" Rome")
    assert (rome.axes, rome.shape) == (("layer", "head", "position"), (5, 4, 5))
    assert np.unravel_index(rome.argmax(), rome.shape) == (0, 0, 3) and rome.max() > 0.9
    both = result.array("prob")
    assert both.axes[0] == "target" and both.labels["target"] == [" Madrid", " Rome"]
    assert np.array_equal(both[1], rome)
    # an axis that was sliced away is no axis
    assert rome[0].axes == () and rome.sum(0).axes == ()
    assert rome.T.axes == ("position", "head", "layer") and rome.swapaxes(0, 1).axes == ("head", "layer", "position")
    mixed = model.sweep(BASE, SOURCE, targets=" Rome", components=["head_value_output", "mlp_output"])
    assert np.array_equal(mixed.array("prob", component="head_value_output"), rome)
    assert mixed.array("prob", component="mlp_output").axes == ("layer", "position")
    for wrong in ({}, {"component": "mlp"}, {"target": " Paris"}):
        with pytest.raises(hl.PlanError, match=r"one of head_value_output, mlp_output|there is no"):
            mixed.array("prob", **wrong)
    preset = model.sweep(BASE, SOURCE, targets=" Rome", preset="attn_head_v_by_pos", metrics="prob")
    named = preset.array("prob")
    assert named.axes == ("layer", "position", "head")
    assert np.array_equal(named.transpose(0, 2, 1), rome)


def test_prompts_may_be_ids_and_several(model):
    ids = model.to_tokens([BASE, SOURCE])
    one = model.sweep(BASE, SOURCE, targets=" Rome", components="block_output")
    for base, source in (
        (ids[0], ids[1]),
        (ids[0].tolist(), ids[1].tolist()),
        (ids[:1], ids[1:]),
        (BASE, ids[1]),
    ):
        again = model.sweep(base, source, targets=model.to_single_token(" Rome"), components="block_output")
        assert np.array_equal(again["prob"], one["prob"])
    two = model.sweep([BASE, SOURCE], [SOURCE, BASE], targets=[[" Rome"], [" Madrid"]], components="block_output")
    assert np.array_equal(two["prob"][: len(one)], one["prob"]) and len(two) == 2 * len(one)
    assert len(two.summary()) == len(one)


def test_ranges_are_numbers_lists_masks_and_names(model):
    def cells(**ranges):
        r = model.sweep(BASE, SOURCE, targets=" Rome", components="head_value_output", **ranges)
        return [set(r[name].tolist()) for name in ("layer", "head", "position")]

    assert cells(layers=0, heads=[1, 2], positions="3") == [{0}, {1, 2}, {3}]
    assert cells(layers=range(2), heads=np.array([True, False, False, True]), positions=-1) == [{0, 1}, {0, 3}, {4}]
    assert cells(layers=slice(1, 3), heads="0-1", positions=["Spain", "end"]) == [{1, 2}, {0, 1}, {3, 4}]


def test_operators(model):
    def rome(op, **more):
        r = model.sweep(
            BASE, SOURCE, targets=" Rome", components="head_value_output", layers=0, heads=0, positions=3, op=op, **more
        )
        return r["prob"][0]

    assert rome("interchange") == rome(hl.Op.interchange()) > 0.9
    assert rome("zero") == rome(hl.Op.zero()) == rome(hl.Op.set(np.zeros(32))) == rome(hl.Op.scale(0))
    assert rome(hl.Op.interpolate(1)) == rome("interchange")
    assert rome("noise=0.1", seed=3) == rome(hl.Op.noise(0.1, seed=3)) != rome(hl.Op.noise(0.1, seed=4))
    assert rome(hl.Op.function(lambda b, s: s)) == rome("interchange")
    assert rome(hl.Op.function(lambda b: 0 * b, reads_source=False)) == rome("zero")
    assert rome(hl.Op.mean([SOURCE])) == rome(hl.Op.mean([model.to_tokens(SOURCE)[0]]))
    with pytest.raises(ZeroDivisionError):
        rome(hl.Op.function(lambda b, s: 1 / 0))
    with pytest.raises(ValueError, match="gave 31 numbers for a row of 32"):
        rome(hl.Op.function(lambda b, s: b[1:]))
    # the engine goes on after a function that failed
    assert rome("interchange") > 0.9


def test_a_result_shows_itself(model):
    result = model.sweep(BASE, SOURCE, targets=[" Madrid", " Rome"], heads=0)
    page = result._repr_html_()
    assert page.count("<svg") == 1 and "<table>" in page and "model demo" in page
    assert "http" not in page.replace("http://www.w3.org/", "")
    bundle = result._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG") and bundle["text/plain"].startswith("strongest")
    assert result.top(2)["target"].tolist() == [" Madrid", " Madrid"]
    assert result.top(1, by="prob")["prob"][0] == result["prob"].max()


def test_a_picture_is_that_of_the_command_line(model, command, tmp_path):
    result = model.sweep(BASE, SOURCE, targets=[" Madrid", " Rome"])
    result.picture().write(tmp_path / "here.svg")
    done = command("sweep", "--base", BASE, "--source", SOURCE, "--targets", " Madrid, Rome", "--plot", "there.svg")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here.svg").read_bytes() == (tmp_path / "there.svg").read_bytes()


def test_a_page_is_that_of_the_command_line(model, command, tmp_path):
    result = model.sweep(BASE, SOURCE, targets=[" Madrid", " Rome"])
    result.plot(tmp_path / "here.html")
    result.page().write(tmp_path / "also.html")
    done = command("sweep", "--base", BASE, "--source", SOURCE, "--targets", " Madrid, Rome", "--plot", "there.html")
    assert done.returncode == 0, done.stderr
    here, also, there = ((tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("here", "also", "there"))

    # how it was asked for is all that differs
    def parts(page):
        about = json.loads(page.split('id="about">')[1].split("</script>")[0])
        about["made"].pop("command")
        return about, page.split('id="cells">')[1]

    assert parts(here) == parts(there) and also == here
    shown = result.page("logprob")._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and shown.count("<iframe") == 1 and "<script" not in shown
    result.plot("logprob", tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(hl.PlanError, match="must end in"):
        result.page().write(tmp_path / "x.svg")
    with pytest.raises(hl.PlanError, match="no column nothing"):
        result.page("nothing").html  # noqa: B018


def test_edges_are_a_graph(model):
    page = model.edges(BASE, SOURCE, targets=" Rome", senders="m0", receivers="logits").page().html
    about = json.loads(page.split('id="about">')[1].split("</script>")[0])
    assert about["kind"] == "edges" and about["graph"]["nodes"] == ["m0", "logits"]


def test_what_it_would_cost(model):
    plan = model.plan(BASE, SOURCE, components="head_value_output")
    result = model.sweep(BASE, SOURCE, targets=" Rome", components="head_value_output")
    # what prompts of one beginning say: later, patches turn out to write what stands there already
    assert plan.runs == result.n_runs == 100 and result.n_live <= plan.live < 100
    assert plan.operations >= result.operations > 0


def test_a_knockout_is_the_command_lines(model):
    blocked = model.sweep(
        targets=" Madrid", positions="end", keys="Spain", heads="together", window=2, op=hl.Op.knockout()
    )
    assert blocked["op"].tolist() == ["knockout"] * 5
    assert blocked["position_name"].tolist() == ["end<-Spain"] * 5
    assert blocked["layer"].tolist() == [0, 1, 2, 3, 4]
    patch = hl.Patch("attention_scores", 1, positions="end", keys="Spain", op="knockout")
    alone = model.patch("The capital of Spain is", patch, targets=" Madrid")
    number = hl.Patch("attention_scores", 1, positions=4, keys=[3], op=hl.Op.set(float("-inf")))
    assert alone["prob"][0] == model.patch("The capital of Spain is", number, targets=" Madrid")["prob"][0]
    assert alone["prob"][0] != alone["base_prob"][0]


@pytest.mark.parametrize("ask", ["sweep", "edges", "path", "trace"])
def test_means_alone_are_the_summary_and_the_commands_file(model, command, tmp_path, ask):
    rows = [{**row, "spans": {"city": row["base"].split()[3]}} for row in PAIRS]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    asked, flags = {
        "sweep": ({"components": "head_value_output"}, ["--component", "head_value_output"]),
        "edges": ({"receivers": "logits"}, ["--receivers", "logits"]),
        "path": ({"receivers": "logits"}, ["--receivers", "logits"]),
        "trace": ({"subject": "city", "samples": 2}, ["--subject", "city", "--samples", "2"]),
    }[ask]
    asked = {**asked, "data": tmp_path / "pairs.json", "metrics": "logit_diff"}
    call = getattr(model, ask)
    every, means = call(**asked), call(**asked, rows="means")
    assert means.is_means and not every.is_means
    summary = every.summary()
    assert means.columns == summary.columns and "logit_diff_max" in means.columns
    for name in means.columns:
        if means[name].dtype.kind == "f":
            np.testing.assert_array_equal(means[name], summary[name])
        else:
            assert means[name].tolist() == summary[name].tolist(), name
    # against the rows: each cell's mean and extremes
    if ask == "sweep":
        at = (every["layer"] == 1) & (every["head"] == 2) & (every["position"] == 3)
        one = (means["layer"] == 1) & (means["head"] == 2) & (means["position"] == 3)
        values = every["logit_diff"][at]
        assert len(values) == 2 and one.sum() == 1
        assert np.isclose(means["logit_diff"][one][0], values.mean(), rtol=1e-12)
        assert means["logit_diff_min"][one][0] == values.min() and means["logit_diff_max"][one][0] == values.max()
        assert means.array("logit_diff").axes == ("layer", "head", "position")
    (here,) = means.write(tmp_path / "here.csv")
    done = command(
        ask, "--data", "pairs.json", "--metric", "logit_diff", *flags, "--rows", "means", "--out", "there.csv"
    )
    assert done.returncode == 0, done.stderr
    assert here.read_bytes() == (tmp_path / "there.csv").read_bytes()
    assert "means" in repr(means) and means._repr_html_()
    with pytest.raises(hl.PlanError, match="by="):
        means.top()


def test_means_that_there_are_not_are_refused(model):
    with pytest.raises(hl.PlanError, match="--rows means"):
        model.sweep(BASE, SOURCE, targets=" Rome", components="head_value_output", rows="means")
    with pytest.raises(hl.PlanError, match="all, means, auto"):
        model.sweep(data=PAIRS, components="head_value_output", rows="some")
    with pytest.raises(hl.PlanError, match="--top"):
        model.sweep(data=PAIRS, components="head_value_output", rows="means", top_tokens=2)
    means = model.sweep(data=PAIRS, components="head_value_output", rows="means")
    with pytest.raises(hl.PlanError, match="keeps no rows"):
        means.picture()._repr_svg_()
    with pytest.raises(hl.PlanError, match="keeps no rows"):
        _ = means.page().html
