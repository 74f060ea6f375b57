# Sourced by slurm_train.sh and slurm_test.sh: their environment variables, and the call of srun.
calls=0
unset CDPATH  # cd would look there, too
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    echo "error: $*" >&2
    exit 2
}

# Print the comment that the script begins with.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

read_environment() {
    local name
    : "${GPUS:=8}" "${GPUS_PER_NODE:=8}" "${CPUS_PER_TASK:=5}"
    for name in GPUS GPUS_PER_NODE CPUS_PER_TASK; do
        [[ ${!name} =~ ^[1-9][0-9]*$ ]] || die "$name=${!name}: not a number, 1 or more."
    done
    ((GPUS_PER_NODE <= GPUS)) || GPUS_PER_NODE=$GPUS
    ((GPUS % GPUS_PER_NODE == 0)) ||
        die "GPUS=$GPUS is not a multiple of GPUS_PER_NODE=$GPUS_PER_NODE."
    python=${PYTHON:-$root/.venv/bin/python}
    [[ -n ${PYTHON-} || -x $python ]] || python=python
    command -v srun >/dev/null || die "srun is not to be found: run this on a login node."
}

# Put what begins with -- into `flags`, which train_net.py wants first, the rest into `overrides`.
split_arguments() {
    flags=() overrides=()
    while (($#)); do
        case $1 in
            --checkpoint | --config-file | --dist-url | --num-* | --machine-rank)
                flags+=("${@:1:2}")  # and its value
                (($# == 1)) || shift
                ;;
            --*) flags+=("$1") ;;
            *) overrides+=("$1") ;;
        esac
        shift
    done
}

# run_on_nodes PARTITION JOB_NAME ARGUMENT...: train_net.py on all nodes, one task on each.
#
# Each call leaves in `mark` the job's comment, by which Slurm's list of jobs knows it.
run_on_nodes() {
    local partition=$1 name=$2
    shift 2
    mark=$(hostname)-$$-$((++calls))
    # shellcheck disable=SC2086  # SRUN_ARGS is several words
    srun --partition="$partition" --job-name="$name" --gres="${GRES:-gpu:$GPUS_PER_NODE}" \
        --nodes=$((GPUS / GPUS_PER_NODE)) --ntasks-per-node=1 \
        --cpus-per-task=$((CPUS_PER_TASK * GPUS_PER_NODE)) --kill-on-bad-exit=1 --comment="$mark" \
        ${SRUN_ARGS-} \
        "$python" -u "$root/train_net.py" --slurm --num-gpus "$GPUS_PER_NODE" "$@"
}

# Whether the last job ended by scancel, which train_net.py cannot tell from a preemption.
was_cancelled() {
    local state
    for _ in {1..60}; do
        state=$(squeue --noheader --states=all --user="$(id -un)" --format='%T %k' 2>/dev/null |
            awk -v mark="$mark" '$2 == mark { print $1 }')
        [[ $state == COMPLETING ]] || break
        sleep 1
    done
    [[ $state == CANCELLED ]]
}
