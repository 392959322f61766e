"""pytest's plugin that runs python-socks' own tests against nodetap: the proxies that the suite starts are nodetap's. Of
the suite nothing is changed; tests of what nodetap does not do are left out, each for a reason below.
"""

import os
import subprocess
import sys
import types
from asyncio import sslproto
from dataclasses import dataclass

import pytest

LEFT_OUT = {
    "invalid_credentials": "nodetap takes any credentials: who may use it is decided by who reaches its address",
    "test_secure_proxy": "nodetap's clients do not speak TLS to the proxy itself",
    "connect_timeout": "of the suite's proxies each waits 10 ms; nodetap may have answered before the client's time is up",
}


def abort(transport, _abort=sslproto._SSLProtocolTransport.abort):
    """Python 3.11 before 3.11.5 fails to abort what the peer has already closed."""
    if transport._ssl_protocol is not None:
        _abort(transport)


sslproto._SSLProtocolTransport.abort = abort


@dataclass
class ProxyConfig:
    proxy_type: str
    host: str
    port: int
    username: str = None
    password: str = None
    ssl_context: object = None


class ProxyServer:
    """A process for each: one in a chain is a destination of another one, which may not be itself."""

    def __init__(self, config):
        self.config = config
        self.processes = []

    def start(self):
        for config in self.config:
            host = f"[{config.host}]" if ":" in config.host else config.host
            words = [os.environ["NODETAP_BIN"], "proxy", "--quiet", "--forward", f"{host}:{config.port}"]
            out = f"{os.environ['NODETAP_OUT']}/{len(self.processes)}"
            process = subprocess.Popen([*words, "--out", out], stderr=subprocess.PIPE, text=True)
            self.processes.append(process)
            assert "listening" in process.stderr.readline()

    def shutdown(self):
        for process in self.processes:
            process.terminate()
        assert [process.wait(20) for process in self.processes] == [0] * len(self.processes)


stand_in = types.ModuleType("tests.proxy_server")
stand_in.ProxyConfig, stand_in.ProxyServer = ProxyConfig, ProxyServer
sys.modules["tests.proxy_server"] = stand_in


def pytest_collection_modifyitems(config, items):
    out = [item for item in items if any(name in item.name for name in LEFT_OUT)]
    for name in LEFT_OUT:
        if not any(name in item.name for item in out):
            raise pytest.UsageError(f"no test is called {name}: why should it be left out?")
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
