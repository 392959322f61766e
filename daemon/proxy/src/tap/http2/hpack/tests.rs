//! The examples of RFC 7541, and what no encoder would write.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Corrupt> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.decode(block, 1000, |name, value| fields.push((text(name), text(value))))?;
    Ok(fields)
}

/// Reads each block with one decoder, and compares with fields of the form `name: value`.
fn check(decoder: &mut Decoder, blocks: &[(&str, &[&str])]) {
    for (hex, expected) in blocks {
        let fields = decode(decoder, &bytes(hex)).unwrap();
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(fields, *expected, "{hex}");
    }
}

#[test]
fn integers_are_those_of_appendix_c1() {
    for (hex, prefix, number) in [("0a", 5, 10), ("1f9a0a", 5, 1337), ("2a", 8, 42)] {
        assert_eq!(Reader { rest: &bytes(hex) }.number(prefix), Ok(number));
    }
    assert_eq!(Reader { rest: &bytes("ffffffffff0f") }.number(8), Err(Corrupt::Number));
    assert_eq!(Reader { rest: &bytes("ff80feffff0f") }.number(8), Ok(u32::MAX as usize));
    assert_eq!(Reader { rest: &bytes("ff8080808080808001") }.number(8), Err(Corrupt::Number));
    assert_eq!(Reader { rest: &bytes("ff80") }.number(8), Err(Corrupt::Cut));
}

#[test]
fn single_fields_are_those_of_appendix_c2() {
    check(
        &mut Decoder::new(),
        &[("400a637573746f6d2d6b65790d637573746f6d2d686561646572", &["custom-key: custom-header"])],
    );
    check(&mut Decoder::new(), &[("040c2f73616d706c652f70617468", &[":path: /sample/path"])]);
    check(&mut Decoder::new(), &[("100870617373776f726406736563726574", &["password: secret"])]);
    check(&mut Decoder::new(), &[("82", &[":method: GET"])]);
}

const REQUESTS: [&[&str]; 3] = [
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"],
    &[
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        ":authority: www.example.com",
        "custom-key: custom-value",
    ],
];

#[test]
fn requests_are_those_of_appendices_c3_and_c4() {
    for blocks in [
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
    ] {
        let mut decoder = Decoder::new();
        blocks.iter().zip(REQUESTS).for_each(|(block, expected)| check(&mut decoder, &[(block, expected)]));
    }
}

const RESPONSES: [&[&str]; 3] = [
    &[
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 307",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        "location: https://www.example.com",
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
];

#[test]
fn responses_are_those_of_appendices_c5_and_c6() {
    for blocks in [
        [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e17\
             68747470733a2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d41\
             53444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b207665727369\
             6f6e3d31",
        ],
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97\
             c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd\
             5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
    ] {
        let mut decoder = Decoder::new();
        decoder.table.resize(256);
        blocks.iter().zip(RESPONSES).for_each(|(block, expected)| check(&mut decoder, &[(block, expected)]));
    }
}

#[test]
fn every_kind_of_wrong_block_is_told_apart() {
    for (hex, corrupt) in [
        ("80", Corrupt::Index),
        ("be", Corrupt::Index),
        ("7e01", Corrupt::Index),
        ("ff8080808010", Corrupt::Number),
        ("40", Corrupt::Cut),
        ("4001", Corrupt::Cut),
        ("400161", Corrupt::Cut),
        ("40016102", Corrupt::Cut),
        ("400161ff", Corrupt::Cut),
        ("40016181ff", Corrupt::Huffman),
        ("40016184ffffffff", Corrupt::Huffman),
        ("8220", Corrupt::TableSize),
        ("3fe21f", Corrupt::TableSize),
    ] {
        assert_eq!(decode(&mut Decoder::new(), &bytes(hex)), Err(corrupt), "{hex}");
    }
}

#[test]
fn the_table_follows_what_the_receiver_allows_up_to_our_limit() {
    let mut decoder = Decoder::new();
    // 4096 is what is allowed at first; 4097 only when the receiver has said so; then a large one, not a giant one.
    assert_eq!(decode(&mut decoder, &bytes("3fe11f82")).map(|fields| fields.len()), Ok(1));
    decoder.allow(4097);
    assert!(decode(&mut decoder, &bytes("3fe21f")).is_ok());
    decoder.allow(100);
    assert!(decode(&mut decoder, &bytes("203fe21f")).is_ok());
    decoder.allow(u32::MAX);
    assert!(decode(&mut decoder, &bytes("3fe1ff03")).is_ok());
    assert_eq!(decode(&mut decoder, &bytes("3fe2ff03")), Err(Corrupt::TableTooLarge));
}

#[test]
fn text_is_read_up_to_the_limit() {
    let entry = [&bytes("400161")[..], &[100], &[b'x'; 100]].concat();
    let repeated = |times: usize| [&entry[..], &vec![0xbe; times]].concat();
    assert_eq!(decode(&mut Decoder::new(), &repeated(8)).map(|fields| fields.len()), Ok(9));
    assert_eq!(decode(&mut Decoder::new(), &repeated(9)), Err(Corrupt::TooLarge));
}

#[test]
fn a_table_of_size_zero_forgets_everything() {
    let mut decoder = Decoder::new();
    assert!(decode(&mut decoder, &bytes("4001610162be")).is_ok());
    assert!(decode(&mut decoder, &bytes("be")).is_ok());
    assert_eq!(decode(&mut decoder, &bytes("20be")), Err(Corrupt::Index));
}
