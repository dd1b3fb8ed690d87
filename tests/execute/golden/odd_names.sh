#!/bin/bash
# say "hi" $HOME `id` \ ü
# Submit it again by hand with: sbatch script
#SBATCH --job-name='say__hi___HOME__id____ü'
#SBATCH --comment=holdfast:0123456789abcdef:1
#SBATCH --chdir='/a b/it'"'"'s/.holdfast/jobs/0123456789abcdef'
#SBATCH --output='/a b/it'"'"'s/.holdfast/jobs/0123456789abcdef'/slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --requeue
#SBATCH --signal=B:USR1@180

# Ignored until the supervisor listens: the signal must not end what has not begun.
trap '' USR1
umask 002
job='/a b/it'"'"'s/.holdfast/jobs/0123456789abcdef'
key=key-of-say "hi" $HOME `id` \ ü
export HOLDFAST_KILL_WAIT=30 HOLDFAST_LEAD=180
exec /shared/venv/bin/python "$job/supervisor.pyz" "$job" "$key"
