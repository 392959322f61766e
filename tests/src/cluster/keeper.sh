# keeper.sh FOLDER NAME MACHINE.SH: makes the namespaces and control groups of one machine of a test's own, and waits for its
# standard input to end, which happens at the latest with the process that started it. Then everything that ran there
# ends with the first process of its pid namespace, and what would outlive it is removed here.
trap '' HUP INT QUIT TERM
trees=$(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts)
for tree in $trees; do
    # Where control groups v2 are all there are, a machine's own must be given its controllers.
    for controller in cpuset cpu io memory pids; do
        [ -e "$tree/cgroup.subtree_control" ] && echo "+$controller" > "$tree/cgroup.subtree_control"
    done 2> /dev/null
    mkdir -p "$tree/$2"
    # A group of the v1 cpuset controller takes nobody in before it has processors.
    for file in cpuset.cpus cpuset.mems; do
        [ -e "$tree/tasks" ] && [ -e "$tree/$file" ] && cat "$tree/$file" > "$tree/$2/$file"
    done
done
(
    # What a process is in when it makes a control group namespace is the root of that.
    for tree in $trees; do echo 0 > "$tree/$2/cgroup.procs"; done
    exec unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child --mount-proc sh "$3" "$2"
)
for tree in $trees; do find "$tree/$2" -depth -type d -exec rmdir {} + 2> /dev/null; done
[ -n "$NODETAP_KEEP" ] || rm -rf "$1"
