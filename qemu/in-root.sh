#!/usr/bin/env bash
# Runs a command in a build root, with the checkout at its own path:
#   in-root.sh kernel|bpf|<directory> [-u uid:gid] [-b host-path:path]… -- command…
# All mounts live in a private namespace, so that no way to die leaves one behind.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"
become_root "$0" "$@"

if [[ ${1-} != --inside ]]; then
    contained "$0" --inside "$PWD" "$@"
    exit
fi
# A process with pid 1 ignores signals it has no handler for.
trap 'exit 130' INT TERM
pwd=$2 root=$3
shift 3
[[ $root == kernel || $root == bpf ]] && root=$cache/$root-root
[[ -d $root ]] || die "no build root at $root" "make one: $qemu/setup.sh"

user=0:0
binds=("$checkout:$checkout" "$cache/cargo:/cargo")
while [[ $1 != -- ]]; do
    case $1 in
        -u) user=$2 ;;
        -b) binds+=("$2") ;;
        *) die "in-root.sh: unknown option $1" ;;
    esac
    shift 2
done
shift

mkdir -p "$cache/cargo"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for bind in "${binds[@]}"; do
    mkdir -p "$root${bind#*:}"
    mount --bind "${bind%%:*}" "$root${bind#*:}"
done
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
    [[ -e $file ]] || continue
    mkdir -p "$root$(dirname "$file")"
    [[ -e $root$file ]] || : >"$root$file"
    mount --bind "$(readlink -f "$file")" "$root$file"
done
# The host's cargo may be told to use a mirror or a proxy.
host_cargo=${CARGO_HOME:-${HOME:-/root}/.cargo}
for file in config.toml config; do
    [[ ! -e $host_cargo/$file ]] || cp "$host_cargo/$file" "$cache/cargo/config.toml"
done
[[ $user == 0:0 ]] || chown "$user" "$cache/cargo"

[[ -d $root$pwd ]] || pwd=/
environment=(PATH=/usr/local/bin:/usr/lib/llvm-22/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8
    DEBIAN_FRONTEND=noninteractive CARGO_HOME=/cargo SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
    TERM="${TERM:-dumb}")
# Where bpf-linker's build looks for its LLVM. A kernel's build would take its clang from there, too.
[[ ! -d $root/usr/lib/llvm-22 ]] || environment+=(LLVM_PREFIX=/usr/lib/llvm-22)
while read -r name; do environment+=("$name=${!name}"); done < <(compgen -e | grep -E "$kept_variables")
# shellcheck disable=SC2016 # expanded in the root
chroot --userspec="$user" "$root" env -i "${environment[@]}" sh -c 'cd "$0" && exec "$@"' "$pwd" "$@"
