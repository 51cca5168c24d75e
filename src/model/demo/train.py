"""Makes the demo model: a toy GPT-2 that knows the facts of facts.tsv, small enough to be embedded.

    python train.py            # writes config.json, model.safetensors and the tokenizer's files here, then runs check.py

Requirements: Python 3.10+, torch >= 2.4, transformers >= 4.45 and < 5, tokenizers >= 0.20, safetensors, numpy. No GPU, no
network. It takes about 5 minutes on one CPU core. One thread and fixed seeds: the same machine with the same library
versions should give the same files; elsewhere rounding differs, so the weights do, and check.py says whether they serve.
"""
import argparse
import json
import math
import pathlib
import time

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel

import corpus

HERE = pathlib.Path(__file__).resolve().parent


def make_tokenizer(folder):
    """A byte-level BPE as GPT-2's. Its text is a sample of the corpus plus every name, often enough to be one token."""
    text = corpus.Corpus(seed=1)
    lines = [text.document(1) for _ in range(6000)]
    for fact in text.facts:
        lines += [f" {fact[k]}" for k in ("country", "capital", "language")] * 60
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=4000, min_frequency=40, special_tokens=[corpus.END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "add_prefix_space": False, "bos_token": corpus.END, "eos_token": corpus.END, "unk_token": corpus.END,
        "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 64,
        "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")
    return tok


class Batches:
    def __init__(self, tok, seed, size):
        self.text, self.tok, self.size, self.end = corpus.Corpus(seed), tok, size, tok.token_to_id(corpus.END)

    def next(self):
        n = self.text.rng.choices([1, 2, 3, 5], [80, 14, 4, 2])[0]
        docs = [self.text.document(n) for _ in range(max(8, self.size // n))]
        ids = [(e.ids + [self.end])[:64] for e in self.tok.encode_batch(docs)]
        width = max(map(len, ids))
        x = torch.full((len(ids), width), self.end)
        y = torch.full((len(ids), width), -100)
        for i, d in enumerate(ids):
            x[i, :len(d)] = torch.tensor(d)
            y[i, :len(d) - 1] = torch.tensor(d[1:])
        return x, y


class HeadCost:
    """What the heads write: for each head and row, the norm of its share of attn.c_proj's output, relative to the
    residual stream's, in a form that grows slower the larger it is (so that one head that writes much is cheaper than
    two that share). Added to the loss, it makes a fact move through few heads."""

    def __init__(self, model, weights):
        self.total, self.heads = 0.0, model.config.n_head
        for block, w in zip(model.transformer.h, weights):
            block.register_forward_pre_hook(self.keep_stream)
            block.attn.c_proj.register_forward_pre_hook(lambda m, a, w=w: self.add(m, a[0], w))

    def keep_stream(self, module, args):
        self.stream = args[0].detach().pow(2).sum(-1, keepdim=True).sqrt()

    def add(self, proj, z, w):
        b, s, d = z.shape
        rows = proj.weight.view(self.heads, d // self.heads, d)
        gram = rows @ rows.transpose(1, 2)
        z = z.view(b, s, self.heads, -1)
        square = (torch.einsum("bshi,hij->bshj", z, gram) * z).sum(-1)
        self.total = self.total + w * 0.1 * torch.log1p(10 * (square + 1e-6).sqrt() / self.stream).sum(-1).mean()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", type=pathlib.Path, default=HERE)
    p.add_argument("--steps", type=int, default=1200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--batch", type=int, default=64, help="sentences a step")
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--cost", type=float, default=0.3, help="weight of the cost of what heads write")
    p.add_argument("--early", type=float, default=6.0, help="how much dearer heads of the first two layers are")
    p.add_argument("--answers", type=float, default=5.0, help="weight of the answers' tokens in the loss")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    a.out.mkdir(parents=True, exist_ok=True)
    tok = make_tokenizer(a.out)
    end = tok.token_to_id(corpus.END)
    print("vocabulary", tok.get_vocab_size())
    config = GPT2Config(vocab_size=tok.get_vocab_size(), n_positions=64, n_embd=128, n_layer=5, n_head=4,
                        initializer_range=0.06, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end)
    model = GPT2LMHeadModel(config)
    cost = HeadCost(model, [a.early, a.early, 1.0, 1.0, 1.0])
    decay = [w for w in model.parameters() if w.dim() > 1]
    other = [w for w in model.parameters() if w.dim() == 1]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}],
                            lr=a.lr, betas=(0.9, 0.98))
    importance = torch.ones(tok.get_vocab_size())
    for fact in corpus.facts():
        for relation in corpus.RELATIONS:
            importance[tok.token_to_id("Ġ" + fact[relation])] = a.answers
    batches = Batches(tok, a.seed, a.batch)
    began = time.time()
    for step in range(a.steps):
        at = step / a.steps
        rate = a.lr * min(1, step / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * at)))
        for g in opt.param_groups:
            g["lr"] = rate
        x, y = batches.next()
        cost.total = 0.0
        logits = model(x).logits
        weight = torch.where(y < 0, 0.0, importance[y.clamp(min=0)]).flatten()
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.clamp(min=0).flatten(), reduction="none")
        loss = (losses * weight).sum() / weight.sum()
        (loss + a.cost * min(1, step / 100) * cost.total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        if step % 100 == 99:
            print(f"step {step + 1}  loss {loss.item():.3f}  heads {cost.total.item():.3f}  {time.time() - began:.0f} s", flush=True)

    tensors = {k: v.to(torch.float16).contiguous() for k, v in model.state_dict().items() if k.startswith("transformer.")}
    save_file(tensors, a.out / "model.safetensors", metadata={"format": "pt"})
    described = config.to_dict()
    keep = ["model_type", "activation_function", "attn_pdrop", "bos_token_id", "embd_pdrop", "eos_token_id", "initializer_range",
            "layer_norm_epsilon", "n_ctx", "n_embd", "n_head", "n_inner", "n_layer", "n_positions", "resid_pdrop",
            "scale_attn_weights", "vocab_size"]
    described = {"architectures": ["GPT2LMHeadModel"], "torch_dtype": "float16", "n_ctx": 64} | {k: described[k] for k in keep if k in described}
    (a.out / "config.json").write_text(json.dumps(described, indent=2) + "\n")

    import check
    check.main(a.out)


if __name__ == "__main__":
    main()
