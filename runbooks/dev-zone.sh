# shellcheck shell=bash
# Sourced by whoever rehearses a runbook on a dev zone. On real machines a process manager stops and
# starts the servers; in a dev zone these functions do. Linux only: they read /proc.
#
#   dev_process NAME    the process id of member-1, node-3, …
#   dev_leader          the name of the member that leads the control plane
#   dev_kill NAME…      kill -9, and remember the command line
#   dev_stop NAME…      SIGTERM, wait until it has ended, and remember the command line
#   dev_start NAME…     start again with that command line; it outlives `zonectl dev up`
#
# DEV_ZONE is the zone's data directory; the default is that of `zonectl dev up`.

DEV_ZONE=${DEV_ZONE:-${XDG_STATE_HOME:-$HOME/.local/state}/isotherm/dev-zone}

dev_process() {
    local entry words
    for entry in /proc/[0-9]*; do
        mapfile -d '' -t words 2>/dev/null <"$entry/cmdline" || continue
        if [ "${words[1]:-}" = --data-directory ] && [ "${words[2]:-}" = "$DEV_ZONE/$1" ]; then
            echo "${entry#/proc/}"
            return 0
        fi
    done 2>/dev/null
    echo "$1 does not run in $DEV_ZONE" >&2
    return 1
}

dev_leader() {
    local directory name id address
    for directory in "$DEV_ZONE"/member-*/; do
        name=$(basename "$directory")
        id=$(dev_process "$name" 2>/dev/null) || continue
        address=$(tr '\0' '\n' <"/proc/$id/cmdline" | grep -A1 -x -e --metrics-address | tail -n 1)
        if curl -s --max-time 2 "http://$address/metrics" | grep -qx 'isotherm_control_plane_leader 1'; then
            echo "$name"
            return 0
        fi
    done
    echo "no member in $DEV_ZONE leads" >&2
    return 1
}

dev_end() {
    local signal=$1 name id
    shift
    for name in "$@"; do
        id=$(dev_process "$name") || return 1
        cat "/proc/$id/cmdline" >"$DEV_ZONE/$name.command"
        kill "-$signal" "$id" || return 1
        # A process that has ended has no command line, even while nobody has waited for it.
        while [ -n "$({ tr -d '\0' <"/proc/$id/cmdline"; } 2>/dev/null)" ]; do
            sleep 0.05
        done
    done
}

dev_kill() { dev_end KILL "$@"; }

dev_stop() { dev_end TERM "$@"; }

dev_start() {
    local name words
    for name in "$@"; do
        mapfile -d '' -t words <"$DEV_ZONE/$name.command" || return 1
        setsid "${words[@]}" </dev/null >>"$DEV_ZONE/logs/$name.log" 2>&1 &
    done
}
