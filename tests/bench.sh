#!/usr/bin/env bash
# Measures, prints a table for each area, and leaves target/bench/<area>.json.
#   bench.sh [AREA…] [--rounds N]
# Needs root for what reads slabs and tasks by BPF; says what it skips without it. pidset boots two guests.
# Exit code: 1 where a figure does not keep to its bound, 2 where something could not be measured.
set -euo pipefail
cd "$(dirname "$0")/.."

# The BPF object first: the build embeds it.
if [[ -x qemu/build-bpf.sh ]] && ! qemu/build-bpf.sh >/dev/null; then
    echo "bench: no BPF programs were built; what needs them will be skipped" >&2
fi
cargo=cargo
[[ ! -x qemu/cargo.sh ]] || cargo=qemu/cargo.sh
# Static and in target/guest, as qemu/build-userland.sh does it: it runs here even if a build root
# with a newer libc has built it, and what the two have in common is built once.
target=x86_64-unknown-linux-gnu
RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=$PWD/target/guest \
    "$cargo" build --release --target "$target" --package pidlist-bench
exec "target/guest/$target/release/pidlist-bench" "$@"
