"""wget: a process for each step."""

import subprocess
import tempfile

import steps

options = ["-e", "use_proxy=yes", "-e", f"http_proxy={steps.proxy}"] if steps.proxy else ["--no-proxy"]
for method, path, body in steps.steps():
    with tempfile.NamedTemporaryFile() as sent:
        sent.write(body or b"")
        sent.flush()
        words = ["wget", "-q", "-T", "20", "-t", "1", "--content-on-error", "--save-headers", "-O", "-", *options]
        words += [f"--method={method}"] + ([f"--body-file={sent.name}"] if body is not None else [])
        # An answer of 4xx is an exit code, and an answer all the same.
        done = subprocess.run([*words, steps.base + path], stdout=subprocess.PIPE, check=False)
    text, _, content = done.stdout.partition(b"\r\n\r\n")
    status, headers = steps.head(text.decode("latin-1")) if text else (-done.returncode, [])
    steps.say(method, path, status, headers, content)
