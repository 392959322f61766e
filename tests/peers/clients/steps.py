"""What all HTTP clients of this folder have in common: they are given a base URL, a proxy (`-` for none) and steps such
as `GET /fixed` or `POST /echo 10` (the number: bytes of body), and print one line for each answer. Two lines are the same
when the answers were.
"""

import hashlib
import sys

# What belongs to a hop, or says by which way an answer came.
HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "via", "te", "trailer", "upgrade"}

base, proxy = sys.argv[1], None if sys.argv[2] == "-" else sys.argv[2]


def body(size):
    return bytes(index % 251 for index in range(size))


def steps():
    """Method, path, body (None: none)."""
    for step in sys.argv[3:]:
        method, path, *size = step.split(" ")
        yield method, path, body(int(size[0])) if size else None


def say(method, path, status, headers, content):
    """Prints the line of one answer; `headers` are pairs."""
    kept = sorted(f"{name.lower()}: {value}" for name, value in headers if name.lower() not in HOP)
    digest = hashlib.sha256(content).hexdigest()
    print(" | ".join([f"{method} {path} {status} {len(content)} {digest}", *kept]), flush=True)


def head(text):
    """Status and pairs of a head as it came."""
    first, *lines = text.strip().splitlines()
    return int(first.split(" ")[1]), [tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line]
