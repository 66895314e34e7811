#!/usr/bin/env bash
# The kernel module on a real machine:
#   module.sh build     for KDIR, the running kernel's build directory unless set
#   module.sh load|unload
set -euo pipefail
cd "$(dirname "$0")/.."

release=$(uname -r)
KDIR=${KDIR:-/lib/modules/$release/build}

die() {
    printf 'pidlist: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '         %s\n' "$hint" >&2; done
    exit 2
}

build() {
    local config=$KDIR/.config
    [[ -e $KDIR/Makefile ]] || die "no kernel build directory at $KDIR" \
        "install the headers of kernel $release, or name one: make module KDIR=<dir>"
    [[ -e $config ]] || config=$KDIR/include/config/auto.conf
    grep -qx 'CONFIG_RUST=y' "$config" || die "the kernel of $KDIR is built without Rust (CONFIG_RUST)" \
        "Debian's kernels have it from 7.2 on, in trixie-backports"
    [[ -e $KDIR/rust/libkernel.rmeta ]] || die "$KDIR has no Rust metadata (rust/libkernel.rmeta)" \
        "for a Debian kernel: KERNEL=<series> qemu/build-module.sh builds it in target/module-<release>/" \
        "for your own: run make prepare in its tree, and give that as KDIR"
    make -C "$KDIR" M="$PWD" modules
}

# The module for the running kernel: built here, or for a Debian kernel in the build root.
built() {
    local module
    for module in "target/module-$release/rust_pidlist.ko" rust_pidlist.ko; do
        if [[ -e $module && $(modinfo -F vermagic "$module") == "$release "* ]]; then
            echo "$module"
            return
        fi
    done
    die "no rust_pidlist.ko for kernel $release" "build one: make module"
}

as_root() { if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi; }

case ${1-} in
    build) build ;;
    built) built ;;
    load)
        module=$(built)
        as_root insmod "$module" || die "loading $module failed" "see what the kernel says: dmesg | tail"
        echo "loaded $module; /dev/pidlist is there"
        ;;
    unload)
        grep -q '^rust_pidlist ' /proc/modules || die "rust_pidlist is not loaded"
        as_root rmmod rust_pidlist || die "unloading rust_pidlist failed" "who uses it: fuser /dev/pidlist"
        ;;
    *) die "usage: rust_pidlist/module.sh build|load|unload" ;;
esac
