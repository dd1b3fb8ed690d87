#!/bin/sh
# Install the Debian packages that a purpose needs and that are missing.
#
#   scripts/system_packages.sh tests
#
# Where apt or root is missing the step is skipped with the reason, because what needs the package says so itself.
# Under CI=true that is an error: a test that silently does not run is worse than none.
set -eu

packages_for() {
    case $1 in
    # ps, to look at processes from outside; setpriv, to run as a user without root's rights; a real SLURM and its keys;
    # a browser, and letters for it
    tests) echo procps util-linux slurm-wlm munge chromium fonts-dejavu-core ;;
    *)
        echo "system packages: unknown purpose '$1' (known: tests)" >&2
        return 2
        ;;
    esac
}

give_up() {
    echo "system packages: skipped: $1; missing: $missing" >&2
    if [ "${CI:-}" = true ]; then
        echo "system packages: that is an error under CI=true" >&2
        exit 1
    fi
    exit 0
}

wanted=$(packages_for "$1")
missing=""
for package in $wanted; do
    if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || give_up "no apt on this machine"
[ "$(id -u)" -eq 0 ] || give_up "not root"

echo "system packages: installing$missing" >&2
apt-get update -qq
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
