#!/bin/bash
# A real Slurm of one node on loopback, out of Debian's packages: shards are submitted, a task is killed and requeued,
# the merge waits for them, and the result has the bytes of one run.
#
#     apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
#     tests/slurm/run.sh target/debug/headlight
#
# Needs root, and says "left out" and ends with 77 where the packages are not there.
set -eu

headlight=$(realpath "${1:-target/debug/headlight}")
# shellcheck source=tests/slurm/lab.sh
. "$(dirname "$0")/lab.sh"

cd "$lab"
countries=(Spain Italy France Germany Japan)
for i in $(seq 0 "${PAIRS:-6000}"); do
    base=${countries[$((i % 5))]} source=${countries[$(((i + 1 + i / 5) % 5))]}
    echo "{\"id\": \"r$i\", \"base\": \"The capital of $base is\", \"source\": \"The capital of $source is\", \"targets\": [\" Madrid\"]}"
done >many.jsonl
sweep=(sweep --data many.jsonl --component hook_z,hook_v,mlp_output --threads 1)
"$headlight" "${sweep[@]}" --out runs.parquet >/dev/null
sha256sum runs.parquet runs.summary.parquet | tee wanted
mv runs.parquet one.parquet
rm runs.summary.parquet
"$headlight" slurm --shards 5 --scripts jobs --time 10:00 --sbatch=--cpus-per-task=1 \
    --sbatch=--output="$lab/task-%a.log" -- "${sweep[@]}" --out runs/ --part-rows 500
bash jobs/submit.sh
array=$(squeue -h -o %F | sort -n | head -1)

# one task is stopped as Slurm stops it before its time is up, another dies
for _ in $(seq 300); do
    if ls runs/part-00001-of-00005-00000.parquet >/dev/null 2>&1; then break; fi
    sleep 0.1
done
scontrol show job "${array}_1" | grep -E "JobState|Requeue"
scancel --signal=USR1 --batch "${array}_1" && echo "signalled task 1"
for _ in $(seq 300); do
    if ls runs/part-00002-of-00005-00000.parquet >/dev/null 2>&1; then break; fi
    sleep 0.1
done
# the whole task, shell and all; Slurm is asked to begin it again
scontrol requeue "${array}_2" && echo "requeued task 2 without warning"
for _ in $(seq 600); do
    if [ -z "$(squeue -h -t all -o %T 2>/dev/null | grep -E 'PENDING|RUNNING|COMPLETING|CONFIGURING' || true)" ]; then break; fi
    sleep 1
done
squeue -t all
"$headlight" status runs
if ! grep -q "shard 1/5 is requeued" task-1.log; then
    echo "FAILED: task 1 was not requeued"
    exit 1
fi
sha256sum -c wanted
echo "PASSED: five shards on Slurm $(slurmctld -V | cut -d' ' -f2), one stopped and one requeued, are the bytes of one run"
