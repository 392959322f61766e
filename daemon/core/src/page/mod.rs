//! One record as a page for people: who spoke to whom, when, and what was said, in the style of `curl -v`. Nothing that
//! was recorded reaches the terminal unescaped.

mod message;

use jiff::tz::TimeZone;

use crate::decode;
use crate::excerpt::text as readable;
use crate::exchange::{
    Bytes, Connection, ConnectionSummary, Event, Exchange, Message, Messages, Outcome, Protocol, Target, Timing,
    TlsFacts,
};
use crate::head::{Fields, Head, heads};
use crate::record::headers;
use crate::row::{Row, direction, outcome, protocol, said};
use crate::style::{Colour, Style, of_outcome, of_status};
use crate::text::{decode as text, lines, one_line};
use crate::ulid::Ulid;
use crate::{grpc, json, size, time};

pub use message::message;

/// Bytes of a binary body that are shown.
const HEX_BYTES: usize = 256;
const HEX_ROW: usize = 16;

/// The page, with its last line end. Of an exchange whose bodies are in messages, [`message`] gives each of them.
/// `named`: what a message says, from who knows the names of its fields.
pub fn page(event: &Event, named: Option<&str>, style: Style, zone: &TimeZone) -> String {
    let mut page = Page { text: String::new(), style };
    match event {
        Event::Exchange(exchange) => page.exchange(exchange, event, zone),
        Event::Connection(summary) => page.connection(summary, zone),
        Event::Message(message) => page.stream_message(message, named, zone),
        Event::Loss(loss) => {
            let span = format!("{} to {}", time::in_full(loss.time, zone), time::in_full(loss.until, zone));
            page.fact("lost", &format!("{} records, {}", loss.exchanges, size::show(loss.bytes)));
            page.fact("reason", &loss.reason);
            page.fact("when", &span);
        }
    }
    page.text
}

struct Page {
    text: String,
    style: Style,
}

/// What all kinds of record have.
struct Common<'a> {
    id: Ulid,
    time: u64,
    connection: &'a Connection,
    protocol: Protocol,
    timing: Timing,
    bytes: Bytes,
    outcome: Outcome,
    detail: Option<&'a str>,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn fact(&mut self, name: &str, value: &str) {
        let name = self.style.paint(Colour::Dim, &format!("{name:<11}"));
        self.line(&format!("{name} {}", one_line(value)));
    }

    fn exchange(&mut self, exchange: &Exchange, event: &Event, zone: &TimeZone) {
        let Exchange { id, connection, time, protocol, timing, bytes, outcome, .. } = exchange;
        self.common(
            &Common {
                id: *id,
                time: *time,
                connection,
                protocol: *protocol,
                timing: *timing,
                bytes: *bytes,
                outcome: *outcome,
                detail: exchange.detail.as_deref(),
            },
            zone,
        );
        if let Some(row) = Row::of(event) {
            self.fact("url", &row.target);
        }
        if let Some(stream) = exchange.stream {
            self.fact("stream", &stream.to_string());
        }
        if let Some(tls) = &exchange.tls {
            self.tls(tls);
        }
        if exchange.protocol == Protocol::Grpc {
            self.grpc(exchange);
        }
        if let Some(Messages { client, server }) = exchange.messages {
            self.fact("messages", &format!("{client} from the client · {server} from the server"));
        }
        if !exchange.redacted.is_empty() {
            self.fact("redacted", &exchange.redacted.join(", "));
        }
        if !exchange.dropped.is_empty() {
            self.fact("dropped", &exchange.dropped.join(", "));
        }
        self.line("");
        self.message(">", &exchange.request, Colour::Bold);
        for head in heads(&exchange.interim) {
            self.line("");
            self.head("<", &head, Colour::Dim);
        }
        self.line("");
        match &exchange.response {
            Some(response) => {
                let colour = Row::of(event).map_or(Colour::Bold, |row| of_status(&row));
                self.message("<", response, colour);
            }
            None => self.line(&self.style.paint(Colour::Red, "no response")),
        }
    }

    fn connection(&mut self, summary: &ConnectionSummary, zone: &TimeZone) {
        let ConnectionSummary { id, connection, protocol, timing, bytes, outcome, detail, tls } = summary;
        self.common(
            &Common {
                id: *id,
                time: connection.accepted,
                connection,
                protocol: *protocol,
                timing: *timing,
                bytes: *bytes,
                outcome: *outcome,
                detail: detail.as_deref(),
            },
            zone,
        );
        if let Some(tls) = tls {
            self.tls(tls);
        }
    }

    fn tls(&mut self, tls: &TlsFacts) {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        let opened = if tls.opened { "opened, " } else { "" };
        self.fact("tls", &format!("{opened}version {}, sni {}", or_unknown(&tls.version), or_unknown(&tls.sni)));
        self.fact("alpn", &format!("{} (offered: {})", or_unknown(&tls.alpn), tls.offered_alpn.join(", ")));
        if let Some(reason) = tls.passthrough.as_deref() {
            let words = said(reason);
            let text = if words == reason { reason.to_owned() } else { format!("{reason}: {words}") };
            self.fact("not opened", &text);
        }
    }

    fn grpc(&mut self, exchange: &Exchange) {
        let (service, method) = grpc::method(exchange);
        self.fact("grpc", &format!("{method} of {service}"));
        let status = match grpc::status(exchange) {
            Some(status) => format!("{status} {}", grpc::status_name(status)),
            None => "none".to_owned(),
        };
        let message = grpc::message(exchange).map_or(String::new(), |message| format!(": {message}"));
        self.fact("status", &format!("{status}{message}"));
    }

    fn common(&mut self, common: &Common<'_>, zone: &TimeZone) {
        let Common { connection, timing, .. } = common;
        let result = match common.detail {
            Some(detail) => format!("{}: {detail}", outcome(common.outcome)),
            None => outcome(common.outcome).to_owned(),
        };
        self.fact("id", &common.id.to_string());
        self.fact("time", &time::in_full(common.time, zone));
        let coloured = self.style.paint(of_outcome(common.outcome), &one_line(&result));
        let name = self.style.paint(Colour::Dim, &format!("{:<11}", "outcome"));
        self.line(&format!("{name} {coloured}"));
        let process = connection.process.as_ref();
        let process = process.map_or("unknown".into(), |process| format!("{}[{}]", process.name, process.pid));
        self.fact("process", &format!("{process} of {}", connection.target));
        self.pod(connection);
        let named = |address: std::net::SocketAddr, name: &Option<std::sync::Arc<str>>| match name {
            Some(name) => format!("{address} ({name})"),
            None => address.to_string(),
        };
        let client = named(connection.client, &connection.client_name);
        let ways = format!("{client} → {}", named(connection.server, &connection.server_name));
        let spoken = format!("{} {}", direction(connection.direction), protocol(common.protocol));
        self.fact("peers", &format!("{ways} ({spoken})"));
        self.fact("connection", &connection.id.to_string());
        let times = [
            ("connected", timing.connected),
            ("request", timing.request_end),
            ("first byte", timing.first_byte),
            ("end", timing.end),
        ];
        let times = times.iter().filter_map(|(name, at)| at.map(|at| format!("{name} {}", time::duration(at))));
        self.fact("timing", &times.collect::<Vec<_>>().join(" · "));
        let Bytes { sent, received } = common.bytes;
        self.fact("bytes", &format!("sent {} · received {}", size::show(sent), size::show(received)));
    }

    /// What is known of a pod beside its name.
    fn pod(&mut self, connection: &Connection) {
        let Target { workload, node, labels, .. } = &*connection.target;
        let parts = [
            connection.container.as_ref().map(|container| format!("container {container}")),
            workload.as_ref().map(|workload| format!("of {workload}")),
            node.as_ref().map(|node| format!("on {node}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            self.fact("pod", &parts.join(" "));
        }
        if !labels.is_empty() {
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            self.fact("labels", &labels.join(", "));
        }
    }

    fn message(&mut self, mark: &str, message: &Message, colour: Colour) {
        self.head(mark, &Head::parse(&message.head), colour);
        self.body(message);
        for (name, value) in headers(Fields::of(&message.trailers)) {
            self.header(mark, &name, &value);
        }
    }

    fn head(&mut self, mark: &str, head: &Head<'_>, colour: Colour) {
        let start = self.style.paint(colour, &one_line(&text(head.start.line)));
        let mark_shown = self.style.paint(Colour::Dim, mark);
        self.line(&format!("{mark_shown} {start}"));
        for (name, value) in headers(head.fields()) {
            self.header(mark, &name, &value);
        }
    }

    fn header(&mut self, mark: &str, name: &str, value: &str) {
        let (mark, name) = (self.style.paint(Colour::Dim, mark), self.style.paint(Colour::Cyan, &one_line(name)));
        self.line(format!("{mark} {name}: {}", one_line(value)).trim_end());
    }

    fn body(&mut self, message: &Message) {
        let body = &message.body;
        if body.in_messages {
            self.line("");
            return self.notes(&[format!("{} in messages, below", size::show(body.size))]);
        }
        if body.size == 0 {
            return;
        }
        self.line("");
        let decoded = decode::body(message);
        let mut notes = decoded.codings.iter().map(|coding| format!("decoded from {coding}")).collect::<Vec<_>>();
        notes.extend(decoded.unknown.as_ref().map(|coding| format!("still in content coding {coding}")));
        if (body.kept.len() as u64) < body.size {
            notes.push(format!("{} of {} kept", size::show(body.kept.len() as u64), size::show(body.size)));
        } else if decoded.partial {
            notes.push("not all of it could be decoded".into());
        }
        self.content(&decoded.bytes, decoded.partial, notes);
    }

    /// Text as it is, JSON in good order, anything else in hex; and what there is to say about it.
    fn content(&mut self, bytes: &[u8], cut: bool, mut notes: Vec<String>) {
        match readable(bytes, cut) {
            Some(text) => {
                let pretty = json::pretty(text).unwrap_or_else(|| text.replace("\r\n", "\n"));
                self.line(lines(&pretty).trim_end_matches('\n'));
            }
            None => {
                self.hex(bytes);
                notes.push(format!("binary, {}", size::show(bytes.len() as u64)));
            }
        }
        self.notes(&notes);
    }

    fn notes(&mut self, notes: &[String]) {
        if !notes.is_empty() {
            let notes = one_line(&format!("({})", notes.join("; "))).into_owned();
            self.line(&self.style.paint(Colour::Dim, &notes));
        }
    }

    fn hex(&mut self, bytes: &[u8]) {
        for (number, row) in bytes.chunks(HEX_ROW).take(HEX_BYTES / HEX_ROW).enumerate() {
            let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            let visible = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
            let shown: String = row.iter().map(visible).collect();
            self.line(&format!("{:08x}  {:<47}  |{shown}|", number * HEX_ROW, hex.join(" ")));
        }
        if bytes.len() > HEX_BYTES {
            self.line("…");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn shown(event: &Event) -> String {
        page(event, None, Style::Plain, &TimeZone::UTC)
    }

    #[test]
    fn an_exchange_is_shown_with_both_heads_and_its_body_in_good_order() {
        let page = shown(&samples::exchange().into());
        for part in [
            "id          000000YGJ00000000000000002\n",
            "time        1970-01-01 00:16:40.000123 +00:00\n",
            "outcome     complete\n",
            "process     curl[4711] of curl\n",
            "peers       127.0.0.1:50000 → 10.0.0.7:8080 (outbound http/1.1)\n",
            "timing      connected 310 µs · request 322 µs · first byte 4.8 ms · end 5.1 ms\n",
            "\n> GET /items?q=1 HTTP/1.1\n> Host: web.shop\n> aCCept: */*\n",
            "\n< HTTP/1.1 200 OK\n< Content-Type: application/json\n\n{\n  \"a\": [\n    1,\n    true\n  ]\n}\n",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
    }

    #[test]
    fn of_a_pod_everything_is_said_that_is_known() {
        let page = shown(&samples::of_pod().into());
        for part in [
            "process     curl[4711] of shop/web-6774cc6887-rjz5j\n",
            "pod         container app of Deployment/web on n1\n",
            "labels      app=web, tier=front\n",
            "peers       127.0.0.1:50000 (shop/client) → 10.0.0.7:8080 (web.shop.svc.cluster.local) (inbound http/1.1)\n",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
    }

    #[test]
    fn nothing_recorded_commands_the_terminal() {
        let mut exchange = samples::exchange();
        exchange.request.head = b"GET /\x1b[2J HTTP/1.1\r\nX\x1b: \x9b1m\r\n\r\n".to_vec();
        exchange.detail = Some("\x1b]0;x\x07".into());
        exchange.outcome = Outcome::Malformed;
        exchange.response = Some(samples::message("HTTP/1.1 200 \x1b[1mOK\r\n\r\n", "text \x1b[31mred\r\nline"));
        for event in samples::all().into_iter().chain([exchange.into()]) {
            let page = shown(&event);
            assert!(page.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{page:?}");
        }
    }

    #[test]
    fn a_binary_body_is_shown_in_hex_and_a_cut_one_says_so() {
        let page = shown(samples::all().get(3).unwrap());
        assert!(page.contains("00000000  ff 00 01                                         |...|"), "{page}");
        assert!(page.contains("(3 B of 100 B kept; binary, 3 B)"), "{page}");
    }
}
