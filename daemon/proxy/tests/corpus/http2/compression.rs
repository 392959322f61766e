//! Header compression over several messages: what one block leaves in the table, another one needs.

use super::Step::{C, S};
use super::*;

/// A block that an index made shorter: GET, http, `/`, and the newest entry of the table.
const AGAIN: [u8; 4] = [0x82, 0x86, 0x84, 0xbe];

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    let ask = |stream, block: &[u8]| frame(HEADERS, EH | ES, stream, block);
    let first = [&[0x82, 0x86, 0x84][..], &indexed(b":authority", b"x")].concat();
    let both = |second: &[u8]| [ask(1, &first), ask(3, second)].concat();
    let answers = [respond_ok(1), respond_ok(3)].concat();
    let well = [ok(1, 200, 0, 2), ok(3, 200, 0, 2)];
    let broken = |name: &str, block: &[u8], detail| {
        case(name, vec![C([get(1), ask(3, block)].concat()), S(go_away(0, 9))], &[passed(1, 0, 0, 0, "not understood"), malformed(3, 0, 0, 0, detail)], wrong(detail))
    };
    let mut large = vec![0x40, 0x01, b'a', 0x7f, 0x81, 0x1f];
    large.extend([b'x'; 4096]);
    vec![
        case("an entry that is used again", vec![C(both(&AGAIN)), S(answers.clone())], &well, WHOLE),
        case("a name that is used again", vec![C(both(&[0x82, 0x86, 0x84, 0x7e, 1, b'y'])), S(answers.clone())], &well, WHOLE),
        case("a Huffman code", vec![C(ask(1, &[0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff])), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("a field that must never be indexed", vec![C(ask(1, &[&[0x82, 0x86, 0x84][..], &[0x10, 1, b'a', 1, b'b']].concat())), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("the table stays in step over a stream that was reset", vec![C([post(1), reset(1, 8)].concat()), S(frame(HEADERS, EH, 1, &[&[0x88][..], &indexed(b"a", b"b")].concat())), C(get(3)), S(frame(HEADERS, EH | ES, 3, &[0x88, 0xbe]))], &[client_aborted(1, 0, 0, 0, "CANCEL"), ok(3, 200, 0, 0)], WHOLE),
        case("the table stays in step over trailers that nobody waits for", vec![C(post(1)), S([respond_ok(1), reset(1, 0)].concat()), C([frame(HEADERS, EH | ES, 1, &indexed(b":authority", b"x")), ask(3, &AGAIN)].concat()), S(respond_ok(3))], &[said(1, 200, 0, 2, "response was whole before the request"), ok(3, 200, 0, 2)], WHOLE),
        case("the table stays in step over a block on no stream", vec![C([frame(HEADERS, EH, 0, &first), ask(1, &AGAIN)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], wrong("must not be sent on")),
        case("the two sides have tables of their own", vec![C(ask(1, &first)), S(frame(HEADERS, EH | ES, 1, &[0x88, 0xbe]))], &[malformed(1, 0, 0, 0, "index that does not exist")], wrong("server sent a header block with an index")),
        case("a size update", vec![C(both(&[&[0x3f, 0x61][..], &AGAIN].concat())), S(answers.clone())], &well, WHOLE),
        case("two size updates at once", vec![C(both(&[&[0x20, 0x3f, 0x61, 0x82, 0x86, 0x84][..]].concat())), S(answers.clone())], &well, WHOLE),
        case("a size update to zero forgets the entries", vec![C(both(&[&[0x20][..], &AGAIN].concat())), S(go_away(1, 9))], &[passed(1, 0, 0, 0, "not understood"), malformed(3, 0, 0, 0, "index")], wrong("index that does not exist")),
        case("a larger table that the server allowed", vec![S(settings(&[(1, 8192)])), C(ask(1, &[0x3f, 0xe1, 0x3f, 0x82, 0x86, 0x84])), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("a larger table that was allowed and taken back", vec![S([settings(&[(1, 8192)]), settings(&[(1, 0)])].concat()), C(ask(1, &[0x3f, 0xe1, 0x3f, 0x82, 0x86, 0x84])), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("a table beyond our limit", vec![S(settings(&[(1, 1 << 20)])), C(ask(1, &[0x3f, 0xe2, 0xff, 0x03, 0x82, 0x86, 0x84])), S(respond_ok(1))], &[passed(1, 0, 0, 0, "table beyond the tap's limit")], opaque("h2", "table beyond the tap's limit")),
        case("an entry larger than the table", vec![C([ask(1, &[&AGAIN[..3], &large].concat()), ask(3, &[&AGAIN[..3], &large[..]].concat())].concat()), S(answers)], &well, WHOLE),
        broken("an index of zero", &[0x80], "index that does not exist"),
        broken("an index beyond the table", &AGAIN, "index that does not exist"),
        broken("an index of a name beyond the table", &[0x7e, 1, b'x'], "index that does not exist"),
        broken("a block that ends within a field", &[0x82, 0x40, 3, b'a'], "ends within a field"),
        broken("a block that ends within a number", &[0xff, 0x80], "ends within a field"),
        broken("a number without end", &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1], "number that is too large"),
        broken("a string longer than its block", &[0x00, 0x7f, 0xff, 0xff, 0x03, b'a'], "ends within a field"),
        broken("a Huffman code with wrong padding", &[0x00, 1, b'a', 0x81, 0x18], "invalid Huffman code"),
        broken("a Huffman code with its end in it", &[0x00, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff], "invalid Huffman code"),
        broken("a size update beyond what is allowed", &[0x3f, 0xe2, 0x1f], "resizes its table"),
        broken("a size update behind a field", &[0x82, 0x20], "resizes its table"),
    ]
}
