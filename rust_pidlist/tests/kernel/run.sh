#!/usr/bin/env bash
# Builds the kernel tests, runs them in a guest, and shows what they say:
#   run.sh [parameter=value…]       e.g. operations=10000000; `modinfo` lists the parameters
# On the kernel that KERNEL names, with two processors. PIDLIST_TIMEOUT=<seconds> if half an hour is too short.
set -euo pipefail
cd "$(dirname "$0")/../../.."

# Of the build only what went wrong.
log=target/kernel-tests.log
mkdir -p target
if ! module=$(qemu/build-module.sh rust_pidlist/tests/kernel 2>"$log" | tail -n 1); then
    tail -n 40 "$log" >&2
    exit 2
fi
# shellcheck disable=SC2016 # expanded in the guest
run='insmod /kernel_tests.ko "$@"; status=$?
    dmesg | sed -n "s/^.*pidlist_kernel_tests: //p"
    [ $status -ne 0 ] || rmmod pidlist_kernel_tests || status=1
    exit $status'
GUEST_MODULE="" exec qemu/guest.sh kernel-tests --show --timeout "${PIDLIST_TIMEOUT:-1800}" --idle "${PIDLIST_TIMEOUT:-1800}" \
    --file "$module:/kernel_tests.ko" -- sh -c "$run" kernel-tests "$@"
