#!/usr/bin/env bash
# A real SLURM of one node on this machine, for tests. Nothing of it is outside FOLDER, and it listens on 127.0.0.1 only.
#
#   slurm_node.sh install            get the packages, where that is possible; never fails
#   slurm_node.sh start FOLDER PORT  write what it needs into FOLDER, start it, wait until it takes jobs; uses PORT and PORT+1
#   slurm_node.sh stop FOLDER        cancel all jobs and end it
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
packages=(slurmctld slurmd slurm-client munge)

are_installed() { command -v munged slurmctld slurmd sbatch srun scontrol >/dev/null; }

install() {
    if are_installed; then return; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "slurm_node.sh: no SLURM, and it can be installed by root with apt-get only; its tests are skipped"
        return
    fi
    # the packages would start a SLURM of their own
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap "rm -f $policy" EXIT
    fi
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" ||
        echo "slurm_node.sh: SLURM could not be installed; its tests are skipped"
}

configure() {
    mkdir -p "$folder"/{state,spool,munge}
    chmod 755 "$folder" "$folder/munge"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    : >"$folder/plugstack.conf"
    # cred_expire is also how long a job that is queued again waits, 2 minutes by default
    cat >"$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
PlugStackConfig=$folder/plugstack.conf
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
PropagateResourceLimits=NONE
ReturnToService=2
KillWait=20
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=2000
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname=localhost CPUs=4 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
END
}

takes_jobs() { case $(sinfo --noheader --format=%T 2>/dev/null) in idle | mixed | allocated | completing) ;; *) false ;; esac }

start() {
    configure
    local force=()
    [ "$(id -u)" != 0 ] || force=(--force)
    munged "${force[@]}" --num-threads=2 --key-file="$folder/munge.key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge/seed"
    slurmctld
    slurmd -N localhost
    for _ in $(seq 200); do
        if takes_jobs; then return; fi
        sleep 0.1
    done
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

is_alive() { [ -s "$folder/$1.pid" ] && [[ $(cat "/proc/$(cat "$folder/$1.pid")/comm" 2>/dev/null) == "$1"* ]]; }

# told by their own pid files, never by name: there may be another SLURM on this machine
stop() {
    if is_alive slurmctld; then
        scancel --state=PENDING || true
        scancel --full --signal=KILL --state=RUNNING || true
        for _ in $(seq 100); do
            [ -n "$(squeue --noheader 2>/dev/null)" ] || break
            sleep 0.1
        done
    fi
    for daemon in slurmd slurmctld munged; do
        is_alive $daemon || continue
        kill "$(cat "$folder/$daemon.pid")"
        for _ in $(seq 100); do
            is_alive $daemon || break
            sleep 0.1
        done
        if is_alive $daemon; then kill -9 "$(cat "$folder/$daemon.pid")"; fi
    done
}

[ $# -gt 0 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
case $1 in
    install) install ;;
    start | stop)
        folder=$2 port=${3:-}
        export SLURM_CONF=$folder/slurm.conf
        "$1"
        ;;
    *) sed -n '2,6p' "$0" >&2; exit 2 ;;
esac
