"""Shards with submitit's local executor: one is preempted and queued again, another is killed and submitted again."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SWEEP, taken

from headlight.cluster import Shard, merge, shards

submitit = pytest.importorskip("submitit")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "python" / "examples" / "submitit_shards.py"


def parts(shard: int) -> list[Path]:
    return sorted(Path("runs").glob(f"part-{shard:05}-of-*.parquet"))


def until(what: Callable[[], object]) -> None:
    patient = time.monotonic() + 60
    while not what():
        assert time.monotonic() < patient
        time.sleep(0.005)


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def test_a_preempted_and_a_killed_shard_end_with_the_bytes_of_one_run(
    lab: Path, whole: Callable[..., list[bytes]]
) -> None:
    wanted = whole("all.parquet")
    todo = shards([*SWEEP, "--part-rows", "1000"], "runs", 3)
    executor = submitit.AutoExecutor(folder="logs", cluster="local")
    executor.update_parameters(timeout_min=60)
    job = executor.submit(todo[0])
    until(lambda: parts(0))
    # as Slurm does before the time is up, or when somebody of more importance comes: to the task, not to its controller
    (task,) = children(int(job.job_id))
    os.kill(task, signal.SIGUSR2)
    assert job.result() == "runs/"
    log = job.stderr() or ""
    assert "this job is preempted" in log, log
    # it stopped with parts kept, and went on with them
    assert "stopped with" in log, log

    # the task that runs the function is killed: submitit calls it failed, and it is submitted again
    lost = executor.submit(todo[1])
    until(lambda: parts(1))
    (task,) = children(int(lost.job_id))
    os.kill(task, signal.SIGKILL)
    # its result would be waited for, in case that a file system is slow
    until(lost.done)
    there = len(parts(1))
    with executor.batch():
        jobs = [executor.submit(shard) for shard in todo[1:]]
    assert [job.result() for job in jobs] == ["runs/"] * 2
    assert len(parts(1)) > there
    merge("runs", "all.parquet")
    assert taken("all.parquet") == wanted


def test_a_checkpoint_stops_the_shard_before_slurm_is_asked_to_queue_it_again(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = shards([*SWEEP, "--part-rows", "1000"], "runs", 1)
    stopped: list[Shard] = []
    monkeypatch.setattr(Shard, "stop", lambda self: stopped.append(self))
    again = shard.checkpoint()
    assert stopped == [shard] and again.function is shard


def test_the_example_runs(lab: Path, whole: Callable[..., list[bytes]]) -> None:
    command = "sweep --data many.jsonl --preset every-head-by-position --metric logit_diff".split()
    specification = importlib.util.spec_from_file_location("example", EXAMPLE)
    assert specification is not None and specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    Path("many.jsonl").write_bytes((ROOT / "tests" / "data" / "capitals.jsonl").read_bytes())
    example.main("many.jsonl", "all.parquet", "2", "local")
    found = taken("all.parquet")
    assert found == whole("all.parquet", command)
    assert EXAMPLE.read_text(encoding="utf-8").split('"""\n', 2)[1].strip() in (ROOT / "docs" / "scale.md").read_text(
        encoding="utf-8"
    )
