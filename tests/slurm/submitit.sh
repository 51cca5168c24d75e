#!/bin/bash
# Shards that Python submits with submitit to a real Slurm (lab.sh): tests/clusters/test_slurm.py, by an interpreter with submitit and
# pytest that finds the package.
#
#     tests/slurm/submitit.sh target/clusters/bin/python
set -eu

python=$(realpath -s "$1")
root=$(realpath "$(dirname "$0")/../..")
# shellcheck source=tests/slurm/lab.sh
. "$(dirname "$0")/lab.sh"
PYTHONPATH="$root/python" HEADLIGHT_SLURM=1 timeout 240 "$python" -m pytest -q -rs -c "$root/tests/clusters/pytest.ini" "$root/tests/clusters/test_slurm.py"
