"""A sweep of a Ray data set, a GPU a worker: rows are Parquet files, of which polars.scan_parquet makes one table.

$ python ray_sweep.py 'PAIRS/*.parquet' FOUND [WORKERS] [GPUS]
"""

import sys

import ray

from headlight.ray import Sweeper


def main(pairs: str, found: str, workers: str = "8", gpus: str = "1") -> None:
    sweep = {"preset": "every-head-by-position", "metrics": ["logit_diff"]}
    rows = ray.data.read_parquet(pairs).map_batches(
        Sweeper,
        fn_constructor_kwargs={"model": "demo", **sweep},
        batch_format="pyarrow",
        batch_size=64,
        num_gpus=int(gpus),
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=int(workers)),
    )
    rows.write_parquet(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
