//! The command that repeats a recorded request. Whatever cannot be repeated (a redacted value, the rest of a cut body)
//! is said in a comment above it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::exchange::{Exchange, Protocol, Via};
use crate::head::Head;
use crate::redact::PLACEHOLDER;
use crate::text::{decode, one_line};
use crate::{grpc, url};

/// A body that is longer goes through a pipe: one argument holds 128 KiB on Linux.
const LONGEST_ARGUMENT: usize = 100_000;
/// From this size on curl asks for `100 Continue` by itself.
const EXPECT_FROM: usize = 1 << 20;

/// Why there is no command, and what there is instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrepeatable {
    #[error("curl cannot repeat a gRPC call; this does, with its message on stdin: {0}")]
    Grpc(String),
    #[error("curl cannot repeat the messages of a WebSocket; this opens another one: websocat {0}")]
    WebSocket(String),
}

/// Lines for a POSIX shell (bash or zsh where control characters must be quoted), without a line end.
///
/// # Errors
/// When it is no exchange that curl can repeat.
pub fn command(exchange: &Exchange) -> Result<String, Unrepeatable> {
    match exchange.protocol {
        Protocol::Grpc => Err(Unrepeatable::Grpc(grpcurl(exchange))),
        Protocol::WebSocket => Err(Unrepeatable::WebSocket(quote(&url::of(exchange).text))),
        _ => Ok(request(exchange)),
    }
}

/// As far as it can be known without the messages.
fn grpcurl(exchange: &Exchange) -> String {
    let (service, method) = grpc::method(exchange);
    let plaintext = if exchange.tls.is_none() { "-plaintext " } else { "" };
    let authority = url::authority(&url::of(exchange).text).to_owned();
    let address = exchange.connection.server.to_string();
    // It wants a port, and has another way to say the name.
    let host = if leads_to(&authority, exchange) && authority.contains(':') { authority.clone() } else { address };
    let name = if host == authority { String::new() } else { format!("-authority {} ", quote(&authority)) };
    format!("grpcurl {plaintext}{name}-d @ {} {}", quote(&host), quote(&format!("{service}/{method}")))
}

fn request(exchange: &Exchange) -> String {
    let message = &exchange.request;
    let head = Head::parse(&message.head);
    let asked = url::of_head(&head, exchange);
    let method = decode(head.start.request().method);
    let body = &message.body.kept[..];
    let mut comments = Vec::new();
    let mut words = vec!["curl".to_owned()];
    if exchange.protocol == Protocol::Http10 {
        words.push("--http1.0".into());
    } else if head.is_http2() {
        words.push(if exchange.tls.is_some() { "--http2" } else { "--http2-prior-knowledge" }.into());
    } else if exchange.tls.is_some() {
        // curl would offer HTTP/2, which is not what was spoken.
        words.push("--http1.1".into());
    }
    match (&*method, body.is_empty()) {
        ("GET", true) | ("POST", false) => {}
        ("HEAD", true) => words.push("--head".into()),
        _ => words.extend(["-X".into(), quote(&method)]),
    }
    address(exchange, &asked, &mut words);
    headers(&head, &asked, body, &mut words, &mut comments);
    if message.body.in_messages {
        comments.push("# the body came in messages and is left out: `nodetap show` shows them".to_owned());
    } else if (body.len() as u64) < message.body.size {
        comments.push(format!("# the body is cut: {} of {} bytes were kept", body.len(), message.body.size));
    }
    if !message.trailers.is_empty() {
        comments.push("# the trailers are left out".into());
    }
    let mut pipe = String::new();
    match std::str::from_utf8(body) {
        _ if body.is_empty() => {}
        Ok(text) if text.len() <= LONGEST_ARGUMENT && !text.contains('\0') => {
            words.extend(["--data-raw".into(), quote(text)]);
        }
        _ => {
            pipe = format!("echo {} | base64 -d | ", STANDARD.encode(body));
            words.extend(["--data-binary".into(), "@-".into()]);
        }
    }
    comments.push(pipe + &words.join(" "));
    comments.join("\n")
}

fn address(exchange: &Exchange, asked: &url::Url, words: &mut Vec<String>) {
    let server = exchange.connection.server;
    let path = url::path(&asked.text);
    if path.contains("/.") {
        words.push("--path-as-is".into());
    }
    if asked.text.contains(['[', ']', '{', '}']) {
        words.push("--globoff".into());
    }
    // What was asked of us as a proxy was asked of the server in another form.
    let ours = exchange.connection.via == Via::ForwardHttp;
    let target = asked.target.as_ref().filter(|_| !ours);
    if target.is_some_and(|target| target.contains("://")) {
        words.extend(["--proxy".into(), quote(&format!("http://{server}"))]);
    } else {
        if let Some(target) = target {
            words.extend(["--request-target".into(), quote(target)]);
        }
        if !leads_to(url::authority(&asked.text), exchange) {
            words.extend(["--connect-to".into(), quote(&format!("::{server}"))]);
        }
    }
    words.push(quote(&asked.text));
}

/// Whether curl would call the server by itself: a name is believed to be the right one when the port is.
fn leads_to(authority: &str, exchange: &Exchange) -> bool {
    let server = exchange.connection.server;
    let host = url::host(authority);
    let unsaid = if exchange.tls.is_some() { 443 } else { 80 };
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(unsaid);
    let other_ip = host.parse().is_ok_and(|ip: std::net::IpAddr| ip != server.ip());
    port == server.port() && !other_ip
}

fn headers(head: &Head<'_>, asked: &url::Url, body: &[u8], words: &mut Vec<String>, comments: &mut Vec<String>) {
    let authority = url::authority(&asked.text);
    let pseudo = |name: &str| head.is_http2() && name.starts_with(':');
    for field in head.fields() {
        let (name, value) = (decode(field.name), field.unfolded());
        if *value == *PLACEHOLDER {
            comments.push(format!("# {} was redacted: add -H '{}: …'", one_line(&name), one_line(&name)));
            continue;
        }
        let by_curl = field.is("content-length") || (field.is("host") && *value == *authority.as_bytes());
        if by_curl || name.is_empty() || pseudo(&name) {
            continue;
        }
        let value = decode(&value);
        // curl takes `Name:` for "leave it out" and `Name;` for an empty value.
        let header = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
        words.extend(["-H".into(), quote(&header)]);
    }
    let has = |name: &str| head.fields().any(|field| field.is(name));
    let mut added = vec!["User-Agent", "Accept"];
    if !body.is_empty() {
        added.push("Content-Type");
    }
    if body.len() >= EXPECT_FROM {
        added.push("Expect");
    }
    for name in added.into_iter().filter(|name| !has(name)) {
        words.extend(["-H".into(), quote(&format!("{name}:"))]);
    }
}

/// One word for a shell.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let safe = one_line(&text.replace(['\n', '\t'], "")) == text.replace(['\n', '\t'], "");
    if safe {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut quoted = String::from("$'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // As bytes: `\u` depends on the shell's locale.
            c if one_line(c.encode_utf8(&mut [0; 4])).len() > c.len_utf8() => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| quoted.push_str(&format!("\\x{byte:02x}")));
            }
            c => quoted.push(c),
        }
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Body;
    use crate::samples;

    fn shown(head: &str, body: &[u8]) -> String {
        let mut exchange = samples::exchange();
        exchange.request.head = head.as_bytes().to_vec();
        exchange.request.body = Body { size: body.len() as u64, kept: body.to_vec(), in_messages: false };
        command(&exchange).unwrap()
    }

    #[test]
    fn http2_is_asked_for_and_what_curl_cannot_repeat_is_said() {
        let mut exchange = samples::http2();
        assert_eq!(
            command(&exchange).unwrap(),
            "curl --http2 --connect-to ::10.0.0.7:8080 'https://web.shop/items?q=1' -H 'accept: */*' -H User-Agent:"
        );
        exchange.tls = None;
        assert!(command(&exchange).unwrap().starts_with("curl --http2-prior-knowledge "));
        let call = command(&samples::grpc_call()).unwrap_err().to_string();
        let expected = "grpcurl -authority web.shop -d @ 10.0.0.7:8080 shop.Items/List";
        assert!(call.contains("cannot") && call.ends_with(expected), "{call}");
        let chat = command(&samples::websocket()).unwrap_err().to_string();
        assert!(chat.contains("cannot") && chat.ends_with("websocat ws://web.shop/chat"), "{chat}");
    }

    #[test]
    fn what_a_proxy_was_asked_for_is_asked_of_the_server_itself() {
        let mut exchange = samples::exchange();
        exchange.request.head = b"GET http://x:8080/y HTTP/1.1\r\nHost: x:8080\r\n\r\n".to_vec();
        assert!(command(&exchange).unwrap().contains("--proxy"));
        std::sync::Arc::make_mut(&mut exchange.connection).via = Via::ForwardHttp;
        assert!(command(&exchange).unwrap().starts_with("curl http://x:8080/y -H"));
    }

    #[test]
    fn a_plain_request_is_a_plain_command() {
        assert_eq!(
            shown("GET /a?b=1 HTTP/1.1\r\nHost: x:8080\r\nUser-Agent: u\r\nAccept: */*\r\n\r\n", b""),
            "curl 'http://x:8080/a?b=1' -H 'User-Agent: u' -H 'Accept: */*'"
        );
    }

    #[test]
    fn what_curl_would_add_is_taken_away_and_the_rest_is_as_it_was() {
        assert_eq!(
            shown("PUT /./[a] HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nContent-Length: 3\r\n\r\n", b"it's"),
            "curl -X PUT --path-as-is --globoff --connect-to ::10.0.0.7:8080 'http://x/./[a]' -H 'X-Empty;' \
             -H User-Agent: -H Accept: -H Content-Type: --data-raw 'it'\\''s'"
        );
        assert!(shown("HEAD / HTTP/1.1\r\nHost: x:8080\r\n\r\n", b"").starts_with("curl --head http://x:8080/ -H"));
        assert!(
            shown("OPTIONS * HTTP/1.1\r\nHost: x:8080\r\n\r\n", b"").contains("--request-target '*' http://x:8080")
        );
        assert!(shown("GET http://x/y HTTP/1.1\r\n\r\n", b"").contains("--proxy http://10.0.0.7:8080 http://x/y"));
    }

    #[test]
    fn redacted_and_cut_parts_are_said_above() {
        let mut exchange = samples::exchange();
        exchange.request.head = b"POST / HTTP/1.1\r\nHost: x:8080\r\nCookie: [redacted]\r\n\r\n".to_vec();
        exchange.request.body = Body { size: 9, kept: vec![0, 255], in_messages: false };
        let lines = command(&exchange).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines[0], "# Cookie was redacted: add -H 'Cookie: …'");
        assert_eq!(lines[1], "# the body is cut: 2 of 9 bytes were kept");
        assert!(lines[2].starts_with("echo AP8= | base64 -d | curl http://x:8080/"), "{}", lines[2]);
    }

    #[test]
    fn a_shell_gives_back_every_word_as_it_was() {
        for text in
            ["", "a b", "it's", "$HOME `x` \"y\" \\ !", "a\nb\tc", "\x1b[31m'\\\r\u{7f}", "ü\u{202e}x", "-n", "#", "~"]
        {
            let script = format!("printf %s {}", quote(text));
            let Ok(output) = std::process::Command::new("bash").args(["-c", &script]).output() else { return };
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text, "{script}");
            assert!(!quote(text).contains('\x1b'));
        }
    }
}
