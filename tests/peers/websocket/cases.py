"""The cases of Autobahn's fuzzing client, by their numbers: what is sent, and what a server that keeps to RFC 6455 and
RFC 7692 does with it. Large ones are smaller here and repeated ones shorter, so that they take seconds.

A case is a list of steps:
    ("send", BYTES, CHOP)    raw bytes, in pieces of CHOP (None: as they are)
    ("say", KIND, CONTENT)   notes a message that a reader along must have seen: what was just sent
    ("await", N)             waits until the server has answered N messages in all
    ("pack", CONTENT, SIZE)  a text message, compressed as agreed, in fragments of SIZE (0: one)
and ends with what the server must do: "echo" (the client closes then), "fail" (it closes for a violation of the
protocol), "close" (it answers a close).
"""

import random

from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

NOISE = random.Random(13).randbytes(1 << 20)


def text(size):
    return bytes(42 + index % 60 for index in range(size))


def send(data, chop=None):
    return ("send", data, chop)


def message(opcode, content, chop=None, pieces=None):
    """A message with its note, and the wait for its answer."""
    frames = pieces or [frame(opcode, content)]
    data = b"".join(frames)
    return [send(data, chop), ("say", {TEXT: "text", BINARY: "binary"}[opcode], content)]


def fragments(opcode, content, size):
    parts = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
    last = len(parts) - 1
    return [frame(CONTINUATION if at else opcode, part, fin=at == last) for at, part in enumerate(parts)]


def control(opcode, content=b"", chop=None):
    return [send(frame(opcode, content), chop), ("say", {CLOSE: "close", PING: "ping", PONG: "pong"}[opcode], content)]


def echoes(*steps, count=1):
    return [*[step for part in steps for step in part], ("await", count), "echo"]


def framing():
    for group, opcode in [("1.1", TEXT), ("1.2", BINARY)]:
        for number, size in enumerate([0, 125, 126, 127, 128, 65535, 65536, 65536], 1):
            yield f"{group}.{number}", echoes(message(opcode, text(size), 997 if number == 8 else None))


def pings():
    for number, content in enumerate([b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125], 1):
        yield f"2.{number}", [*control(PING, content), ("pongs", 1), "echo"]
    yield "2.5", [send(frame(PING, b"\xfe" * 126)), "fail"]
    yield "2.6", [*control(PING, b"\xfe" * 125, 1), ("pongs", 1), "echo"]
    yield "2.7", echoes(control(PONG), message(TEXT, b"after it"))
    yield "2.8", echoes(control(PONG, b"unsolicited pong payload"), message(TEXT, b"after it"))
    yield "2.9", [*control(PONG, b"unsolicited"), *control(PING, b"ping payload"), ("pongs", 1), "echo"]
    many = [step for number in range(10) for step in control(PING, b"payload-%d" % number)]
    yield "2.10", [*many, ("pongs", 10), "echo"]
    yield "2.11", [*[("send", step[1], 1) if step[0] == "send" else step for step in many], ("pongs", 10), "echo"]


def reserved():
    hello = [*message(TEXT, b"Hello, world!"), ("await", 1)]
    yield "3.1", [send(frame(TEXT, b"Hello, world!", rsv=1)), "fail"]
    yield "3.2", [*hello, send(frame(TEXT, b"Hello, world!", rsv=2) + frame(PING)), "fail"]
    yield "3.3", [*hello, send(frame(TEXT, b"Hello, world!", rsv=3)), send(frame(PING)), "fail"]
    yield "3.4", [*hello, send(frame(TEXT, b"Hello, world!", rsv=4) + frame(PING), 1), "fail"]
    yield "3.5", [send(frame(BINARY, b"\x00\xff\xfe", rsv=5)), "fail"]
    yield "3.6", [send(frame(PING, b"Hello, world!", rsv=6)), "fail"]
    yield "3.7", [send(frame(CLOSE, b"\x03\xe8", rsv=7)), "fail"]
    for group, first in [("4.1", 3), ("4.2", 11)]:
        yield f"{group}.1", [send(frame(first)), "fail"]
        yield f"{group}.2", [send(frame(first + 1, b"reserved opcode payload")), "fail"]
        yield f"{group}.3", [*hello, send(frame(first + 2) + frame(PING)), "fail"]
        yield f"{group}.4", [*hello, send(frame(first + 3, b"reserved opcode payload")), send(frame(PING)), "fail"]
        yield f"{group}.5", [*hello, send(frame(first + 4, b"reserved") + frame(PING), 1), "fail"]


def fragmentation():
    parts = [b"fragment1", b"fragment2"]
    whole, pair = b"".join(parts), fragments(TEXT, b"".join(parts), 9)
    yield "5.1", [send(frame(PING, parts[0], fin=False) + frame(CONTINUATION, parts[1])), "fail"]
    yield "5.2", [send(frame(PONG, parts[0], fin=False) + frame(CONTINUATION, parts[1])), "fail"]
    yield "5.3", echoes([send(pair[0])], [send(pair[1]), ("say", "text", whole)])
    yield "5.4", echoes(message(TEXT, whole, pieces=pair))
    yield "5.5", echoes(message(TEXT, whole, 1, pair))
    for number, chop in [(6, None), (7, None), (8, 1)]:
        steps = [send(pair[0], chop), *control(PING, b"ping payload", chop), send(pair[1], chop), ("say", "text", whole)]
        yield f"5.{number}", [*steps, ("await", 1), ("pongs", 1), "echo"]
    for number, (fin, chop) in enumerate([(True, None), (True, None), (True, 1), (False, None), (False, None), (False, 1)], 9):
        lost = frame(CONTINUATION, b"non-continuation payload", fin=fin)
        yield f"5.{number}", [send(lost + frame(TEXT, b"Hello, world!"), chop), "fail"]
    first = [*message(TEXT, whole, pieces=pair), ("await", 1)]
    yield "5.15", [*first, send(frame(CONTINUATION, b"nothing to continue", fin=False) + frame(TEXT, b"more")), "fail"]
    again = frame(CONTINUATION, b"nothing", fin=False) + frame(TEXT, b"text", fin=False) + frame(CONTINUATION, b"end")
    yield "5.16", [send(again * 2), "fail"]
    again = frame(CONTINUATION, b"nothing") + frame(TEXT, b"text", fin=False) + frame(CONTINUATION, b"end")
    yield "5.17", [send(again * 2), "fail"]
    yield "5.18", [send(frame(TEXT, parts[0], fin=False) + frame(TEXT, parts[1])), "fail"]
    for number in (19, 20):
        five = fragments(TEXT, b"fragment1fragment2fragment3fragment4fragment5", 9)
        steps = [*map(send, five[:2]), *control(PING, b"pongme 1!"), *map(send, five[2:4]), *control(PING, b"pongme 2!")]
        steps += [send(five[4]), ("say", "text", b"fragment1fragment2fragment3fragment4fragment5")]
        yield f"5.{number}", [*steps, ("await", 1), ("pongs", 2), "echo"]


# By Markus Kuhn's test of UTF-8 decoders: valid ones, and ones that are not.
KOSME = "κόσμε".encode()
VALID = {
    "6.5": ["", "κ", "κό", "κόσ", "κόσμε"],
    "6.7": ["\0", "\x80", "\u0800", "\U00010000"],
    "6.9": ["\x7f", "\u07ff", "\uffff", "\U0010ffff"],
    "6.11": ["\ud7ff", "\ue000", "\ufffd", "\U0010ffff"],
    "6.22": ["\ufffe", "\uffff", *(chr((plane << 16) + low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))],
    "6.23": ["\ufffd", "\ufeff", "\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufeffBOM"],
}
SHORT = ["c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf"]
INVALID = {
    "6.6": ["ce", "cebae1", "cebae1bd", "cebae1bdb9cf", "cebae1bdb9cf83ce", "cebae1bdb9cf83cebcce"],
    "6.8": ["f888808080", "fc8480808080"],
    "6.10": ["f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"],
    "6.12": ["80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf", "".join(f"{b:x}" for b in range(0x80, 0xC0))],
    "6.13": ["".join(f"{b:x}20" for b in range(*ends)) for ends in [(0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE)]],
    "6.14": SHORT,
    "6.15": ["".join(SHORT)],
    "6.16": ["fe", "ff", "fefeffff"],
    "6.17": ["c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"],
    "6.18": ["c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"],
    "6.19": ["c080", "e08080", "f0808080", "f880808080", "fc8080808080"],
    "6.20": ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"],
    "6.21": [high + low for high in ["eda080", "edadbf", "edae80", "edafbf"] for low in ["edb080", "edbfbf"]],
}


def utf8():
    yield "6.1.1", echoes(message(TEXT, b""))
    yield "6.1.2", echoes(message(TEXT, b"", pieces=[frame(TEXT, fin=False), frame(CONTINUATION, fin=False), frame(CONTINUATION)]))
    middle = [frame(TEXT, fin=False), frame(CONTINUATION, b"middle frame payload", fin=False), frame(CONTINUATION)]
    yield "6.1.3", echoes(message(TEXT, b"middle frame payload", pieces=middle))
    greeting = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    yield "6.2.1", echoes(message(TEXT, greeting))
    yield "6.2.2", echoes(message(TEXT, greeting, pieces=fragments(TEXT, greeting, 11)))
    yield "6.2.3", echoes(message(TEXT, greeting, pieces=fragments(TEXT, greeting, 1)))
    yield "6.2.4", echoes(message(TEXT, KOSME, pieces=fragments(TEXT, KOSME, 1)))
    broken = KOSME + b"\xed\xa0\x80edited"
    yield "6.3.1", [send(frame(TEXT, broken)), "fail"]
    yield "6.3.2", [send(b"".join(fragments(TEXT, broken, 1))), "fail"]
    beyond = KOSME + b"\xf4\x90\x80\x80"
    # A server may fail at once, or at the end of the message.
    parts = [frame(TEXT, KOSME, fin=False), frame(CONTINUATION, b"\xf4\x90\x80\x80", fin=False), frame(CONTINUATION, b"edited")]
    yield "6.4.1", [*map(send, parts), "fail"]
    yield "6.4.2", [send(frame(TEXT, KOSME + b"\xf4", fin=False)), send(frame(CONTINUATION, b"\x90", fin=True)), "fail"]
    whole = frame(TEXT, beyond + b"edited")
    yield "6.4.3", [send(whole[:-10]), send(whole[-10:]), "fail"]
    yield "6.4.4", [send(whole, 1), "fail"]
    for group, contents in VALID.items():
        for number, content in enumerate(contents, 1):
            yield f"{group}.{number}", echoes(message(TEXT, content.encode("utf-8")))
    for group, contents in INVALID.items():
        for number, content in enumerate(contents, 1):
            yield f"{group}.{number}", [send(frame(TEXT, bytes.fromhex(content))), "fail"]


def closing():
    hello = [*message(TEXT, b"Hello World!"), ("await", 1)]
    over = frame(CLOSE, b"\x03\xe8")
    yield "7.1.1", [*hello, send(over), "close"]
    yield "7.1.2", [send(over + over), "close"]
    yield "7.1.3", [send(over + frame(PING)), "close"]
    yield "7.1.4", [send(over + frame(TEXT, b"Hello World!")), "close"]
    yield "7.1.5", [send(frame(TEXT, b"fragment1", fin=False) + over + frame(CONTINUATION, b"fragment2")), "close"]
    big = text(256 * 1024)
    yield "7.1.6", [*message(TEXT, big), ("await", 1), *hello[:2], ("await", 2), send(over), "close"]
    yield "7.3.1", [*control(CLOSE), "close"]
    yield "7.3.2", [send(frame(CLOSE, b"a")), "fail"]
    yield "7.3.3", [*control(CLOSE, b"\x03\xe8"), "close"]
    yield "7.3.4", [*control(CLOSE, b"\x03\xe8Hello World!"), "close"]
    yield "7.3.5", [*control(CLOSE, b"\x03\xe8" + b"*" * 123), "close"]
    yield "7.3.6", [send(frame(CLOSE, b"\x03\xe8" + b"*" * 124)), "fail"]
    yield "7.5.1", [send(frame(CLOSE, b"\x03\xe8" + KOSME + b"\xed\xa0\x80edited")), "fail"]
    for number, code in enumerate([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999], 1):
        yield f"7.7.{number}", [*control(CLOSE, code.to_bytes(2, "big")), "close"]
    for number, code in enumerate([0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999], 1):
        yield f"7.9.{number}", [send(frame(CLOSE, code.to_bytes(2, "big"))), "fail"]
    for number, code in enumerate([5000, 65535], 1):
        yield f"7.13.{number}", [send(frame(CLOSE, code.to_bytes(2, "big"))), "fail"]


def limits():
    for group, opcode in [("9.1", TEXT), ("9.2", BINARY)]:
        for number, size in enumerate([64, 256, 1024], 1):
            yield f"{group}.{number}", echoes(message(opcode, text(size * 1024)))
    for group, opcode in [("9.3", TEXT), ("9.4", BINARY)]:
        for number, size in enumerate([256, 1024, 4096, 16384, 65536, 262144], 1):
            content = text(512 * 1024)
            yield f"{group}.{number}", echoes(message(opcode, content, pieces=fragments(opcode, content, size)))
    for group, opcode in [("9.5", TEXT), ("9.6", BINARY)]:
        for number, chop in enumerate([64, 128, 256, 512, 1024, 2048], 1):
            yield f"{group}.{number}", echoes(message(opcode, text(128 * 1024), chop))
    for group, opcode in [("9.7", TEXT), ("9.8", BINARY)]:
        for number, size in enumerate([0, 16, 64, 256, 1024, 4096], 1):
            trips = [[*message(opcode, text(size)), ("await", trip)] for trip in range(1, 21)]
            yield f"{group}.{number}", echoes(*trips, count=20)
    content = text(65536)
    yield "10.1.1", echoes(message(TEXT, content, pieces=fragments(TEXT, content, 1300)))


SIZES = [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072]
FRAGMENTED = [(8192, 256), (16384, 256), (32768, 256), (65536, 256), (131072, 256), (131072, 1024), (131072, 4096), (131072, 32768)]
CONTENTS = {
    "12.1": lambda size, turn: (b'{"number": %d, "name": "value", "list": [1, 2, 3]}, ' % turn * (size // 40 + 1))[:size],
    "12.2": lambda size, turn: NOISE[turn * 997 : turn * 997 + size].hex().encode()[:size],
    "12.3": lambda size, turn: ("Habe nun, ach! Philosophie, " * (size // 28 + 1)).encode()[turn : turn + size],
    "12.4": lambda size, turn: bytes([65 + turn % 26]) * size,
    "12.5": lambda size, turn: text(size)[turn:] + text(size)[:turn],
}
OFFERS = {
    "13.1": "permessage-deflate; client_no_context_takeover",
    "13.2": "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "13.3": "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
    "13.4": "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
    "13.5": "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits",
    "13.6": "permessage-deflate; server_no_context_takeover; server_max_window_bits=15; client_no_context_takeover",
    "13.7": "permessage-deflate; server_no_context_takeover; server_max_window_bits=8, permessage-deflate; "
    "server_max_window_bits=12, permessage-deflate",
}


def compressed():
    """With the offer of an extension."""
    groups = [(group, "permessage-deflate; client_max_window_bits", content) for group, content in CONTENTS.items()]
    groups += [(group, offer, CONTENTS["12.1"]) for group, offer in OFFERS.items()]
    for group, offer, content in groups:
        for number, (size, fragment) in enumerate([(size, 0) for size in SIZES] + FRAGMENTED, 1):
            steps = []
            for turn in range(1, 5 if size < 60000 else 3):
                steps += [("pack", content(size, turn), fragment), ("await", turn)]
            yield f"{group}.{number}", offer, [*steps, "echo"]


def all_cases():
    """Name, offer, steps."""
    for group in [framing, pings, reserved, fragmentation, utf8, closing, limits]:
        for name, steps in group():
            yield name, None, steps
    yield from compressed()
