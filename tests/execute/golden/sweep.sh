#!/bin/bash
# 3 stages: grid/lr-1e-6, grid/lr-2e-6, grid/lr-3e-6
# Submit it again by hand with: sbatch script
#SBATCH --job-name=grid
#SBATCH --comment=holdfast:0123456789abcdef:1
#SBATCH --chdir=/shared/runs/.holdfast/jobs/0123456789abcdef
#SBATCH --output=/shared/runs/.holdfast/jobs/0123456789abcdef/slurm-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --array=0-2%2
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
#SBATCH --time=4:00:00
#SBATCH --account=rl
#SBATCH --partition='gpu long'
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
#SBATCH --qos=high
#SBATCH --exclusive

# Ignored until the supervisor listens: the signal must not end what has not begun.
trap '' USR1
umask 002
job=/shared/runs/.holdfast/jobs/0123456789abcdef
key=$(awk -F '\t' -v task="$SLURM_ARRAY_TASK_ID" '$1 == task {print $2}' "$job/script.tasks")
module load cuda
ulimit -n 65536
export HOLDFAST_KILL_WAIT=30 HOLDFAST_LEAD=180
exec /shared/venv/bin/python "$job/supervisor.pyz" "$job" "$key"
