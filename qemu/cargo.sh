#!/usr/bin/env bash
# Cargo for what runs on the host: the machine's own where it is new enough, else the BPF root's.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

needed=$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' "$checkout/Cargo.toml")
here=$(cargo --version 2>/dev/null | awk '{ print $2 }') || true
if [[ -n $here && $(printf '%s\n' "$needed" "$here" | sort -V | head -n 1) == "$needed" ]]; then
    exec cargo "$@"
fi
"$qemu/setup.sh" base bpf-root >&2
mkdir -p "$checkout/target"
exec "$qemu/in-root.sh" bpf -u "$(stat -c %u:%g "$checkout/target")" -- cargo "$@"
