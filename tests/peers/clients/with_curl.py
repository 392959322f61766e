"""curl: all steps by one process, so that connections are kept. What stands before `--` goes to it as it is."""

import pathlib
import subprocess
import sys
import tempfile

at = sys.argv.index("--")
options = sys.argv[1:at]
sys.argv[1 : at + 1] = []

import steps

if steps.proxy:
    # curl has a word of its own for a CONNECT where none is needed.
    tunnel = steps.proxy.startswith("connect://")
    options += ["-p", "-x", steps.proxy.replace("connect://", "http://")] if tunnel else ["-x", steps.proxy]

with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder)
    words = []
    asked = list(steps.steps())
    # curl 7.88 cannot use such a connection twice, and so follows nothing.
    apart = "--http2-prior-knowledge" in options
    for number, (method, path, body) in enumerate(asked):
        words += ["--next"] if words and not apart else []
        words += options + ["-sS", "-m", "20", "--noproxy", "", "--suppress-connect-headers"]
        words += ["-D", f"{folder}/{number}.head", "-o", f"{folder}/{number}.body"]
        words += ["-I"] if method == "HEAD" else ["-X", method] if apart else ["-L", "-X", method]
        if body is not None:
            (place / f"{number}.sent").write_bytes(body)
            words += ["--data-binary", f"@{folder}/{number}.sent"]
        words.append(steps.base + path)
        if apart or number == len(asked) - 1:
            subprocess.run(["curl", *words], check=True)
            words = []
    for number, (method, path, _) in enumerate(asked):
        text = (place / f"{number}.head").read_bytes().decode("latin-1").replace("\r\n", "\n")
        blocks = [block for block in text.split("\n\n") if block.strip()]
        # Trailers stand behind the last head.
        heads = [index for index, block in enumerate(blocks) if block.lstrip().startswith("HTTP/")]
        last = heads[-1]
        status, headers = steps.head(blocks[last])
        headers += [tuple(line.split(": ", 1)) for block in blocks[last + 1 :] for line in block.strip().splitlines()]
        content = place / f"{number}.body"
        content = content.read_bytes() if content.exists() and method != "HEAD" else b""
        steps.say(method, path, status, headers, content)
