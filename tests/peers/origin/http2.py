"""HTTP/2 without TLS for the origin, by the `h2` library."""

import h2.config
import h2.connection
import h2.events
import h2.exceptions

import answers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Stream:
    def __init__(self, pairs):
        self.pairs, self.body = pairs, b""
        # What is still to be sent; None until it is known.
        self.left, self.trailers = None, ()


class Connection:
    def __init__(self, wire, log, repositories):
        self.wire, self.log, self.repositories = wire, log, repositories
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        self.streams = {}

    def flush(self):
        self.wire.write(self.h2.data_to_send())

    def answer(self, number):
        """Answers a request that is whole."""
        stream = self.streams[number]
        pseudo = {name: value for name, value in stream.pairs if name.startswith(":")}
        pairs = [pair for pair in stream.pairs if not pair[0].startswith(":")]
        # The authority is what HTTP/1.1 calls Host.
        pairs += [("host", pseudo[":authority"])] if ":authority" in pseudo and "host" not in dict(pairs) else []
        method, target = pseudo[":method"], pseudo[":path"]
        given = answers.answer(method, target, pairs, stream.body, self.repositories)
        headers = [(":status", str(given.status))] + [(name.lower(), value) for name, value in given.headers]
        bodyless = method == "HEAD" or given.status == 204
        whole = b"" if bodyless else b"".join(given.parts)
        if given.length and given.status != 204:
            headers.append(("content-length", str(len(whole) if method != "HEAD" else len(b"".join(given.parts)))))
        stream.left, stream.trailers = whole, [(name.lower(), value) for name, value in given.trailers]
        self.h2.send_headers(number, headers, end_stream=bodyless)
        if bodyless:
            stream.left = None
        self.log.end("exchange", answers.seen("h2", method, target, pairs, stream.body, given, whole))

    def pump(self):
        """Sends as much as the windows allow."""
        for number, stream in list(self.streams.items()):
            while stream.left is not None:
                room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(stream.left))
                part, rest = stream.left[:room], stream.left[room:]
                if not part and rest:
                    break
                last = not rest
                self.h2.send_data(number, part, end_stream=last and not stream.trailers)
                if last and stream.trailers:
                    self.h2.send_headers(number, stream.trailers, end_stream=True)
                stream.left = None if last else rest
            if stream.left is None and stream.body is None:
                del self.streams[number]

    def event(self, event):
        match event:
            case h2.events.RequestReceived():
                self.log.begin("exchange")
                self.streams[event.stream_id] = Stream(event.headers)
            case h2.events.DataReceived():
                self.streams[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.answer(event.stream_id)
                self.streams[event.stream_id].body = None
            case h2.events.StreamReset():
                self.streams.pop(event.stream_id, None)


def serve(wire, log, repositories, upgraded=None):
    """Serves a connection to its end; `upgraded`: the settings and the request of an upgrade from HTTP/1.1."""
    connection = Connection(wire, log, repositories)
    if upgraded:
        settings, method, target, pairs, body = upgraded
        connection.h2.initiate_upgrade_connection(settings.encode())
        stream = Stream([(":method", method), (":path", target), *((name.lower(), value) for name, value in pairs)])
        stream.body = body
        connection.streams[1] = stream
        log.begin("exchange")
        connection.flush()
        # Its peer's preface comes first: a client may not like an answer before its settings were acknowledged.
        connection.answer(1)
        stream.body = None
        connection.pump()
    else:
        connection.h2.initiate_connection()
    connection.flush()
    while True:
        data, wire.buffer = wire.buffer, b""
        try:
            for event in connection.h2.receive_data(data):
                connection.event(event)
            connection.pump()
        except h2.exceptions.ProtocolError as error:
            connection.flush()
            raise EOFError(str(error)) from error
        connection.flush()
        if not wire.read():
            return
