"""Shards with submitit on a real Slurm, which tests/slurm/submitit.sh starts: one is preempted, and one lost with its node's process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SWEEP, taken

from headlight.cluster import merge, shards

submitit = pytest.importorskip("submitit")
if "HEADLIGHT_SLURM" not in os.environ:
    pytest.skip("no Slurm was started for it: tests/slurm/submitit.sh", allow_module_level=True)


def parts(shard: int) -> int:
    return len(list(Path("runs").glob(f"part-{shard:05}-of-*.parquet")))


def until(what: Callable[[], object], seconds: float = 60) -> None:
    patient = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < patient
        time.sleep(0.02)


def test_an_array_of_shards_has_the_bytes_of_one_run(lab: Path, whole: Callable[..., list[bytes]]) -> None:
    wanted = whole("all.parquet")
    executor = submitit.AutoExecutor(folder=lab / "logs", cluster="slurm")
    executor.update_parameters(timeout_min=30, cpus_per_task=1, slurm_array_parallelism=2)
    with executor.batch():
        jobs = [executor.submit(shard) for shard in shards([*SWEEP, "--part-rows", "500"], "runs", 3)]
    until(lambda: parts(0))
    # what Slurm sends before the time is up, to every process of the step
    subprocess.run(["scancel", "--signal=USR2", jobs[0].job_id], check=True)
    until(lambda: parts(1))
    subprocess.run(["scontrol", "requeue", jobs[1].job_id], check=True)
    assert [job.result() for job in jobs] == ["runs/"] * 3
    log = jobs[0].stderr() or ""
    assert "this job is preempted" in log and "stopped with" in log, log
    merge("runs", "all.parquet")
    assert taken("all.parquet") == wanted
