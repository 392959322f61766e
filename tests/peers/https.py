"""A server over TLS: https.py CERTIFICATE KEY KIND. It prints its port, and answers every GET with the path that was asked for.

KIND: `plain`; `mutual`: who has no certificate of the authority in roots.pem, beside CERTIFICATE, is refused; `old`: TLS 1.1
and nothing newer.
"""
import http.server
import os
import ssl
import sys
import warnings


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.path.encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """Handshakes that fail are the client's to tell."""


certificate, key, kind = sys.argv[1:]
server = Server(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
if kind == "mutual":
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(os.path.join(os.path.dirname(certificate), "roots.pem"))
if kind == "old":
    warnings.simplefilter("ignore", DeprecationWarning)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
# The handshake is the connection's thread's, or a silent client would keep all others waiting.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("port", server.server_port, flush=True)
server.serve_forever()
