"""Estimates and circuits: the command's numbers, and what a graph is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import headlight as hl

Command: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
ANSWERS: dict[str, Any] = {"targets": " Madrid", "wrong_targets": " Rome"}
FLAGS = ["--target", " Madrid", "--wrong-target", " Rome"]


def test_scores_are_the_commands(model: hl.Model, command: Command, tmp_path: Path) -> None:
    command("attribute", "edges", *FLAGS, "--verify-top", "5", "--absolute", "--out", tmp_path / "c.csv")
    scores = model.attribute(verify_top=5, absolute=True, **ANSWERS)
    scores.write(tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "c.csv").read_bytes()
    assert scores.agreement is not None
    assert scores.agreement.top[0] == 5
    assert np.array_equal(np.abs(scores["score"]), scores["absolute"])
    assert scores.array("score").shape == (26, 66)
    assert scores.top(1)["score"][0] == scores["score"][np.argmax(np.abs(scores["score"]))]
    nodes = model.attribute(of="nodes", method="atp-star", components="head_query_output", **ANSWERS)
    command(
        "attribute", "nodes", *FLAGS, "--method", "atp-star", "--component", "head_query_output", "--out", tmp_path / "n.csv"
    )  # fmt: skip
    nodes.write(tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "n.csv").read_bytes()


def test_a_graph_is_chosen_evaluated_and_written(model: hl.Model, command: Command, tmp_path: Path) -> None:
    scores = model.attribute(method="eap-ig-inputs", **ANSWERS)
    scores.write(tmp_path / "s.csv")
    graph = scores.graph()
    assert len(graph) == 0
    assert len(graph.scores) == 761
    circuit = graph.greedy(60)
    command("circuit", tmp_path / "s.csv", "--greedy", "60", "--out", tmp_path / "c.json")
    read = model.circuit(tmp_path / "c.json")
    assert read.edges == circuit.edges
    assert model.circuit(tmp_path / "s.csv").greedy(60).edges == circuit.edges
    circuit.to_json(tmp_path / "d.json")
    assert json.loads((tmp_path / "d.json").read_text()) == json.loads((tmp_path / "c.json").read_text())
    circuit.to_json(tmp_path / "e.json", convention="eap-ig")
    name = circuit.edges[0]
    assert json.loads((tmp_path / "e.json").read_text())["edges"][name]["score"] == -circuit.scores[name]
    # all edges are the whole model, none the source
    whole = graph.keep(graph.scores)
    found = whole.evaluate(**ANSWERS)
    assert found.metric == found.whole
    assert found.faithfulness == 1.0
    assert graph.evaluate(**ANSWERS).metric == found.nothing
    assert graph.evaluate(ablation="zero", metric="kl").metric > 0
    kept = circuit.matrix("in_graph")
    assert np.nansum(kept) == len(circuit)
    assert circuit.matrix().axes == ("sender", "receiver")
    assert circuit.svg().count("<line") == len(circuit)
    assert circuit._repr_html_().startswith("<svg")
    assert repr(circuit).startswith(f"{len(circuit)} of 761 edges\nlogits")
    circuit.plot(tmp_path / "c.svg")
    assert (tmp_path / "c.svg").read_text() == circuit.svg()
    assert circuit.top_n(0).edges == []
    assert set(circuit.prune().edges) == set(circuit.edges)
    assert circuit.threshold(1e9).edges == []
    assert "input" in circuit.nodes


def test_a_graph_is_read_back_from_its_json(model: hl.Model, command: Command, tmp_path: Path) -> None:
    command("attribute", "edges", *FLAGS, "--out", tmp_path / "s.csv")
    command("circuit", tmp_path / "s.csv", "--greedy", "40", "--out", tmp_path / "c.json")
    graph = hl.Graph.from_json(tmp_path / "c.json", model)
    written = json.loads((tmp_path / "c.json").read_text())
    assert set(graph.edges) == {name for name, edge in written["edges"].items() if edge["in_graph"]}
    assert graph.scores == {name: edge["score"] for name, edge in written["edges"].items()}
    assert set(graph.nodes) == {n for n, node in written["nodes"].items() if node["in_graph"]}
    graph.to_json(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "c.json").read_bytes()
    # what others write may have no scores
    for edge in written["edges"].values():
        del edge["score"]
    (tmp_path / "bare.json").write_text(json.dumps(written))
    bare = hl.Graph.from_json(tmp_path / "bare.json", model)
    assert bare.edges == graph.edges
    assert bare.evaluate(**ANSWERS) == graph.evaluate(**ANSWERS)
    with pytest.raises(hl.PlanError, match=r"s\.csv: a circuit is EAP-IG's JSON"):
        hl.Graph.from_json(tmp_path / "s.csv", model)
    written["cfg"]["n_heads"] = 7
    (tmp_path / "other.json").write_text(json.dumps(written))
    with pytest.raises(hl.HeadlightError, match=r"other\.json"):
        hl.Graph.from_json(tmp_path / "other.json", model)


def test_acdc_is_the_commands(model: hl.Model, command: Command, tmp_path: Path) -> None:
    command("circuit", "acdc", "--threshold", "0.1", "--out", tmp_path / "a.json")
    assert model.acdc(threshold=0.1).edges == model.circuit(tmp_path / "a.json").edges


def test_what_makes_no_sense_is_refused(model: hl.Model, tmp_path: Path) -> None:
    with pytest.raises(hl.PlanError, match="atp-star is of nodes"):
        model.attribute(method="atp-star")
    with pytest.raises(hl.PlanError, match="`atp` is no method"):
        model.attribute(method="atp")
    with pytest.raises(hl.PlanError, match="--steps is for eap-ig-inputs"):
        model.attribute(steps=3)
    with pytest.raises(hl.PlanError, match="give a number above 0"):
        model.acdc(threshold=0.0)
    with pytest.raises(hl.PlanError, match="is no ablation"):
        model.attribute().graph().evaluate(ablation="nothing")  # type: ignore[arg-type]
    with pytest.raises(hl.PlanError, match="the model has no edge `m9->logits`"):
        model.attribute().graph().keep(["m9->logits"])
    with pytest.raises(hl.FileError):
        model.circuit(tmp_path / "nothing.json")


def test_edges_at_positions_are_an_attribution_graph(model: hl.Model, tmp_path: Path) -> None:
    scores = model.attribute(targets=" Rome", per_position=True)
    path = tmp_path / "graph.json"
    graph = scores.attribution_graph(path, n=30)
    assert json.loads(path.read_text()) == graph
    largest = np.sort(np.abs(scores["score"]))[::-1][:30]
    assert [abs(link["weight"]) for link in graph["links"]] == largest.tolist()
    exact = model.edges(targets=" Rome", receivers="logits", per_position=True)
    change = np.abs(exact["prob"] - exact["base_prob"]).max()
    assert abs(exact.attribution_graph(n=1)["links"][0]["weight"]) == pytest.approx(change, abs=1e-12)
    with pytest.raises(hl.PlanError, match="single positions"):
        model.edges(targets=" Rome", receivers="logits").attribution_graph()
    with pytest.raises(hl.PlanError, match="no pair 4"):
        scores.attribution_graph(pair=4)
