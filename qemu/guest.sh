#!/usr/bin/env bash
# Boots the guest with the module loaded and pidlist on its PATH, and runs a command in it:
#   guest.sh <name> [pidlist-vm options] -- command…
# <name> is the run's: its logs go to target/vm/<name>. Everything missing or out of date is built first.
#   GUEST_MODULE=<file.ko>   load this instead of building rust_pidlist.ko ("" loads none)
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

check_kernel
name=${1:?usage: guest.sh <name> [options] -- command…}
shift
"$qemu/setup.sh"
cd "$checkout"
logs=target/vm/$name
mkdir -p "$logs"

# build <what> <command>…: the last line it prints; where it fails, its log.
build() {
    local what=$1 log=$logs/build.log start=$SECONDS
    shift
    [[ ! -t 2 ]] || printf '   %s … (log: %s)' "$what" "$log" >&2
    if ! "$@" 2>"$log" >"$logs/build.out"; then
        printf '\n' >&2
        tail -n 40 "$log" >&2
        die "$what: failed" "the whole log: $checkout/$log"
    fi
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
    ((SECONDS - start < 3)) || printf ' ✓ %-53s %4d s\n' "$what" $((SECONDS - start)) >&2
    tail -n 1 "$logs/build.out"
}

if [[ -z ${GUEST_MODULE+set} ]]; then
    GUEST_MODULE=$(build "build the module for $kernel" "$qemu/build-module.sh")
fi
build "build the BPF programs" "$qemu/build-bpf.sh" >/dev/null
binaries=$(build "build the userland" "$qemu/build-userland.sh")

files=()
for program in pidlist guest-tests; do
    [[ ! -e $binaries/$program ]] || files+=(--file "$binaries/$program:/usr/bin/$program")
done
[[ -z $GUEST_MODULE ]] || files+=(--file "$GUEST_MODULE:/modules/$(basename "$GUEST_MODULE")")
[[ ! -d tests/guest ]] || files+=(--file "tests/guest:/tests")
# All that a debug kernel checks takes time, and memory of its own.
slow=()
# In five-level page tables KASAN takes an interrupt of early boot for an error: the processor's features are being
# listed anew then, and for an instant there is no such level.
[[ $flavour != -debug ]] || slow=(--patience 5 --memory 2048 --append no5lvl)
exec "$binaries/pidlist-vm" run --kernel "$kernel_dir/vmlinuz" --base "$cache/initramfs" --init "$qemu/guest/init" \
    --cache "$cache" --logs "$logs" "${slow[@]}" "${files[@]}" "$@"
