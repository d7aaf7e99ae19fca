#!/usr/bin/env bash
# Runs the commands of the README and the runbooks as they are written, so that they stay true.
#
#   runbooks/check.sh [PAGE…]      default: all pages, in the order below
#
# Each page is one bash session with `set -euo pipefail`, in which its blocks marked `sh` run in order:
#   ```sh           every command must succeed
#   ```sh exit=3    the block must end with this exit code; it runs in a subshell
#   <!-- check: COMMAND -->    runs too, and is not shown: it makes the fault that the page is about
# Blocks marked otherwise (bash, text) are not run; the README's toml blocks are given to the servers. The dev zone has a temporary directory and ports
# of its own: 127.0.0.1:74xx, 75xx and 76xx in a page become the same ports from BASE_PORT on.
#
# Exit codes: 0 all well, 1 a command failed or took too long, 2 something that is needed is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

BASE_PORT=${BASE_PORT:-23400}
BINARIES=${BINARIES:-$PWD/target/debug}
PAGE_SECONDS_MAX=${PAGE_SECONDS_MAX:-100}
PAGES=(README.md runbooks/drain-a-node.md runbooks/index-node-lost.md runbooks/index-node-slow.md
    runbooks/control-plane-leader-lost.md runbooks/policy.md
    runbooks/control-plane-down.md runbooks/build-a-zone.md runbooks/rebalance.md runbooks/plan-offline.md
    runbooks/split-a-partition.md runbooks/load-is-uneven.md)
[ $# -eq 0 ] || PAGES=("$@")

for program in awk curl grep mktemp python3 sed setsid timeout; do
    command -v "$program" >/dev/null || { echo "check.sh needs $program" >&2; exit 2; }
done
for program in zonectl control-plane index-node; do
    [ -x "$BINARIES/$program" ] || { echo "$BINARIES/$program is missing: run \`make build\`" >&2; exit 2; }
done

repository=$PWD
work=$(mktemp -d -t isotherm-check-XXXXXX)
export PATH="$BINARIES:$PATH"
export DEV_ZONE="$work/zone"
export ZONECTL_ENDPOINTS="127.0.0.1:$BASE_PORT,127.0.0.1:$((BASE_PORT + 1)),127.0.0.1:$((BASE_PORT + 2))"

# The process ids of what this check has started: whatever keeps its data in $work.
own_processes() {
    local entry words
    for entry in /proc/[0-9]*; do
        mapfile -d '' -t words <"$entry/cmdline" || continue
        case "${words[*]:-}" in
            *" --data-directory $work/"* | *" --data $work/"*) echo "${entry#/proc/}" ;;
            *"control-plane --config "* | *"index-node --config "*)
                case "$(readlink "$entry/cwd")" in "$work"/*) echo "${entry#/proc/}" ;; esac
                ;;
        esac
    done 2>/dev/null
}

signal_own() {
    local id
    for id in $(own_processes); do kill "-$1" "$id" 2>/dev/null || true; done
}

finish() {
    local code=$?
    trap - EXIT
    signal_own TERM
    for _ in $(seq 100); do
        [ -z "$(own_processes)" ] && break
        sleep 0.1
    done
    signal_own KILL
    if [ "$code" -eq 0 ]; then rm -rf "$work"; else echo "Logs and data are kept in $work" >&2; fi
    exit "$code"
}
trap finish EXIT
trap 'exit 1' INT TERM

# One page as a script: each block with a line that says where it is.
script_of() {
    awk -v page="$1" '
        function begin(text) { printf "echo \"== %s:%d\"\n", page, NR; if (text != "") print text }
        /^ *<!-- check: .* -->$/ {
            sub(/^ *<!-- check: /, ""); sub(/ -->$/, ""); begin($0); next
        }
        !inside && /^ *```sh( exit=[0-9]+)?$/ {
            inside = 1; indent = index($0, "`") - 1; code = ""
            if (match($0, /exit=[0-9]+/)) code = substr($0, RSTART + 5, RLENGTH - 5)
            begin(code == "" ? "" : "set +e; ("); next
        }
        inside && /^ *```$/ {
            inside = 0
            if (code != "") printf "); code=$?; set -e; [ $code = %s ] || { echo \"exit code $code instead of %s\"; exit 1; }\n", code, code
            next
        }
        inside { print substr($0, indent + 1) }
    ' "$1"
}

# The ports of the pages are those of the default dev zone.
move_ports() {
    local text=$1 hundred port
    for hundred in 76 75 74; do
        for port in $(grep -oE "127\.0\.0\.1:$hundred[0-9]{2}" <<<"$text" | sort -u | cut -d: -f2); do
            text=${text//127.0.0.1:$port/127.0.0.1:$((BASE_PORT + port - 7400))}
        done
    done
    printf '%s\n' "$text"
}

run_page() {
    local page=$1 started=$SECONDS directory=$repository
    local script="$work/$(basename "$page" .md).sh" log="$work/$(basename "$page" .md).log"
    case "$page" in
        */build-a-zone.md)
            directory="$work/build"
            mkdir -p "$directory"
            script_of "$page" >"$script"
            ;;
        *) move_ports "$(script_of "$page")" >"$script" ;;
    esac
    local blocks
    blocks=$(grep -c '^echo "== ' "$script" || true)
    if (
        cd "$directory"
        # shellcheck disable=SC2016
        timeout --kill-after=5 "$PAGE_SECONDS_MAX" \
            bash -euo pipefail -c '. "$1"; set -x; . "$2"' check "$repository/runbooks/dev-zone.sh" "$script"
    ) >"$log" 2>&1 </dev/null; then
        echo "ok    $page ($blocks blocks, $((SECONDS - started)) s)"
    else
        local code=$?
        echo "FAIL  $page (exit code $code after $((SECONDS - started)) s; the last lines of $log:)" >&2
        tail -n 25 "$log" | sed 's/^/      /' >&2
        return 1
    fi
}

# Syntax, and whether every metric that rules and panels use is one of ours.
check_metrics() {
    local name missing=0
    python3 -m json.tool runbooks/dashboard.json >/dev/null
    if python3 -c 'import yaml' 2>/dev/null; then
        python3 -c 'import sys, yaml; yaml.safe_load(open(sys.argv[1]))' runbooks/alerts.yaml
    fi
    for name in $(grep -ohE 'isotherm_[a-z_]+' runbooks/alerts.yaml runbooks/dashboard.json | sort -u); do
        name=${name%_bucket}
        name=${name%_sum}
        name=${name%_count}
        grep -rqF --include='*.rs' "\"$name\"" control-plane/src index-node/src runtime/src || {
            echo "FAIL  no server has the metric $name" >&2
            missing=1
        }
    done
    for name in $(grep -oE 'runbooks/[a-z-]+\.md' runbooks/alerts.yaml | sort -u); do
        [ -f "$name" ] || { echo "FAIL  alerts.yaml: $name does not exist" >&2; missing=1; }
    done
    [ "$missing" -eq 0 ] && echo "ok    alerts.yaml, dashboard.json, and the metrics that they use"
}

# The example configurations of the README: a server that gets as far as its data directory has accepted them.
check_configurations() {
    local number=0 server code
    awk -v prefix="$work/example-" '
        /^```toml$/ { inside = 1; count += 1; file = prefix count ".toml"; next }
        /^```$/ { inside = 0 }
        inside { print >file }
    ' README.md
    for server in index-node control-plane; do
        number=$((number + 1))
        code=0
        "$server" --config "$work/example-$number.toml" --data-directory /dev/null/none 2>"$work/example.log" || code=$?
        [ "$code" -eq 3 ] || { echo "FAIL  README.md, example $number:"; cat "$work/example.log"; return 1; } >&2
    done
    echo "ok    the example configurations of README.md"
}

failed=0
check_metrics || failed=1
check_configurations || failed=1

setsid zonectl dev up --data "$DEV_ZONE" --base-port "$BASE_PORT" >"$work/dev-up.log" 2>&1 </dev/null &
zonectl status --wait-healthy 60s >/dev/null || { tail -n 20 "$work/dev-up.log" >&2; exit 1; }
# Healthy before its last node has registered is not ready.
for _ in $(seq 300); do
    grep -q 'The zone is ready' "$work/dev-up.log" && break
    sleep 0.1
done

for page in "${PAGES[@]}"; do
    run_page "$page" || { failed=1; break; }
done
exit "$failed"
