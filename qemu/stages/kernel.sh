#!/usr/bin/env bash
# One kernel: its vmlinuz, and its source tree with what modules in Rust need.
# A Debian kernel is taken as it is, and the metadata is made that its headers package lacks. The debug kernel is
# built, from the same source.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/../lib.sh"
out=$1
stage=kernel-$kernel

in_kernel_root() { in_root kernel -b "$out:/kernel" -- "$@"; }

# Headers, source and binary must be of one version; backports moves, so look for the newest such set.
resolve() {
    # shellcheck disable=SC2016 # expanded in the root
    in_kernel_root bash -euc '
        version() { apt-cache madison "$1" | awk "{ print \$3 }"; }
        apt-cache pkgnames "linux-headers-$0." | sed -n "s/^linux-headers-\([^-]*$1-amd64\)\$/\1/p" |
        sort -rV | while read -r release; do
            version=$(version "linux-headers-$release" | head -n 1)
            version "linux-source-$0" | grep -qxF "$version" || continue
            for binary in "linux-binary-$release" "linux-binary-unsigned-$release"; do
                version "$binary" | grep -qxF "$version" || continue
                printf "series=%s\nrelease=%s\nversion=%s\nbinary=%s\n" "$0" "$release" "$version" "$binary" \
                    >/kernel/versions
                exit
            done
        done' "$series" "${flavour#-debug}"
    [[ -e $out/versions ]] || {
        echo "the package mirror has no headers, source and binary of one $kernel kernel in trixie-backports"
        return 1
    }
    if [[ $flavour == -debug ]]; then
        version=$(sed -n 's/^version=//p' "$out/versions")
        printf 'series=%s\nrelease=%s\nversion=%s\n' "$series" "${version%%-*}$flavour" "$version" >"$out/versions"
    fi
    cat "$out/versions"
}

download() {
    # shellcheck disable=SC2016 # expanded in the root
    in_kernel_root bash -euc '
        source /kernel/versions
        mkdir /kernel/packages && cd /kernel/packages
        apt-get -o APT::Sandbox::User=root download "linux-source-$series=$version" \
            ${binary:+"linux-headers-$release=$version" "$binary=$version"}
        for package in linux-headers-* linux-binary-*; do
            [[ ! -e $package ]] || dpkg-deb -x "$package" /kernel/unpacked
        done'
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
}

kernel_make() {
    in_kernel_root make -C /kernel/tree -j"$(nproc)" "${toolchain[@]}" KERNELRELEASE="$release" "$@"
}

prepare() {
    find "$out/unpacked" -name "vmlinuz*" -type f -exec cp {} "$out/vmlinuz" \;
    cp "$headers/.config" "$out/tree/.config"
    kernel_make olddefconfig prepare modules_prepare
    cp "$headers/Module.symvers" "$headers/vmlinux" "$out/tree/"
    diff -u "$headers/.config" "$out/tree/.config" || {
        echo "the rebuilt configuration differs from the stock kernel's: modules would not fit"
        return 1
    }
}

# No option is missed in silence: one whose conditions are not met is left out without a word.
configure() {
    local wanted=$qemu/kernel/debug.config missing
    cp "$wanted" "$out/tree/"
    kernel_make KCONFIG_ALLCONFIG=/kernel/tree/debug.config allnoconfig
    missing=$(grep -E '^(CONFIG_|# CONFIG_.* is not set$)' "$wanted" | grep -vxFf "$out/tree/.config") || true
    [[ -z $missing ]] || {
        printf 'the configuration of %s lacks what %s wants:\n%s\n' "$release" "$wanted" "$missing"
        return 1
    }
}

compile() {
    kernel_make bzImage modules
    cp "$out/tree/arch/x86/boot/bzImage" "$out/vmlinuz"
}

# Modules need headers, the Rust crates' metadata, types and tools: a tenth of what a build leaves behind.
trim() {
    find "$out/tree" \( -path "$out/tree/tools" -o -path "$out/tree/scripts" \) -prune -o \
        -type f \( -name '*.o' -o -name '*.a' -o -name '.*.cmd' \) -exec rm {} +
    rm -f "$out"/tree/vmlinux.unstripped "$out"/tree/arch/x86/boot/compressed/vmlinux*
}

mkdir -p "$out"
step "$stage" "update the package lists" in_root kernel -- apt-get update
step "$stage" "resolve versions" resolve
release=$(sed -n 's/^release=//p' "$out/versions")
version=$(sed -n 's/^version=//p' "$out/versions")
step "$stage" "download $version" download
headers=$out/unpacked/usr/src/linux-headers-$release
if [[ $flavour == -debug ]]; then
    step "$stage" "unpack the source" unpack_source
    step "$stage" "configure" configure
    step "$stage" "build the kernel" compile
    step "$stage" "remove what modules do not need" trim
else
    step "$stage" "check for Rust and BTF" check_config
    step "$stage" "unpack the source" unpack_source
    step "$stage" "rebuild the Rust metadata" prepare
fi
rm -rf "$out/packages" "$out/unpacked"
