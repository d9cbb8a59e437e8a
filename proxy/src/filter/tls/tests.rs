//! ClientHellos: real, large, damaged, with rustls as the oracle.

use proptest::prelude::*;
use rustls::server::Acceptor;

use super::*;

/// What OpenSSL 3.0 sends for www.example.com, up to its padding extension (21): 222 zeros.
const OPENSSL: &str = "
1603010200010001fc03039b0c563fa6617407a5c263b80b706651a4f298b88f806ef1801405da4dacb12620dfeeaaa9
8a45872f3674706d92d725a241a787c812d3ce4343a35077c0670ad70024130213031301c02cc030c02bc02fcca9cca8
c024c028c023c027009f009e006b006700ff0100018f00000014001200000f7777772e6578616d706c652e636f6d000b
000403000102000a00160014001d0017001e0019001801000101010201030104002300000016000000170000000d002a
0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b00050403
040303002d00020101003300260024001d002041d2d84679cdcf26c93eb23707b9dfa105d4695f15412295e9a936146f
a76064
001500de";

fn openssl() -> Vec<u8> {
    let digits: Vec<u32> = OPENSSL.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let mut bytes: Vec<u8> =
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect();
    bytes.resize(bytes.len() + 0xde, 0);
    bytes
}

/// A vector with a length of two bytes.
fn vector(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(content)].concat()
}

fn server_name_extension(names: &[&str]) -> Vec<u8> {
    let names: Vec<u8> =
        names.iter().flat_map(|name| [&[HOST_NAME][..], &vector(name.as_bytes())].concat()).collect();
    extension(SERVER_NAME, &vector(&names))
}

/// A hello in records of at most `record` bytes.
fn hello_in_records(extensions: &[Vec<u8>], record: usize) -> Vec<u8> {
    let suites = vector(&[0x13, 0x01, 0x13, 0x02]);
    let body = [&[3, 3][..], &[7; 32], &[0], &suites, &[1, 0], &vector(&extensions.concat())].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[CLIENT_HELLO], &length[1..], &body].concat();
    message
        .chunks(record)
        .flat_map(|piece| [&[HANDSHAKE_RECORD, 3, 1][..], &vector(piece)].concat())
        .collect()
}

/// What a client must send, beside the name: signature algorithms, groups and TLS 1.3.
fn usual_extensions() -> Vec<Vec<u8>> {
    vec![
        extension(13, &vector(&[4, 3, 8, 4])),
        extension(10, &vector(&[0x11, 0xec, 0, 0x1d])),
        extension(43, &[2, 3, 4]),
    ]
}

/// A hello for a server, as one record.
pub(in super::super) fn hello_with_name(name: &str) -> Vec<u8> {
    let mut extensions = usual_extensions();
    extensions.insert(0, server_name_extension(&[name]));
    hello_in_records(&extensions, LONGEST_RECORD)
}

fn read(bytes: &[u8], segment: usize) -> Hello {
    let mut reader = HelloReader::default();
    for piece in bytes.chunks(segment) {
        match reader.push(piece) {
            Hello::More => {}
            done => return done,
        }
    }
    Hello::More
}

/// What rustls reads; `None` where it refuses the hello or wants more.
#[expect(clippy::option_option, reason = "refused, accepted without a name, accepted with one")]
fn rustls_reads(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Some(name);
            }
            Err(_) => return None,
        }
    }
    None
}

fn name(name: &str) -> Hello {
    Hello::Name(Some(name.to_owned()))
}

#[test]
fn a_real_hello_is_read_in_segments_of_any_size() {
    let hello = openssl();
    assert_eq!(hello.len(), 517);
    assert_eq!(rustls_reads(&hello), Some(Some("www.example.com".to_owned())));
    for segment in 1..=hello.len() {
        assert_eq!(read(&hello, segment), name("www.example.com"), "in segments of {segment}");
    }
}

#[test]
fn a_post_quantum_hello_in_five_segments_is_read() {
    // X25519MLKEM768 has a share of 1216 bytes; the name comes behind it and behind padding.
    let mut extensions = usual_extensions();
    extensions.push(extension(51, &vector(&[&[0x11, 0xec][..], &vector(&[9; 1216])].concat())));
    extensions.push(extension(21, &[0; 4000]));
    extensions.push(server_name_extension(&["pq.example"]));
    let hello = hello_in_records(&extensions, LONGEST_RECORD);
    assert_eq!(hello.len().div_ceil(1200), 5);
    assert_eq!(rustls_reads(&hello), Some(Some("pq.example".to_owned())));
    assert_eq!(read(&hello, 1200), name("pq.example"));
    assert_eq!(read(&hello[..hello.len() - 1], 1200), Hello::More);
}

#[test]
fn a_hello_of_64_kilobytes_in_records_of_any_size_is_read() {
    let mut extensions = usual_extensions();
    extensions.push(extension(21, &[0; 65_436]));
    extensions.push(server_name_extension(&["far.example"]));
    for record in [LONGEST_RECORD, 1000, 100] {
        let hello = hello_in_records(&extensions, record);
        assert!(hello.len() > LONGEST);
        assert_eq!(read(&hello, 1448), name("far.example"), "in records of {record}");
    }
}

#[test]
fn an_old_hello_that_a_strict_reader_refuses_is_read() {
    let hello = hello_in_records(&[server_name_extension(&["old.example"])], LONGEST_RECORD);
    assert_eq!(rustls_reads(&hello), None);
    assert_eq!(read(&hello, 99), name("old.example"));
}

#[test]
fn a_hello_without_a_name_names_none() {
    assert_eq!(read(&hello_in_records(&usual_extensions(), 99), 10), Hello::Name(None));
    // No extensions at all, as in SSL 3.
    let bare = [&[22, 3, 0, 0, 45, 1, 0, 0, 41, 3, 0][..], &[7; 32], &[0, 0, 2, 0, 5, 1, 0]].concat();
    assert_eq!(read(&bare, 10), Hello::Name(None));
}

#[test]
fn a_name_is_told_in_lower_case_without_its_final_dot() {
    assert_eq!(read(&hello_with_name("WWW.Example.COM."), 50), name("www.example.com"));
}

#[test]
fn a_name_that_could_be_read_in_two_ways_is_malformed() {
    let two = |extensions: &[Vec<u8>]| read(&hello_in_records(extensions, LONGEST_RECORD), 1000);
    let again = "more than one server name";
    assert_eq!(two(&[server_name_extension(&["a.example", "b.example"])]), Hello::Malformed(again));
    let twice = [server_name_extension(&["a.example"]), server_name_extension(&["a.example"])];
    assert_eq!(two(&twice), Hello::Malformed(again));
    for odd in ["", "a\0b.example", "a b.example", "\u{e4}.example"] {
        assert_eq!(two(&[server_name_extension(&[odd])]), Hello::Malformed("a server name that is none"));
    }
}

#[test]
fn endless_records_and_hellos_are_ended() {
    let mut reader = HelloReader::default();
    let mut endless = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 0x3ffc]].concat();
    let mut answer = reader.push(&endless);
    // From here on, records of one byte.
    endless = [22, 3, 1, 0, 1, 0].repeat(1000);
    let mut pushed = 0;
    while answer == Hello::More && pushed < 1_000_000 {
        answer = reader.push(&endless);
        pushed += endless.len();
    }
    assert_eq!(answer, Hello::Malformed("too long"));
    assert!(pushed <= LONGEST_RAW + endless.len());

    assert_eq!(read(&[22, 3, 1, 0, 4, 1, 1, 0, 0], 99), Hello::Malformed("too long"));
    assert_eq!(read(&[22, 3, 1, 0, 0], 99), Hello::Malformed("a record of an impossible length"));
    assert_eq!(read(&[22, 3, 1, 0x40, 1], 99), Hello::Malformed("a record of an impossible length"));
    assert_eq!(
        read(&[22, 3, 1, 0, 4, 2, 0, 0, 0], 99),
        Hello::Malformed("the first message is not a ClientHello")
    );
    assert_eq!(
        read(&[22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 2], 99),
        Hello::Malformed("a record that is not part of a handshake")
    );
}

#[test]
fn names_of_other_kinds_are_skipped_and_do_not_hide_a_host() {
    let host = [&[HOST_NAME][..], &vector(b"bad.example")].concat();
    let other = [&[7][..], &vector(b"something")].concat();
    let odd = vec![7, 0xff, 0xff];
    for list in [vec![&host, &other], vec![&other, &host], vec![&host, &odd]] {
        let names = list.into_iter().flatten().copied().collect::<Vec<u8>>();
        let hello = hello_in_records(&[extension(SERVER_NAME, &vector(&names))], LONGEST_RECORD);
        assert_eq!(read(&hello, 1000), name("bad.example"));
    }
    let hello = hello_in_records(&[extension(SERVER_NAME, &vector(&odd))], LONGEST_RECORD);
    assert_eq!(read(&hello, 1000), Hello::Malformed("shorter than it says"));
}

proptest! {
    /// Where rustls reads a name, we read the same; no damage makes us panic or disagree with ourselves.
    #[test]
    fn damaged_hellos_read_as_rustls_reads_them(
        damage in prop::collection::vec((0_usize..300, any::<u8>()), 0..4),
        segment in 1_usize..600,
    ) {
        let mut hello = openssl();
        for (place, value) in damage {
            hello[place] = value;
        }
        let ours = read(&hello, segment);
        prop_assert_eq!(&ours, &read(&hello, hello.len()));
        if let Some(theirs) = rustls_reads(&hello) {
            match (theirs, ours) {
                (Some(theirs), Hello::Name(Some(ours))) => prop_assert_eq!(theirs.trim_end_matches('.').to_ascii_lowercase(), ours),
                // Rustls takes addresses for no name, and a list of other kinds of names for none, too.
                (None, Hello::Name(_) | Hello::Malformed(_)) => {}
                // It reads nothing behind a name of an unknown kind; other servers might.
                (Some(_), Hello::Malformed("more than one server name")) => {}
                (theirs, ours) => prop_assert!(false, "{ours:?} for {theirs:?}"),
            }
        }
    }

    #[test]
    fn garbage_in_a_hello_reads_the_same_in_any_segments(
        garbage in prop::collection::vec(any::<u8>(), 150),
        segment in 1_usize..50,
    ) {
        let stream = [&[22, 3, 1, 0, 150, 1, 0, 0, 146][..], &garbage].concat();
        let whole = read(&stream, stream.len());
        prop_assert_ne!(&whole, &Hello::More);
        prop_assert_eq!(read(&stream, segment), whole);
    }
}
