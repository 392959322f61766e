//! JSON made readable: only the white space changes, so that numbers, duplicate keys and their order stay as they were
//! sent.

use serde::de::IgnoredAny;

/// Indented by two; `None` when it is not JSON, or neither object nor array.
pub fn pretty(text: &str) -> Option<String> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let (mut in_string, mut escaped, mut opened) = (false, false, false);
    for c in text.chars() {
        if in_string {
            out.push(c);
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if matches!(c, '}' | ']') {
            depth -= 1;
            if !opened {
                line(&mut out, depth);
            }
        } else if opened {
            line(&mut out, depth);
        }
        opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '{' | '[' => depth += 1,
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            '"' => in_string = true,
            _ => {}
        }
    }
    Some(out)
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_changes() {
        assert_eq!(
            pretty(r#"{"b":1.0,"a":[],"a":{ },"s":"x\":{,"}"#).unwrap(),
            "{\n  \"b\": 1.0,\n  \"a\": [],\n  \"a\": {},\n  \"s\": \"x\\\":{,\"\n}"
        );
        assert_eq!(pretty("[1e999,[\n2]]").unwrap(), "[\n  1e999,\n  [\n    2\n  ]\n]");
    }

    #[test]
    fn what_is_no_json_is_left_alone() {
        for text in ["", "1", "{", "{a:1}", "[1,]", "text"] {
            assert_eq!(pretty(text), None, "{text}");
        }
    }
}
