"""Commands in shards that Python starts: the bytes of one run, however they were stopped."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import headlight as hl
from headlight import cluster
from headlight.cluster import Shard, merge, shards

SWEEP = "sweep --data many.jsonl --component hook_z,hook_v,mlp_output --device cpu --threads 1".split()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a data set that takes some seconds."""
    monkeypatch.chdir(tmp_path)
    countries = ["Spain", "Italy", "France", "Germany", "Japan"]
    with open("many.jsonl", "w") as file:
        for i in range(150):
            base, source = countries[i % 5], countries[(i + 1 + i // 5) % 5]
            row = {"base": f"The capital of {base} is", "source": f"The capital of {source} is", "targets": [" Madrid"]}
            file.write(json.dumps(row) + "\n")
    yield tmp_path


def whole(name: str) -> list[bytes]:
    """The bytes of one run."""
    line = [sys.executable, "-m", "headlight", *SWEEP, "--out", name]
    subprocess.run(line, check=True, capture_output=True, timeout=120)
    return taken(name)


def taken(name: str) -> list[bytes]:
    """A table's bytes and its averages', which go."""
    files = [Path(name), Path(name.replace(".", ".summary."))]
    found = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    return found


def parts(folder: str) -> int:
    return len(list(Path(folder).glob("part-*.parquet")))


def test_shards_in_any_order_are_the_bytes_of_one_run(lab: Path) -> None:
    wanted = whole("all.parquet")
    todo = [pickle.loads(pickle.dumps(shard)) for shard in shards(SWEEP, "runs", 3)]
    assert [shard() for shard in reversed(todo)] == ["runs/"] * 3
    assert merge("runs", "all.parquet") == [Path("all.parquet"), Path("all.summary.parquet")]
    assert taken("all.parquet") == wanted


def test_a_shard_is_stopped_and_goes_on(lab: Path) -> None:
    wanted = whole("all.parquet")
    (shard,) = shards([*SWEEP, "--part-rows", "2000"], "runs", 1)
    stopper = threading.Thread(target=stop_at_first_part, args=(shard,))
    stopper.start()
    with pytest.raises(hl.Interrupted, match="stopped with"):
        shard()
    stopper.join()
    stopped = parts("runs")
    shard()
    assert parts("runs") > stopped > 0
    merge("runs/", "all.parquet")
    assert taken("all.parquet") == wanted


def stop_at_first_part(shard: Shard) -> None:
    while parts("runs") == 0:
        time.sleep(0.005)
    start = time.monotonic()
    shard.stop()
    assert time.monotonic() - start < 2


def test_a_shard_whose_caller_is_killed_stops_and_another_goes_on(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = whole("all.parquet")
    line = f"from headlight.cluster import shards\nshards({[*SWEEP, '--part-rows', '2000']!r}, 'runs', 1)[0]()"
    caller = subprocess.Popen([sys.executable, "-c", line], stderr=subprocess.DEVNULL)
    while parts("runs") == 0:
        time.sleep(0.005)
    os.kill(caller.pid, signal.SIGKILL)
    caller.wait()
    # at once: the lock may be held yet
    (shard,) = shards([*SWEEP, "--part-rows", "2000"], "runs", 1)
    there: list[int] = []
    finish = cluster._finish

    def looked(child: subprocess.Popen[str]) -> None:
        there.append(parts("runs"))
        finish(child)

    monkeypatch.setattr(cluster, "_finish", looked)
    shard()
    # the orphan did not go on to the end
    assert there[0] < parts("runs")
    merge(["runs"], "all.parquet")
    assert taken("all.parquet") == wanted


def test_what_goes_wrong_is_the_commands_sentence(lab: Path) -> None:
    with pytest.raises(hl.HeadlightError, match=r"^none\.jsonl: cannot read the data set: No such file"):
        shards(["sweep", "--data", "none.jsonl", "--device", "cpu"], "runs", 2)[0]()
    shards(SWEEP, "runs", 2)[0]()
    with pytest.raises(hl.HeadlightError, match="missing"):
        merge("runs", "all.parquet")
    assert not Path("all.parquet").exists()
    with pytest.raises(hl.PlanError, match="--out is given by the shard"):
        shards([*SWEEP, "--out=x/"], "runs", 2)
    with pytest.raises(hl.PlanError, match="of 4 the last is 3"):
        Shard(SWEEP, "runs", 4, 4)
    with pytest.raises(hl.PlanError, match="at least one"):
        shards(SWEEP, "runs", 0)
