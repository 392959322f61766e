//! Each rule by itself; the same through sockets is tested with the whole.

use super::*;

const US: &str = "c0ffee";

fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn get(fields: &[(&str, &str)]) -> request::Parts {
    parts("GET", "http://example.com/a", &[&[("Host", "example.com")], fields].concat())
}

fn forwarded(mut parts: request::Parts) -> (Admitted, Vec<(String, String)>, String) {
    let admitted = request(&mut parts, false, US).unwrap();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    (admitted, fields, parts.uri.to_string())
}

fn fields(parts: request::Parts) -> Vec<(String, String)> {
    forwarded(parts).1
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refused(mut parts: request::Parts) -> StatusCode {
    request(&mut parts, false, US).unwrap_err().status
}

const HOST_AND_VIA: [(&str, &str); 2] = [("host", "example.com"), ("via", "1.1 nodetap (c0ffee)")];

#[test]
fn what_is_for_one_hop_goes_no_further() {
    let hop = [
        ("Connection", "X-One, keep-alive"),
        ("Connection", "x-two"),
        ("X-One", "1"),
        ("X-Two", "2"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic secret"),
        ("TE", "gzip"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "foo"),
    ];
    assert_eq!(fields(get(&hop)), pairs(&HOST_AND_VIA));
}

#[test]
fn what_is_for_the_ends_stays_in_its_order() {
    let ends = [("Accept", "b"), ("Accept", "a"), ("Authorization", "x"), ("Trailer", "y"), ("X", "")];
    let expected =
        [("host", "example.com"), ("accept", "b"), ("accept", "a"), ("authorization", "x"), ("trailer", "y")];
    let expected = [&expected[..], &[("x", ""), HOST_AND_VIA[1]]].concat();
    assert_eq!(fields(get(&ends)), pairs(&expected));
}

#[test]
fn a_coding_that_is_still_on_the_body_stays_named() {
    let coded = fields(get(&[("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked")]));
    assert!(coded.contains(&("transfer-encoding".into(), "gzip, chunked".into())), "{coded:?}");
    assert_eq!(fields(get(&[("Transfer-Encoding", "Chunked")])), pairs(&HOST_AND_VIA));
}

#[test]
fn trailers_and_websockets_are_asked_for_anew() {
    let te = fields(get(&[("Connection", "TE"), ("TE", "gzip;q=0.5, trailers")]));
    assert!(te.contains(&("te".into(), "trailers".into())) && te.contains(&("connection".into(), "TE".into())));
    let (admitted, fields, _) = forwarded(get(&[("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")]));
    assert!(admitted.upgrade && fields.contains(&("upgrade".into(), "websocket".into())), "{fields:?}");
    assert!(!forwarded(get(&[("Upgrade", "websocket")])).0.upgrade);
}

#[test]
fn host_is_one_and_valid_and_then_that_of_the_url() {
    assert_eq!(refused(parts("GET", "http://a/", &[])), StatusCode::BAD_REQUEST);
    assert_eq!(refused(parts("GET", "http://a/", &[("Host", "a"), ("Host", "a")])), StatusCode::BAD_REQUEST);
    for host in ["", "a b", "a/b", "u@a", "a:x", "a, b"] {
        assert_eq!(refused(parts("GET", "http://a/", &[("Host", host)])), StatusCode::BAD_REQUEST, "{host}");
    }
    let mut old = parts("GET", "http://a:81/", &[]);
    old.version = Version::HTTP_10;
    assert_eq!(fields(old), pairs(&[("host", "a:81"), ("via", "1.0 nodetap (c0ffee)")]));
    assert_eq!(fields(parts("GET", "http://a/", &[("Host", "other")]))[0], ("host".into(), "a".into()));
}

#[test]
fn the_target_keeps_every_byte_of_its_path_and_query() {
    for (method, uri, expected) in [
        ("GET", "http://a/x%2f//../y?q=%20&|", "/x%2f//../y?q=%20&|"),
        ("GET", "http://a", "/"),
        ("GET", "http://a?q", "/?q"),
        ("OPTIONS", "http://a/", "/"),
        ("OPTIONS", "http://a/x", "/x"),
    ] {
        assert_eq!(forwarded(parts(method, uri, &[("Host", "a")])).2, expected, "{method} {uri}");
    }
}

#[test]
fn options_of_a_url_without_a_path_are_of_the_whole_server() {
    let mut options = parts("OPTIONS", "http://a", &[("Host", "a")]);
    request(&mut options, true, US).unwrap();
    assert_eq!(options.uri, "*");
    assert!(is_bare(b"OPTIONS http://a HTTP/1.1\r\n") && is_bare(b"OPTIONS http://[::1]:8 HTTP/1.1"));
    for head in
        ["OPTIONS http://a/ HTTP/1.1", "OPTIONS http://a?q HTTP/1.1", "GET http://a HTTP/1.1", "OPTIONS http://a"]
    {
        assert!(!is_bare(head.as_bytes()), "{head}");
    }
}

#[test]
fn only_http_urls_with_a_host_are_forwarded() {
    for uri in ["/path", "*", "https://a/", "ftp://a/", "http://u:p@a/", "http://127.1/", "http://a:0/"] {
        assert_eq!(refused(parts("GET", uri, &[("Host", "a")])), StatusCode::BAD_REQUEST, "{uri}");
    }
    assert_eq!(refused(parts("CONNECT", "a:1", &[("Host", "a")])), StatusCode::BAD_REQUEST);
}

#[test]
fn a_request_that_was_here_is_not_sent_round_again_and_one_that_was_at_another_nodetap_is() {
    assert_eq!(refused(get(&[("Via", "1.0 squid, 1.1 nodetap (c0ffee)")])), StatusCode::LOOP_DETECTED);
    let other = fields(get(&[("Via", "1.1 nodetap (another)")]));
    assert_eq!(other.iter().filter(|(name, _)| name == "via").count(), 2, "{other:?}");
}

#[test]
fn max_forwards_counts_down_and_ends_here() {
    let options = |left| parts("OPTIONS", "http://a/", &[("Host", "a"), ("Max-Forwards", left)]);
    assert!(fields(options("3")).contains(&("max-forwards".into(), "2".into())));
    assert_eq!(request(&mut options("0"), false, US).unwrap_err().status, StatusCode::OK);
    let secret = [("Host", "a"), ("Max-Forwards", "0"), ("Authorization", "s3cret"), ("X", "y")];
    let answer = request(&mut parts("TRACE", "http://a/", &secret), false, US).unwrap_err();
    assert!(answer.text.contains("x: y") && !answer.text.contains("s3cret"), "{answer:?}");
    assert_eq!(fields(get(&[("Max-Forwards", "0")])).len(), 3);
}

#[test]
fn an_expectation_is_one_of_http_1_1_only() {
    assert!(forwarded(get(&[("Expect", "100-Continue")])).0.expects);
    let mut old = get(&[("Expect", "100-continue")]);
    old.version = Version::HTTP_10;
    let (admitted, fields, _) = forwarded(old);
    assert!(!admitted.expects && !fields.iter().any(|(name, _)| name == "expect"));
}

#[test]
fn a_response_loses_what_was_for_us_and_a_length_that_does_not_count() {
    let response_of = |status: u16, fields: &[(&str, &str)]| {
        let mut built = http::Response::builder().status(status).version(Version::HTTP_10);
        for (name, value) in fields {
            built = built.header(*name, *value);
        }
        let mut parts = built.body(()).unwrap().into_parts().0;
        response(&mut parts, US);
        assert_eq!(parts.version, Version::HTTP_11);
        parts.headers
    };
    let hop =
        [("Connection", "close, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "x"), ("Upgrade", "h2c"), ("Server", "s")];
    let headers = response_of(200, &hop);
    assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["server", "via"]);
    assert_eq!(headers[VIA], "1.0 nodetap (c0ffee)");
    let both = response_of(200, &[("Content-Length", "3"), ("Transfer-Encoding", "chunked")]);
    assert!(!both.contains_key(CONTENT_LENGTH) && !both.contains_key(TRANSFER_ENCODING));
    assert!(response_of(304, &[("Content-Length", "3")]).contains_key(CONTENT_LENGTH));
    let switched = response_of(101, &[("Upgrade", "websocket"), ("Connection", "upgrade")]);
    assert_eq!(
        (&switched[UPGRADE], &switched[CONNECTION]),
        (&"websocket".parse().unwrap(), &"Upgrade".parse().unwrap())
    );
}
