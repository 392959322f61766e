"""WebSocket frames as bytes (RFC 6455 §5.2), one connection with its handshake, and compression (RFC 7692): what a case is
driven with. It allows everything that the RFC forbids: that is what cases are made of.
"""

import hashlib
import socket
import zlib

# Of all frames that we send: bytes are the same from time to time.
MASK = b"\x37\xfa\x21\x3d"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}


def frame(opcode, payload=b"", fin=True, rsv=0):
    """One frame of a client."""
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    mask = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return head + MASK + (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")


def digest(content):
    return [len(content), hashlib.sha256(content).hexdigest()]


class Compression:
    """permessage-deflate as the server has agreed to it; None in either place: not agreed."""

    def __init__(self, answer):
        names = dict((part.strip().split("=") + [""])[:2] for part in answer.split(";")[1:])
        self.forgets = {side: f"{side}_no_context_takeover" in names for side in ["client", "server"]}
        self.bits = {side: int(names.get(f"{side}_max_window_bits") or 15) for side in ["client", "server"]}
        self.packer = self.unpacker = None

    def pack(self, content):
        if self.packer is None or self.forgets["client"]:
            self.packer = zlib.compressobj(wbits=-self.bits["client"])
        packed = self.packer.compress(content) + self.packer.flush(zlib.Z_SYNC_FLUSH)
        return packed[:-4]

    def unpack(self, content):
        if self.unpacker is None or self.forgets["server"]:
            self.unpacker = zlib.decompressobj(wbits=-self.bits["server"])
        return self.unpacker.decompress(content + b"\x00\x00\xff\xff")


class Socket:
    """A connection after its handshake; what was read of it so far, as frames."""

    def __init__(self, connect, path, offer=None):
        self.tcp = connect()
        self.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tcp.settimeout(20)
        self.buffer = b""
        self.control, self.data, self.messages, self.sent = [], [], [], []
        self.parts, self.part_opcode, self.part_packed = [], None, False
        self.ended = False
        lines = [f"GET {path} HTTP/1.1", "Host: case", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
        lines += [f"Sec-WebSocket-Extensions: {offer}"] if offer else []
        self.tcp.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.buffer:
            self.read()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        # When it was is nothing to compare.
        self.head = [line for line in head.decode().split("\r\n") if not line.lower().startswith("date:")]
        agreed = [line.split(":", 1)[1] for line in self.head if line.lower().startswith("sec-websocket-extensions:")]
        self.compression = Compression(agreed[0]) if agreed else None

    def read(self):
        try:
            data = self.tcp.recv(1 << 16)
        except ConnectionResetError:
            # A server that closes with something unread resets: how much is unread is a matter of time.
            data = b""
        self.ended = not data
        self.buffer += data
        if self.ended and b"\r\n\r\n" in self.buffer:
            raise EOFError

    def take(self):
        """Takes whole frames out of what was read."""
        while len(self.buffer) >= 2:
            size, head = self.buffer[1] & 127, 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(self.buffer[2:head], "big")
            if len(self.buffer) < head + size:
                return
            raw, self.buffer = self.buffer[: head + size], self.buffer[head + size :]
            self.frame(raw[0] >> 7, raw[0] & 0x40, raw[0] & 15, raw[head:], raw)

    def frame(self, fin, packed, opcode, payload, raw):
        if opcode >= CLOSE:
            self.control.append(raw.hex())
            self.messages.append(["server", NAMES.get(opcode, "?"), digest(payload)])
            return
        self.data.append(raw)
        if opcode != CONTINUATION:
            self.part_opcode, self.part_packed = opcode, packed
        self.parts.append(payload)
        if fin:
            whole = b"".join(self.parts)
            whole = self.compression.unpack(whole) if self.part_packed else whole
            self.messages.append(["server", NAMES[self.part_opcode], digest(whole)])
            self.parts = []

    def answers(self):
        return sum(1 for sender, kind, _ in self.messages if sender == "server" and kind in ("text", "binary"))

    def until(self, condition):
        """Reads until `condition` or the end."""
        self.take()
        while not condition() and not self.ended:
            try:
                self.read()
            except EOFError:
                pass
            self.take()

    def send(self, data, chop=None):
        """Sends bytes, in pieces of `chop`. A server that has closed meanwhile is one of the answers."""
        try:
            for at in range(0, len(data), chop or max(len(data), 1)):
                self.tcp.sendall(data[at : at + chop] if chop else data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def verdict(self):
        """All that the server has said, in the order of each kind: a pong may overtake an answer that is being made."""
        data = hashlib.sha256(b"".join(self.data)).hexdigest()
        return {"head": self.head, "data": [len(self.data), data], "control": self.control, "ended": self.ended}
