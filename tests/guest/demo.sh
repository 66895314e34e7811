#!/bin/sh
# What pidlist is for, in a minute: `make run` shows this. It fails unless every process was seen.
#   demo.sh [COUNT]
count=${1:-2000}
tests=$(dirname "$0")
dir=$(mktemp -d)
failed=0

title() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

title "This machine"
pidlist doctor || failed=1

# A shell that waits, then starts its processes from two children.
mkfifo "$dir/go"
sh -c "read -r _ <$dir/go
    $tests/workload.sh $((count / 2)) >$dir/started.1 & $tests/workload.sh $((count - count / 2)) >$dir/started.2 &
    wait" &
shell=$!
pidlist clear && pidlist follow on >/dev/null && pidlist add "$shell" || failed=1

# Two views of the same processes, from before the first one starts to the end of the shell.
pidlist ps --exited --under "$shell" --until-exit "$shell" >"$dir/all" &
all=$!
pidlist ps --exited --max-age 10ms --under "$shell" --until-exit "$shell" >"$dir/short" &
short=$!
sleep 2
echo >"$dir/go"
sleep 1
title "The tracked tree, in the middle of it: $(pidlist list | wc -l) members"
pidlist tree --tracked || failed=1
wait "$shell"
wait "$all" || failed=1
wait "$short" || failed=1

title "Processes that lived under 10 ms: the last 12 of $(grep -c task- "$dir/short")"
head -n 1 "$dir/short"
grep task- "$dir/short" | tail -n 12
tail -n 1 "$dir/short"

started=$(($(cat "$dir/started.1") + $(cat "$dir/started.2")))
seen=$(grep -c task- "$dir/all")
title "Started by the workload: $started   seen by pidlist, with arguments and exit code: $seen   lost: $((started - seen))"
[ "$started" = "$count" ] && [ "$seen" = "$started" ] || failed=1

title "The PID set"
pidlist stats || failed=1
[ -z "$(pidlist list)" ] || {
    echo "members are left: $(pidlist list)"
    failed=1
}

title "The largest slab caches"
pidlist slabs --top 8 || failed=1

title "The audit"
pidlist audit || failed=1

rm -r "$dir"
exit $failed
