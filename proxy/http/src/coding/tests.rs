//! Codings against the whole-buffer functions of their own libraries, bombs, and bytes that are none of theirs.

use std::io::Read;

use proptest::prelude::*;

use super::decode::{Decoded, Decoder, Limits};
use super::encode::{Encoder, Flush, Level, Pace};
use super::*;
use crate::filter::PORTION;
use crate::message::Framing;

const UNLIMITED: Limits = Limits { ratio: u32::MAX, burst: u32::MAX };

/// The coding's whole-buffer encoder, by its own library.
fn encoded(coding: Coding, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let level = flate2::Compression::new(6);
    match coding {
        Coding::Gzip => drop(flate2::read::GzEncoder::new(content, level).read_to_end(&mut out)),
        Coding::Deflate => drop(flate2::read::ZlibEncoder::new(content, level).read_to_end(&mut out)),
        Coding::Br => drop(brotli::CompressorReader::new(content, 4096, 5, 22).read_to_end(&mut out)),
        Coding::Zstd => {
            out.reserve(zstd_safe::compress_bound(content.len()));
            zstd_safe::compress(&mut out, content, 3).expect("there is room");
        }
    }
    out
}

/// Its whole-buffer decoder.
fn decoded(coding: Coding, bytes: &[u8], len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out)),
        Coding::Deflate => drop(flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out)),
        Coding::Br => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out)),
        Coding::Zstd => {
            out.reserve(len);
            zstd_safe::decompress(&mut out, bytes).expect("it is zstd");
        }
    }
    out
}

/// Decodes `bytes` in pieces of the lengths that `cuts` says, over and over; all at once without any.
fn decode(codings: &[Coding], limits: Limits, bytes: &[u8], cuts: &[usize]) -> Result<Vec<u8>, Fault> {
    let mut decoder = Decoder::new(&codings.iter().copied().collect(), limits);
    let mut out = Vec::new();
    for piece in pieces(bytes, cuts) {
        decoder.decode_all(piece, false, &mut out)?;
    }
    decoder.decode_all(&[], true, &mut out)?;
    Ok(out)
}

fn encode(coding: Coding, framing: Framing, content: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut encoder = Encoder::new(coding, Level::default(), framing).unwrap();
    let mut pace = Pace::new(framing);
    let mut out = Vec::new();
    for piece in pieces(content, cuts) {
        encoder.encode(piece, pace.after(piece.len(), false), &mut out).unwrap();
    }
    encoder.encode(&[], pace.after(0, true), &mut out).unwrap();
    out
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for cut in cuts.iter().cycle().take_while(|_| !cuts.is_empty()) {
        let (piece, next) = rest.split_at((*cut).clamp(1, rest.len().max(1)).min(rest.len()));
        pieces.push(piece);
        rest = next;
        if rest.is_empty() {
            break;
        }
    }
    pieces.push(rest);
    pieces
}

/// Content as it may be: noise, repeats and letters.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 0..5000_usize).prop_map(|(byte, len)| vec![byte; len]),
        (prop::collection::vec(b'a'..b'e', 1..20), 1..300_usize).prop_map(|(word, times)| word.repeat(times)),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn coding() -> impl Strategy<Value = Coding> {
    prop::sample::select(&Coding::ALL[..])
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::Length(1)), Just(Framing::Length(1 << 40)), Just(Framing::Chunked)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rfc9110_8_4_1_what_we_encode_the_libraries_decode(
        coding in coding(),
        framing in framing(),
        content in content(),
        cuts in prop::collection::vec(1..3000_usize, 0..5),
    ) {
        let out = encode(coding, framing, &content, &cuts);
        prop_assert_eq!(decoded(coding, &out, content.len()), content);
    }

    #[test]
    fn rfc9110_8_4_1_what_the_libraries_encode_we_decode_however_it_is_cut(
        coding in coding(),
        content in content(),
        cuts in prop::collection::vec(1..200_usize, 0..5),
    ) {
        let coded = encoded(coding, &content);
        prop_assert_eq!(decode(&[coding], UNLIMITED, &coded, &cuts), Ok(content));
    }

    #[test]
    fn rfc9110_8_4_codings_in_a_row_are_undone_from_the_last(
        codings in prop::collection::vec(coding(), 0..4),
        content in content(),
        cuts in prop::collection::vec(1..200_usize, 0..5),
    ) {
        let coded = codings.iter().fold(content.clone(), |bytes, coding| encoded(*coding, &bytes));
        prop_assert_eq!(decode(&codings, UNLIMITED, &coded, &cuts), Ok(content));
    }

    #[test]
    fn hostile_bytes_are_refused_or_decoded_within_bounds(
        codings in prop::collection::vec(coding(), 1..4),
        content in content(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cuts in prop::collection::vec(1..500_usize, 0..4),
    ) {
        let mut coded = codings.iter().fold(content, |bytes, coding| encoded(*coding, &bytes));
        for (place, byte) in noise {
            let place = place.index(coded.len());
            coded[place] = byte;
        }
        let limits = Limits { ratio: 20, burst: 1000 };
        if let Ok(out) = decode(&codings, limits, &coded, &cuts) {
            prop_assert!(out.len() <= coded.len() * 20 + 1000);
        }
    }
}

#[test]
fn every_coding_that_ends_early_is_refused_wherever_it_ends() {
    let content = b"all the words of this page, and all the words of this page again".repeat(20);
    for coding in Coding::ALL {
        let coded = encoded(coding, &content);
        for len in 1..coded.len() {
            let outcome = decode(&[coding], UNLIMITED, &coded[..len], &[]);
            assert_eq!(outcome, Err(Fault::Truncated(coding)), "{coding} of {len}");
        }
        assert_eq!(decode(&[coding], UNLIMITED, &coded, &[1]).as_deref(), Ok(&*content));
    }
}

#[test]
fn content_of_no_bytes_is_whole_in_every_coding() {
    for coding in Coding::ALL {
        assert_eq!(decode(&[coding, Coding::Gzip], Limits::default(), b"", &[]), Ok(vec![]));
    }
}

#[test]
fn what_follows_the_end_of_a_coding_is_refused() {
    for coding in Coding::ALL {
        let mut coded = encoded(coding, b"page");
        coded.extend_from_slice(b"<script>");
        assert_eq!(decode(&[coding], UNLIMITED, &coded, &[]), Err(Fault::Trailing(coding)));
        assert!(decode(&[coding], UNLIMITED, &coded, &[1]).is_err());
    }
}

#[test]
fn rfc1952_2_2_the_members_of_gzip_and_the_frames_of_zstd_are_one_content() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let coded = [encoded(coding, b"one, "), encoded(coding, b""), encoded(coding, b"two")].concat();
        for cut in 1..coded.len() {
            assert_eq!(decode(&[coding], UNLIMITED, &coded, &[cut]).as_deref(), Ok(&b"one, two"[..]));
        }
    }
    let members = encoded(Coding::Gzip, b"").repeat(2000);
    assert_eq!(decode(&[Coding::Gzip], UNLIMITED, &members, &[]), Err(Fault::Excessive(Coding::Gzip)));
}

#[test]
fn rfc9110_8_4_1_2_deflate_is_read_without_its_wrapping_too() {
    let content = b"hello, hello, hello, hello".repeat(10);
    for level in [0, 1, 9] {
        let mut raw = Vec::new();
        let mut encoder = flate2::read::DeflateEncoder::new(&content[..], flate2::Compression::new(level));
        encoder.read_to_end(&mut raw).unwrap();
        for cuts in [&[][..], &[1], &[2, 1]] {
            assert_eq!(decode(&[Coding::Deflate], UNLIMITED, &raw, cuts).as_deref(), Ok(&*content));
        }
    }
}

#[test]
fn a_bomb_is_stopped_at_its_allowance_in_one_coding_and_in_several() {
    let zeros = vec![0; 10 << 20];
    for codings in [&[Coding::Gzip][..], &[Coding::Br], &[Coding::Zstd], &[Coding::Gzip, Coding::Gzip]] {
        let coded = codings.iter().fold(zeros.clone(), |bytes, coding| encoded(*coding, &bytes));
        assert!(coded.len() < 20_000, "{codings:?}: {}", coded.len());
        let mut decoder = Decoder::new(&codings.iter().copied().collect(), Limits::default());
        let mut out = Vec::new();
        assert_eq!(decoder.decode_all(&coded, true, &mut out), Err(Fault::Bomb), "{codings:?}");
        assert!(out.len() <= coded.len() * 200 + (1 << 20));
    }
}

#[test]
fn one_call_lets_out_a_portion_however_little_it_follows_from() {
    // A frame of 200 blocks that are 128 KB of one byte each, in four bytes (RFC 8878 section 3.1.1.2).
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (23 - 10) << 3];
    for number in 1..=200 {
        bomb.extend_from_slice(&[0x02 | u8::from(number == 200), 0, 0x10, b'x']);
    }
    let nested = encoded(Coding::Gzip, &encoded(Coding::Gzip, &vec![0; 25 << 20]));
    for (codings, bomb) in [(&[Coding::Zstd][..], bomb), (&[Coding::Gzip, Coding::Gzip], nested)] {
        let mut decoder = Decoder::new(&codings.iter().copied().collect(), UNLIMITED);
        let (mut all, mut calls, mut bytes) = (0, 0, &bomb[..]);
        loop {
            let mut out = Vec::new();
            let decoded = decoder.decode(bytes, true, &mut out).unwrap();
            assert!(out.len() <= PORTION + ROOM, "{codings:?}: {}", out.len());
            (all, calls, bytes) = (all + out.len(), calls + 1, &[]);
            if decoded == Decoded::All {
                break;
            }
        }
        assert_eq!(all, 25 << 20, "{codings:?}");
        assert!(calls > 300, "{calls}");
    }
}

#[test]
fn rfc9659_3_a_zstd_window_of_more_than_8_mb_is_refused() {
    // A frame header (RFC 8878 section 3.1.1.1) without single segment and size; the window is 2^(10 + n), n in the upper bits.
    for (log, fits) in [(23, true), (24, false), (31, false)] {
        let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3];
        // One raw block of one byte, the last one.
        let frame = [&header[..], &[0x09, 0, 0, b'x']].concat();
        let expected = if fits { Ok(b"x".to_vec()) } else { Err(Fault::Excessive(Coding::Zstd)) };
        assert_eq!(decode(&[Coding::Zstd], UNLIMITED, &frame, &[]), expected, "{log}");
    }
}

#[test]
fn rfc7932_9_1_a_window_beyond_the_format_is_refused() {
    // The first byte of "large window brotli", which no content coding is.
    assert!(decode(&[Coding::Br], UNLIMITED, &[0x11, 0x1e, 0x03], &[]).is_err());
}

#[test]
fn what_came_in_can_be_read_at_once_where_nobody_knows_how_much_follows() {
    for coding in Coding::ALL {
        let mut encoder = Encoder::new(coding, Level::default(), Framing::Chunked).unwrap();
        let mut pace = Pace::new(Framing::Chunked);
        let mut decoder = Decoder::new(&[coding].into_iter().collect(), Limits::default());
        for line in ["first line\n", "second line\n", "third line\n"] {
            let (mut coded, mut out) = (Vec::new(), Vec::new());
            encoder.encode(line.as_bytes(), pace.after(line.len(), false), &mut coded).unwrap();
            decoder.decode_all(&coded, false, &mut out).unwrap();
            assert_eq!(
                out.escape_ascii().to_string(),
                line.as_bytes().escape_ascii().to_string(),
                "{coding}"
            );
        }
    }
}

#[test]
fn content_of_known_length_is_flushed_after_so_many_bytes() {
    let mut pace = Pace::new(Framing::Length(100_000));
    assert_eq!(pace.after(Pace::PENDING - 1, false), Flush::No);
    assert_eq!(pace.after(1, false), Flush::Sync);
    assert_eq!(pace.after(1, false), Flush::No);
    assert_eq!(pace.after(0, true), Flush::End);
}

#[test]
fn streams_take_no_more_memory_than_is_said() {
    let content: Vec<u8> =
        (0..400_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect();
    for (coding, encoding, decoding) in [
        (Coding::Gzip, 400_000, 100_000),
        (Coding::Deflate, 400_000, 100_000),
        (Coding::Br, 4_000_000, 33 << 20),
    ] {
        let mut coded = Vec::with_capacity(content.len() * 2);
        let encoded = allocation_counter::measure(|| {
            let mut encoder = Encoder::new(coding, Level::default(), Framing::Chunked).unwrap();
            for piece in content.chunks(16 << 10) {
                encoder.encode(piece, Flush::No, &mut coded).unwrap();
            }
            encoder.encode(&[], Flush::End, &mut coded).unwrap();
        });
        assert!(encoded.bytes_max < encoding, "{coding}: {}", encoded.bytes_max);
        let mut out = Vec::with_capacity(content.len() + ROOM);
        let decoded = allocation_counter::measure(|| {
            let mut decoder = Decoder::new(&[coding].into_iter().collect(), Limits::default());
            for piece in coded.chunks(16 << 10) {
                decoder.decode_all(piece, false, &mut out).unwrap();
            }
            decoder.decode_all(&[], true, &mut out).unwrap();
        });
        assert_eq!(out, content);
        assert!(decoded.bytes_max < decoding, "{coding}: {}", decoded.bytes_max);
    }
}

#[test]
fn names_of_codings_have_no_case_and_unknown_ones_are_told() {
    let codings = |value: &str| applied(&[("Content-Encoding", value)].into_iter().collect());
    assert_eq!(codings("GZip, identity, x-gzip").unwrap()[..], [Coding::Gzip, Coding::Gzip]);
    assert_eq!(codings("").unwrap()[..], []);
    assert_eq!(codings("gzip, dcb"), None);
    assert_eq!(codings("gzip, gzip, gzip, gzip, gzip"), None);
}
