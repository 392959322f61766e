# A long way between two network namespaces, and who speaks over it.
#   far.py wire NAMESPACE ADDRESS NAMESPACE ADDRESS MILLISECONDS: a device of that address in each, and what goes into one
#     comes out of the other so much later. Each line of input is answered with the most bytes that were on their way to the
#     second at a time, since the last line.
#   far.py serve ADDRESS BYTES: sends so many to whoever connects.
#   far.py fetch ADDRESS PORT: how many it gets.
#   far.py sip ADDRESS PORT BYTES: the same, but after so many it waits for a line of input.
import collections, ctypes, fcntl, os, select, socket, stat, struct, subprocess, sys, tempfile, time

CLONE_NEWNET, TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x40000000, 0x400454CA, 0x1, 0x1000
# Of an Ethernet with jumbo frames: fewer packets for this program.
MTU = 9000


def tun():
    try:
        return os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except FileNotFoundError:
        # Not every machine shows it: a node of our own.
        with tempfile.TemporaryDirectory() as folder:
            os.mknod(folder + "/tun", stat.S_IFCHR | 0o600, os.makedev(10, 200))
            return os.open(folder + "/tun", os.O_RDWR | os.O_NONBLOCK)


def device(namespace, address):
    with open("/run/netns/" + namespace) as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    made = tun()
    fcntl.ioctl(made, TUNSETIFF, struct.pack("16sH22x", b"far0", IFF_TUN | IFF_NO_PI))
    for words in (["addr", "add", address, "dev", "far0"], ["link", "set", "far0", "mtu", str(MTU), "txqueuelen", "20000", "up"]):
        subprocess.run(["ip", *words], check=True)
    return made


def wire(first, first_address, second, second_address, milliseconds):
    delay = float(milliseconds) / 1000
    ends = [device(first, first_address), device(second, second_address)]
    ways = [collections.deque(), collections.deque()]
    on_their_way = most = 0
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        due = min((way[0][0] for way in ways if way), default=now + 1)
        ready, _, _ = select.select([*ends, 0], [], [], max(due - now, 0))
        if 0 in ready:
            if not os.read(0, 64):
                return
            print(most, flush=True)
            most = on_their_way
        for number, end in enumerate(ends):
            for _ in range(64 if end in ready else 0):
                try:
                    packet = os.read(end, 65536)
                except BlockingIOError:
                    break
                ways[number].append((time.monotonic() + delay, packet))
                if number == 0:
                    on_their_way += len(packet)
                    most = max(most, on_their_way)
        now = time.monotonic()
        for number, way in enumerate(ways):
            while way and way[0][0] <= now:
                packet = way.popleft()[1]
                on_their_way -= len(packet) if number == 0 else 0
                try:
                    os.write(ends[1 - number], packet)
                except OSError:
                    # Lost, as on any long way.
                    pass


def serve(address, count):
    listener = socket.create_server((address, 0))
    print("port", listener.getsockname()[1], flush=True)
    while True:
        stream, _ = listener.accept()
        with stream:
            try:
                stream.sendall(bytes(int(count)))
            except OSError:
                pass


def fetch(address, port):
    sip(address, port, None)


def sip(address, port, first):
    with socket.create_connection((address, int(port))) as stream:
        count = len(stream.recv(int(first), socket.MSG_WAITALL)) if first else 0
        if first:
            print("waits", flush=True)
            sys.stdin.readline()
        while piece := stream.recv(1 << 20):
            count += len(piece)
    print(count)


{"wire": wire, "serve": serve, "fetch": fetch, "sip": sip}[sys.argv[1]](*sys.argv[2:])
