#!/usr/bin/env python3
"""Writes demo.json: the figures of tests/cli/published.rs for the built-in demo model.

    python tests/cli/published/record_demo.py

What gpt2.json has from other people's publications is computed here with Hugging Face transformers and raw hooks in double
precision; requirements as in tests/fixtures/README.md.
"""
import itertools, json, pathlib, sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))
import numpy as np
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from make_fixtures import Hooked, Patching, Trace

DEMO = HERE.parent.parent / "src/model/demo"
BASE, SOURCE, LANGUAGE = "The capital of Spain is", "The capital of Italy is", "The language of Spain is"
HEAD = ["head_attention_value_output", "head_query_output", "head_key_output", "head_value_output", "attention_weight"]
BLOCK = ["block_input", "attention_output", "mlp_output"]
PAIRS = [("Spain", "Italy", " Madrid", " Rome"), ("France", "Germany", " Paris", " Berlin")]

model = GPT2LMHeadModel.from_pretrained(DEMO, attn_implementation="eager", dtype=torch.float64).eval().double()
hooked, tokenizer = Hooked(model), PreTrainedTokenizerFast(tokenizer_file=str(DEMO / "tokenizer.json"))
L, H = model.config.n_layer, model.config.n_head
ids = lambda text: tokenizer.encode(text, add_special_tokens=False)
one = lambda text: (lambda x: x[0])(ids(text)) if len(ids(text)) == 1 else sys.exit(f"{text!r} is not one token")


def clean(prompt):
    trace = Trace()
    return hooked.run(prompt, trace)[-1], trace


def patched(prompt, patches, base, source):
    return hooked.run(prompt, Patching(patches, base, source, {}, None, {"language": source}))[-1]


def patch(component, layer, heads, positions):
    p = {"component": component, "layer": layer, "positions": positions, "op": "interchange"}
    return p | ({"heads": heads} if component in HEAD else {})


def main():
    figures = {"by": "Hugging Face transformers with raw hooks, double precision (record_demo.py)", "tables": []}
    for prompt in (BASE, SOURCE):
        p = np.exp(clean(ids(prompt))[0])
        top = np.argsort(-p, kind="stable")[:10]
        figures["tables"].append({"prompt": prompt, "top": [[tokenizer.decode([i]), float(p[i])] for i in top]})

    base, source, language = (clean(ids(x)) for x in (BASE, SOURCE, LANGUAGE))
    cells = []
    for component, layer, position in itertools.product(HEAD[:1] + HEAD[3:4], range(L), (3, 4)):
        out = patched(ids(BASE), [patch(component, layer, [0], [position])], base[1], source[1])
        cells.append({"component": component, "layer": layer, "position": position, "prob": [float(np.exp(out[one(t)])) for t in (" Madrid", " Rome")]})
    figures["sweep"] = {"base": BASE, "source": SOURCE, "targets": [" Madrid", " Rome"], "shared": 3, "cells": cells, "within": 1e-4}

    visit = Patching([patch("block_output", 3, None, [1]) | {"source_run": "language"}, patch("block_output", 3, None, [3])],
                     base[1], source[1], {}, None, {"language": language[1]})
    out, targets = hooked.run(ids(BASE), visit)[-1], [" Madrid", " Rome", " Spanish", " Italian"]
    figures["parallel"] = {"base": BASE, "source": SOURCE, "language": LANGUAGE, "targets": targets, "prob": [float(np.exp(out[one(t)])) for t in targets]}

    rows, values, runs = [], {"source": [], "base": []}, {}
    for a, b, right_a, right_b in PAIRS:
        for (country, right), (other, wrong) in (((a, right_a), (b, right_b)), ((b, right_b), (a, right_a))):
            text = {"base": f"The capital of {other} is", "source": f"The capital of {country} is"}
            rows.append(text | {"target_ids": [one(right)], "wrong_target_ids": [one(wrong)]})
            prompt = {k: [0] + ids(v) for k, v in text.items()}
            found = {k: clean(v) for k, v in prompt.items()}
            difference = lambda out: float(out[one(right)] - out[one(wrong)])
            for k in values:
                values[k].append(difference(found[k][0]))
            n = len(prompt["base"])
            everywhere, at = [list(range(n))], [[p] for p in range(n)]
            for preset, components, places in (("block_every", BLOCK, [(l, None, p) for l in range(L) for p in at]),
                                               ("attn_head_all_pos_every", HEAD, [(l, [h], everywhere[0]) for l in range(L) for h in range(H)]),
                                               ("attn_head_by_pos_every", HEAD, [(l, [h], p) for l in range(L) for p in at for h in range(H)])):
                out = [difference(patched(prompt["base"], [patch(c, *place)], found["base"][1], found["source"][1])) for c in components for place in places]
                runs.setdefault(preset, []).append(out)
    mean = {k: np.mean(v) for k, v in values.items()}
    shapes = {"block_every": [3, L, n], "attn_head_all_pos_every": [5, L, H], "attn_head_by_pos_every": [5, L, n, H]}
    recovered = {preset: (np.mean(x, axis=0) - mean["base"]) / (mean["source"] - mean["base"]) for preset, x in runs.items()}
    figures["arrays"] = {"rows": rows, "clean": values["source"], "corrupted": float(mean["base"]), "matrices":
                         [{"preset": k, "shape": shapes[k], "values": [round(float(x), 7) for x in v]} for k, v in recovered.items()]}
    (HERE / "demo.json").write_text(json.dumps(figures, separators=(",", ":")) + "\n")


main()
