#!/usr/bin/env python3
"""Write a GPT-2 checkpoint with random weights in the Hugging Face folder layout.

For timing and parity at full size where the pretrained weights are not at hand: every figure
that does not depend on what the model has learnt is the same. Needs numpy and safetensors.

    make_random_gpt2.py OUT_DIR [--size small|medium|large|xl] [--seed 0]
        [--layers N --heads N --width N --inner N --vocab N --context N] [--dtype F32|F16] [--untied]

With --tokenizer DIR, GPT-2's vocab.json and merges.txt are copied from there, so that prompts can be
given as text.
"""
import argparse, json, pathlib, shutil
import numpy as np
from safetensors.numpy import save_file

SIZES = {"small": (12, 12, 768), "medium": (24, 16, 1024), "large": (36, 20, 1280), "xl": (48, 25, 1600)}

def main():
    a = argparse.ArgumentParser()
    a.add_argument("out"); a.add_argument("--size", default="small", choices=SIZES)
    a.add_argument("--seed", type=int, default=0)
    for n in ("layers", "heads", "width", "inner"): a.add_argument("--" + n, type=int)
    a.add_argument("--vocab", type=int, default=50257); a.add_argument("--context", type=int, default=1024)
    a.add_argument("--tokenizer", type=pathlib.Path)
    a.add_argument("--dtype", default="F32", choices=("F32", "F16")); a.add_argument("--untied", action="store_true")
    o = a.parse_args()
    L, H, D = SIZES[o.size]; L, H, D = o.layers or L, o.heads or H, o.width or D; I = o.inner or 4 * D
    r = np.random.Generator(np.random.PCG64(o.seed)); t = {}
    kind = np.float32 if o.dtype == "F32" else np.float16
    def put(name, shape, std, mean=0.0): t[name] = (r.standard_normal(shape, dtype=np.float32) * std + mean).astype(kind)
    put("transformer.wte.weight", (o.vocab, D), 0.02); put("transformer.wpe.weight", (o.context, D), 0.01)
    for l in range(L):
        p = f"transformer.h.{l}."
        for ln in ("ln_1", "ln_2"): put(p + ln + ".weight", (D,), 0.1, 1.0); put(p + ln + ".bias", (D,), 0.05)
        # wide enough that attention is far from uniform and patches move the output
        for name, i, j in (("attn.c_attn", D, 3 * D), ("attn.c_proj", D, D), ("mlp.c_fc", D, I), ("mlp.c_proj", I, D)):
            put(p + name + ".weight", (i, j), 1.7 / np.sqrt(i)); put(p + name + ".bias", (j,), 0.05)
    put("transformer.ln_f.weight", (D,), 0.1, 1.0); put("transformer.ln_f.bias", (D,), 0.05)
    if o.untied: put("lm_head.weight", (o.vocab, D), 0.02)
    out = pathlib.Path(o.out); out.mkdir(parents=True, exist_ok=True)
    save_file(t, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
        "n_layer": L, "n_head": H, "n_embd": D, "n_inner": None if I == 4 * D else I, "n_positions": o.context, "n_ctx": o.context,
        "vocab_size": o.vocab, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": not o.untied,
        "bos_token_id": 50256 if o.vocab == 50257 else 0, "eos_token_id": 50256 if o.vocab == 50257 else 0,
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}, indent=2))
    if o.tokenizer:
        for f in ("vocab.json", "merges.txt"): shutil.copy(o.tokenizer / f, out / f)
    print(f"{out}: {L} layers, {H} heads, width {D}, {sum(x.size for x in t.values())/1e6:.1f} M parameters, {o.dtype}")

if __name__ == "__main__": main()
