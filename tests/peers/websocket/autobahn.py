"""Drives every case against a server that echoes, and prints a JSON line of each: the verdict, and the messages that a
reader along must have seen.

    autobahn.py HOST PORT [SOCKS5-PORT]   the last: the port of a SOCKS 5 proxy on the same host to go through
"""

import json
import socket
import sys

import cases
import wire
from wire import CLOSE, CONTINUATION, TEXT, frame


def connector(host, port, proxy):
    def connect():
        if not proxy:
            return socket.create_connection((host, port), 20)
        tcp = socket.create_connection((host, proxy), 20)
        tcp.sendall(b"\x05\x01\x00")
        assert tcp.recv(2, socket.MSG_WAITALL) == b"\x05\x00"
        tcp.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(host) + port.to_bytes(2, "big"))
        assert tcp.recv(10, socket.MSG_WAITALL)[1] == 0
        return tcp

    return connect


def pack(ws, content, size):
    packed = ws.compression.pack(content)
    parts = [packed[at : at + size] for at in range(0, len(packed), size)] if size else [packed]
    last = len(parts) - 1
    for at, part in enumerate(parts):
        ws.send(frame(CONTINUATION if at else TEXT, part, fin=at == last, rsv=0 if at else 4))


def drive(ws, steps):
    """Returns what the server did: what it must, or a sentence."""
    said = []
    for step in steps[:-1]:
        match step:
            case ("send", data, chop):
                ws.send(data, chop)
            case ("say", kind, content):
                said.append(["client", kind, wire.digest(content)])
            case ("pack", content, size):
                pack(ws, content, size)
                said.append(["client", "text", wire.digest(content)])
            case ("await", count):
                ws.until(lambda: ws.answers() >= count)
            case ("pongs", count):
                ws.until(lambda: sum(1 for _, kind, _ in ws.messages if kind == "pong") >= count)
    if steps[-1] == "echo":
        ws.send(frame(CLOSE, b"\x03\xe8"))
        said.append(["client", "close", wire.digest(b"\x03\xe8")])
    ws.until(lambda: False)
    ws.tcp.close()
    return said


def judged(end, ws, said):
    """Whether the server did what the RFCs say."""
    of = lambda messages: [tuple(map(str, message[1:])) for message in messages if message[1] in ("text", "binary")]
    closes = [bytes.fromhex(raw)[2:] for raw in ws.control if raw[:2] == "88"]
    codes = [int.from_bytes(payload[:2], "big") for payload in closes]
    echoed = of(ws.messages) == of(said)
    if end == "fail":
        return echoed and (not codes or codes[0] in (1002, 1007))
    return echoed and len(codes) == 1 and ws.ended


def main(host, port, proxy=0):
    connect = connector(host, int(port), int(proxy))
    for name, offer, steps in cases.all_cases():
        ws = wire.Socket(connect, f"/case/{name}", offer)
        said = drive(ws, steps)
        print(
            json.dumps({
                "case": name,
                "end": steps[-1],
                "right": judged(steps[-1], ws, said),
                "verdict": ws.verdict(),
                "messages": {"client": said, "server": ws.messages},
            }),
            flush=True,
        )


main(*sys.argv[1:])
