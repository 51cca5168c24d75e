"""Checks the demo model and shows its sweep; exits 1 if it misses a criterion.

    python check.py [FOLDER]

The sweep here is the slow, plain one: PyTorch hooks, one run a cell. headlight's own must give the same numbers.
"""
import pathlib
import sys

import torch
from transformers import AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerFast

import corpus

HERE = pathlib.Path(__file__).resolve().parent
BASE, SOURCE, OTHER = "The capital of Spain is", "The capital of Italy is", "The language of Spain is"


class Demo:
    def __init__(self, folder):
        self.folder = folder
        self.tok = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        self.model = GPT2LMHeadModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
        self.config = self.model.config

    def ids(self, text):
        return self.tok.encode(text, add_special_tokens=False)

    @torch.no_grad()
    def probs(self, prompts):
        """The next-token distribution after each prompt."""
        out = []
        for p in prompts:
            out.append(self.model(torch.tensor([self.ids(p)])).logits[0, -1].softmax(-1))
        return torch.stack(out)

    @torch.no_grad()
    def sweep(self, base, source, targets):
        """{component: [layer, head, position, target]}: one activation taken from the source run in each cell."""
        base, source = torch.tensor([self.ids(base)]), torch.tensor([self.ids(source)])
        targets = [self.ids(t)[0] for t in targets]
        n, s, d = self.config.n_head, base.shape[1], self.config.n_embd
        w = d // n
        kept, result = {}, {}
        hooks = []
        for i, block in enumerate(self.model.transformer.h):
            hooks.append(block.attn.c_attn.register_forward_hook(lambda m, a, o, i=i: kept.__setitem__(("v", i), o.clone())))
            hooks.append(block.attn.c_proj.register_forward_pre_hook(lambda m, a, i=i: kept.__setitem__(("z", i), a[0].clone())))
        self.model(source)
        for h in hooks:
            h.remove()
        for c in ("v", "z"):
            table = torch.zeros(self.config.n_layer, n, s, len(targets))
            for i, block in enumerate(self.model.transformer.h):
                for h in range(n):
                    for p in range(s):
                        lo = h * w + (2 * d if c == "v" else 0)

                        def write(x):
                            x = x.clone()
                            x[0, p, lo:lo + w] = kept[c, i][0, p, lo:lo + w]
                            return x
                        if c == "v":
                            hook = block.attn.c_attn.register_forward_hook(lambda m, a, o: write(o))
                        else:
                            hook = block.attn.c_proj.register_forward_pre_hook(lambda m, a: (write(a[0]),))
                        table[i, h, p] = self.model(base).logits[0, -1].softmax(-1)[targets]
                        hook.remove()
            result[c] = table
        return result

    def show_sweep(self, base, source, targets):
        before = self.probs([base, source])[:, [self.ids(t)[0] for t in targets]]
        print(f"\nsweep: base {base!r}, source {source!r}")
        print("  targets", targets, " base", [f"{x:.4f}" for x in before[0].tolist()], " source", [f"{x:.4f}" for x in before[1].tolist()])
        result = self.sweep(base, source, targets)
        cells = [(abs(t[i, h, p, 0] - before[0, 0]).item(), c, i, h, p, t[i, h, p])
                 for c, t in result.items() for i in range(t.shape[0]) for h in range(t.shape[1]) for p in range(t.shape[2])]
        cells.sort(key=lambda x: -x[0])
        for moved, c, i, h, p, t in cells[:10]:
            print(f"  {c}  layer {i}  head {h}  position {p}   " + "  ".join(f"p({n!r}) {v:.4f}" for n, v in zip(targets, t.tolist())))
        moved = [x[0] for x in cells]
        print(f"  {len(cells)} cells; moved by more than 0.5: {sum(m > 0.5 for m in moved)}, 0.1: {sum(m > 0.1 for m in moved)},"
              f" 0.02: {sum(m > 0.02 for m in moved)}")
        print(f"  p({targets[0]!r}) by position, in percent; a row a layer and component, the heads side by side")
        for i in range(self.config.n_layer):
            for c in ("v", "z"):
                print(f"    {c}{i}  " + "   ".join(" ".join(f"{100 * x:3.0f}" for x in head) for head in result[c][i, :, :, 0].tolist()))
        return result, cells


def main(folder=HERE):
    torch.set_num_threads(1)
    demo, failed = Demo(folder), []

    def require(ok, what):
        print(("ok      " if ok else "FAILED  ") + what)
        if not ok:
            failed.append(what)

    size = {f.name: f.stat().st_size for f in folder.iterdir() if f.name in ("config.json", "model.safetensors", "tokenizer.json")}
    require(sum(size.values()) <= 3_000_000, f"size {size}, together {sum(size.values())}")
    for p in (BASE, SOURCE, OTHER):
        require(len(demo.ids(p)) == 5, f"tokens of {p!r}: {demo.tok.convert_ids_to_tokens(demo.ids(p))} {demo.ids(p)}")
    facts = corpus.facts()
    many = [f[k] for f in facts for k in ("country", "capital", "language") if len(demo.ids(" " + f[k])) != 1]
    require(not many, f"{len(facts)} countries; names of more than one token: {many}")
    require(dict(AutoTokenizer.from_pretrained(folder)(BASE)) == {"input_ids": demo.ids(BASE), "attention_mask": [1] * 5}, "AutoTokenizer reads the folder")
    odd = "Zürich – 東京\n\t🙂 x"
    require(demo.tok.decode(demo.ids(odd)) == odd, "any text encodes and decodes")

    def ask(phrasings, relation, which):
        asked = [(f, p) for p in phrasings for f in facts if which(f["country"], p)]
        probs = demo.probs([p.format(c=f["country"], r=relation) for f, p in asked])
        right = torch.tensor([demo.ids(" " + f[relation])[0] for f, _ in asked])
        return asked, probs[torch.arange(len(asked)), right], probs.argmax(-1) == right

    for relation in corpus.RELATIONS:
        asked, p, top = ask([f"The {relation} of {{c}} is"], relation, lambda c, p: True)
        low = [f"{f['country']} {x:.3f}" for (f, _), x in zip(asked, p.tolist()) if x <= 0.9]
        require(not low, f"{relation}, standard phrasing: lowest p {p.min():.4f}, mean {p.mean():.4f}; at most 0.9: {low[:12]}")
    for relation in corpus.RELATIONS:
        for kind, phrasings, which, bar in (
                ("trained", corpus.SHARED + corpus.ONLY[relation], lambda c, p: True, 0.97),
                ("partial, kept-out countries", corpus.PARTIAL, lambda c, p: corpus.held_out(c, p, relation), 0.95),
                ("never trained", corpus.NEVER[relation], lambda c, p: True, 0.9)):
            asked, p, top = ask(phrasings, relation, which)
            share = (p > 0.9).float().mean().item()
            require(share >= bar, f"{relation}, {kind}: {len(asked)} prompts, p > 0.9 for {share:.3f}, top for {top.float().mean():.3f}, lowest {p.min():.4f}")
            by = {}
            for (f, ph), x in zip(asked, p.tolist()):
                by.setdefault(ph, []).append(x > 0.9)
            if kind != "trained":
                for ph, v in by.items():
                    print(f"          {sum(v)}/{len(v)}  {ph}")

    print(f"\ntop 10 after {BASE!r}")
    top = demo.probs([BASE])[0].topk(10)
    for p, i in zip(top.values.tolist(), top.indices.tolist()):
        print(f"  {demo.tok.decode([i]).replace(' ', '_'):<14} {p:.6f}")

    _, cells = demo.show_sweep(BASE, SOURCE, [" Rome", " Madrid"])
    strong = [c for c in cells if c[0] > 0.5]
    require(1 <= len(strong) <= 4 and {"v", "z"} == {c[1] for c in strong}, f"{len(strong)} cells move more than 0.5, of both components")
    require(all(c[0] < 1e-5 for c in cells if c[4] < 3), "positions before the country move nothing")
    _, cells = demo.show_sweep(BASE, OTHER, [" Spanish", " Madrid"])
    others = [c[1:5] for c in cells if c[0] > 0.5]
    require(1 <= len(others) <= 4 and not set(others) & {c[1:5] for c in strong}, f"{len(others)} cells move more than 0.5 from one relation to the other, none of them the country's")
    if failed:
        print(f"\n{len(failed)} criteria missed")
    return not failed


if __name__ == "__main__":
    sys.exit(0 if main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE) else 1)
