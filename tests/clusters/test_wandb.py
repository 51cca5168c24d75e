"""The bridge to Weights & Biases, with its offline client: what is in its log is what the command said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SWEEP

wandb = pytest.importorskip("wandb")

ROOT = Path(__file__).parents[2]
BRIDGE = ROOT / "python" / "examples" / "wandb_bridge.py"


def records(log: bytes) -> Iterator[bytes]:
    """Records of a file of wandb's: LevelDB's log, blocks of 32 KiB, behind a header of seven bytes."""
    at, held = 7, b""
    while at + 7 <= len(log):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        held += log[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield held
            held = b""


def test_the_bridge_logs_what_the_command_says(lab: Path) -> None:
    from wandb.proto import wandb_internal_pb2 as proto

    line = [sys.executable, "-m", "headlight", *SWEEP, "--out", "runs/", "--progress", "json", "--progress-every", "1"]
    with open("said", "w") as said:
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=said, timeout=120)
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(lab), "WANDB_SILENT": "true"}
    with open("said") as said:
        done = subprocess.run(
            [sys.executable, str(BRIDGE)], stdin=said, env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    # what is no progress is passed on
    assert "device: cpu, 1 thread" in done.stderr
    said = [json.loads(one) for one in Path("said").read_text().splitlines() if one.startswith("{")]
    assert said[-1]["state"] == "ended"
    assert said[-1]["runs"] == said[-1]["runs_total"] > 0

    (log,) = lab.glob("wandb/offline-run-*/run-*.wandb")
    logged, summary = [], {}
    for record in records(log.read_bytes()):
        read = proto.Record()
        read.ParseFromString(record)
        if read.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in read.history.item}
            logged.append({name: value for name, value in items.items() if not name.startswith("_")})
        if read.HasField("summary"):
            summary.update({item.key: json.loads(item.value_json) for item in read.summary.update})
    assert logged == [{name: value for name, value in one.items() if name != "state"} for one in said]
    assert summary["state"] == "ended"


def test_the_page_shows_the_bridge() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert f"```python\n{BRIDGE.read_text(encoding='utf-8')}```" in page
    lines = [line for line in BRIDGE.read_text(encoding="utf-8").split('"""')[2].splitlines() if line.strip()]
    assert len(lines) <= 14
