#!/usr/bin/env bash
# The root that builds kernel modules: trixie's rustc, bindgen and gcc, which Debian's kernels are built with.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/../lib.sh"
out=$1

packages=(rustc rust-src bindgen gcc-14 libc6-dev clang lld llvm make flex bison bc libelf-dev libssl-dev
    kmod cpio xz-utils pahole python3 rsync busybox-static)

step kernel-root "copy the base" cp -a --reflink=auto "$cache/base/." "$out"
step kernel-root "update the package lists" in_root "$out" -- apt-get update
step kernel-root "install packages" in_root "$out" -- apt-get install -y --no-install-recommends "${packages[@]}"
step kernel-root "install bpftool" in_root "$out" -- \
    apt-get install -y --no-install-recommends -t trixie-backports bpftool
rm -rf "$out"/var/cache/apt/archives/*.deb
