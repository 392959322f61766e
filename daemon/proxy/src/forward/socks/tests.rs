//! Each message, split at every byte, and with every byte changed.

use super::*;

fn authority(text: &str) -> Authority {
    Authority::parse(text.as_bytes()).unwrap()
}

/// Reads nothing before the message is whole, the same once it is, and not a byte beyond.
fn reads<T: PartialEq + std::fmt::Debug + Clone>(read: impl Fn(&[u8]) -> Read<T>, message: &[u8], expected: T) {
    for length in 0..message.len() {
        assert_eq!(read(&message[..length]), Ok(None), "{length} bytes of {message:?}");
    }
    assert_eq!(read(message), Ok(Some((expected.clone(), message.len()))));
    assert_eq!(read(&[message, b"optimistic"].concat()), Ok(Some((expected, message.len()))));
    for at in 0..message.len() {
        for byte in 0..=255 {
            let mut mutated = message.to_vec();
            mutated[at] = byte;
            if let Ok(Some((_, length))) = read(&mutated) {
                assert!(length <= mutated.len());
            }
        }
    }
}

#[test]
fn requests_of_socks_4_and_4a() {
    reads(request4, b"\x04\x01\x00\x50\x0a\x00\x00\x01\x00", authority("10.0.0.1:80"));
    reads(request4, b"\x04\x01\x01\xbb\x0a\x00\x00\x01me\x00", authority("10.0.0.1:443"));
    reads(request4, b"\x04\x01\x00\x50\x00\x00\x00\x01me\x00example.com\x00", authority("example.com:80"));
    reads(request4, b"\x04\x01\x00\x50\x00\x00\x00\x07\x0010.0.0.1\x00", authority("10.0.0.1:80"));
    // 0.0.0.0 is an address, as ever.
    reads(request4, b"\x04\x01\x00\x50\x00\x00\x00\x00\x00", authority("0.0.0.0:80"));
}

#[test]
fn what_socks_4_refuses() {
    let long = [b"\x04\x01\x00\x50\x0a\x00\x00\x01".to_vec(), vec![b'x'; TEXT + 1]].concat();
    let longest = [b"\x04\x01\x00\x50\x0a\x00\x00\x01".to_vec(), vec![b'x'; TEXT]].concat();
    let name = [b"\x04\x01\x00\x50\x00\x00\x00\x01\x00".to_vec(), vec![b'x'; TEXT + 1]].concat();
    for (message, error) in [
        (&b"\x04\x02\x00\x50\x0a\x00\x00\x01\x00"[..], Error::Command(2)),
        (b"\x04\x01\x00\x00\x0a\x00\x00\x01\x00", Error::Port),
        (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", Error::Host(super::super::authority::Error::NoHost)),
        (&long, Error::TooLong),
        (&name, Error::TooLong),
    ] {
        assert_eq!(request4(message), Err(error), "{message:?}");
        assert_eq!(Reply::from(error).encode4(), b"\x00\x5b\0\0\0\0\0\0");
    }
    assert_eq!(request4(&longest), Ok(None));
}

#[test]
fn greetings_of_socks_5() {
    reads(greeting, b"\x05\x01\x00", Method::None);
    reads(greeting, b"\x05\x03\x01\x02\x00", Method::None);
    reads(greeting, b"\x05\x02\x01\x02", Method::UserPassword);
    for message in [&b"\x05\x00"[..], b"\x05\x01\x01", b"\x05\x01\xff"] {
        assert_eq!(greeting(message), Err(Error::Methods), "{message:?}");
    }
}

#[test]
fn users_and_passwords_are_passed_over() {
    reads(credentials, b"\x01\x02me\x06secret", ());
    reads(credentials, b"\x01\x00\x00", ());
    reads(credentials, &[b"\x01\xff".to_vec(), vec![b'u'; 255], vec![255], vec![b'p'; 255]].concat(), ());
    assert_eq!(credentials(b"\x05\x01"), Err(Error::Version(5)));
}

#[test]
fn requests_of_socks_5() {
    reads(request5, b"\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50", authority("10.0.0.1:80"));
    reads(request5, b"\x05\x01\x00\x03\x0bexample.com\x01\xbb", authority("example.com:443"));
    reads(request5, b"\x05\x01\x00\x03\x0810.0.0.1\x00\x50", authority("10.0.0.1:80"));
    reads(request5, b"\x05\x01\x00\x03\x03::1\x00\x50", authority("[::1]:80"));
    reads(request5, b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50", authority("[::1]:80"));
}

#[test]
fn what_socks_5_refuses_and_with_which_code() {
    for (message, error, code) in [
        (&b"\x05\x02\x00\x01\x0a\x00\x00\x01\x00\x50"[..], Error::Command(2), 7),
        (b"\x05\x03\x00\x01\x0a\x00\x00\x01\x00\x50", Error::Command(3), 7),
        (b"\x05\x01\x00\x02\x0a\x00\x00\x01\x00\x50", Error::AddressType(2), 8),
        (b"\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x00", Error::Port, 1),
        (b"\x05\x01\x00\x03\x00\x00\x50", Error::Host(super::super::authority::Error::NoHost), 1),
        (b"\x05\x01\x00\x03\x03a\0b\x00\x50", Error::Host(super::super::authority::Error::Character), 1),
        (b"\x04\x01\x00\x01\x0a\x00\x00\x01\x00\x50", Error::Version(4), 1),
    ] {
        assert_eq!(request5(message), Err(error), "{message:?}");
        assert_eq!(Reply::from(error).encode5()[1], code, "{message:?}");
    }
}

#[test]
fn replies_name_the_address_that_is_connected_from() {
    let v4: SocketAddr = "10.0.0.7:258".parse().unwrap();
    let v6: SocketAddr = "[::1]:258".parse().unwrap();
    assert_eq!(Reply::Granted(v4).encode4(), b"\x00\x5a\x01\x02\x0a\x00\x00\x07");
    assert_eq!(Reply::Granted(v6).encode4(), b"\x00\x5a\0\0\0\0\0\0");
    assert_eq!(Reply::Granted(v4).encode5(), b"\x05\x00\x00\x01\x0a\x00\x00\x07\x01\x02");
    assert_eq!(Reply::Granted(v6).encode5(), b"\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02");
    let codes = [
        (Reply::Failed, 1),
        (Reply::NotAllowed, 2),
        (Reply::NetworkUnreachable, 3),
        (Reply::HostUnreachable, 4),
        (Reply::Refused, 5),
        (Reply::TimedOut, 6),
        (Reply::CommandNotServed, 7),
        (Reply::AddressTypeNotServed, 8),
    ];
    for (reply, code) in codes {
        assert_eq!(reply.encode5(), [5, code, 0, 1, 0, 0, 0, 0, 0, 0], "{reply:?}");
        assert_eq!(reply.encode4(), b"\x00\x5b\0\0\0\0\0\0");
    }
}

#[test]
fn no_message_is_longer_than_the_longest() {
    let longest = [&b"\x04\x01\x00\x50\x00\x00\x00\x01"[..], &[b'u'; TEXT], b"\0", &[b'h'; 250], b"\0"].concat();
    assert!(longest.len() <= LONGEST && matches!(request4(&longest), Ok(Some(_))));
    const { assert!(3 + 255 + 255 <= LONGEST && 7 + 255 <= LONGEST) };
}
