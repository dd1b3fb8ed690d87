#!/bin/sh
# Make a virtual environment from nothing but a Python with pip, and install a lock file into it.
#
#   scripts/install.sh VENV LOCK [PACKAGE]     with PACKAGE, that directory is installed editable, without dependencies
#
# pip is left as the machine configured it: registry, cache and certificates come from its own settings.
# torch goes in first and by itself: a CPU build that the machine offers is taken only for an exact request, and
# packages that merely need some torch would otherwise bring several GB of CUDA with them.
set -eu
venv=$1 lock=$2 package=${3:-}

say() { echo "install: $*" >&2; }

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "no Python 3.11 or newer on PATH; set PYTHON=/path/to/python3"
    return 1
}

# Debian takes ensurepip, and with it venv, out of its python3: virtualenv needs neither, nor root.
make_venv() {
    if "$python" -c 'import ensurepip, venv' 2>/dev/null && "$python" -m venv "$venv"; then
        return
    fi
    rm -rf "$venv"
    say "this Python cannot make virtual environments (no ensurepip); trying virtualenv"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    if "$python" -m pip install -qq --target "$scratch" -c requirements/all.txt virtualenv &&
        PYTHONPATH="$scratch${PYTHONPATH:+:$PYTHONPATH}" "$python" -m virtualenv -q "$venv"; then
        return
    fi
    rm -rf "$venv"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "virtualenv failed too; ask for the system package python3-venv"
        return 1
    fi
    say "virtualenv failed too; installing the system package python3-venv"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv
    "$python" -m venv "$venv"
}

# On a terminal pip shows its progress; in a log only its errors count.
pip_install() {
    if [ -t 1 ]; then
        "$venv/bin/python" -m pip install "$@"
    else
        "$venv/bin/python" -m pip install -qq "$@"
    fi
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "making $venv with $python ($("$python" --version))"
    rm -rf "$venv"
    make_venv
fi

torch=$(grep '^torch==' "$lock" || true)
if [ -n "$torch" ]; then
    say "installing $torch"
    pip_install "$torch"
fi
say "installing $(grep -c == "$lock") packages from $lock"
pip_install -r "$lock"
if [ -n "$package" ]; then
    say "installing $package, editable"
    pip_install --no-deps --no-build-isolation -e "$package"
fi
say "done"
