"""httpx: HTTP/1.1, or with `h2` before everything else HTTP/2 with prior knowledge."""

import sys

h2 = sys.argv[1] == "h2"
if h2:
    del sys.argv[1]

import httpx
import steps

# httpcore knows no prior knowledge through a forwarding proxy.
with httpx.Client(http1=not h2, http2=h2, proxy=steps.proxy, follow_redirects=True, trust_env=False, timeout=20) as client:
    for method, path, body in steps.steps():
        answer = client.request(method, steps.base + path, content=body)
        steps.say(method, path, answer.status_code, answer.headers.multi_items(), answer.content)
