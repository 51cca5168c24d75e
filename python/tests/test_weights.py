"""Weights that somebody else holds: changed in place they are refused everywhere, and provenance names those that ran."""

from __future__ import annotations

import inspect
import json
import struct

import numpy as np
import pytest
from conftest import BASE, FIXTURES, SOURCE

import headlight as hl
from headlight import metrics, patching

DEMO = FIXTURES.parents[1] / "src" / "model" / "demo"
KINDS = {"F32": np.float32, "F16": np.float16}


def arrays() -> dict[str, np.ndarray]:
    """The demo's tensors, as a program reads them that knows nothing of headlight."""
    file = (DEMO / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", file[:8])
    header, rest = json.loads(file[8 : 8 + length]), file[8 + length :]
    return {
        name: np.frombuffer(rest[slice(*one["data_offsets"])], KINDS[one["dtype"]]).reshape(one["shape"]).copy()
        for name, one in header.items()
        if name != "__metadata__"
    }


class Taken:
    """A model of arrays that can be changed."""

    def __init__(self):
        self.weights = arrays()
        config = json.loads((DEMO / "config.json").read_text())
        tokenizer = (DEMO / "tokenizer.json").read_text()
        self.model = hl.Model.from_state_dict(self.weights, config, tokenizer, device="cpu")

    def change(self):
        name = next(name for name in self.weights if name.endswith("h.1.mlp.c_fc.weight"))
        self.weights[name] *= 0.5


@pytest.fixture
def taken():
    return Taken()


TARGETS = {"targets": " Rome"}
COUNTRY = hl.Patch("head_value_output", 0, heads=0, positions=3)
EXPERIMENT = {
    "targets": [" Rome"],
    "pair": [{"base": BASE, "source": SOURCE}],
    "run": [{"name": "country", "patches": [COUNTRY]}],
}

# everything that computes; what was made before the change is handed in
COMPUTES = {
    "Model.__call__": lambda m, cache, graph: m(BASE),
    "Model.topk": lambda m, cache, graph: m.topk(BASE),
    "Model.test_prompt": lambda m, cache, graph: m.test_prompt(BASE, " Rome"),
    "Model.run_with_cache": lambda m, cache, graph: m.run_with_cache(BASE),
    "Model.patch": lambda m, cache, graph: m.patch(BASE, COUNTRY, source=SOURCE, **TARGETS),
    "Model.run": lambda m, cache, graph: m.run(EXPERIMENT),
    "Model.sweep": lambda m, cache, graph: m.sweep(BASE, SOURCE, **TARGETS),
    "Model.plan": lambda m, cache, graph: m.plan(BASE, SOURCE),
    "Model.edges": lambda m, cache, graph: m.edges(BASE, SOURCE, receivers="logits", **TARGETS),
    "Model.attribute": lambda m, cache, graph: m.attribute(BASE, SOURCE, **TARGETS),
    "Model.acdc": lambda m, cache, graph: m.acdc(BASE, SOURCE, threshold=0.1),
    "Model.path": lambda m, cache, graph: m.path(BASE, SOURCE, **TARGETS),
    "Model.trace": lambda m, cache, graph: m.trace(BASE, subject="Spain", samples=1),
    "Model.lens": lambda m, cache, graph: m.lens(BASE),
    "Model.direct_logit_attribution": lambda m, cache, graph: m.direct_logit_attribution(BASE, by="layer"),
    "Model.unfinished": lambda m, cache, graph: m.unfinished(),
    "Model.hash": lambda m, cache, graph: m.hash,
    "Cache.__getitem__": lambda m, cache, graph: cache["z", 1],
    "Cache.attention": lambda m, cache, graph: cache.attention(1).html,
    "Graph.curve": lambda m, cache, graph: graph.curve(BASE, SOURCE, **TARGETS),
    "Graph.evaluate": lambda m, cache, graph: graph.evaluate(BASE, SOURCE, **TARGETS),
}

# what looks at no weights
RESTS = {
    "Model": {
        "config", "name", "device", "precision", "cfg", "to_tokens", "to_str_tokens", "to_single_token", "to_string",
        "from_hf", "from_state_dict", "from_transformer_lens", "refresh", "circuit", "cancel",
    },
    "Graph": {
        "from_json", "edges", "scores", "nodes", "top_n", "threshold", "greedy", "keep", "prune", "matrix", "to_json", "svg", "plot", "page",
    },
    "Cache": {"keys", "items", "values", "get"},
}  # fmt: skip


def test_every_public_method_is_one_or_the_other():
    for kind in (hl.Model, hl.Graph, hl.Cache):
        names = {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
        computes = {name.split(".")[1] for name in COMPUTES if name.startswith(f"{kind.__name__}.")}
        assert names - computes - RESTS[kind.__name__] == set()


@pytest.mark.parametrize("name", COMPUTES)
def test_whatever_computes_refuses_weights_that_were_changed(taken, name):
    model = taken.model
    _, cache = model.run_with_cache(BASE)
    graph = model.attribute(BASE, SOURCE, **TARGETS).graph().greedy(20)
    COMPUTES[name](model, cache, graph)
    cache = model.run_with_cache(BASE)[1]
    taken.change()
    with pytest.raises(hl.ModelError, match=r"have changed since they were taken: call model.refresh\(\)"):
        COMPUTES[name](model, cache, graph)


def test_so_do_transformer_lenss_functions(taken):
    tokens = [taken.model.to_tokens(text) for text in (BASE, SOURCE)]
    known = metrics.logit_diff([[taken.model.to_single_token(" Rome"), taken.model.to_single_token(" Madrid")]])
    taken.change()
    for metric in (known, lambda logits: float(logits[0, -1, 0])):
        with pytest.raises(hl.ModelError, match="have changed"):
            patching.get_act_patch_resid_pre(taken.model, *tokens, metric)


def test_weights_that_change_while_a_metric_is_computed(taken):
    tokens = [taken.model.to_tokens(text) for text in (BASE, SOURCE)]

    def changes(logits):
        taken.change()
        return 0.0

    with pytest.raises(hl.ModelError, match="have changed"):
        patching.get_act_patch_resid_pre(taken.model, *tokens, changes)


def test_a_cache_is_of_one_models_weights(taken):
    _, cache = taken.model.run_with_cache(BASE)
    before = cache["z", 1]
    taken.change()
    taken.model.refresh()
    with pytest.raises(hl.ModelError, match="taken anew since this cache was made: call run_with_cache again"):
        cache["z", 2]
    # what it knows already is of the weights that it was made of
    assert np.array_equal(cache["z", 1], before)
    assert not np.array_equal(taken.model.run_with_cache(BASE)[1]["z", 2], np.zeros((1, 5, 4, 32)))


def hash_in(path) -> str:
    return json.loads(path.with_name(f"{path.name}.meta.json").read_text())["model_hash"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.sweep(BASE, SOURCE, heads=0, **TARGETS),
        lambda m: m.patch(BASE, COUNTRY, source=SOURCE, **TARGETS),
        lambda m: m.attribute(BASE, SOURCE, **TARGETS),
        lambda m: m.lens(BASE),
    ],
    ids=["sweep", "patch", "attribute", "lens"],
)
def test_a_result_names_the_weights_that_it_is_of(taken, ask, tmp_path):
    own = Taken().model.hash
    result = ask(taken.model)
    taken.change()
    result.write(tmp_path / "a.csv")
    assert hash_in(tmp_path / "a.csv") == own
    taken.model.refresh()
    assert taken.model.hash != own
    result.write(tmp_path / "b.csv")
    ask(taken.model).write(tmp_path / "c.csv")
    assert [hash_in(tmp_path / f"{name}.csv") for name in "bc"] == [own, taken.model.hash]


def test_weights_that_change_while_they_run_are_no_result(taken):
    def changes(progress):
        taken.change()

    rows = [{"base": [i, 285, 263, 700, 261], "source": [i + 1, 285, 263, 751, 261], "targets": [1]} for i in range(40)]
    with pytest.raises(hl.ModelError, match="have changed"):
        taken.model.sweep(data=rows, progress=changes)
