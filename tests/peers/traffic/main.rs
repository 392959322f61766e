//! Traffic for tests: a server that costs little, clients that say how long they were kept waiting or what failed, and
//! clients that ask for more than anybody should. What stands between them is not known here.
//!
//! ```text
//! serve PORT                  prints `listening`; answers, or sends without end when the path is /endless
//! ask ADDR RATE               for each line of its input: so many calls a second, one after the other, for so many
//!                             milliseconds, each on a connection of its own; prints how long they took
//! load ADDR RATE [PORT]       so many such calls a second, through the forward proxy on 127.0.0.1:PORT; prints `loading`,
//!                             for each line of its input how many there were, and at its end which of them failed
//! flood connections ADDR RATE HELD    connections, of which so many are held open
//! flood heads ADDR RATE       lines of request heads that do not end
//! flood bodies ADDR RATE      64 KiB of request bodies that do not end
//! flood slow ADDR RATE        reads of 4 KiB of answers that do not end
//! ```
//! Floods (RATE: so many a second) print `flooding`, end with their input, and print what they came to.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod calls;
mod flood;
mod server;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port] => server::serve(port.parse()?),
        ["ask", to, rate] => calls::ask(to.parse()?, rate.parse()?),
        ["load", to, rate] => calls::load(to.parse()?, rate.parse()?, None),
        ["load", to, rate, proxy] => calls::load(to.parse()?, rate.parse()?, Some(proxy.parse()?)),
        ["flood", "connections", to, rate, held] => flood::connections(to.parse()?, rate.parse()?, held.parse()?),
        ["flood", "heads", to, rate] => flood::heads(to.parse()?, rate.parse()?),
        ["flood", "bodies", to, rate] => flood::bodies(to.parse()?, rate.parse()?),
        ["flood", "slow", to, rate] => flood::slow(to.parse()?, rate.parse()?),
        _ => bail!("expected what stands at the beginning of this program's source, not {words:?}"),
    }
}
