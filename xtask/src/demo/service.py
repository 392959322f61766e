"""One of the demo's two services. `stock` knows what is there; `shop` asks it before it answers.

    service.py stock PORT
    service.py shop PORT PORT-OF-STOCK
"""

import gzip
import http.server
import json
import sys
import urllib.request

NAME, PORT, *OTHERS = sys.argv[1], *map(int, sys.argv[2:])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps({"service": NAME, **value}).encode()
        self.send_response(status)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, mtime=0)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/missing"):
            self.answer(404, {"error": "no such thing"})
        elif OTHERS:
            with urllib.request.urlopen(f"http://127.0.0.1:{OTHERS[0]}/stock{self.path}") as answer:
                self.answer(200, {"path": self.path, "stock": json.load(answer)})
        else:
            self.answer(200, {"path": self.path, "left": 3})

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(201, {"path": self.path, "received": body.decode()})

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
print("listening", flush=True)
server.serve_forever()
