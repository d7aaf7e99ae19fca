#!/usr/bin/env bash
# Installs what building RocksDB needs and the machine lacks: libclang and a C++ compiler. With the
# argument `etcd` it installs etcd instead, which only a benchmark uses.
# Does nothing where all is there. Debian and Ubuntu only; elsewhere it says what to install.
set -euo pipefail

have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' | grep -qv 'libclang-cpp' && return 0
    compgen -G '/usr/lib/*/libclang[-.]*so*' | grep -qv 'libclang-cpp' && return 0
    compgen -G '/usr/lib64/libclang.so*' >/dev/null && return 0
    compgen -G '/usr/local/lib/libclang.so*' >/dev/null && return 0
    [ "$(uname -s)" = Darwin ]
}

missing=()
if [ "${1:-}" = etcd ]; then
    purpose="comparing with etcd"
    elsewhere="the release of etcd 3.4 or later for your system, with etcd in PATH"
    command -v etcd >/dev/null || missing+=(etcd-server)
else
    purpose="building RocksDB"
    elsewhere="Fedora: clang-devel gcc-c++; Arch: clang gcc; macOS: xcode-select --install"
    have_libclang || missing+=(libclang-dev)
    command -v c++ >/dev/null || missing+=(g++)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "What $purpose needs is missing on this machine: ${missing[*]}." >&2
    echo "Install it ($elsewhere) and try again." >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "As root, run: apt-get install ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
fi
echo "Installing ${missing[*]}, which $purpose needs …"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
