#!/usr/bin/env bash
# Score a checkpoint, or several, on a Slurm cluster, in the calling convention of MMDetection:
#
#   [GPUS=8] tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [KEY=VALUE ...]
#   tools/slurm_test.sh PARTITION JOB_NAME runs/my/config.yaml 'runs/my/model_*.pth'
#
# CHECKPOINT is a file or a quoted glob. The environment variables are those of slurm_train.sh. The
# results go to the config's train.output_dir, into evaluation/.
set -uo pipefail
script=${BASH_SOURCE[0]}
[[ ! -L $script ]] || script=$(readlink -f "$script")
# shellcheck source=tools/slurm_common.sh
. "$(dirname "$script")/slurm_common.sh"

[[ $# -ge 4 ]] || usage
partition=$1 name=$2 config=$3 checkpoint=$4
shift 4
read_environment
split_arguments "$@"
run_on_nodes "$partition" "$name" --config-file "$config" --eval-only --checkpoint "$checkpoint" \
    ${flags[@]+"${flags[@]}"} ${overrides[@]+"${overrides[@]}"}
