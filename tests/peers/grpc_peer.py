"""A gRPC server and client of calls of every kind, by grpcio. The messages are bytes to it.

    grpc_peer.py serve               prints `port N`, and of each call a JSON line: what a record is held against
    grpc_peer.py call TARGET PROXY   makes the calls (PROXY `-`: none), and prints a line of each
    grpc_peer.py stay TARGET PROXY   opens a call of both directions; each line of its input is a message; prints the answers
"""

import hashlib
import json
import os
import sys
from concurrent import futures

if len(sys.argv) > 3 and sys.argv[3] != "-":
    # The only way in which grpcio is told of one.
    os.environ["http_proxy"] = sys.argv[3]
    os.environ["no_proxy"] = os.environ["no_grpc_proxy"] = ""

import grpc

SERVICE = "nodetap.test.Calls"


def message(number, size):
    """A protobuf message: field 1 is a number, field 2 are bytes."""
    content = bytes((number * 7 + index) % 256 for index in range(size))
    return b"\x08" + varint(number) + b"\x12" + varint(size) + content


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def digest(content):
    return [len(content), hashlib.sha256(content).hexdigest()]


class Calls(grpc.GenericRpcHandler):
    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        kinds = {
            "One": grpc.unary_unary_rpc_method_handler,
            "Fails": grpc.unary_unary_rpc_method_handler,
            "Down": grpc.unary_stream_rpc_method_handler,
            "Up": grpc.stream_unary_rpc_method_handler,
            "Both": grpc.stream_stream_rpc_method_handler,
        }
        return kinds[name](lambda request, context: self.call(details.method, name, request, context))

    def call(self, method, name, request, context):
        seen = {"client": [], "server": []}

        def asked():
            for part in [request] if isinstance(request, bytes) else request:
                seen["client"].append(digest(part))
                yield part

        def answered(part):
            seen["server"].append(digest(part))
            return part

        def done(status):
            print(json.dumps({"kind": "call", "method": method, "status": status, **seen}), flush=True)

        if name == "Fails":
            list(asked())
            done(5)
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ü")
        if name == "One":
            answer = answered(next(iter(asked()))[::-1])
            done(0)
            return answer
        if name == "Up":
            answer = answered(message(len(list(asked())), 3))
            done(0)
            return answer
        return self.stream(name, asked(), answered, done)

    def stream(self, name, asked, answered, done):
        if name == "Down":
            list(asked)
            for number in range(5):
                yield answered(message(number, number * 1000))
        else:
            for part in asked:
                yield answered(part[::-1])
        done(0)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(4), [Calls()], options=[("grpc.so_reuseport", 0)])
    print("port", server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


def parts():
    return iter([message(number, size) for number, size in enumerate([0, 10, 70_000, 1])])


def call(target, _proxy):
    def say(name, *answers):
        print(name, *(digest(answer) for answer in answers), flush=True)

    with grpc.insecure_channel(target) as channel:
        path = f"/{SERVICE}/"
        say("One", channel.unary_unary(path + "One")(message(1, 100), timeout=20))
        packed = channel.unary_unary(path + "One")(message(2, 50_000), timeout=20, compression=grpc.Compression.Gzip)
        say("One, packed", packed)
        say("Down", *channel.unary_stream(path + "Down")(message(3, 0), timeout=20))
        say("Up", channel.stream_unary(path + "Up")(parts(), timeout=20))
        say("Both", *channel.stream_stream(path + "Both")(parts(), timeout=20))
        try:
            channel.unary_unary(path + "Fails")(message(4, 4), timeout=20)
        except grpc.RpcError as error:
            print("Fails", error.code(), error.details(), flush=True)


def stay(target, _proxy):
    with grpc.insecure_channel(target) as channel:
        lines = (line.strip().encode() for line in sys.stdin)
        for answer in channel.stream_stream(f"/{SERVICE}/Both")(lines):
            print(answer.decode(), flush=True)


{"serve": serve, "call": call, "stay": stay}[sys.argv[1]](*sys.argv[2:])
