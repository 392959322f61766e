//! Writes whole lines to something that may fail in the midst of one (a full disk): what comes after a torn line
//! begins on a line of its own. Nothing is held back, so that a line that was taken is written.

use std::io::{self, Write};

/// Where lines go.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    line: Vec<u8>,
    /// The last line was not written to its end.
    torn: bool,
}

impl<W: Write> Lines<W> {
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::new(), torn: false }
    }

    /// Writes the line that `fill` makes, with its end.
    ///
    /// # Errors
    /// When `fill` fails (nothing is written then), or the line could not be written to its end.
    pub fn put(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        self.line.clear();
        if self.torn {
            self.line.push(b'\n');
        }
        fill(&mut self.line)?;
        self.line.push(b'\n');
        let mut rest = self.line.as_slice();
        while !rest.is_empty() {
            let written = match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let (taken, left) = rest.split_at_checked(written).unwrap_or((rest, &[]));
            self.torn = taken.last() != Some(&b'\n');
            rest = left;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes.
    struct Full {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn put(lines: &mut Lines<Full>, text: &str) -> bool {
        lines.put(|line| line.write_all(text.as_bytes())).is_ok()
    }

    #[test]
    fn after_a_torn_line_the_next_begins_on_its_own() {
        for room in 0..12 {
            let mut lines = Lines::new(Full { taken: Vec::new(), room });
            let mut whole = Vec::new();
            for text in ["one", "two", "three", "four"] {
                if put(&mut lines, text) {
                    whole.push(text);
                }
            }
            lines.out.room = 100;
            for text in ["five", "six"] {
                assert!(put(&mut lines, text));
                whole.push(text);
            }
            let taken = String::from_utf8(lines.out.taken).unwrap();
            for text in &whole {
                assert!(taken.lines().any(|line| line == *text), "{text} in {taken:?} with room for {room}");
            }
            assert!(taken.lines().count() <= whole.len() + 2, "{taken:?} with room for {room}");
        }
    }

    #[test]
    fn what_cannot_be_made_into_a_line_writes_nothing() {
        let mut lines = Lines::new(Full { taken: Vec::new(), room: 100 });
        let failed = lines.put(|line| {
            line.extend_from_slice(b"half");
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert!(put(&mut lines, "one"));
        assert_eq!(lines.out.taken, b"one\n");
    }
}
