# Sourced by the scripts of hack/: where things are, and how the scripts speak.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
hack=$root/hack
venv=${SKEP_VENV:-$root/.venv}

# The one-machine cluster of hack/up. All of it can be moved with these variables.
SKEP_HOME=${SKEP_HOME:-/var/lib/skep}         # data, logs and pid files
SKEP_RUN=${SKEP_RUN:-/run/skep}               # the agent's secrets, in memory
SKEP_LISTEN=${SKEP_LISTEN:-127.0.0.1:7443}    # the API
SKEP_NODE=${SKEP_NODE:-$(hostname | tr '[:upper:]_' '[:lower:]-' | cut -c1-63)}
SKEP_CONTEXT=local                            # the entry that hack/up makes in the client's config
[ "${SKEP_LISTEN##*:}" = 7443 ] || SKEP_CONTEXT=local-${SKEP_LISTEN##*:} # one of its own for each cluster
export SKEP_HOME SKEP_RUN SKEP_LISTEN SKEP_NODE SKEP_CONTEXT

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold="" plain=""; fi

step() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '    %s\n' "$*"; }
die() { printf '%s: %s\n' "hack/$(basename "$0")" "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "needs root (containers, mounts); try: sudo $0 $*"; }
has() { command -v "$1" >/dev/null 2>&1; }
systemd_runs() { [ -d /run/systemd/system ]; }
engine_answers() { has docker && docker version >/dev/null 2>&1; }
engine_has_runtime() { docker info -f '{{json .Runtimes}}' 2>/dev/null | grep -q '"skep":'; } # of docs/network.md

# What hack/up made is marked, so that hack/down never removes somebody else's data.
ours=$SKEP_HOME/made-by-hack-up
cluster_uid() { sed -n 's/.*"cluster":"\([^"]*\)".*/\1/p' "$SKEP_HOME/agent/membership.json" 2>/dev/null || true; } # what the containers carry
remember() { grep -qxF "$1" "$ours" 2>/dev/null || echo "$1" >>"$ours"; }
remembers() { grep -qxF "$1" "$ours" 2>/dev/null; }

# wait_for SECONDS WHAT COMMAND…: tries until the command succeeds, with a line that counts up.
wait_for() {
  local limit=$1 what=$2 start=$SECONDS; shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $((SECONDS - start)) -ge "$limit" ]; then
      [ -t 1 ] && printf '\n'
      return 1
    fi
    [ -t 1 ] && printf '\r    waiting for %s … %ds ' "$what" $((SECONDS - start))
    sleep 0.3
  done
  [ -t 1 ] && printf '\r\e[K'
  say "$what: yes, after $((SECONDS - start))s"
}
