"""A sweep in shards with submitit: on Slurm where there is one, else in processes of this machine.

$ python submitit_shards.py DATA OUT.parquet [SHARDS]
"""

import sys

import submitit

from headlight.cluster import merge, shards


def main(data: str, out: str, count: str = "4", cluster: str | None = None) -> None:
    sweep = ["sweep", "--data", data, "--preset", "every-head-by-position", "--metric", "logit_diff"]
    executor = submitit.AutoExecutor(folder="logs", cluster=cluster)
    # of each shard; submitit stops one before its time is up, and queues it again, and it goes on
    executor.update_parameters(timeout_min=120, slurm_array_parallelism=64, slurm_gpus_per_node=1)
    with executor.batch():
        jobs = [executor.submit(shard) for shard in shards(sweep, "runs", int(count))]
    for job in jobs:
        job.result()
    print(*merge("runs", out))


if __name__ == "__main__":
    main(*sys.argv[1:])
