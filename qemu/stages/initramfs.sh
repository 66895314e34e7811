#!/usr/bin/env bash
# What every guest starts from: busybox with its applets, and the directories init mounts on.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/../lib.sh"
out=$1

assemble() {
    local applet
    mkdir -p "$out"/{bin,dev,etc,proc,root,run,sys,tmp,usr/bin}
    # The list names busybox itself: the copy has to come after the links.
    for applet in $(in_root kernel -- busybox --list); do ln -s busybox "$out/bin/$applet"; done
    cp --remove-destination "$cache/kernel-root/usr/bin/busybox" "$out/bin/busybox"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n' >"$out/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$out/etc/group"
}

step initramfs "assemble the base" assemble
