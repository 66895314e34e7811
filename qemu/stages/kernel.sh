#!/usr/bin/env bash
# One Debian kernel series: its vmlinuz, and its source tree with the Rust metadata the headers package lacks.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/../lib.sh"
out=$1
stage=kernel-$series

in_kernel_root() { in_root kernel -b "$out:/kernel" -- "$@"; }

# Headers, source and binary must be of one version; backports moves, so look for the newest such set.
resolve() {
    # shellcheck disable=SC2016 # expanded in the root
    in_kernel_root bash -euc '
        version() { apt-cache madison "$1" | awk "{ print \$3 }"; }
        apt-cache pkgnames "linux-headers-$0." | sed -n "s/^linux-headers-\([^-]*-amd64\)\$/\1/p" |
        sort -rV | while read -r release; do
            version=$(version "linux-headers-$release" | head -n 1)
            version "linux-source-$0" | grep -qxF "$version" || continue
            for binary in "linux-binary-$release" "linux-binary-unsigned-$release"; do
                version "$binary" | grep -qxF "$version" || continue
                printf "series=%s\nrelease=%s\nversion=%s\nbinary=%s\n" "$0" "$release" "$version" "$binary" \
                    >/kernel/versions
                exit
            done
        done' "$series"
    cat "$out/versions" || {
        echo "the package mirror has no headers, source and binary of one $series kernel in trixie-backports"
        return 1
    }
}

download() {
    # shellcheck disable=SC2016 # expanded in the root
    in_kernel_root bash -euc '
        source /kernel/versions
        mkdir /kernel/packages && cd /kernel/packages
        apt-get -o APT::Sandbox::User=root download "linux-headers-$release=$version" "linux-source-$series=$version" "$binary=$version"
        for package in linux-headers-* linux-binary-*; do dpkg-deb -x "$package" /kernel/unpacked; done'
    find "$out/unpacked" -name "vmlinuz*" -type f -exec cp {} "$out/vmlinuz" \;
}

# Everything the module and the programs need of a kernel, asked before an hour is spent on it.
check_config() {
    local option
    for option in CONFIG_RUST CONFIG_DEBUG_INFO_BTF CONFIG_MODULES CONFIG_BPF_SYSCALL; do
        grep -qx "$option=y" "$headers/.config" || {
            echo "$headers/.config has no $option=y: this kernel cannot run pidlist"
            return 1
        }
    done
}

unpack_source() {
    mkdir "$out/tree"
    dpkg-deb --fsys-tarfile "$out"/packages/linux-source-*.deb | tar -xO "./usr/src/linux-source-$series.tar.xz" |
        xz -dc | tar -x --strip-components=1 -C "$out/tree"
    cp "$headers/.config" "$out/tree/.config"
}

prepare() {
    in_kernel_root make -C /kernel/tree -j"$(nproc)" CC=x86_64-linux-gnu-gcc-14 HOSTCC=x86_64-linux-gnu-gcc-14 \
        KERNELRELEASE="$release" olddefconfig prepare modules_prepare
    cp "$headers/Module.symvers" "$headers/vmlinux" "$out/tree/"
    diff -u "$headers/.config" "$out/tree/.config" || {
        echo "the rebuilt configuration differs from the stock kernel's: modules would not fit"
        return 1
    }
    rm -rf "$out/packages" "$out/unpacked"
}

mkdir -p "$out"
step "$stage" "update the package lists" in_root kernel -- apt-get update
step "$stage" "resolve versions" resolve
release=$(sed -n 's/^release=//p' "$out/versions")
version=$(sed -n 's/^version=//p' "$out/versions")
step "$stage" "download $version" download
headers=$out/unpacked/usr/src/linux-headers-$release
step "$stage" "check for Rust and BTF" check_config
step "$stage" "unpack the source" unpack_source
step "$stage" "rebuild the Rust metadata" prepare
