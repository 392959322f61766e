//! The static and the dynamic table of HPACK (RFC 7541 §2.3, Appendix A). The text of all dynamic entries lies in one
//! buffer, one behind the other; it refuses to know what an entry means.

use std::collections::VecDeque;

/// What each entry is charged beyond its text (RFC 7541 §4.1).
const OVERHEAD: usize = 32;
/// Evicted text is left in the buffer until there is this much of it, and more than of entries that live.
const LITTER: usize = 1024;

#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// Where an entry's name begins, in bytes ever put into the buffer; its value follows.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: usize,
    name: usize,
    value: usize,
}

impl Entry {
    fn size(self) -> usize {
        self.name + self.value + OVERHEAD
    }
}

/// Both tables of one direction. Its memory is at most about twice its size.
#[derive(Debug)]
pub(super) struct Table {
    text: Vec<u8>,
    /// Bytes that were removed from the front of `text`.
    removed: usize,
    /// The oldest one first.
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self { text: Vec::new(), removed: 0, entries: VecDeque::new(), size: 0, max }
    }

    /// Name and value of the entry with that index (§2.3.3).
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if let Some((name, value)) = STATIC.get(index.checked_sub(1)?) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entry(index)?;
        let from = entry.at - self.removed;
        let text = self.text.get(from..from + entry.name + entry.value)?;
        text.split_at_checked(entry.name)
    }

    /// Adds an entry, for which older ones make room; one that is larger than the table empties it (§4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let at = self.removed + self.text.len();
        self.text.extend_from_slice(name);
        self.add(Entry { at, name: name.len(), value: value.len() }, value);
    }

    /// As [`Self::insert`], with the name of the entry with that index.
    pub(super) fn insert_named(&mut self, index: usize, value: &[u8]) {
        if let Some((name, _)) = STATIC.get(index.wrapping_sub(1)) {
            return self.insert(name.as_bytes(), value);
        }
        let Some(named) = self.entry(index) else { return };
        let (at, from) = (self.removed + self.text.len(), named.at - self.removed);
        self.text.extend_from_within(from..from + named.name);
        self.add(Entry { at, name: named.name, value: value.len() }, value);
    }

    /// Sets how large it may be, in bytes as §4.1 counts them.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.make_room(0);
        self.tidy();
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let newest = self.entries.len().checked_sub(1)?;
        self.entries.get(newest.checked_sub(index.checked_sub(STATIC.len() + 1)?)?).copied()
    }

    /// The entry's name has been put into the buffer.
    fn add(&mut self, entry: Entry, value: &[u8]) {
        let size = entry.size();
        self.make_room(size);
        if size > self.max {
            self.text.truncate(entry.at - self.removed);
        } else {
            self.text.extend_from_slice(value);
            self.entries.push_back(entry);
            self.size += size;
        }
        self.tidy();
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.max {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.size -= oldest.size();
        }
    }

    fn tidy(&mut self) {
        let alive = self.entries.front().map_or(self.removed + self.text.len(), |oldest| oldest.at);
        let litter = alive - self.removed;
        if litter >= LITTER && litter > self.text.len() / 2 {
            self.text.drain(..litter);
            self.removed = alive;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_stays_small_however_many_entries_come_and_go() {
        let mut table = Table::new(4096);
        for round in 0..100_000usize {
            let value = vec![b'x'; round % 700];
            if round % 3 == 0 {
                table.insert_named(62 + round % 5, &value)
            } else {
                table.insert(b"name", &value)
            }
            assert!(table.size <= 4096 && table.text.len() <= 2 * 4096 + LITTER);
        }
        assert_eq!(table.get(62).map(|(name, value)| (name, value.len())), Some((&b"name"[..], 99_999 % 700)));
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new(100);
        table.insert(b"a", b"b");
        table.insert(b"a", &[b'b'; 67]);
        assert_eq!(table.get(62).map(|(_, value)| value.len()), Some(67));
        table.insert_named(62, &[b'b'; 68]);
        assert_eq!((table.get(62), table.size), (None, 0));
    }

    #[test]
    fn the_name_of_an_entry_that_makes_room_is_still_known() {
        let mut table = Table::new(64);
        table.insert(b"a-name", b"1");
        table.insert_named(62, &[b'2'; 26]);
        assert_eq!(table.get(62), Some((&b"a-name"[..], &[b'2'; 26][..])));
        assert_eq!(table.get(63), None);
    }
}
