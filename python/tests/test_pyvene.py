"""pyvene's tutorial loop, by pyvene and translated; the translation by itself where pyvene is not there."""

from __future__ import annotations

import numpy as np
import pytest

import headlight as hl

LAYERS, HEADS = 12, 4
BASE, SOURCE = [5, 17, 3, 60, 21], [5, 17, 3, 44, 21]


def test_the_tutorials_loop_gives_the_same_120_probabilities():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    try:
        import pyvene as pv
    except Exception as error:  # it pins versions of transformers
        pytest.skip(f"pyvene cannot be imported: {error}")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=LAYERS, n_head=HEADS, n_embd=32, vocab_size=97, n_positions=16, initializer_range=0.2
    )
    config._attn_implementation = "eager"
    gpt = transformers.GPT2Model(config).eval()
    model = hl.Model.from_hf(gpt, device="cpu")
    found, expected = [], []
    with torch.no_grad():
        for component in ("head_attention_value_output", "head_value_output"):
            for layer in range(LAYERS):
                representation = pv.RepresentationConfig(layer, component, "h.pos", 1)
                pv_config = pv.IntervenableConfig(
                    model_type=type(gpt), representations=[representation], intervention_types=pv.VanillaIntervention
                )
                intervenable = pv.IntervenableModel(pv_config, gpt)
                for position in range(5):
                    at = [[[[0]], [[position]]]]
                    locations = {"sources->base": (at, at)}
                    _, out = intervenable(
                        {"input_ids": torch.tensor([BASE])}, [{"input_ids": torch.tensor([SOURCE])}], locations
                    )
                    p = torch.softmax(out.last_hidden_state[0, -1] @ gpt.wte.weight.T, -1)
                    expected.append(float(p[7]))
                    patches = hl.from_pyvene(pv_config, locations)
                    found.append(model.patch(BASE, patches, source=SOURCE, targets=7)["prob"][0])
    assert len(found) == 120
    assert np.abs(np.log(found) - np.log(expected)).max() < 1e-5
    assert np.ptp(np.log(expected)) > 0.05  # the patches do something


REPRESENTATION = {"layer": 3, "component": "block_output", "unit": "pos"}


def test_locations_in_every_spelling():
    def patch(locations, **more):
        (one,) = hl.from_pyvene([{**REPRESENTATION, **more}], locations)
        return one

    assert patch({"sources->base": 4}).positions == [4] and patch({"sources->base": 4}).source_positions is None
    assert patch({"sources->base": (3, 4)}).source_positions == [3]
    assert patch({"sources->base": ([[[1, 2]]], [[[3, 4]]])}).positions == [3, 4]
    h_pos = patch({"sources->base": ([[[[1]], [[1]]]], [[[[0]], [[3]]]])}, unit="h.pos", component="head_query_output")
    assert (h_pos.heads, h_pos.positions, h_pos.source_heads, h_pos.source_positions) == ([0], [3], [1], [1])
    assert patch({"sources->base": (None, [[[3]]])}, intervention_type=type("ZeroIntervention", (), {})).op == "zero"
    two = hl.from_pyvene([REPRESENTATION, {**REPRESENTATION, "layer": 1}], {"sources->base": 4})
    assert [p.source for p in two] == ["source", "source_1"]
    grouped = hl.from_pyvene(
        [{**REPRESENTATION, "group_key": 0}, {**REPRESENTATION, "group_key": 0}], {"sources->base": 4}
    )
    assert [p.source for p in grouped] == ["source", "source"]


@pytest.mark.parametrize(
    ("locations", "more", "said"),
    [
        ({"sources->base": [3, 4]}, {}, "a flat list means source → base"),
        ({"sources->base": ([[[3]]], [None])}, {}, "left out"),
        ({"sources->base": (3, [])}, {}, "no intervention 0"),
        ({"sources": 3}, {}, "it takes 'sources->base'"),
        ({"sources->base": 4}, {"low_rank_dimension": 2}, "headlight import pyvene"),
        (
            {"sources->base": 4},
            {"intervention_type": type("RotatedSpaceIntervention", (), {})},
            "RotatedSpaceIntervention",
        ),
        ({"sources->base": 4}, {"unit": "h.pos"}, "give all"),
        ({"sources->base": 4}, {"unit": "t"}, "the unit 't'"),
    ],
)
def test_what_pyvene_takes_silently_for_something_else_is_refused(locations, more, said):
    with pytest.raises(hl.PlanError, match=said):
        hl.from_pyvene([{**REPRESENTATION, **more}], locations)
