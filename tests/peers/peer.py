"""A peer in Python: as a server it tells each client what accept(), getpeername() and getsockname() gave, as a client
what getpeername() and getsockname() gave. The other languages' peers speak the same.

    peer.py serve 127.0.0.1|::1|dual [PORT]   prints `port N`; GET /close-listener closes the listening socket
    peer.py connect HOST PORT            prints what its socket says, then the answer's body
"""

import signal
import socket
import sys


def shown(address):
    host, port = address[:2]
    return f"[{host}]:{port}"


def serve(where, port=0):
    family = socket.AF_INET if "." in where else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if where == "dual" else 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::" if where == "dual" else where, int(port)))
    listener.listen(128)
    print("port", listener.getsockname()[1], flush=True)
    while True:
        connection, address = listener.accept()
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                read = connection.recv(65536)
                if not read:
                    break
                request += read
            closing = request.startswith(b"GET /close-listener ")
            if closing:
                listener.close()
            body = (
                f"accept={shown(address)} getpeername={shown(connection.getpeername())} "
                f"getsockname={shown(connection.getsockname())}\n"
            ).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)
        if closing:
            while True:
                signal.pause()


def connect(host, port):
    with socket.create_connection((host, int(port))) as connection:
        print(f"getpeername={shown(connection.getpeername())} getsockname={shown(connection.getsockname())}")
        connection.sendall(b"GET / HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n")
        answer = b""
        while read := connection.recv(65536):
            answer += read
    print(answer.split(b"\r\n\r\n", 1)[1].decode(), end="", flush=True)


{"serve": serve, "connect": connect}[sys.argv[1]](*sys.argv[2:])
