#!/usr/bin/env bash
# The root that builds BPF programs: Debian's rustc-web, whose `core` for BPF needs no nightly, and bpf-linker.
# rustc-web conflicts with the kernel root's rustc, hence a root of its own.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/../lib.sh"
out=$1

packages=(cargo-web rustc-web rustfmt-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev
    gcc g++ libc6-dev)

step bpf-root "copy the base" cp -a --reflink=auto "$cache/base/." "$out"
step bpf-root "update the package lists" in_root "$out" -- apt-get update
step bpf-root "install packages" in_root "$out" -- apt-get install -y --no-install-recommends "${packages[@]}"
rm -rf "$out"/var/cache/apt/archives/*.deb
step bpf-root "build bpf-linker" in_root "$out" -- cargo install bpf-linker --version 0.13.0 --locked \
    --no-default-features --features llvm-22 --root /usr/local --target-dir /tmp/bpf-linker
rm -rf "$out/tmp/bpf-linker"
