"""The HTTP server of the clients' matrix: HTTP/1.1 and, on the same port, HTTP/2 without TLS (prior knowledge or
upgrade). It says on its standard output what it has seen, one JSON line for each exchange and each connection: what a
record is held against.

    origin.py [REPOSITORIES]     prints `port N`; a line on its standard input is answered, once nothing is under way,
                                 with `{"mark": true}`; the end of its standard input is its end
"""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import answers
import http2


class Log:
    """What was seen, and whether something is under way."""

    def __init__(self):
        self.lock = threading.Condition()
        self.busy = {"exchange": 0, "connection": 0}

    def begin(self, kind):
        with self.lock:
            self.busy[kind] += 1

    def end(self, kind, line):
        with self.lock:
            self.busy[kind] -= 1
            if line:
                print(json.dumps({"kind": kind, **line}), flush=True)
            self.lock.notify_all()

    def mark(self, kinds):
        with self.lock:
            quiet = self.lock.wait_for(lambda: not any(self.busy[kind] for kind in kinds), timeout=20)
            print(json.dumps({"mark": True, "quiet": quiet}), flush=True)


LOG = Log()


class Wire:
    """A socket that counts and digests what goes over it."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""
        self.received, self.sent = hashlib.sha256(), hashlib.sha256()
        self.protocol = "http/1.1"

    def read(self):
        data = self.sock.recv(65536)
        self.received.update(data)
        self.buffer += data
        return bool(data)

    def line(self):
        while b"\r\n" not in self.buffer:
            if not self.read():
                raise EOFError
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def exactly(self, size):
        while len(self.buffer) < size:
            if not self.read():
                raise EOFError
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def write(self, data):
        self.sent.update(data)
        self.sock.sendall(data)


def read_body(wire, headers):
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int(wire.line().split(b";")[0], 16):
            body += wire.exactly(size)
            wire.line()
        while wire.line():
            pass
        return body
    return wire.exactly(int(headers.get("content-length", 0)))


def http1(wire):
    """One request and its answer; returns whether another one may follow."""
    try:
        first = wire.line()
    except EOFError:
        return False
    LOG.begin("exchange")
    line = None
    try:
        method, target, _ = first.decode("latin-1").split(" ")
        pairs = []
        while field := wire.line():
            name, _, value = field.decode("latin-1").partition(":")
            pairs.append((name, value.strip()))
        headers = {name.lower(): value for name, value in pairs}
        if headers.get("expect") == "100-continue":
            wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = read_body(wire, headers)
        if headers.get("upgrade") == "h2c" and "http2-settings" in headers:
            wire.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            wire.protocol = "h2"
            http2.serve(wire, LOG, REPOSITORIES, (headers["http2-settings"], method, target, pairs, body))
            return False
        # An absolute target is for a proxy: what it should have made of it stands in the record.
        answer = answers.answer(method, target, pairs, body, REPOSITORIES)
        sent = send(wire, method, answer)
        line = answers.seen("http/1.1", method, target, pairs, body, answer, sent)
        return headers.get("connection", "").lower() != "close"
    finally:
        LOG.end("exchange", line)


def send(wire, method, answer):
    """Sends an answer; returns its body."""
    headers = list(answer.headers)
    whole = None
    if answer.length and answer.status != 204:
        whole = b"".join(answer.parts)
        headers.append(("Content-Length", str(len(whole))))
    elif answer.status != 204:
        headers.append(("Transfer-Encoding", "chunked"))
        if answer.trailers:
            headers.append(("Trailer", ", ".join(name for name, _ in answer.trailers)))
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"] + [f"{name}: {value}" for name, value in headers]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if method == "HEAD" or answer.status == 204:
        wire.write(head)
        return b""
    if whole is not None:
        wire.write(head + whole)
        return whole
    wire.write(head)
    body = b""
    for part in answer.parts:
        wire.write(b"%x\r\n%s\r\n" % (len(part), part))
        body += part
    trailers = "".join(f"{name}: {value}\r\n" for name, value in answer.trailers)
    wire.write(b"0\r\n" + trailers.encode() + b"\r\n")
    return body


def connection(sock):
    wire = Wire(sock)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while len(wire.buffer) < len(http2.PREFACE) and http2.PREFACE.startswith(wire.buffer) and wire.read():
            pass
        if wire.buffer.startswith(http2.PREFACE):
            wire.protocol = "h2"
            http2.serve(wire, LOG, REPOSITORIES)
        else:
            while http1(wire):
                pass
    except (EOFError, OSError) as error:
        print("origin:", repr(error), file=sys.stderr, flush=True)
    finally:
        sock.close()
        digests = {"received": wire.received.hexdigest(), "sent": wire.sent.hexdigest()}
        LOG.end("connection", {"protocol": wire.protocol, **digests})


def accept(listener):
    while True:
        sock, _ = listener.accept()
        LOG.begin("connection")
        threading.Thread(target=connection, args=(sock,), daemon=True).start()


REPOSITORIES = sys.argv[1] if len(sys.argv) > 1 else None
listening = socket.create_server(("127.0.0.1", 0), backlog=256)
print("port", listening.getsockname()[1], flush=True)
threading.Thread(target=accept, args=(listening,), daemon=True).start()
for word in sys.stdin:
    LOG.mark(word.split())
