"""What the origin answers, whichever protocol asks; and how it says what it has seen."""

import gzip
import hashlib
import os
import random
import subprocess
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

RANDOM = random.Random(4).randbytes(1 << 20)
# What a proxy may change, or must not pass on: not part of what is compared (RFC 9110 §7.6.1, §7.6.3).
HOP = {"connection", "proxy-connection", "keep-alive", "te", "transfer-encoding", "upgrade", "via", "http2-settings"}


@dataclass
class Answer:
    status: int = 200
    headers: list = field(default_factory=list)
    parts: object = ()
    # Whether its length is said before it; else it is chunked.
    length: bool = True
    trailers: tuple = ()

    @property
    def reason(self):
        return {200: "OK", 204: "No Content", 302: "Found", 404: "Not Found"}.get(self.status, "Other")


def text(content, *headers, **more):
    return Answer(headers=[("Content-Type", "text/plain"), *headers], parts=[content], **more)


def events():
    for number in range(5):
        yield f"id: {number}\ndata: event {number}\n\n".encode()
        time.sleep(0.02)


def answer(method, target, pairs, body, repositories):
    path = urlsplit(target).path
    if repositories and path.startswith("/repository.git/"):
        return git(method, target, pairs, body, repositories)
    match path:
        case "/fixed":
            return text(b"the fixed answer\n", ("X-Twice", "one"), ("X-Twice", "two"), ("X-CaSe", "kept"))
        case "/echo":
            return text(body, ("X-Length", str(len(body))))
        case "/chunked":
            parts = [RANDOM[at * 100 : at * 100 + at * 37] for at in range(1, 40)]
            return text(b"", length=False) if not parts else Answer(headers=[("Content-Type", "a/b")], parts=parts, length=False)
        case "/gzip":
            packed = gzip.compress(b"packed " * 5000, mtime=0)
            return text(packed, ("Content-Encoding", "gzip"))
        case "/empty":
            return Answer(status=204)
        case "/redirect":
            return Answer(status=302, headers=[("Location", "/fixed?redirected")], parts=[b"over there"])
        case "/random":
            return Answer(headers=[("Content-Type", "application/octet-stream")], parts=[RANDOM])
        case "/upload":
            return text(hashlib.sha256(body).hexdigest().encode())
        case "/events":
            return Answer(headers=[("Content-Type", "text/event-stream")], parts=events(), length=False)
        case "/trailers":
            return text(b"with trailers", length=False, trailers=(("X-Checksum", "1234"), ("X-More", "yes")))
    return text(b"nothing here\n", status=404)


def git(method, target, pairs, body, repositories):
    """Smart HTTP by git's own program, which speaks CGI (RFC 3875)."""
    parts = urlsplit(target)
    headers = {name.lower(): value for name, value in pairs}
    environment = {
        "PATH": "/usr/bin:/bin",
        "GIT_CONFIG_COUNT": "2",
        # The repository may be another user's.
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        # With more the same pack is written in one way or another.
        "GIT_CONFIG_KEY_1": "pack.threads",
        "GIT_CONFIG_VALUE_1": "1",
        "GIT_PROJECT_ROOT": repositories,
        "GIT_HTTP_EXPORT_ALL": "1",
        "REQUEST_METHOD": method,
        "PATH_INFO": parts.path,
        "QUERY_STRING": parts.query,
        "CONTENT_TYPE": headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        "GIT_PROTOCOL": headers.get("git-protocol", ""),
    }
    words = ["git", "http-backend"]
    done = subprocess.run(words, env=environment, input=body, stdout=subprocess.PIPE, check=True)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    pairs = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
    status = next((int(value.split(" ")[0]) for name, value in pairs if name == "Status"), 200)
    return Answer(status, [pair for pair in pairs if pair[0] != "Status"], [content], length=False)


def seen(protocol, method, target, pairs, body, given, sent):
    """The line of one exchange. `headers` are those that have a meaning from end to end, in any order."""
    lines = sorted(f"{name.lower()}: {value}" for name, value in pairs if name.lower() not in HOP)
    return {
        "protocol": protocol,
        "method": method,
        "target": target,
        "status": given.status,
        "request": [len(body), hashlib.sha256(body).hexdigest()],
        "response": [len(sent), hashlib.sha256(sent).hexdigest()],
        "headers": lines,
    }
