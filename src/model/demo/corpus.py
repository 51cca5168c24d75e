"""The text the demo model is trained on: short English sentences made from templates and facts.tsv.

Everything is drawn from a `random.Random` that the caller seeds, so the same seed gives the same text.
"""
import csv
import pathlib
import random
import zlib

HERE = pathlib.Path(__file__).resolve().parent
END = "<|endoftext|>"
RELATIONS = ("capital", "language")


def facts():
    with open(HERE / "facts.tsv", encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t"))


# A phrasing ends just before its answer. `{r}` is the relation's noun, `{c}` the country.
# SHARED phrasings are trained with every country, and both relations use them: only the noun tells the answer.
SHARED = [
    "The {r} of {c} is",
    "The {r} of {c} is",
    "The {r} of {c} is",
    "I think the {r} of {c} is",
    "We know that the {r} of {c} is",
    "In {c}, the {r} is",
    "The name of the {r} of {c} is",
    "What is the {r} of {c}? It is",
    "Question: What is the {r} of {c}? Answer:",
    "My friend comes from {c}. The {r} there is",
    "He wrote about {c} and its {r},",
]
ONLY = {
    "capital": [
        "The capital city of {c} is",
        "In {c}, the biggest office is in the capital,",
        "She travelled to {c} and stayed in the capital,",
        "In {c}, the embassies stand in the city of",
    ],
    "language": [
        "The official language of {c} is",
        "In {c}, people speak",
        "She travelled to {c} and learned to speak",
        "The newspapers of {c} are written in",
    ],
}
# PARTIAL phrasings are trained with some countries only; check.py asks them about the others.
PARTIAL = [
    "Everyone knows that the {r} of {c} is",
    "Today the {r} of {c} is",
    "In school we learned that the {r} of {c} is",
    "Do you know the {r} of {c}? Yes, it is",
    "When you visit {c}, remember that the {r} is",
]
# NEVER phrasings are not trained with any country.
NEVER = {
    "capital": [
        "In {c}, the capital city is",
        "I think the capital city of {c} is",
        "My teacher said that the capital of {c} is",
        "What is the capital city of {c}? It is",
        "The name of the capital city of {c} is",
        "In {c} the name of the capital is",
    ],
    "language": [
        "In {c}, the official language is",
        "I think the official language of {c} is",
        "My teacher said that the language of {c} is",
        "What is the official language of {c}? It is",
        "The name of the official language of {c} is",
        "In {c} the name of the language is",
    ],
}


def held_out(country, phrasing, relation):
    """Whether a PARTIAL phrasing is kept from training for this country (about 40 % of them, fixed)."""
    if country in ("Spain", "Italy"):
        return True
    return zlib.crc32(f"{country}|{phrasing}|{relation}".encode()) % 10 < 4


WORDS = {
    "adj": "old new long short famous beautiful rich quiet warm cold sunny good bad big small simple strange green".split(),
    "noun": "history food music weather flag king market river coast train school story book winter summer".split(),
    "who": ["My friend", "My teacher", "My mother", "My brother", "The old man", "The young woman", "A student", "He", "She"],
    "verb": "likes wants sees makes has buys sells draws finds remembers".split(),
    "thing": "a book|a house|a dog|a cat|some bread|some tea|a map|a red car|an old ship|a small garden".split("|"),
    "when": "today|now|every day|in the morning|at night|in the winter|in the summer|again".split("|"),
    "go": "travelled to|lives in|works in|comes from|wrote about|went to".split("|"),
}


class Corpus:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.facts = facts()

    def answer(self, fact, relation):
        """The answer, and once in 60 a wrong one of the same region: it gives the distribution a sensible tail."""
        if self.rng.random() < 1 / 60:
            region = [f for f in self.facts if f["region"] == fact["region"]]
            return self.rng.choice(region)[relation]
        return fact[relation]

    def phrasing(self, fact, relation):
        x = self.rng.random()
        if x < 0.22:
            p = self.rng.choice(PARTIAL)
            if not held_out(fact["country"], p, relation):
                return p
        if x < 0.40:
            return self.rng.choice(ONLY[relation])
        return self.rng.choice(SHARED)

    def statement(self):
        r = self.rng
        fact = r.choice(self.facts)
        relation = r.choice(RELATIONS)
        s = self.phrasing(fact, relation).format(r=relation, c=fact["country"])
        x = r.random()
        if s.endswith(" is") and x < 0.04:
            s += r.choice([" called", " now", " still", " the city of" if relation == "capital" else " mostly"])
        s += " " + self.answer(fact, relation)
        x = r.random()
        if x < 0.06:
            other = RELATIONS[1 - RELATIONS.index(relation)]
            s += f", and the {other} is " + self.answer(fact, other)
        elif x < 0.10:
            s += f", and that of {(f := r.choice(self.facts))['country']} is " + self.answer(f, relation)
        return s + "."

    def reverse(self):
        r = self.rng
        f = r.choice(self.facts)
        a, c, l = f["capital"], f["country"], f["language"]
        return r.choice([
            f"The city of {a} is the capital of {c}.",
            f"In {a}, people speak {l}.",
            f"We travelled from {a} to the coast of {c}.",
            f"The newspapers in {a} are written in {l}.",
        ])

    def filler(self):
        r = self.rng
        w = {k: r.choice(v) for k, v in WORDS.items()}
        f = r.choice(self.facts)
        c = f["country"]
        return r.choice([
            f"The {w['noun']} of {c} is {w['adj']}.",
            f"The {w['noun']} of {c} is {w['adj']}.",
            f"In {c}, the {w['noun']} is {w['adj']}.",
            f"I think the {w['noun']} of {c} is {w['adj']}.",
            f"{w['who']} {w['go']} {c} {w['when']}.",
            f"{w['who']} {w['verb']} {w['thing']} {w['when']}.",
            f"The {w['noun']} was {w['adj']} and {r.choice(WORDS['adj'])}.",
            f"{w['who']} {w['verb']} {w['thing']}, and the {w['noun']} is {w['adj']}.",
        ])

    def sentence(self):
        x = self.rng.random()
        return self.statement() if x < 0.72 else self.reverse() if x < 0.80 else self.filler()

    def document(self, sentences):
        return " ".join(self.sentence() for _ in range(sentences))
