#!/bin/bash
# one
# Submit it again by hand with: sbatch script
#SBATCH --job-name=one
#SBATCH --comment=holdfast:0123456789abcdef:1
#SBATCH --chdir=/shared/runs/.holdfast/jobs/0123456789abcdef
#SBATCH --output=/shared/runs/.holdfast/jobs/0123456789abcdef/slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --requeue
#SBATCH --signal=B:USR1@180

# Ignored until the supervisor listens: the signal must not end what has not begun.
trap '' USR1
umask 002
job=/shared/runs/.holdfast/jobs/0123456789abcdef
key=key-of-one
export HOLDFAST_KILL_WAIT=30 HOLDFAST_LEAD=180
exec /shared/venv/bin/python "$job/supervisor.pyz" "$job" "$key"
