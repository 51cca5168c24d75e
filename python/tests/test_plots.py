"""Pictures: plotly's figures show what headlight's own do, and files are told by their endings."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from conftest import BASE, SOURCE

import headlight as hl

ROWS = [
    {"base": BASE, "source": SOURCE, "target": " Rome", "wrong_target": " Madrid"},
    {"base": SOURCE, "source": BASE, "target": " Madrid", "wrong_target": " Rome"},
]
ASKED = {"targets": " Madrid", "wrong_targets": " Rome"}

# everything that has a picture, with the shape of its first panel
DRAWN = {
    "a sweep": (lambda m: m.sweep(BASE, SOURCE, components="mlp_output", **ASKED), (5, 5)),
    "a sweep of a data set": (lambda m: m.sweep(data=ROWS, components="head_value_output"), (5, 20)),
    "a tracing": (lambda m: m.trace(BASE, subject="Spain", samples=2, targets=" Madrid"), (5, 5)),
    "edges": (lambda m: m.edges(BASE, SOURCE, **ASKED), (26, 66)),
    "paths": (lambda m: m.path(BASE, SOURCE, **ASKED), (20, 1)),
    "direct logit attribution": (lambda m: m.direct_logit_attribution(BASE, by="component", **ASKED), (1, 1)),
    "a lens": (lambda m: m.lens(BASE, positions="all", **ASKED), (1, 5)),
    "keys": (lambda m: m.sweep(BASE, positions="end", keys="all", heads="together", op="knockout", **ASKED), (5, 5)),
    "columns": (lambda m: m.sweep(BASE, SOURCE, components="mlp_output", layers=0, columns="each:0-5", **ASKED), (1, 30)),
    "a preset": (lambda m: m.sweep(BASE, SOURCE, preset="attn_head_all_pos_every", **ASKED), (5, 4)),
    "a pattern": (lambda m: m.sweep(BASE, SOURCE, preset="attn_head_pattern_dest_src_pos", **ASKED), (5, 20)),
    "scores of edges": (lambda m: m.attribute(BASE, SOURCE, **ASKED), (26, 66)),
    "scores of nodes": (lambda m: m.attribute(BASE, SOURCE, of="nodes", components="mlp_output", **ASKED), (5, 5)),
    "one run": (lambda m: m.patch(BASE, hl.Patch("mlp_output", 0), source=SOURCE, **ASKED), (1, 1)),
    "outside the layers": (lambda m: m.sweep(BASE, SOURCE, components=["token_embedding", "final_output"], **ASKED), (1, 5)),
}  # fmt: skip


@pytest.fixture
def plotly():
    return pytest.importorskip("plotly")


@pytest.mark.parametrize("name", DRAWN)
def test_plotly_draws_whatever_has_a_picture(model, plotly, name):
    ask, shape = DRAWN[name]
    result = ask(model)
    assert result.picture()._repr_svg_().startswith("<svg")
    fig = result.plot()
    first = fig.data[0]
    assert first.z.shape == shape and len(set(first.x)) == len(first.x) and len(set(first.y)) == len(first.y)
    values = np.concatenate([panel.customdata.ravel() for panel in fig.data])
    # every number that is drawn is the table's, or a mean of the table's
    told, own = values[~np.isnan(values)], result[result.metric]
    assert told.size and np.nanmin(own) - 1e-12 <= told.min() and told.max() <= np.nanmax(own) + 1e-12
    if result.n_runs == told.size and len(result.provenance["pairs"]) == 1 and len(result) == result.n_runs:
        assert np.allclose(np.sort(told), np.sort(own))


@pytest.mark.parametrize("metric", ["prob", "logit_diff", "logit", "kl", "rank"])
def test_colours_are_changes_from_the_base(model, plotly, metric):
    result = model.sweep(
        BASE,
        SOURCE,
        targets=[" Madrid"],
        wrong_targets=" Rome",
        components=["head_value_output", "mlp_output"],
        metrics=metric,
    )
    fig = result.plot()
    base = {
        "prob": result["base_prob"][0],
        "logit_diff": np.subtract(*(model(BASE)[0, model.to_single_token(text)] for text in (" Madrid", " Rome"))),
        "logit": model(BASE)[0, model.to_single_token(" Madrid")],
        "kl": 0.0,
        "rank": 0.0,
    }[metric]
    for panel in fig.data:
        assert np.allclose(panel.z, panel.customdata - base, atol=1e-5)
    colours = fig.layout.coloraxis
    assert colours.cmin == -colours.cmax and colours.colorscale[0][0] == 0
    assert colours.colorbar.title.text.startswith("change of ")
    values = result.array(metric, component="head_value_output").transpose(0, 2, 1).reshape(5, 20)
    assert np.array_equal(fig.data[0].customdata, values)
    # tokens with their positions and heads, which are no two the same
    assert fig.data[0].x[:2] == ("The (0) h0", "The (0) h1") and fig.layout.annotations[1].text.endswith("(mlp_output)")


def test_what_adds_to_a_logit_is_no_change_of_it(model, plotly):
    fig = model.direct_logit_attribution(BASE, by="component", targets=" Madrid").plot()
    assert all(np.array_equal(panel.z, panel.customdata) for panel in fig.data)
    assert fig.layout.coloraxis.colorbar.title.text == "logit"


def test_all_of_a_cell_is_under_the_pointer(model, plotly):
    result = model.sweep(BASE, SOURCE, components="mlp_output", metrics=["logit_diff", "kl"], **ASKED)
    (panel,) = result.plot("kl").data
    row = next(row for row in result.rows() if (row["layer"], row["position"]) == (0, 3))
    told = panel.hovertext[0][3].split("<br>")
    assert told[0] == "<b>mlp0</b> _Spain (3)" and "%{hovertext}" in panel.hovertemplate
    said = {line.split()[0]: line.split()[1] for line in told[1:]}
    assert said == {name: f"{row[name]:.4g}" for name in ("kl", "prob", "logprob", "logit", "logit_diff")}
    assert f"from base {row['base_prob']:.4g})" in next(line for line in told if line.startswith("prob "))


@pytest.mark.parametrize("ending", ["svg", "png", "pdf", "html"])
def test_a_file_is_told_by_its_ending(model, tmp_path, ending):
    result = model.sweep(BASE, SOURCE, components="mlp_output", **ASKED)
    begins = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF", "html": b"<!doctype html>"}[ending]
    for name, given in ((f"a.{ending}", []), (f"b.{ending}", ["logit"])):
        assert result.plot(*given, str(tmp_path / name)) is None
        assert (tmp_path / name).read_bytes()[: len(begins)].lower() == begins.lower()
    assert result.plot(tmp_path / f"c.{ending}") is None
    assert (tmp_path / f"c.{ending}").read_bytes() == (tmp_path / f"a.{ending}").read_bytes()


def test_what_is_no_picture_is_refused(model, command, tmp_path):
    result = model.sweep(BASE, SOURCE, components="mlp_output", **ASKED)
    for name in ("x.txt", tmp_path / "x"):
        with pytest.raises(hl.PlanError, match=r"must end in \.svg, \.png, \.pdf or \.html"):
            result.plot(name)
    done = command("sweep", "--plot", "x.txt")
    with pytest.raises(hl.PlanError) as caught:
        result.plot("x.txt")
    assert done.stderr.strip() == f"headlight: {caught.value}"
    with pytest.raises(hl.PlanError, match="there is no column nothing to plot"):
        result.plot("nothing")._repr_svg_()
    with pytest.raises(TypeError, match="a metric is a text, not 3"):
        result.plot(3)
    with pytest.raises(hl.PlanError, match="width is for a figure of plotly's, and a file was asked for"):
        result.plot(tmp_path / "x.svg", width=3)
    assert list(tmp_path.iterdir()) == []


def test_without_plotly_it_is_our_own(model, monkeypatch):
    result = model.sweep(BASE, SOURCE, components="mlp_output", **ASKED)
    importing = builtins.__import__

    def without(name, *more, **others):
        if name.partition(".")[0] == "plotly":
            raise ImportError(name)
        return importing(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    assert result.plot("logit")._repr_svg_() == result.picture("logit")._repr_svg_()
    with pytest.raises(hl.PlanError, match="width is for plotly, which is not installed: leave it out"):
        result.plot(width=3)
