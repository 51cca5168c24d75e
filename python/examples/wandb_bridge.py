"""Sends the progress of a command to Weights & Biases, and passes on whatever else it says:

$ headlight sweep --data pairs.jsonl --out runs/ --progress json 2>&1 >/dev/null | python wandb_bridge.py
"""

import json
import sys

import wandb

run = wandb.init(project="headlight")
run.define_metric("*", step_metric="runs")
for line in sys.stdin:
    if line.startswith("{"):
        told = json.loads(line)
        run.log({name: value for name, value in told.items() if name != "state"})
        run.summary["state"] = told["state"]
    else:
        print(line, end="", file=sys.stderr)
run.finish()
