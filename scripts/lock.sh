#!/bin/sh
# Resolve the newest versions that pyproject.toml allows and write them to requirements/.
#
# Each file is the freeze of a clean environment in which the packages really were installed together. What it says
# is versions alone: no path, no registry, and no local part of a version (torch 2.13.0+cpu is torch 2.13.0).
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

wanted() { # the requirements of an extra of pyproject.toml, one a line, extras of extras resolved
    "$PYTHON" - "$1" <<'PY'
import re, sys, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]

def requirements(extra):
    for line in project["optional-dependencies"][extra]:
        own = re.fullmatch(r"holdfast\[(.*)\]", line)
        for found in (r for name in own[1].split(",") for r in requirements(name)) if own else [line]:
            yield found

print("\n".join(sorted({*project["dependencies"], *requirements(sys.argv[1])})))
PY
}

freeze() { # freeze VENV FILE TITLE
    {
        echo "# $3 Written by scripts/lock.sh; do not edit."
        "$1/bin/python" -m pip freeze | sed 's/+[a-z0-9.]*$//'
    } >"$2"
    if grep -nE '@|://|^-e' "$2"; then
        echo "$2 holds an address or a path (above); not a lock" >&2
        exit 1
    fi
    echo "wrote $2: $(grep -c == "$2") packages"
}

torch=$(grep '^torch==' requirements/all.txt)
"$PYTHON" -m venv "$scratch/all"
"$scratch/all/bin/python" -m pip install -q "${TORCH:-$torch}"
wanted all >"$scratch/all.txt"
"$scratch/all/bin/python" -m pip install -q -r "$scratch/all.txt"
"$scratch/all/bin/python" -m pip check
freeze "$scratch/all" requirements/all.txt "Every package of the development environment, exactly."

"$PYTHON" -m venv "$scratch/bench"
"$scratch/bench/bin/python" -m pip install -q hydra-core snakemake submitit
freeze "$scratch/bench" requirements/bench.txt "What 'make bench' compares Holdfast with, in an environment of its own."

for peer in verifiers inspect_ai; do
    "$PYTHON" -m venv "$scratch/$peer"
    "$scratch/$peer/bin/python" -m pip install -q "$peer" aiohttp openai
    freeze "$scratch/$peer" "requirements/bench-$peer.txt" "$peer, for 'make bench-rollouts', in an environment of its own."
done
