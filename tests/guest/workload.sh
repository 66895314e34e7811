#!/bin/sh
# A tracked family: joins the PID set, then two children start half of COUNT short-lived processes
# each, with different arguments and exit codes, and write how many to DIR: workload.sh COUNT DIR
count=$1 dir=$2

storm() {
    started=0
    while [ "$started" -lt "$1" ]; do
        /bin/sh -c "exit $((started % 4))" "task-$started"
        started=$((started + 1))
    done
    echo "$started"
}

echo $$ >/dev/pidlist
storm $((count / 2)) >"$dir/started.1" &
storm $((count - count / 2)) >"$dir/started.2" &
wait
