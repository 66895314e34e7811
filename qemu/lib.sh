# shellcheck shell=bash disable=SC2034 # used by those who source this
# What the scripts of this directory share: places, errors, progress, entering a build root.

qemu=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$qemu")
cache=${PIDLIST_CACHE:-${HOME:-/root}/.cache/pidlist}
kernel=${KERNEL:-7.2}
known_kernels=(7.2 7.3 7.2-rt 7.2-debug)
series=${kernel%%-*} flavour=${kernel#"${kernel%%-*}"}
logs=$cache/logs
kernel_dir=$cache/kernel-$kernel
export PIDLIST_CACHE=$cache KERNEL=$kernel
# What a kernel and its modules are built with: Debian's gcc, or clang where KASAN has to know Rust.
toolchain=(CC=x86_64-linux-gnu-gcc-14 HOSTCC=x86_64-linux-gnu-gcc-14)
[[ $flavour != -debug ]] || toolchain=(LLVM=1)

# die <what failed> [what to do next]…
die() {
    printf 'pidlist: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '         %s\n' "$hint" >&2; done
    exit 2
}

check_kernel() {
    local known
    for known in "${known_kernels[@]}"; do [[ $kernel == "$known" ]] && return; done
    die "unknown KERNEL=$kernel" "known kernels: ${known_kernels[*]}, e.g. KERNEL=${known_kernels[0]} make test"
}

# Runs the calling script again as root, keeping what the scripts read from the environment.
become_root() {
    [[ $EUID -eq 0 ]] && return
    command -v sudo >/dev/null || die "building roots needs root, and there is no sudo" \
        "run this as root, or install sudo"
    sudo -v || die "building roots needs root, and sudo refused" "run this as root"
    local keep
    keep=$(compgen -e | grep -E "$kept_variables|^HOME$" | paste -sd,)
    exec sudo --preserve-env="$keep" "$@"
}

# Variables that builds inside a root still need.
kept_variables='^(PIDLIST_CACHE|KERNEL|RUSTFLAGS|RUSTC_BOOTSTRAP|CARGO_ENCODED_RUSTFLAGS|CARGO_TARGET_DIR|CARGO_TERM_COLOR|CARGO_BUILD_JOBS|CARGO_(NET|HTTP|SOURCE|REGISTR)[A-Z_]*|(https?|ftp|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY)$'

# Runs a command in a mount and pid namespace of its own: a kill takes every child and mount along.
contained() {
    setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child \
        --mount-proc -- "$@"
}

# step <stage> <what> <command>…: one line of progress, the output into the stage's log.
step() {
    local stage=$1 what=$2 log=$logs/$1.log start=$SECONDS status
    shift 2
    printf '%s: %s' "$stage" "$what" >"$logs/$stage.now"
    printf '== %s (%s)\n' "$what" "$(date +%T)" >>"$log"
    [[ -t 1 ]] || printf '   %s: %s … (log: %s)\n' "$stage" "$what" "$log"
    # Not `|| status=$?`, which would switch errexit off inside a function that is run here.
    set +e
    (set -e && "$@") >>"$log" 2>&1 </dev/null
    status=$?
    set -e
    rm -f "$logs/$stage.now"
    [[ $status -eq 0 ]] || step_failed "$stage" "$what" "$log" "$status"
    printf '\r\033[K' >&"$live"
    printf ' ✓ %-16s %-36s %4d s\n' "$stage" "$what" $((SECONDS - start))
}

step_failed() {
    local stage=$1 what=$2 log=$3 status=$4 hint
    printf '\r\033[K' >&"$live"
    {
        printf -- '--- the end of %s\n' "$log"
        tail -n 25 "$log" | sed 's/^/    /'
        printf -- '---\n'
    } >&2
    hint="read the log, then run the same command again: finished stages are kept"
    # Not every tool says why its write failed.
    if tail -n 200 "$log" | grep -q 'No space left on device' ||
        (($(df --output=avail -m "$cache" | tail -n 1) < 20)); then
        hint="the disk is full: free some space under $cache, then run the same command again"
    elif tail -n 200 "$log" | grep -qE 'Could not resolve|Temporary failure|Failed to fetch|Unable to connect|Could not connect|Cannot initiate|invalid Release file|network failure|Failed getting release|Couldn.t download'; then
        hint="a download failed: check the network, proxy and apt mirror, then run the same command again"
    fi
    die "$stage: $what failed (exit $status)" "$hint"
}

# Removes a tree, never what something mounted below it leads to.
remove_tree() {
    local mount
    [[ -e $1 ]] || return 0
    while read -r mount; do umount --lazy "$mount"; done \
        < <(awk -v dir="$1/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
    rm -rf --one-file-system "$1"
}

# in_root <root> [-u uid:gid] [-b host-path:path]… -- <command>…
in_root() { "$qemu/in-root.sh" "$@"; }

exec {live}>/dev/null
if [[ -t 1 ]]; then exec {live}>&1; fi
