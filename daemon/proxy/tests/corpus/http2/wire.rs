//! Frames and header blocks as bytes, right and wrong ones. Fields are spelt out unless a test says otherwise.

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// END_STREAM, or ACK.
pub(crate) const ES: u8 = 0x1;
/// END_HEADERS.
pub(crate) const EH: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WEIGHED: u8 = 0x20;

pub(crate) type Field<'a> = (&'a str, &'a str);

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A frame that says it has this length.
pub(crate) fn cut_frame(length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A string, spelt out.
pub(crate) fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut length = text.len();
    if length < 127 {
        bytes.push(u8::try_from(length).unwrap());
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push(u8::try_from(length % 128).unwrap() | 0x80);
            length /= 128;
        }
        bytes.push(u8::try_from(length).unwrap());
    }
    bytes.extend(text);
    bytes
}

/// A field that is not added to the table.
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

/// A field that is added to the table.
pub(crate) fn indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0x40][..], &string(name), &string(value)].concat()
}

pub(crate) fn block(fields: &[Field<'_>]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
}

/// HEADERS in one frame.
pub(crate) fn headers(stream: u32, flags: u8, fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, EH | flags, stream, &block(fields))
}

pub(crate) const ASK: [Field<'static>; 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/")];

/// The fields of a plain request with this method, and these behind.
pub(crate) fn request<'a>(method: &'a str, more: &[Field<'a>]) -> Vec<Field<'a>> {
    let mut fields = vec![(":method", method)];
    fields.extend(&ASK[1..]);
    fields.extend(more);
    fields
}

/// A whole request without content.
pub(crate) fn get(stream: u32) -> Vec<u8> {
    headers(stream, ES, &ASK)
}

/// The head of a request whose content follows.
pub(crate) fn post(stream: u32) -> Vec<u8> {
    headers(stream, 0, &request("POST", &[]))
}

/// The head of a response whose content follows.
pub(crate) fn respond(stream: u32, status: &str) -> Vec<u8> {
    headers(stream, 0, &[(":status", status)])
}

/// A whole response without content.
pub(crate) fn respond_only(stream: u32, status: &str) -> Vec<u8> {
    headers(stream, ES, &[(":status", status)])
}

/// A whole 200 with two bytes of content.
pub(crate) fn respond_ok(stream: u32) -> Vec<u8> {
    [respond(stream, "200"), last(stream, b"ok")].concat()
}

pub(crate) fn data(stream: u32, content: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, content)
}

/// DATA with END_STREAM.
pub(crate) fn last(stream: u32, content: &[u8]) -> Vec<u8> {
    frame(DATA, ES, stream, content)
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

pub(crate) fn window(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &1000u32.to_be_bytes())
}

/// PUSH_PROMISE on a stream, of another one.
pub(crate) fn promise(stream: u32, promised: u32, fields: &[Field<'_>]) -> Vec<u8> {
    frame(PUSH_PROMISE, EH, stream, &[&promised.to_be_bytes()[..], &block(fields)].concat())
}
