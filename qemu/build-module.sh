#!/usr/bin/env bash
# Builds a kernel module for KERNEL in the kernel root, beside the checkout's sources, and prints where it is:
#   build-module.sh           rust_pidlist.ko, in target/module-<release>/
#   build-module.sh <dir>     any directory with a Kbuild, in target/<dir's name>-<release>/
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

check_series
"$qemu/setup.sh" base kernel-root kernel >&2
release=$(sed -n 's/^release=//p' "$kernel_dir/versions")

cd "$checkout"
if [[ $# -gt 0 ]]; then
    sources=("${1%/}/")
    build=target/$(basename "$1")-$release
else
    sources=(Kbuild rust_pidlist userland/abi)
    build=target/module-$release
fi
mkdir -p "$build"
# Kbuild writes beside the sources: let it write beside copies. Times are kept, so that it builds what changed.
if [[ $# -gt 0 ]]; then
    rsync -a "${sources[@]}" "$build/"
else
    rsync -a --relative "${sources[@]}" "$build/"
fi
"$qemu/in-root.sh" kernel -u "$(stat -c %u:%g "$build")" -b "$kernel_dir/tree:/kernel/tree" -- \
    make -C /kernel/tree -j"$(nproc)" M="$checkout/$build" CC=x86_64-linux-gnu-gcc-14 HOSTCC=x86_64-linux-gnu-gcc-14 \
    KERNELRELEASE="$release" modules >&2
ls "$checkout/$build"/*.ko
