#!/usr/bin/env bash
# Builds the BPF programs in the BPF root into target/bpf/pidlist.bpf.o, touched only when it changes.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

"$qemu/setup.sh" base bpf-root >&2
cd "$checkout"
package=pidlist-bpf-programs
build=target/bpf/build
object=target/bpf/pidlist.bpf.o
mkdir -p "$build"
CARGO_ENCODED_RUSTFLAGS=-Clinker=bpf-linker RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$checkout/$build \
    "$qemu/in-root.sh" bpf -u "$(stat -c %u:%g "$build")" -- \
    cargo build --release --target bpfel-unknown-none --package "$package" >&2
built=$build/bpfel-unknown-none/release/$package
[[ -e $built ]] || die "package $package left no object in $build" "it needs a [[bin]] target"
cmp -s "$built" "$object" || cp "$built" "$object"
echo "$checkout/$object"
