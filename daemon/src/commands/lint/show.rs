//! What was found, written: a table with what is wrong beside it, or JSON lines.

use std::io::{self, Write};

use nodetap_core::pod::annotations::Said;
use nodetap_core::pod::keys::{Handling, KEYS, TRUST_BUNDLE};
use nodetap_core::pod::value::Value;
use nodetap_core::pod::wish::Wish;
use nodetap_core::text::one_line;
use serde_json::json;

use super::check::{Finding, Gets, Line};

impl Finding {
    /// `web.yaml:2/Deployment/web/nodetap.io/proxy-type`.
    fn path(&self, line: &Line) -> String {
        let mut path = format!("{}:{}", self.place.file, self.place.document);
        for part in [Some(&self.kind), Some(&self.name), line.key.as_ref()].into_iter().flatten() {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }

    /// Kind, namespace and name.
    fn title(&self) -> String {
        format!("{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

impl Gets {
    fn verdict(&self) -> &'static str {
        match self.decision.wish {
            Wish::NotAsked => "no",
            Wish::Refused(_) => "refused",
            Wish::Capture(_) => "yes",
        }
    }

    fn mode(&self) -> &'static str {
        if let Wish::Capture(config) = &self.decision.wish { config.proxy_type.name() } else { "" }
    }

    /// Who asks for it, or says no.
    fn by(&self) -> String {
        self.decision.said.get("inject").map(|said| said.on.to_string()).unwrap_or_default()
    }
}

/// The pods on `out`, everything that is to be said about them on `aside`: one line each.
pub(super) fn table(findings: &[Finding], out: &mut dyn Write, aside: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![["POD", "CAPTURE", "MODE", "INBOUND", "OUTBOUND", "ASKED BY"].map(str::to_owned)];
    for finding in findings {
        if let Some(gets) = &finding.pod {
            let row = [
                finding.title(),
                gets.verdict().into(),
                gets.mode().into(),
                gets.inbound.clone(),
                gets.outbound.clone(),
                gets.by(),
            ];
            rows.push(row.map(|cell| if cell.is_empty() { "-".into() } else { one_line(&cell).into_owned() }));
        }
    }
    if rows.len() > 1 {
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or_default()).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
    }
    out.flush()?;
    for finding in findings {
        for (word, lines) in [("error", &finding.errors), ("warning", &finding.warnings), ("note", &finding.notes)] {
            for line in lines {
                writeln!(aside, "{word}: {}: {}", one_line(&finding.path(line)), one_line(&line.text))?;
            }
        }
    }
    Ok(())
}

/// One object a line, of all that has a pod or something to say.
pub(super) fn json(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        let lines = |lines: &[Line]| -> Vec<_> {
            lines.iter().map(|line| json!({"path": finding.path(line), "key": line.key, "text": line.text})).collect()
        };
        let silent = finding.errors.is_empty() && finding.warnings.is_empty() && finding.notes.is_empty();
        if finding.pod.is_none() && silent {
            continue;
        }
        let mut object = json!({
            "file": finding.place.file, "document": finding.place.document,
            "kind": finding.kind, "namespace": finding.namespace, "name": finding.name,
            "errors": lines(&finding.errors), "warnings": lines(&finding.warnings), "notes": lines(&finding.notes),
        });
        if let (Some(gets), Some(object)) = (&finding.pod, object.as_object_mut()) {
            object.insert("capture".into(), gets.verdict().into());
            object.insert("said".into(), gets.decision.said.values().map(said).collect());
            if let Wish::Capture(config) = &gets.decision.wish {
                object.insert("inbound".into(), gets.inbound.clone().into());
                object.insert("outbound".into(), gets.outbound.clone().into());
                object.insert("containers".into(), gets.containers.clone().into());
                object.insert("config".into(), serde_json::to_value(config)?);
            }
        }
        serde_json::to_writer(&mut *out, &object)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn said(said: &Said) -> serde_json::Value {
    let done = !matches!(said.key.handling, Handling::Ignored(_));
    json!({"key": said.written, "value": said.text, "on": said.on.to_string(), "done": done,
           "flag": if let Value::Flag(flag) = said.value { Some(flag) } else { None }})
}

/// The table of annotations.
pub(super) fn keys(as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        for key in &KEYS {
            let (handling, why) = match key.handling {
                Handling::Honoured => ("honoured", None),
                Handling::Own => ("nodetap.io/ only", None),
                Handling::Ignored(why) => ("ignored", Some(why)),
            };
            let object = json!({"name": key.name, "accepted": key.kind.accepted(), "default": key.default,
                                "meaning": key.meaning, "handling": handling, "why": why});
            serde_json::to_writer(&mut *out, &object)?;
            out.write_all(b"\n")?;
        }
        return Ok(());
    }
    writeln!(out, "Under nodetap.io/ and sidecar.speedscale.com/, with the same meaning:\n")?;
    let group = |out: &mut dyn Write, wanted: fn(Handling) -> bool| -> io::Result<()> {
        for key in KEYS.iter().filter(|key| wanted(key.handling)) {
            let default = if key.default.is_empty() { String::new() } else { format!(" [{}]", key.default) };
            match key.handling {
                Handling::Ignored(why) => writeln!(out, "  {}: {why}", key.name)?,
                _ => writeln!(out, "  {}: {}{default}\n      {}", key.name, key.meaning, key.kind.accepted())?,
            }
        }
        Ok(())
    };
    group(out, |handling| handling == Handling::Honoured)?;
    writeln!(out, "\nUnder nodetap.io/ only:\n")?;
    group(out, |handling| handling == Handling::Own)?;
    writeln!(out, "\nAccepted, and doing nothing:\n")?;
    group(out, |handling| matches!(handling, Handling::Ignored(_)))?;
    writeln!(out, "\nA label, of namespaces:\n")?;
    writeln!(
        out,
        "  {TRUST_BUNDLE}: the ConfigMap nodetap-trust-bundle there holds the roots that pods with tls-out are to trust"
    )?;
    writeln!(out, "      true or false")
}
