"""Requests (urllib3; PySocks for SOCKS)."""

import requests
import steps

with requests.Session() as session:
    session.trust_env = False
    if steps.proxy:
        session.proxies = {"http": steps.proxy, "https": steps.proxy}
    for method, path, body in steps.steps():
        answer = session.request(method, steps.base + path, data=body, allow_redirects=True, timeout=20)
        steps.say(method, path, answer.status_code, answer.headers.items(), answer.content)
