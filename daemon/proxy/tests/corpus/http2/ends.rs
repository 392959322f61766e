//! Who ends a stream or a connection in the middle of what: RST_STREAM, GOAWAY, FIN, reset.

use super::Step::{C, ClientFin, ClientReset, S, ServerFin, ServerReset};
use super::*;

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    let ask = || C(get(1));
    let half = || C([post(1), data(1, b"he")].concat());
    let begun = || S([respond(1, "200"), data(1, b"o")].concat());
    vec![
        case("the client resets before the response", vec![C([get(1), reset(1, 8)].concat())], &[client_aborted(1, 0, 0, 0, "client reset the stream (CANCEL) before the response")], WHOLE),
        case("the client resets within its request", vec![C([post(1), data(1, b"he"), reset(1, 8)].concat())], &[client_aborted(1, 0, 2, 0, "before its request was whole")], WHOLE),
        case("the client resets within the response", vec![ask(), begun(), C(reset(1, 8)), S(last(1, b"k"))], &[client_aborted(1, 200, 0, 1, "before the response was whole")], WHOLE),
        case("the client resets without a reason", vec![ask(), begun(), C(reset(1, 0))], &[client_aborted(1, 200, 0, 1, "NO_ERROR")], WHOLE),
        case("the client resets with an unknown code", vec![ask(), C(reset(1, 0xbad))], &[client_aborted(1, 0, 0, 0, "an unknown error")], WHOLE),
        case("the server resets before the response", vec![ask(), S(reset(1, 2))], &[server_aborted(1, 0, 0, 0, "server reset the stream (INTERNAL_ERROR) without a response")], WHOLE),
        case("the server resets within the response", vec![ask(), begun(), S(reset(1, 2))], &[server_aborted(1, 200, 0, 1, "before its response was whole")], WHOLE),
        case("the server refuses", vec![ask(), S(reset(1, 7))], &[server_aborted(1, 0, 0, 0, "refused the request (REFUSED_STREAM)")], WHOLE),
        case("the server resets within the request", vec![half(), S(reset(1, 11)), C(last(1, b"llo"))], &[server_aborted(1, 0, 2, 0, "ENHANCE_YOUR_CALM")], WHOLE),
        case("the server has answered and needs no more", vec![half(), S([respond_ok(1), reset(1, 0)].concat()), C(last(1, b"llo"))], &[said(1, 200, 2, 2, "rest of the request never came")], WHOLE),
        case("the server has answered, and resets with an error", vec![half(), S([respond_ok(1), reset(1, 8)].concat())], &[said(1, 200, 2, 2, "then the stream was reset (CANCEL)")], WHOLE),
        case("the client was answered and stops", vec![half(), S(respond_ok(1)), C(reset(1, 0))], &[said(1, 200, 2, 2, "rest of the request never came")], WHOLE),
        case("the client was answered and resets", vec![half(), S(respond_ok(1)), C(reset(1, 8))], &[said(1, 200, 2, 2, "CANCEL")], WHOLE),
        case("a reset of a malformed request", vec![C(headers(1, ES, &request("GET", &[("connection", "close")]))), S(reset(1, 1))], &[malformed(1, 0, 0, 0, "forbids")], WHOLE),
        case("a reset while other streams go on", vec![C([get(1), get(3)].concat()), S([respond(1, "200"), respond(3, "200"), reset(1, 2), last(3, b"ok")].concat())], &[server_aborted(1, 200, 0, 0, "INTERNAL_ERROR"), ok(3, 200, 0, 2)], WHOLE),
        case("many rapid resets", vec![C((0..20u32).flat_map(|number| [get(2 * number + 1), reset(2 * number + 1, 8)].concat()).collect())], &(0..20u32).map(|number| client_aborted(2 * number + 1, 0, 0, 0, "CANCEL")).collect::<Vec<_>>(), WHOLE),

        case("GOAWAY, and everything is answered", vec![ask(), S([go_away(1, 0), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], WHOLE),
        case("GOAWAY that warns, then one that means it", vec![ask(), S(go_away(0x7fff_ffff, 0)), C(get(3)), S([go_away(1, 0), respond_ok(1)].concat())], &[server_aborted(3, 0, 0, 0, "refused the request (GOAWAY)"), ok(1, 200, 0, 2)], WHOLE),
        case("GOAWAY below streams that are open", vec![C([get(1), get(3), get(5)].concat()), S([go_away(1, 0), respond_ok(1)].concat())], &[server_aborted(3, 0, 0, 0, "refused"), server_aborted(5, 0, 0, 0, "refused"), ok(1, 200, 0, 2)], WHOLE),
        case("a request that crosses GOAWAY", vec![ask(), S([go_away(1, 0), respond_ok(1)].concat()), C([post(3), last(3, b"hello")].concat())], &[ok(1, 200, 0, 2), server_aborted(3, 0, 0, 0, "refused the request (GOAWAY)")], WHOLE),
        case("GOAWAY with an error, then FIN", vec![ask(), S(go_away(1, 11)), ServerFin, ClientFin], &[server_aborted(1, 0, 0, 0, "gave up the connection (ENHANCE_YOUR_CALM) without a response")], WHOLE),
        case("GOAWAY with an error, and the client closes first", vec![ask(), S(go_away(1, 2)), ClientFin, ServerFin], &[server_aborted(1, 0, 0, 0, "gave up the connection (INTERNAL_ERROR)")], WHOLE),
        case("GOAWAY without an error, and the client closes first", vec![ask(), S(go_away(1, 0)), ClientFin, ServerFin], &[client_aborted(1, 0, 0, 0, "client closed the connection")], WHOLE),
        case("GOAWAY of the client with an error", vec![ask(), begun(), C(go_away(0, 1)), ServerFin, ClientFin], &[client_aborted(1, 200, 0, 1, "gave up the connection (PROTOCOL_ERROR)")], WHOLE),
        case("GOAWAY of the client, and everything is answered", vec![C([get(1), go_away(0, 0)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("GOAWAY of the client below a push", vec![ask(), S(promise(1, 2, &ASK)), C(go_away(0, 0)), S(respond_ok(1))], &[client_aborted(2, 0, 0, 0, "client left (GOAWAY)"), ok(1, 200, 0, 2)], WHOLE),
        case("a push that crosses the client's GOAWAY", vec![ask(), C(go_away(0, 0)), S([promise(1, 2, &ASK), respond_ok(1), respond_ok(2)].concat())], &[client_aborted(2, 0, 0, 0, "client left (GOAWAY)"), ok(1, 200, 0, 2)], WHOLE),
        case("GOAWAY with words", vec![ask(), S([frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0bye"), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], WHOLE),

        case("the client closes before the response", vec![ask(), ClientFin, ServerFin], &[client_aborted(1, 0, 0, 0, "client closed the connection before the response")], WHOLE),
        case("the client closes within its request", vec![half(), ClientFin, ServerFin], &[client_aborted(1, 0, 2, 0, "before its request was whole")], WHOLE),
        case("the client half-closes and is answered", vec![ask(), ClientFin, S(respond_ok(1)), ServerFin], &[ok(1, 200, 0, 2)], WHOLE),
        case("the client resets the connection", vec![ask(), begun(), ClientReset], &[client_aborted(1, 200, 0, 1, "client reset the connection")], WHOLE),
        case("the server closes before the response", vec![ask(), ServerFin, ClientFin], &[server_aborted(1, 0, 0, 0, "server closed the connection without a response")], WHOLE),
        case("the server closes within the response", vec![ask(), begun(), ServerFin, ClientFin], &[server_aborted(1, 200, 0, 1, "before its response was whole")], WHOLE),
        case("the server closes within a frame", vec![ask(), S([respond(1, "200"), cut_frame(100, DATA, ES, 1, b"ok")].concat()), ServerFin], &[server_aborted(1, 200, 0, 2, "before its response was whole")], WHOLE),
        case("the server closes within padding", vec![ask(), S([respond(1, "200"), cut_frame(100, DATA, ES | PADDED, 1, b"\x61ok\0")].concat()), ServerFin], &[server_aborted(1, 200, 0, 2, "before its response was whole")], WHOLE),
        case("the server closes within a head", vec![ask(), S(cut_frame(100, HEADERS, EH, 1, &block(&[(":status", "200")]))), ServerFin], &[server_aborted(1, 0, 0, 0, "without a response")], WHOLE),
        case("the server closes after an interim head", vec![ask(), S(respond(1, "103")), ServerFin], &[server_aborted(1, 0, 0, 0, "without a response")], WHOLE),
        case("the server resets the connection", vec![half(), ServerReset], &[server_aborted(1, 0, 2, 0, "server reset the connection without a response")], WHOLE),
        case("the server has answered, and closes", vec![half(), S(respond_ok(1)), ServerFin, ClientFin], &[said(1, 200, 2, 2, "rest of the request never came")], WHOLE),
        case("several streams are open when the server closes", vec![C([get(1), post(3), get(5)].concat()), S([respond_ok(1), respond(5, "200")].concat()), ServerFin], &[ok(1, 200, 0, 2), server_aborted(3, 0, 0, 0, "without a response"), server_aborted(5, 200, 0, 0, "before its response was whole")], WHOLE),
        case("an idle connection is reset", vec![ask(), S(respond_ok(1)), ClientReset], &[ok(1, 200, 0, 2)], WHOLE),
        case("the first end is what counts", vec![ask(), ServerFin, ClientReset], &[server_aborted(1, 0, 0, 0, "server closed")], WHOLE),
    ]
}
