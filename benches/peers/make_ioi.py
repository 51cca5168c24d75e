"""Pairs of equal length for attribution: who is given a thing, as JSON lines.

    make_ioi.py OUT.jsonl [pairs]

Every name, place and thing is one token of GPT-2's; a prompt has 15.
"""

import json
import sys

NAMES = ["John", "Mary", "Tom", "James", "Dan", "Martin", "Paul", "Mark", "Anna", "Sarah", "Kate", "Alice", "Peter", "Simon"]
PLACES = ["shops", "park", "school", "office", "house"]
THINGS = ["bag", "ball", "book", "drink", "key"]

count = int(sys.argv[2]) if len(sys.argv) > 2 else 100
with open(sys.argv[1], "w") as out:
    for i in range(count):
        a, b = NAMES[i % len(NAMES)], NAMES[(i + 1 + i // len(NAMES)) % len(NAMES)]
        place, thing = PLACES[i % 5], THINGS[i // 5 % 5]
        prompt = f"When {a} and {b} went to the big {place}, {{}} gave the {thing} to".format
        out.write(json.dumps({"base": prompt(b), "source": prompt(a), "target": f" {a}", "wrong_target": f" {b}"}) + "\n")
