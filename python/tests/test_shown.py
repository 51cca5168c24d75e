"""What shows itself in notebooks, data sets that are made, and what clean prompts give."""

from __future__ import annotations

import sys
import types
import webbrowser
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pytest
from conftest import BASE, SOURCE

import headlight as hl
from headlight import metrics


def test_a_prompt_test_is_a_table(model):
    shown = model.test_prompt(BASE, " Rome is", top_k=2)._repr_html_()
    assert shown.count("<tr>") == 3 and "<code>_Spain</code>" in shown and "<code>_Rome</code>" in shown
    assert "<script" not in hl.PromptTest("<script>", ["<script>"], [("<script>", 0, 1.0, [])])._repr_html_()


def test_the_page_of_a_graph_is_the_commands(model, command, tmp_path):
    model.attribute(BASE, SOURCE, targets=" Madrid").write(tmp_path / "s.csv")
    graph = model.circuit(tmp_path / "s.csv").greedy(40)
    graph.to_json(tmp_path / "c.json")
    done = command("circuit", "show", "c.json", "--plot", "there.html")
    assert done.returncode == 0, done.stderr
    page = graph.page()
    assert page.html == (tmp_path / "there.html").read_text(encoding="utf-8")
    page.write(tmp_path / "here.html")
    assert (tmp_path / "here.html").read_text(encoding="utf-8") == page.html
    assert page._repr_html_().startswith("<iframe srcdoc=")
    with pytest.raises(hl.PlanError, match=r"must end in \.html"):
        page.write(tmp_path / "here.svg")


def cells(page):
    return page.split('id="cells">')[1]


def test_attention_is_the_commands_page(model, command, tmp_path):
    _, cache = model.run_with_cache(BASE)
    for name, scores in (("attention_weight", False), ("attention_scores", True)):
        done = command("cache", BASE, "--component", name, "--layers", "1", "--plot", "there.html")
        assert done.returncode == 0, done.stderr
        there = (tmp_path / "there.html").read_text(encoding="utf-8")
        attention = cache.attention(1, scores=scores)
        assert cells(attention.html) == cells(there)
        assert np.array_equal(attention.pattern, cache["attn_scores" if scores else "pattern", 1])
    whole = cache.attention()
    assert whole.pattern.shape == (5, 1, 4, 5, 5) and len(whole.html) > len(cache.attention(0).html)
    whole.write(tmp_path / "here.html")
    assert (tmp_path / "here.html").read_text(encoding="utf-8") == whole.html
    assert cache.attention(-1).html == cache.attention(4).html
    with pytest.raises(hl.PlanError, match=r"^layer 9 is out of range: layers are 0 to 4$"):
        cache.attention(9)
    with pytest.raises(hl.FileError, match="cannot write the file"):
        whole.write(tmp_path / "none" / "here.html")


def test_a_page_shows_itself_in_a_notebook_or_a_browser(model, monkeypatch):
    attention = model.run_with_cache(BASE)[1].attention(0)
    opened, drawn = [], []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    attention.show()
    (url,) = opened
    file = Path(url2pathname(urlparse(url).path))
    assert file.read_text(encoding="utf-8") == attention.html
    file.unlink()
    display = types.SimpleNamespace(display=drawn.append)
    shell = types.SimpleNamespace(get_ipython=lambda: object(), display=display)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    attention.show()
    assert drawn == [attention] and len(opened) == 1


def test_circuitsvis_draws_attention_where_it_is_installed(model, monkeypatch):
    _, cache = model.run_with_cache([BASE, SOURCE])
    given = {}
    module = types.SimpleNamespace(attention_heads=lambda **asked: given.update(asked) or "drawn")
    monkeypatch.setitem(sys.modules, "circuitsvis", types.SimpleNamespace(attention=module))
    monkeypatch.setitem(sys.modules, "circuitsvis.attention", module)
    assert cache.attention(2).to_circuitsvis(1) == "drawn"
    assert given["tokens"] == model.to_str_tokens(SOURCE)
    assert given["attention_head_names"] == ["L2H0", "L2H1", "L2H2", "L2H3"]
    assert np.array_equal(given["attention"], cache["pattern", 2][1])
    with pytest.raises(hl.PlanError, match="say which, as in"):
        cache.attention().to_circuitsvis()
    with pytest.raises(hl.PlanError, match="prompt is 2: it takes at most 1"):
        cache.attention(0).to_circuitsvis(2)
    monkeypatch.setitem(sys.modules, "circuitsvis.attention", None)
    with pytest.raises(hl.PlanError, match="circuitsvis is not installed"):
        cache.attention(2).to_circuitsvis()


def test_a_baseline_is_what_clean_prompts_give(model):
    rows = [
        {"base": BASE, "source": SOURCE, "targets": [" Rome", " Paris"], "wrong_target": " Madrid"},
        {"base": SOURCE, "source": BASE, "target": " Madrid", "wrong_target": " Rome"},
    ]
    result = model.sweep(data=rows, components="mlp_output", metrics=["logit_diff", "recovery_kl", "prob"])
    found = result.baseline
    assert found.columns == [
        "pair", "target", "target_id", "base_prob", "source_prob", "base_logit_diff", "source_logit_diff", "base_kl", "source_kl",
    ]  # fmt: skip
    assert found["pair"].tolist() == [0, 0, 1] and found["target"].tolist() == [" Rome", " Paris", " Madrid"]
    ids = {text: model.to_single_token(text) for text in (" Rome", " Paris", " Madrid")}
    logits = {text: model(text)[0].astype(float) for text in (BASE, SOURCE)}
    p = {text: np.exp(row - row.max()) / np.exp(row - row.max()).sum() for text, row in logits.items()}
    for row in found.rows():
        base, source = (BASE, SOURCE) if row["pair"] == 0 else (SOURCE, BASE)
        assert abs(row["base_prob"] - p[base][ids[row["target"]]]) < 1e-6
        assert abs(row["source_prob"] - p[source][ids[row["target"]]]) < 1e-6
        if row["target"] == " Madrid":
            assert abs(row["base_logit_diff"] - (logits[base][ids[" Madrid"]] - logits[base][ids[" Rome"]])) < 1e-4
            assert (
                abs(row["source_logit_diff"] - (logits[source][ids[" Madrid"]] - logits[source][ids[" Rome"]])) < 1e-4
            )
    assert np.isnan(
        model.sweep(BASE, components="mlp_output", op="zero", targets=" Rome").baseline["source_prob"]
    ).all()


def test_metrics_are_named_by_constants_too(model):
    asked = {"components": "mlp_output", "targets": " Rome", "wrong_targets": " Madrid"}
    named = model.sweep(BASE, SOURCE, metrics=["logit_diff", "kl", "recovery_logit_diff"], **asked)
    found = model.sweep(
        BASE, SOURCE, metrics=[metrics.LogitDiff, metrics.KL, metrics.recovery(metrics.LogitDiff)], **asked
    )
    assert found.columns == named.columns and np.array_equal(found["logit_diff"], named["logit_diff"])
    assert model.sweep(BASE, SOURCE, metrics=metrics.LogitDiff, **asked).metric == "logit_diff"
    asked.pop("components")
    assert model.attribute(BASE, SOURCE, metric=metrics.LogitDiff, **asked)["score"].any()
    names = [getattr(metrics, name) for name in metrics.__all__ if isinstance(getattr(metrics, name), str)]
    assert len(names) == 9
    model.sweep(BASE, SOURCE, heads=0, metrics=names, targets=" Rome", wrong_targets=" Madrid")
    with pytest.raises(TypeError, match=r"LogitDiff is a function of logits, which headlight\.patching takes"):
        model.sweep(BASE, SOURCE, metrics=[metrics.LogitDiff([[1, 2]])], targets=" Rome")


def test_indirect_object_prompts():
    rows = list(hl.Data.ioi(40, seed=3))
    assert rows == list(hl.Data.ioi(40, seed=3)) != list(hl.Data.ioi(40, seed=4))
    for at, row in enumerate(rows):
        other, subject = row["answer"].strip(), row["wrong_answer"].strip()
        clean, corrupted = (row[name].replace(",", "").replace(".", "").split() for name in ("clean", "corrupted"))
        # the subject comes twice, and the corrupted prompt has the other name in its second place
        assert clean.count(subject) == 2 and clean.count(other) == 1
        assert corrupted.count(subject) == 1 and corrupted.count(other) == 2 and len(corrupted) == len(clean)
        assert (clean.index(subject) < clean.index(other)) == (at % 2 == 0)
    abc = next(iter(hl.Data.ioi(1, corruption="abc")))
    assert not {abc["answer"].strip(), abc["wrong_answer"].strip()} & set(abc["corrupted"].split())
    for given, said in (
        ({"n": 0}, "n is 0: it takes 1 or more"),
        ({"corruption": "x"}, "unknown corruption `x`: use swap or abc"),
    ):
        with pytest.raises(hl.PlanError, match=said):
            hl.Data.ioi(**given)


def test_indirect_object_prompts_are_a_data_set(model):
    # the demo has no token for every name: the last of a span is one, and answers count by their first
    rows = [{name: value for name, value in row.items() if name != "wrong_answer"} for row in hl.Data.ioi(4)]
    result = model.sweep(data=rows, components="block_output", layers=0, positions="s2.last", first_token=True)
    assert result["pair"].tolist() == [0, 1, 2, 3] and set(result["position_name"].tolist()) == {"s2.last"}
    for pair, row in zip(result.provenance["pairs"], rows, strict=True):
        assert pair["base_text"] == row["corrupted"] and pair["source_text"] == row["clean"]
