"""A good plain-PyTorch EAP-IG: integrated gradients of the inputs, of every edge, over a data set.

    torch_eap_ig.py MODEL_DIR PAIRS.jsonl [steps] [batch]

Pairs of equal length with `base`, `source`, `target` and `wrong_target`, a batch of them at once; the metric is the
logit difference, steps stand at midpoints from source to base. What is split into heads is split behind autograd:
one backward pass gives the gradients of every query, key and value, and the layer norm before them is gone back
through once for each of them, in closed form. So no activation is copied for each head, as hooks on split inputs do.

Prints one JSON line (pairs, seconds, the best of two) and writes torch_eap_ig.json: the mean score of every edge.
"""

import json
import sys
import time

import torch
from transformers import GPT2LMHeadModel, GPT2Tokenizer


def layer_norm_back(x, norm, g):
    """Gradients of what a layer norm read, x [b, t, d], of those of what it gave, g [b, r, t, d]."""
    mean = x.mean(-1, keepdim=True)
    scale = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + norm.eps)
    n = ((x - mean) * scale)[:, None]
    g = g * norm.weight
    return scale[:, None] * (g - g.mean(-1, keepdim=True) - n * (g * n).mean(-1, keepdim=True))


class Eap:
    def __init__(self, folder):
        self.model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="sdpa").eval()
        self.model.requires_grad_(False)
        self.config = self.model.config
        self.blocks = self.model.transformer.h
        self.kept = {}
        for layer, block in enumerate(self.blocks):
            block.ln_1.register_forward_hook(self.keep("x1", layer, of_input=True))
            block.attn.c_attn.register_forward_hook(self.keep("qkv", layer))
            block.attn.c_proj.register_forward_pre_hook(lambda _, args, layer=layer: self.kept.__setitem__(("z", layer), args[0]))
            block.ln_2.register_forward_hook(self.keep("x2", layer, of_input=True))
            block.ln_2.register_forward_hook(self.keep("n2", layer))
            block.mlp.register_forward_hook(self.keep("m", layer))
        self.model.transformer.ln_f.register_forward_hook(self.keep("xf", 0, of_input=True))
        self.model.transformer.ln_f.register_forward_hook(self.keep("nf", 0))

    def keep(self, name, layer, of_input=False):
        def hook(_, args, out):
            kept = args[0] if of_input else out
            if kept.requires_grad and not of_input:
                kept.retain_grad()
            self.kept[name, layer] = kept

        return hook

    def embed(self, ids):
        wte, wpe = self.model.transformer.wte, self.model.transformer.wpe
        return wte(ids), wpe(torch.arange(ids.shape[1]))

    def run(self, tokens):
        return self.model.transformer(inputs_embeds=tokens).last_hidden_state

    def sent(self, ids):
        """What every sender contributes, [senders, b, t, d]: embedding, then of each layer its heads and its MLP."""
        heads, width = self.config.n_head, self.config.n_embd
        tokens, places = self.embed(ids)
        with torch.no_grad():
            self.run(tokens)
        all = [tokens + places]
        for layer, block in enumerate(self.blocks):
            z = self.kept["z", layer].unflatten(-1, (heads, width // heads))
            out = block.attn.c_proj.weight.view(heads, width // heads, width)
            all += list(torch.einsum("bthk,hkd->hbtd", z, out))
            all.append(self.kept["m", layer])
        return torch.stack(all)

    def scores(self, base, source, right, wrong, steps):
        """Sums over pairs of every edge's score, layer by layer [senders before it, 3 heads + MLP], and of the logits."""
        heads, width = self.config.n_head, self.config.n_embd
        size = width // heads
        ends = self.embed(base)[0], self.embed(source)[0]
        changed = self.sent(source) - self.sent(base)
        means = [0.0] * (2 * len(self.blocks) + 1)
        for step in range(steps):
            share = (step + 0.5) / steps
            tokens = (share * ends[0] + (1 - share) * ends[1]).requires_grad_()
            last = self.run(tokens)[:, -1]
            unembed = self.model.lm_head.weight
            (last * (unembed[right] - unembed[wrong])).sum().backward()
            with torch.no_grad():
                for layer, block in enumerate(self.blocks):
                    g = self.kept["qkv", layer].grad.unflatten(-1, (3, heads, size))
                    weight = block.attn.c_attn.weight.view(width, 3, heads, size)
                    g = torch.einsum("btchk,dchk->bchtd", g, weight).flatten(1, 2)
                    means[2 * layer] += layer_norm_back(self.kept["x1", layer], block.ln_1, g) / steps
                    g = self.kept["n2", layer].grad[:, None]
                    means[2 * layer + 1] += layer_norm_back(self.kept["x2", layer], block.ln_2, g) / steps
                g = self.kept["nf", 0].grad[:, None]
                means[-1] += layer_norm_back(self.kept["xf", 0], self.model.transformer.ln_f, g) / steps
        found = []
        for at, g in enumerate(means):
            layer, mlp = divmod(at, 2)
            before = 1 + layer * (heads + 1) + (heads if mlp and layer < len(self.blocks) else 0)
            found.append(torch.einsum("sbtd,brtd->sr", changed[:before], g))
        return found


def main():
    folder, data = sys.argv[1:3]
    steps, batch = [int(x) for x in (sys.argv[3:5] + ["5", "10"][len(sys.argv) - 3 :])]
    torch.set_num_threads(2)
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in open(data)]
    ids = {key: torch.tensor([tokenizer(row[key]).input_ids for row in rows]) for key in ("base", "source")}
    one = {key: torch.tensor([tokenizer(row[key]).input_ids[0] for row in rows]) for key in ("target", "wrong_target")}
    eap = Eap(folder)
    best = float("inf")
    for _ in range(2):
        start = time.time()
        sums = None
        for at in range(0, len(rows), batch):
            part = slice(at, at + batch)
            found = eap.scores(ids["base"][part], ids["source"][part], one["target"][part], one["wrong_target"][part], steps)
            sums = found if sums is None else [a + b for a, b in zip(sums, found)]
        best = min(best, time.time() - start)
    heads, layers = eap.config.n_head, eap.config.n_layer
    senders = ["input"] + [name for l in range(layers) for name in [f"a{l}.h{h}" for h in range(heads)] + [f"m{l}"]]
    named = {}
    for at, found in enumerate(sums):
        layer, mlp = divmod(at, 2)
        if layer == layers:
            receivers = ["logits"]
        else:
            receivers = [f"m{layer}"] if mlp else [f"a{layer}.h{h}<{c}>" for c in "qkv" for h in range(heads)]
        for s in range(found.shape[0]):
            named |= {f"{senders[s]}->{receiver}": found[s, r].item() / len(rows) for r, receiver in enumerate(receivers)}
    print(json.dumps({"pairs": len(rows), "steps": steps, "edges": len(named), "seconds": round(best, 3)}))
    json.dump(named, open("torch_eap_ig.json", "w"))


main()
