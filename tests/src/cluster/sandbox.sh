# sandbox.sh PODS: one line a pod: NUMBER NETNS USERS IPV4 IPV6 CGROUP [CGROUP…]. The first cgroup is the sandbox's own, and
# gets a process that holds it. NETNS `-` is the machine's own network; USERS `yes` is a user namespace of the pod's own.
# Every pod has a cable of its own, as the ptp plugin makes it: what it sends passes the machine's rules. What can be done
# for all of them by one program is: to start programs is most of what many pods cost.
hold="setsid sleep infinity"
groups=$(echo "$1" | cut -d' ' -f6-)
mkdir -p $groups
echo "$1" | while read -r number netns users four six pause others; do
    [ "$users" = yes ] && [ "$netns" != - ] || continue
    (echo 0 > "$pause/cgroup.procs"; exec unshare --user --net $hold) < /dev/null > /dev/null 2>&1 &
    # Its namespaces are there once they are not ours.
    until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.005; done
    for map in uid_map gid_map; do echo "0 $((number * 65536)) 65536" > /proc/$!/$map; done
    ip netns attach "$netns" $!
    : > "/run/netns/$netns.user"
    mount --bind /proc/$!/ns/user "/run/netns/$netns.user"
done
echo "$1" | while read -r number netns users four six pause others; do
    [ "$netns" = - ] && continue
    [ "$users" = yes ] || echo "netns add $netns"
    echo "link add v$number type veth peer name eth0 netns $netns
link set v$number up
addr add fe80::1/64 dev v$number nodad
route add $four/32 dev v$number
route add $six/128 dev v$number"
done | ip -batch -
echo "$1" | while read -r number netns users four six pause others; do
    if [ "$netns" = - ]; then
        (echo 0 > "$pause/cgroup.procs"; exec $hold) < /dev/null > /dev/null 2>&1 &
        continue
    fi
    if [ "$users" != yes ]; then
        (echo 0 > "$pause/cgroup.procs"; exec nsenter --net="/run/netns/$netns" $hold) < /dev/null > /dev/null 2>&1 &
    fi
    ip -n "$netns" -batch - <<A
link set lo up
addr add $four/32 dev eth0
addr add $six/128 dev eth0 nodad
link set eth0 up
route add 10.77.0.1/32 dev eth0
route add default via 10.77.0.1 dev eth0
route add ::/0 via fe80::1 dev eth0
A
done
