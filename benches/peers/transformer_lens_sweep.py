#!/usr/bin/env python3
"""TransformerLens's own get_act_patch_attn_head_out_by_pos: z of one head, every layer x position; one forward a cell.

    transformer_lens_sweep.py MODEL_DIR [--head 0 | all] [--base TEXT] [--source TEXT] [--target TEXT] [--device cpu|cuda] [--out FILE.json]

Prints one JSON line (n, seconds (best of 2, the clean cache not counted), ms per run, the first few probabilities of the
target) and writes the probabilities, [layer, position, head]. The same with headlight:

    headlight --model MODEL_DIR sweep --base TEXT --source TEXT --target TEXT --preset attn_head_out_by_pos --heads 0 --metric prob --arrays F.npz

Needs: torch, transformers<5, transformer_lens<3 (see README.md beside this script).
"""
import argparse, json, os, time, warnings
warnings.filterwarnings("ignore"); os.environ["TQDM_DISABLE"] = "1"
import pandas as pd
import torch
from transformers import GPT2LMHeadModel, GPT2Tokenizer
from transformer_lens import HookedTransformer, HookedTransformerConfig, patching
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

def load(folder, device):
    gpt = GPT2LMHeadModel.from_pretrained(folder).eval(); c = gpt.config
    cfg = HookedTransformerConfig(n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, d_head=c.n_embd // c.n_head, n_heads=c.n_head,
                                  d_mlp=c.n_inner or 4 * c.n_embd, d_vocab=c.vocab_size, act_fn=c.activation_function, eps=c.layer_norm_epsilon,
                                  normalization_type="LN", attention_dir="causal", original_architecture="GPT2LMHeadModel", init_weights=False, device=device)
    lens = HookedTransformer(cfg)
    lens.load_and_process_state_dict(convert_gpt2_weights(gpt, cfg), fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False)
    return lens.eval()

def main():
    a = argparse.ArgumentParser()
    a.add_argument("model"); a.add_argument("--head", default="0")
    a.add_argument("--base", default="The capital of Spain is"); a.add_argument("--source", default="The capital of Italy is")
    a.add_argument("--target", default=" Madrid"); a.add_argument("--device", default="cpu"); a.add_argument("--out")
    o = a.parse_args()
    if o.device == "cpu": torch.set_num_threads(2)
    tok = GPT2Tokenizer.from_pretrained(o.model); lens = load(o.model, o.device)
    base = torch.tensor([tok.encode(o.base)], device=o.device); source = torch.tensor([tok.encode(o.source)], device=o.device)
    [target] = tok.encode(o.target)
    L, T = lens.cfg.n_layers, base.shape[1]
    heads = range(lens.cfg.n_heads) if o.head == "all" else [int(o.head)]
    cells = pd.DataFrame([(l, p, h) for l in range(L) for p in range(T) for h in heads], columns=["layer", "pos", "head"])
    prob = lambda logits: torch.softmax(logits[0, -1], -1)[target]
    with torch.no_grad():
        _, cache = lens.run_with_cache(source)
        clean = float(prob(lens(base))); times = []
        for _ in range(2):
            t = time.time()
            out = patching.get_act_patch_attn_head_out_by_pos(lens, base, cache, prob, index_axis_names=None, index_df=cells)
            if o.device == "cuda": torch.cuda.synchronize()
            times.append(time.time() - t)
    s = min(times)
    print(json.dumps({"n": len(cells), "seconds": round(s, 3), "ms_each": round(1e3 * s / len(cells), 3), "base": clean, "first": out[:5].tolist()}))
    if o.out: json.dump(out.reshape(L, T, len(heads)).tolist(), open(o.out, "w"))

main()
