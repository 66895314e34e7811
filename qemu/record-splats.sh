#!/usr/bin/env bash
# Records vm/fixtures/<class>.log on the real kernel, for the classes qemu/splat can provoke there:
#   record-splats.sh [class…]
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

classes=("$@")
[[ $# -gt 0 ]] || mapfile -t classes < <(sed -n 's/^\t{ "\([a-z-]*\)", .*/\1/p' "$qemu/splat/splat.c")
module=$("$qemu/build-module.sh" "$qemu/splat")
for class in "${classes[@]}"; do
    options="kfence.sample_interval=1 slab_debug=FZP"
    # A soft lockup is an RCU stall too, and that is reported earlier.
    [[ $class != soft-lockup ]] || options+=" rcupdate.rcu_cpu_stall_suppress=1"
    status=0
    GUEST_MODULE="" "$qemu/guest.sh" record --append "$options" --file "$module:/splat.ko" -- \
        sh -c "echo recording >/dev/kmsg; insmod /splat.ko kind=$class" >/dev/null || status=$?
    [[ $status -ne 2 ]] || exit 2
    [[ $status -ne 0 ]] || die "$class: the guest saw nothing wrong" "see $checkout/target/vm/record"
    # From the marker on: what a boot prints is in clean-boot.log.
    sed '1,/recording$/d' "$checkout/target/vm/record/console.log" >"$qemu/vm/fixtures/$class.log"
    printf '%s: %s lines\n' "$class" "$(wc -l <"$qemu/vm/fixtures/$class.log")"
done
