"""A WebSocket server that echoes, and a client, by the `websockets` library.

    websocket_peer.py serve            prints `port N`
    websocket_peer.py call URL PROXY   sends messages of all kinds (PROXY `-`: none), and prints a JSON line of each
"""

import hashlib
import json
import sys
import threading

from websockets.sync.client import connect
from websockets.sync.server import serve as listen


def say(sender, kind, content):
    data = content.encode() if isinstance(content, str) else content
    print(json.dumps({"from": sender, "type": kind, "body": [len(data), hashlib.sha256(data).hexdigest()]}), flush=True)


def serve():
    def echo(connection):
        for message in connection:
            connection.send(message)

    with listen(echo, "127.0.0.1", 0, max_size=None) as server:
        print("port", server.socket.getsockname()[1], flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()


TEXT = "Grüße, 世界 " * 3
MESSAGES = ["", "short", TEXT, b"", b"\x00\xff" * 10, b"x" * 125, b"y" * 126, "t" * 65535, bytes(range(256)) * 256, "z" * 200_000]


def call(url, proxy):
    for compression in [None, "deflate"]:
        with connect(url, proxy=None if proxy == "-" else proxy, compression=compression, max_size=None) as connection:
            for message in MESSAGES:
                both(connection, message, "text" if isinstance(message, str) else "binary")
            pieces = ["in ", "three ", "pieces"]
            connection.send(iter(pieces))
            say("client", "text", "".join(pieces))
            say("server", "text", connection.recv())
            assert connection.ping(b"are you there").wait(20)
            say("client", "ping", b"are you there")
            say("server", "pong", b"are you there")
            connection.close(1000, "that was all")
            # Of a close, the body is the code and the reason.
            say("client", "close", b"\x03\xe8that was all")
            say("server", "close", b"\x03\xe8that was all")


def both(connection, message, kind):
    connection.send(message)
    say("client", kind, message)
    say("server", kind, connection.recv())


{"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
