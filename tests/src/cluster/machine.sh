# machine.sh NAME: the first process of a machine of a test's own. It prepares what belongs to a node (mounts, control
# groups, addresses), says `ready`, and waits for the end of its standard input.
set -e
exec 3<&0
mount --make-rprivate /
hostname "$1"
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /run/netns /var/lib/kubelet /var/lib/containerd /var/log/pods
# The same places as before, seen from the root of our own control group namespace.
grep -E ' cgroup2? ' /proc/mounts > /run/cgroup-mounts
while read -r _ place kind options _; do
    options=$(echo "$options" | tr , '\n' | grep -vxE 'rw|ro|nosuid|nodev|noexec|.*atime|clone_children|xattr|nsdelegate|memory_.*|favordynmods|release_agent=.*' | paste -sd, || true)
    umount "$place"
    mount -t "$kind" ${options:+-o "$options"} "$kind" "$place"
    # Control groups v2 give controllers only to groups whose parent holds no process.
    if [ "$kind" = cgroup2 ]; then mkdir -p "$place/init"; echo 0 > "$place/init/cgroup.procs"; fi
done < /run/cgroup-mounts
# As systemd does it, where the kernel has it.
mount -t bpf bpf /sys/fs/bpf
mount --make-rshared /
for switch in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > /proc/sys/net/$switch; done
# The addresses of Services need a route to be looked at, before the rules lead them elsewhere.
ip -batch - <<A
link set lo up
addr add 10.77.0.1/32 dev lo
addr add fd77::1/128 dev lo nodad
route add 10.96.0.0/16 dev lo src 10.77.0.1
route add fd96::/112 dev lo src fd77::1
A
# Who calls one that the rules do not know yet hears of it at once.
for kind in '10.96.0.0/16 iptables' 'fd96::/112 ip6tables'; do
    "${kind#* }-restore" --noflush <<A
*filter
-A OUTPUT -d ${kind% *} -j REJECT
-A FORWARD -d ${kind% *} -j REJECT
COMMIT
A
done
echo ready
# Waiting collects what other programs leave behind, as the first process of a machine must.
cat <&3 > /dev/null &
wait $!
