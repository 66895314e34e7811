#!/usr/bin/env bash
# Makes the build roots, the guest kernel and the initramfs base, once, in one cache:
#   setup.sh [stage…]      stages: base kernel-root kernel bpf-root initramfs (default: all)
#   KERNEL=<kernel>        7.2, 7.3, 7.2-rt (real-time), 7.2-debug (built here: KASAN, lockdep, kmemleak and more)
#   PIDLIST_CACHE=<dir>    the cache, ~/.cache/pidlist unless set
# A stage is built as <stage>.partial and renamed when it is whole: an interrupted set-up resumes.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

# What each stage takes at its peak.
declare -A needed_mib=([base]=500 [kernel-root]=2300 [kernel]=4000 [bpf-root]=3000 [initramfs]=50)
tools=(debootstrap:debootstrap qemu-system-x86_64:qemu-system-x86 xz:xz-utils rsync:rsync jq:jq cc:gcc make:make
    shellcheck:shellcheck)

dir_of() { if [[ $1 == kernel ]]; then echo "$kernel_dir"; else echo "$cache/$1"; fi; }
# A debug kernel of another configuration is none.
is_done() {
    [[ -d $(dir_of "$1") ]] || return 1
    [[ $1 != kernel || $flavour != -debug ]] || cmp -s "$qemu/kernel/debug.config" "$kernel_dir/tree/debug.config"
}

missing_packages() {
    local tool
    for tool in "${tools[@]}"; do
        command -v "${tool%%:*}" >/dev/null || echo "${tool#*:}"
    done
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || echo ca-certificates
    [[ -e /usr/include/stdlib.h ]] || echo libc6-dev
    # Only bootstrapping needs trixie's key, whose file has had more than one name.
    is_done base || compgen -G '/usr/share/keyrings/debian-archive-trixie-*' >/dev/null ||
        echo debian-archive-keyring
}

check_machine() {
    local parent=$cache free needed=200 stage
    [[ $(uname -m) == x86_64 ]] || die "unknown architecture $(uname -m)" \
        "pidlist's guests are x86_64 only so far; on a real machine use: make module KDIR=…"
    command -v apt-get >/dev/null || die "no apt-get here" "the build roots need a Debian 12 or 13 machine"
    until [[ -d $parent ]]; do parent=$(dirname "$parent"); done
    free=$(df --output=avail -m "$parent" | tail -n 1)
    for stage in "${wanted[@]}"; do is_done "$stage" || ((needed += needed_mib[$stage])); done
    ((free >= needed)) || die "only $((free)) MiB free on the disk of $cache, set-up needs $needed" \
        "free some space, or name another place: PIDLIST_CACHE=<dir>"
}

# shellcheck disable=SC2317 # called through step
install_tools() {
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# run_stage <stage>: nothing when it is there already.
run_stage() {
    local dir
    dir=$(dir_of "$1")
    is_done "$1" && return
    remove_tree "$dir.partial"
    : >"$logs/$(basename "$dir").log"
    mkdir "$dir.partial"
    if ! "$qemu/stages/$1.sh" "$dir.partial"; then
        remove_tree "$dir.partial"
        return 2
    fi
    remove_tree "$dir"
    mv "$dir.partial" "$dir"
}

run_stages() {
    local stage
    for stage in "$@"; do
        [[ " ${wanted[*]} " != *" $stage "* ]] || run_stage "$stage" || return 2
    done
}

# A line that lives while the stages run, for people at a terminal.
show_progress() {
    local start=$SECONDS now
    while sleep 0.5; do
        now=$(cat "$logs"/*.now 2>/dev/null | paste -sd'·' || true)
        printf '\r\033[K   %d:%02d %s' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) "${now//·/ · }"
    done
}

check_kernel
wanted=("$@")
[[ $# -gt 0 && $1 != --contained ]] || wanted=(base kernel-root kernel bpf-root initramfs)
[[ ${1-} != --contained ]] || wanted=("${@:2}")
for stage in "${wanted[@]}"; do
    [[ -x $qemu/stages/$stage.sh ]] || die "unknown stage $stage" "stages: base kernel-root kernel bpf-root initramfs"
done
mapfile -t packages < <(missing_packages)
to_do=("${packages[@]}")
for stage in "${wanted[@]}"; do is_done "$stage" || to_do+=("$stage"); done
[[ ${#to_do[@]} -gt 0 ]] || exit 0

if [[ ${1-} != --contained ]]; then
    check_machine
    become_root "$0" "$@"
    contained "$0" --contained "${wanted[@]}"
    exit
fi

# Pid 1 of the namespace: without a handler Ctrl-C would be ignored.
trap 'exit 130' INT TERM
mkdir -p "$logs" || die "cannot make the cache $cache" "name another place: PIDLIST_CACHE=<dir>"
exec {lock}>"$cache/lock"
flock --nonblock "$lock" || {
    echo "   another set-up is at work in $cache, waiting for it"
    flock "$lock"
}
rm -f "$logs"/*.now
if [[ -t 1 ]]; then
    show_progress &
    progress=$!
fi
[[ ${#packages[@]} -eq 0 ]] || step host "install ${packages[*]}" install_tools "${packages[@]}"
# The two roots share nothing but the base, and each leaves a core idle at times.
run_stages base || exit 2
run_stages bpf-root &
bpf=$!
status=0
run_stages kernel-root kernel initramfs || status=2
wait "$bpf" || status=2
if [[ -t 1 ]]; then
    kill "$progress"
    printf '\r\033[K'
fi
exit "$status"
