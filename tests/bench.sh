#!/usr/bin/env bash
# Measures, prints a table for each area, and leaves target/bench/<area>.json.
#   bench.sh [AREA…] [--only ROW] [--rounds N]
# Needs root for what reads slabs and tasks by BPF; says what it skips without it. pidset boots two guests.
# forkstat, which cache is measured beside, is unpacked into target/bench where it is not installed.
# Exit code: 1 where a figure does not keep to its bound, 2 where something could not be measured.
set -euo pipefail
cd "$(dirname "$0")/.."

# The BPF object first: the build embeds it.
if [[ -x qemu/build-bpf.sh ]] && ! qemu/build-bpf.sh >/dev/null; then
    echo "bench: no BPF programs were built; what needs them will be skipped" >&2
fi
tools=$PWD/target/bench/tools
if ! command -v forkstat >/dev/null && [[ ! -x $tools/usr/sbin/forkstat ]] && command -v apt-get >/dev/null; then
    mkdir -p "$tools"
    # What cannot be had is skipped, and said, there.
    (cd "$tools" && apt-get -qq download forkstat && dpkg -x forkstat_*.deb .) >/dev/null 2>&1 || true
fi
PATH=$PATH:$tools/usr/sbin:$tools/usr/bin

cargo=cargo
[[ ! -x qemu/cargo.sh ]] || cargo=qemu/cargo.sh
# Static and in target/guest, as qemu/build-userland.sh does it: it runs here even if a build root
# with a newer libc has built it, and what the two have in common is built once.
target=x86_64-unknown-linux-gnu
RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=$PWD/target/guest \
    "$cargo" build --release --target "$target" --package pidlist-bench
exec "target/guest/$target/release/pidlist-bench" "$@"
