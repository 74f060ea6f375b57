#!/usr/bin/env bash
# Train on a Slurm cluster, in the calling convention of MMDetection:
#
#   [GPUS=16] [SRUN_ARGS="--time=600"] \
#       tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [--resume] [KEY=VALUE ...]
#
#   GPUS            processes in all (default 8)
#   GPUS_PER_NODE   processes on a node (default 8, or GPUS where that is less)
#   CPUS_PER_TASK   CPUs for each process (default 5)
#   SRUN_ARGS       more options of srun, such as "--account=A --time=600 --signal=USR2@120"
#   GRES            what a node gives (default gpu:GPUS_PER_NODE); of one kind: gpu:a100:8; none on
#                   a cluster without GPUs, where the processes run on CPUs
#   PYTHON          default: the checkout's .venv/bin/python, else python
#
# A run that preemption or the time limit stops writes a checkpoint first; it is then queued again
# with --resume, as long as this script runs (tools/submit.py needs no terminal to stay open).
# scancel ends it, and so do two Ctrl-C within a second. Any other end is the script's: srun's exit
# code, the highest of the nodes' (2 for wrong input; 143 for a node that srun ended as another had
# failed).
#
# From SIGTERM to SIGKILL a cluster gives KillWait or GraceTime, often 30 seconds. Where writing a
# checkpoint takes longer, have SRUN_ARGS ask for a signal before the time limit, as above.
set -uo pipefail
script=${BASH_SOURCE[0]}
[[ ! -L $script ]] || script=$(readlink -f "$script")
# shellcheck source=tools/slurm_common.sh
. "$(dirname "$script")/slurm_common.sh"

[[ $# -ge 4 ]] || usage
partition=$1 name=$2 config=$3 work_dir=$4
shift 4
read_environment
split_arguments "$@"

resume_me=75  # train_net.py's exit code: stopped by a signal, and may go on
tries=3       # starts in a row without a checkpoint, then it is given up
last_checkpoint() { cat "$work_dir/last_checkpoint" 2>/dev/null; }
interrupted=
trap 'interrupted=yes' INT

fruitless=0
while true; do
    before=$(last_checkpoint)
    run_on_nodes "$partition" "$name" --config-file "$config" \
        ${flags[@]+"${flags[@]}"} "train.output_dir=$work_dir" ${overrides[@]+"${overrides[@]}"}
    code=$?
    # Within an allocation (salloc, sbatch) there is no queue to wait in.
    [[ $code -eq $resume_me && -z $interrupted && -z ${SLURM_JOB_ID-} ]] || exit $code
    if was_cancelled; then
        echo "the job was cancelled; with --resume it goes on" >&2
        exit $code
    fi
    if [[ $(last_checkpoint) != "$before" ]]; then
        fruitless=0
    elif ((++fruitless == tries)); then
        echo "stopped $tries times before it wrote a checkpoint: give it more time" >&2
        exit $code
    fi
    echo "queued again, to go on from its last checkpoint" >&2
    [[ " ${flags[*]-} " == *" --resume "* ]] || flags+=(--resume)
done
