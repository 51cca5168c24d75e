"""A real Ray of one machine: workers are killed, and the numbers, or the bytes, are those of one run."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SWEEP, pairs, taken

import headlight as hl
from headlight.cluster import Shard, merge, shards
from headlight.ray import Sweeper

ray = pytest.importorskip("ray")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.dataset")
pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "python" / "examples" / "ray_sweep.py"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    path = os.environ.get("PYTHONPATH", "")
    ray.init(
        # more than workers take: reading and writing want some, too
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([path, str(Path(__file__).parent)])}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


class Mortal(Sweeper):
    """A sweeper whose worker is killed in its second batch, once."""

    def __init__(self, marker: str, **wishes: Any) -> None:
        super().__init__(**wishes)
        self.marker, self.batches = Path(marker), 0

    def __call__(self, batch: Any) -> Any:
        self.batches += 1
        if self.batches == 2:
            try:
                self.marker.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


@pytest.mark.parametrize("batch_format", ["pyarrow", "numpy", "pandas"])
def test_a_sweep_of_a_ray_data_set_has_the_numbers_of_one_run(lab: Path, batch_format: str) -> None:
    rows = pairs()
    asked = {"components": ["head_value_output", "mlp_output"], "metrics": ["rank", "recovery_logit_diff"]}
    for row in rows:
        row["wrong_targets"] = [" Rome"]
    wanted = pa.table(hl.Model("demo", device="cpu").sweep(data=rows, **asked))
    numbered = [{"pair": number, **row} for number, row in enumerate(rows)]
    data = ray.data.from_arrow(pa.Table.from_pylist(numbered)).repartition(10)
    killed = batch_format == "pyarrow"
    found = data.map_batches(
        Mortal if killed else Sweeper,
        fn_constructor_kwargs={"device": "cpu", **asked, **({"marker": str(lab / "killed")} if killed else {})},
        batch_format=batch_format,
        batch_size=15,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    found.write_parquet(str(lab / "found"))
    assert (lab / "killed").exists() == killed
    table = pa.dataset.dataset(lab / "found", format="parquet").to_table()
    table = table.sort_by([("pair", "ascending"), ("run", "ascending")])
    assert table.column_names == wanted.column_names
    assert table.num_rows == wanted.num_rows > 1000
    for name in wanted.column_names:
        one, other = table[name].combine_chunks(), wanted[name].combine_chunks()
        assert one.type == other.type and one.is_null().equals(other.is_null()), name
        if pa.types.is_floating(one.type):
            # bit for bit, of pairs without a recovery too
            assert one.to_numpy(zero_copy_only=False).tobytes() == other.to_numpy(zero_copy_only=False).tobytes(), name
        else:
            assert one.equals(other), name


def test_the_example_runs(lab: Path) -> None:
    specification = importlib.util.spec_from_file_location("example", EXAMPLE)
    assert specification is not None and specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    rows = [{"pair": number, **row, "wrong_targets": [" Rome"]} for number, row in enumerate(pairs()[:70])]
    pa.parquet.write_table(pa.Table.from_pylist(rows), "pairs.parquet")
    example.main(str(lab / "pairs.parquet"), str(lab / "found"), "1", "0")
    found = pa.dataset.dataset(lab / "found", format="parquet").to_table()
    # z, q, k, v and patterns of every layer, position and head
    assert found.num_rows == 70 * 5 * 5 * 5 * 4
    assert set(found["pair"].to_pylist()) == set(range(70))
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert EXAMPLE.read_text(encoding="utf-8").split('"""\n', 2)[1].strip() in page


def kill_at_first_part(shard: Shard) -> None:
    while not list(Path(shard.out).glob(f"part-{shard.shard:05}-of-*")):
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def run(shard: Shard, marker: str) -> str:
    """A shard whose worker is killed when a part of it is there, once."""
    os.chdir(shard._at)
    if shard.shard == 1 and not Path(marker).exists():
        Path(marker).touch()
        threading.Thread(target=kill_at_first_part, args=(shard,), daemon=True).start()
    return shard()


def test_shards_as_tasks_have_the_bytes_of_one_run(lab: Path, whole: Callable[..., list[bytes]]) -> None:
    wanted = whole("all.parquet")
    task = ray.remote(num_cpus=1, max_retries=3)
    first, *others = shards([*SWEEP, "--part-rows", "1000"], "runs", 3)
    jobs = [task(Shard.__call__).remote(first)]
    jobs += [task(run).remote(shard, str(lab / "killed")) for shard in others]
    assert ray.get(jobs, timeout=120) == ["runs/"] * 3
    assert (lab / "killed").exists()
    merge("runs", "all.parquet")
    assert taken("all.parquet") == wanted


def test_what_a_sweeper_cannot_do_is_said() -> None:
    with pytest.raises(hl.PlanError, match="leave out data"):
        Sweeper("demo", data="pairs.jsonl")
    with pytest.raises(hl.PlanError, match="has no column 'pair': number the pairs"):
        Sweeper("demo", device="cpu")(pa.table({"base": ["The capital of Spain is"], "target": [" Rome"]}))
