//! What makes an HTTP/2 exchange a gRPC call
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>): which method was called and how it ended. It
//! refuses to look into messages.

use crate::exchange::Exchange;
use crate::head::{Fields, Head};
use crate::text::decode;
use crate::url;

/// Service and method of a call: `shop.Items` and `List` of `/shop.Items/List`.
pub fn method(exchange: &Exchange) -> (String, String) {
    let url = url::of(exchange).text;
    let path = url::path(&url);
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let (service, method) = path.rsplit_once('/').unwrap_or((path, ""));
    (service.to_owned(), method.to_owned())
}

/// `grpc-status`; `None`: the call ended without one.
pub fn status(exchange: &Exchange) -> Option<u32> {
    field(exchange, "grpc-status").and_then(|status| status.trim().parse().ok())
}

/// `grpc-message`, percent-decoded.
pub fn message(exchange: &Exchange) -> Option<String> {
    field(exchange, "grpc-message").map(|message| url::percent_decoded(&message))
}

/// Of the trailers; of a call that ended at once they stand in the head.
fn field(exchange: &Exchange, name: &str) -> Option<String> {
    let response = exchange.response.as_ref()?;
    let value = |mut fields: Fields<'_>| {
        fields.find(|field| field.is(name)).map(|field| decode(&field.unfolded()).into_owned())
    };
    value(Fields::of(&response.trailers)).or_else(|| value(Head::parse(&response.head).fields()))
}

/// The name of a status (<https://grpc.io/docs/guides/status-codes/>).
pub fn status_name(status: u32) -> &'static str {
    match status {
        0 => "OK",
        1 => "CANCELLED",
        2 => "UNKNOWN",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => "not a status of gRPC",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_call_ends_with_the_status_of_its_trailers_or_of_its_only_head() {
        let mut call = samples::grpc_call();
        assert_eq!(method(&call), ("shop.Items".to_owned(), "List".to_owned()));
        assert_eq!((status(&call), message(&call)), (Some(5), Some("no such item".to_owned())));
        call.response = Some(samples::message("HTTP/2 200\r\ngrpc-status: 16\r\n\r\n", ""));
        assert_eq!((status(&call), message(&call)), (Some(16), None));
        call.response = None;
        assert_eq!(status(&call), None);
    }
}
