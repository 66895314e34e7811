#!/usr/bin/env bash
# Records vm/fixtures/<class>.log on a real kernel, for the classes that can be provoked there:
#   [KERNEL=7.2-debug] record-splats.sh [class…]
# and clean-boot-<kernel>.log, which says none of it.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

# Kinds of qemu/splat/splat.c: a line of the table divides it into what any kernel sees and the rest.
kinds() { sed -n "$1"'s/^\t{ "\([a-z-]*\)", .*/\1/p' "$qemu/splat/splat.c"; }

classes=("$@")
if [[ $# -eq 0 && $flavour == -debug ]]; then
    mapfile -t classes < <(kinds '/debug kernel/,$')
    classes+=(checker-off clean-fault-injection)
elif [[ $# -eq 0 ]]; then
    mapfile -t classes < <(kinds '1,/debug kernel/')
    classes+=(module-btf)
fi
[[ $# -gt 0 ]] || classes+=("clean-boot-$kernel")

module=$("$qemu/build-module.sh" "$qemu/splat")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for class in "${classes[@]}"; do
    options="kfence.sample_interval=1 slab_debug=FZP workqueue.watchdog_thresh=10"
    # A soft lockup is an RCU stall too, and that is reported earlier.
    [[ $class != soft-lockup ]] || options+=" rcupdate.rcu_cpu_stall_suppress=1"
    file=$module command="insmod /splat.ko kind=$class"
    case $class in
        checker-off) command="echo off >/sys/kernel/debug/kmemleak" ;;
        module-btf)
            file=$scratch/splat.ko
            echo "no types" >"$scratch/btf"
            objcopy --update-section .BTF="$scratch/btf" "$module" "$file"
            ;;
        clean-fault-injection)
            command='cd /sys/kernel/debug/failslab
                echo 100 >probability; echo N >ignore-gfp-wait; echo Y >task-filter; echo 3 >times
                sh -c "echo 1 >/proc/self/make-it-fail; : | :"; true'
            ;;
        clean-boot-*) command=true options='' ;;
    esac
    status=0
    GUEST_MODULE="" "$qemu/guest.sh" record --append "$options" --file "$file:/splat.ko" -- \
        sh -c "echo recording >/dev/kmsg; $command" >/dev/null || status=$?
    [[ $status -ne 2 ]] || exit 2
    expected=1
    [[ $class != clean-* ]] || expected=0
    [[ $status -eq $expected ]] || die "$class: the guest ended with $status, not $expected" "see $checkout/target/vm/record"
    # From the marker on, but for what a boot prints.
    console=$checkout/target/vm/record/console.log
    marked=$(sed -n '/recording$/=' "$console")
    [[ -n $marked ]] || die "$class: the guest did not come as far as its command" "see $console"
    [[ $class != clean-boot-* ]] || marked=0
    tail -n +$((marked + 1)) "$console" >"$qemu/vm/fixtures/$class.log"
    printf '%s: %s lines\n' "$class" "$(wc -l <"$qemu/vm/fixtures/$class.log")"
done
