# A real Slurm of one node on loopback, out of Debian's packages, for whoever sources this: $lab is its folder, and it ends with the shell.
# Needs root, as munged and slurmd do. Says "left out" and ends with 77 where the packages are not there.
for program in munged slurmctld slurmd sbatch squeue scontrol; do
    if ! command -v "$program" >/dev/null; then
        echo "left out: there is no $program (apt-get install slurmctld slurmd slurm-client munge)"
        exit 77
    fi
done
if [ "$(id -u)" -ne 0 ]; then
    echo "left out: munged and slurmd need root"
    exit 77
fi

lab=$(mktemp -d)
chmod 755 "$lab"
cleanup() {
    for name in slurmd slurmctld munged; do
        if [ -f "$lab/$name.pid" ]; then
            kill "$(cat "$lab/$name.pid")" 2>/dev/null || true
        fi
    done
    sleep 1
    if [ -z "${KEEP:-}" ]; then rm -rf "$lab"; fi
}
trap cleanup EXIT
node=$(hostname -s)

# munge, with a key and a socket of its own
mkdir -p "$lab/munge" "$lab/state" "$lab/spool"
dd if=/dev/urandom of="$lab/munge/key" bs=1 count=1024 2>/dev/null
chmod 400 "$lab/munge/key"
chmod 711 "$lab/munge"
munged --force --key-file="$lab/munge/key" --socket="$lab/munge/socket" \
    --pid-file="$lab/munged.pid" --log-file="$lab/munge/log" --seed-file="$lab/munge/seed"

cat >"$lab/slurm.conf" <<CONF
ClusterName=lab
SlurmctldHost=$node(127.0.0.1)
AuthType=auth/munge
# what is requeued waits for as long as a credential lives
AuthInfo=socket=$lab/munge/socket,cred_expire=10
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$lab/slurmctld.pid
SlurmdPidFile=$lab/slurmd.pid
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool
SlurmctldLogFile=$lab/slurmctld.log
SlurmdLogFile=$lab/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$lab/slurm.conf
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N "$node"
for _ in $(seq 60); do
    if sinfo -h -o %T 2>/dev/null | grep -q idle; then break; fi
    sleep 1
done
sinfo
