#!/usr/bin/env bash
# Builds a kernel module for KERNEL in the kernel root, beside the checkout's sources, and prints where it is:
#   build-module.sh           rust_pidlist.ko, in target/module-<release>/
#   build-module.sh <dir>     any directory with a Kbuild, in target/<dir's name>-<release>/; one below
#                             rust_pidlist/ has all the module's sources, and names its files from the top
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

check_kernel
"$qemu/setup.sh" base kernel-root kernel >&2
release=$(sed -n 's/^release=//p' "$kernel_dir/versions")

cd "$checkout"
build=target/$(basename "${1-module}")-$release
mkdir -p "$build"
# Kbuild writes beside the sources: let it write beside copies. Times are kept, so that it builds what changed.
case ${1-} in
    '') rsync -a --relative Kbuild rust_pidlist userland/abi "$build/" ;;
    rust_pidlist/*)
        rsync -a --relative rust_pidlist userland/abi "$build/"
        rsync -a "${1%/}/Kbuild" "$build/"
        ;;
    *) rsync -a "${1%/}/" "$build/" ;;
esac
"$qemu/in-root.sh" kernel -u "$(stat -c %u:%g "$build")" -b "$kernel_dir/tree:/kernel/tree" -- \
    make -C /kernel/tree -j"$(nproc)" M="$checkout/$build" "${toolchain[@]}" KERNELRELEASE="$release" \
    modules >&2
ls "$checkout/$build"/*.ko
