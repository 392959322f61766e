//! Pages of pods, written: for people, or as one JSON document.

use std::io::{self, IsTerminal, Write as _};

use nodetap_core::checkup::{Page, Verdict};
use nodetap_core::style::Colour;
use nodetap_core::text::one_line;
use serde_json::json;

use crate::commands::Failure;
use crate::commands::output::style;

pub(super) fn pages(pages: &[Page], as_json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let wrong: usize = pages.iter().map(Page::wrong).sum();
    if as_json {
        return Ok(writeln!(out, "{}", json!({"pods": pages, "wrong": wrong}))?);
    }
    let style = style(out.is_terminal());
    for page in pages {
        writeln!(out, "{}", style.paint(Colour::Bold, &format!("{}/{}", page.namespace, page.pod)))?;
        for line in &page.lines {
            let (word, colour) = match line.verdict {
                Verdict::Good => ("ok   ", Colour::Green),
                Verdict::Note => ("note ", Colour::Plain),
                Verdict::Wrong => ("FAIL ", Colour::Red),
            };
            // Texts of users are in it, and those of the cluster.
            writeln!(out, "{} {}: {}", style.paint(colour, word), line.topic.words(), one_line(&line.text))?;
            if let Some(mend) = &line.mend {
                writeln!(out, "      do: {}", one_line(mend))?;
            }
        }
    }
    let asked = pages.iter().filter(|page| page.asked == Some(true)).count();
    let verdict = if wrong == 0 { "nothing is wrong".into() } else { format!("wrong: {wrong}") };
    Ok(writeln!(out, "{asked} of {} pods ask for capture; {verdict}", pages.len())?)
}
