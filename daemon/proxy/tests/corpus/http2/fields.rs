//! Messages that RFC 9113 calls malformed (§8.1.1): the stream says so, and the connection goes on.

use super::Step::{C, S};
use super::*;

/// A request of these fields, which the server does not like; and a good one behind it.
fn bad_request(name: &str, fields: &[Field<'_>], detail: &'static str) -> Case {
    let steps = vec![C([headers(1, ES, fields), get(3)].concat()), S([reset(1, 1), respond_ok(3)].concat())];
    case(name, steps, &[malformed(1, 0, 0, 0, detail), ok(3, 200, 0, 2)], WHOLE)
}

/// A response of these fields; and a good one behind it.
fn bad_response(name: &str, fields: &[Field<'_>], status: u16, detail: &'static str) -> Case {
    let steps = vec![C([get(1), get(3)].concat()), S([headers(1, ES, fields), respond_ok(3)].concat())];
    case(name, steps, &[malformed(1, status, 0, 0, detail), ok(3, 200, 0, 2)], WHOLE)
}

fn ask<'a>(more: &[Field<'a>]) -> Vec<Field<'a>> {
    request("GET", more)
}

fn requests() -> Vec<Case> {
    let without = |gone| ASK.into_iter().filter(|(name, _)| *name != gone).collect::<Vec<_>>();
    let with = |name, value| {
        ASK.into_iter().map(|field| if field.0 == name { (name, value) } else { field }).collect::<Vec<_>>()
    };
    let mut cases = Vec::new();
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
    ] {
        cases.push(bad_request(
            &format!("a request with {name}"),
            &ask(&[(name, value)]),
            "request has a field that HTTP/2 forbids",
        ));
    }
    for (what, name) in [
        ("upper case", "Accept"),
        ("a blank", "a b"),
        ("a colon", "a:b"),
        ("nothing", ""),
        ("a line end", "a\r\nb"),
        ("a NUL", "\0"),
        ("no ASCII", "\u{fc}"),
    ] {
        cases.push(bad_request(&format!("a field name with {what}"), &ask(&[(name, "x")]), "request has a field name"));
    }
    for (what, value) in
        [("a line end", "x\r\nauthorization: secret"), ("a CR", "x\ry"), ("an LF", "x\n"), ("a NUL", "\0x")]
    {
        cases.push(bad_request(&format!("a value with {what}"), &ask(&[("a", value)]), "request has a CR, LF or NUL"));
    }
    for gone in [":method", ":scheme", ":path"] {
        cases.push(bad_request(&format!("a request without {gone}"), &without(gone), "request lacks a pseudo-header"));
    }
    for twice in ASK {
        let fields = [&ASK[..], &[twice]].concat();
        cases.push(bad_request(&format!("{} twice", twice.0), &fields, "request has a pseudo-header field twice"));
    }
    cases.extend([
        bad_request("a request without fields", &[], "lacks a pseudo-header"),
        bad_request("a request of ordinary fields only", &[("a", "b")], "lacks a pseudo-header"),
        bad_request("an unknown pseudo-header", &[&ASK[..], &[(":foo", "x")]].concat(), "unknown or misplaced"),
        bad_request("a request with a status", &[&ASK[..], &[(":status", "200")]].concat(), "unknown or misplaced"),
        bad_request("GET with a protocol", &[&ASK[..], &[(":protocol", "websocket")]].concat(), "unknown or misplaced"),
        bad_request("CONNECT with a path", &request("CONNECT", &[]), "unknown or misplaced"),
        bad_request("CONNECT without an authority", &[(":method", "CONNECT")], "lacks a pseudo-header"),
        bad_request(
            "extended CONNECT without a path",
            &[(":method", "CONNECT"), (":protocol", "x"), (":scheme", "http")],
            "lacks",
        ),
        bad_request(
            "a pseudo-header behind a field",
            &[&ASK[..3], &[("a", "b"), ASK[3]]].concat(),
            "behind an ordinary one",
        ),
        bad_request("a method that is no token", &with(":method", "GET /x"), "invalid method"),
        bad_request("an empty method", &with(":method", ""), "invalid method"),
        bad_request("an empty path", &with(":path", ""), "invalid scheme, authority or path"),
        bad_request("a path without a slash", &with(":path", "evil.example/x"), "invalid scheme, authority or path"),
        bad_request("a path with a blank", &with(":path", "/a HTTP/1.1"), "invalid scheme, authority or path"),
        bad_request("a path with a line end", &with(":path", "/a\r\nb: c"), "request has a CR, LF or NUL"),
        bad_request("a scheme that is none", &with(":scheme", "ht/tp"), "invalid scheme, authority or path"),
        bad_request("an authority with a path", &with(":authority", "x/y"), "invalid scheme, authority or path"),
        bad_request("an authority with a user", &with(":authority", "u:p@x"), "invalid scheme, authority or path"),
        bad_request("a Content-Length that is no number", &ask(&[("content-length", "+0")]), "not a plain number"),
        bad_request(
            "a Content-Length beyond 64 bits",
            &ask(&[("content-length", "99999999999999999999")]),
            "not a plain number",
        ),
        bad_request(
            "two Content-Lengths that differ",
            &ask(&[("content-length", "0"), ("content-length", "1")]),
            "values that differ",
        ),
        bad_request("a Content-Length without content", &ask(&[("content-length", "1")]), "differs from the length"),
        bad_request(
            "several things wrong at once: the first is said",
            &ask(&[("A", "b"), ("connection", "x")]),
            "field name",
        ),
    ]);
    cases
}

fn responses() -> Vec<Case> {
    let ok_with = |field| vec![(":status", "200"), field];
    let mut cases: Vec<_> = [
        ("none", ""),
        ("two digits", "20"),
        ("four digits", "2000"),
        ("letters", "abc"),
        ("zero", "099"),
        ("a line end", "2\r\n"),
    ]
    .into_iter()
    .map(|(what, status)| {
        bad_response(
            &format!("a status of {what}"),
            &[(":status", status)],
            if what == "zero" { 99 } else { 0 },
            if what == "a line end" { "CR, LF" } else { "response has an invalid status" },
        )
    })
    .collect();
    cases.extend([
        bad_response("a response without a status", &[("a", "b")], 0, "response lacks a pseudo-header"),
        bad_response("a response without fields", &[], 0, "response lacks a pseudo-header"),
        bad_response("101", &[(":status", "101")], 0, "response ends with an interim head"),
        bad_response("a response with a path", &ok_with((":path", "/")), 200, "response has an unknown or misplaced"),
        bad_response("a status twice", &ok_with((":status", "404")), 200, "field twice"),
        bad_response("a status behind a field", &[("a", "b"), (":status", "200")], 200, "behind an ordinary one"),
        bad_response("a response with Connection", &ok_with(("connection", "close")), 200, "HTTP/2 forbids"),
        bad_response(
            "a response with Transfer-Encoding",
            &ok_with(("transfer-encoding", "chunked")),
            200,
            "HTTP/2 forbids",
        ),
        bad_response(
            "a response with a name in upper case",
            &ok_with(("Server", "x")),
            200,
            "response has a field name",
        ),
        bad_response(
            "a response that lacks its content",
            &ok_with(("content-length", "2")),
            200,
            "response has a Content-Length that differs",
        ),
        bad_response("a response that forges a line", &ok_with(("a", "b\r\nset-cookie: c")), 200, "CR, LF or NUL"),
        bad_response("an interim response that ends the stream", &[(":status", "103")], 0, "ends with an interim head"),
    ]);
    cases
}

#[rustfmt::skip]
fn sequences() -> Vec<Case> {
    let long = headers(1, 0, &request("POST", &[("content-length", "5")]));
    vec![
        case("more content than the request's Content-Length", vec![C([long.clone(), last(1, b"hello!")].concat()), S(respond_ok(1))], &[malformed(1, 200, 6, 2, "request has a Content-Length that differs")], WHOLE),
        case("less content than the request's Content-Length", vec![C([long.clone(), last(1, b"hell")].concat()), S(respond_ok(1))], &[malformed(1, 200, 4, 2, "differs")], WHOLE),
        case("less content, then trailers", vec![C([long, data(1, b"hell"), headers(1, ES, &[("a", "b")])].concat()), S(respond_ok(1))], &[malformed(1, 200, 4, 2, "differs")], WHOLE),
        case("more content than the response's Content-Length", vec![C(get(1)), S([headers(1, 0, &[(":status", "200"), ("content-length", "1")]), last(1, b"ok")].concat())], &[malformed(1, 200, 0, 2, "differs")], WHOLE),
        case("content of a response to HEAD", vec![C(headers(1, ES, &request("HEAD", &[]))), S(respond_ok(1))], &[malformed(1, 200, 0, 2, "content although it must have none")], WHOLE),
        case("content of a 204", vec![C(get(1)), S([respond(1, "204"), last(1, b"ok")].concat())], &[malformed(1, 204, 0, 2, "must have none")], WHOLE),
        case("content before the response's head", vec![C(get(1)), S([data(1, b"ok"), respond_ok(1)].concat())], &[malformed(1, 200, 0, 2, "DATA frame before its head")], WHOLE),
        case("content and no head", vec![C(get(1)), S(last(1, b"ok"))], &[malformed(1, 0, 0, 0, "DATA frame before its head")], WHOLE),
        case("an empty last frame and no head", vec![C(get(1)), S(last(1, b""))], &[malformed(1, 0, 0, 0, "DATA frame before its head")], WHOLE),
        case("content behind the end of the request", vec![C([get(1), last(1, b"more")].concat()), S(respond_ok(1))], &[malformed(1, 200, 0, 2, "goes on behind its end")], WHOLE),
        case("trailers behind the end of the request", vec![C([get(1), headers(1, ES, &[("a", "b")])].concat()), S(respond_ok(1))], &[malformed(1, 200, 0, 2, "goes on behind its end")], WHOLE),
        case("content behind the end of the response", vec![C(post(1)), S([respond_ok(1), data(1, b"more")].concat()), C(last(1, b"hello"))], &[malformed(1, 200, 5, 2, "response goes on behind its end")], WHOLE),
        case("a second head of the request", vec![C([post(1), headers(1, 0, &[("a", "b")]), last(1, b"hello")].concat()), S(respond_ok(1))], &[malformed(1, 200, 5, 2, "second head that does not end it")], WHOLE),
        case("a second head of the response", vec![C(get(1)), S([respond(1, "200"), respond(1, "404"), last(1, b"ok")].concat())], &[malformed(1, 200, 0, 2, "second head that does not end it")], WHOLE),
        case("an interim head behind the final one", vec![C(get(1)), S([respond(1, "200"), respond(1, "103"), last(1, b"ok")].concat())], &[malformed(1, 200, 0, 2, "second head that does not end it")], WHOLE),
        case("trailers with a pseudo-header", vec![C(get(1)), S([respond(1, "200"), headers(1, ES, &[(":status", "200")])].concat())], &[malformed(1, 200, 0, 0, "unknown or misplaced")], WHOLE),
        case("trailers with a forbidden field", vec![C(get(1)), S([respond(1, "200"), headers(1, ES, &[("connection", "close")])].concat())], &[malformed(1, 200, 0, 0, "HTTP/2 forbids")], WHOLE),
        case("101 in HTTP/2", vec![C(get(1)), S([respond(1, "101"), respond_ok(1)].concat())], &[malformed(1, 200, 0, 2, "invalid status")], WHOLE),
        case("a malformed push", vec![C(get(1)), S([promise(1, 2, &ASK[..1]), respond_ok(2), respond_ok(1)].concat())], &[malformed(2, 200, 0, 2, "request lacks"), ok(1, 200, 0, 2)], WHOLE),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    [requests(), responses(), sequences()].concat()
}
