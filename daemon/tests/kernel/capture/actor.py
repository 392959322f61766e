# Plays the programs of many pods, one after the other: it goes into a pod's control group and network namespace before
# it makes a socket, and a socket stays where it was made. One command a line, one answer a line.
import ctypes, os, socket, struct, sys, threading

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def enter(group, namespace):
    with open(group + "/cgroup.procs", "w") as procs:
        procs.write("0")
    with open("/run/netns/" + namespace) as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


kept = {}


def serve(listener, name):
    while True:
        try:
            stream, peer = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(stream, peer, name), daemon=True).start()


def answer(stream, peer, name):
    with stream:
        while True:
            try:
                request = stream.recv(65536)
            except OSError:
                request = b""
            if not request:
                return
            body = ("%s %s" % (name, peer[0])).encode()
            stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


def listen(name, address, port):
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, int(port)))
    listener.listen(64)
    kept[name] = listener
    threading.Thread(target=serve, args=(listener, name), daemon=True).start()
    return "listens"


def close(name):
    # Wakes the thread in accept(), which holds the socket.
    kept[name].shutdown(socket.SHUT_RDWR)
    kept.pop(name).close()
    return "closed"


def ask(stream, path):
    stream.sendall(("GET %s HTTP/1.1\r\nhost: pod\r\n\r\n" % path).encode())
    head, _, body = stream.recv(65536).partition(b"\r\n\r\n")
    return body.decode() if head else "nothing"


def get(address, port, path):
    with socket.create_connection((address, int(port)), timeout=10) as stream:
        return ask(stream, path)


def open_connection(name, address, port):
    kept[name] = socket.create_connection((address, int(port)), timeout=10)
    return ask(kept[name], "/opened")


spinning = threading.Event()


def spin():
    spinning.set()

    def go_on():
        while spinning.is_set():
            pass

    threading.Thread(target=go_on, daemon=True).start()
    return "spins"


def datagram(how, address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if how == "sendto":
            sock.sendto(b"x", (address, int(port)))
            sock.sendto(b"x", (address, int(port)))
        else:
            sock.connect((address, int(port)))
        if how == "send":
            sock.send(b"x")
            sock.send(b"x")
    return "sent"


commands = {
    "enter": lambda group, namespace: enter(group, namespace) or "entered",
    "listen": listen,
    "close": close,
    "get": get,
    "open": open_connection,
    "again": lambda name: ask(kept[name], "/again"),
    "hang_up": lambda name: kept.pop(name).close() or "hung up",
    "datagram": datagram,
    "spin": spin,
    "rest": lambda: spinning.clear() or "rests",
}
print("ready", flush=True)
for line in sys.stdin:
    command, *arguments = line.split()
    try:
        print(commands[command](*arguments), flush=True)
    except Exception as error:
        print("error", error.__class__.__name__, flush=True)
