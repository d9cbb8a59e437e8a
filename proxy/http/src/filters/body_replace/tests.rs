//! What is replaced in pieces is what would be replaced in the whole.

use aho_corasick::{AhoCorasick, MatchKind};
use proptest::prelude::*;
use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

use super::*;
use crate::coding::Codings;
use crate::coding::decode::Decoder;
use crate::coding::encode::{Encoder, Flush};
use crate::filters::Lasting;
use crate::testkit::{self, Calls};

fn text(find: &str, with: &str) -> Rule {
    Rule { find: Some(find.to_owned()), regex: None, with: with.to_owned(), ignore_case: false }
}

fn regex(regex: &str, with: &str) -> Rule {
    Rule { find: None, regex: Some(regex.to_owned()), with: with.to_owned(), ignore_case: false }
}

fn rules(rules: &[Rule], max_match: usize) -> Arc<Rules> {
    Arc::new(Rules::new(rules, max_match).unwrap())
}

/// What becomes of content that comes in these pieces; no step ever holds more than `most` bytes.
fn replaced<'a>(rules: &Arc<Rules>, pieces: impl IntoIterator<Item = &'a [u8]>, most: usize) -> Vec<u8> {
    let (mut replacer, mut out) = (Replacer::new(Arc::clone(rules)), Vec::new());
    for piece in pieces {
        replacer.replace(piece, false, &mut out);
        assert!(replacer.held().all(|held| held <= most), "{:?}", replacer.held().collect::<Vec<_>>());
    }
    replacer.replace(&[], true, &mut out);
    out
}

/// Pieces of these lengths, over and over.
fn pieces<'a>(content: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), content);
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, next) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = next;
    }
    pieces
}

/// Few letters in many orders, with what `\b` and UTF-8 take notice of.
fn content() -> impl Strategy<Value = Vec<u8>> {
    const PARTS: [&[u8]; 9] = [b"a", b"b", b"c", b"A", b" ", b"\n", "é".as_bytes(), b"\xc3", b"abc"];
    let part = prop::sample::select(&PARTS[..]);
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

fn word() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&['a', 'b', 'c', 'é'][..]), 1..5)
        .prop_map(|letters| letters.iter().collect())
}

/// What a step of one regular expression is to give, by its definition alone.
fn by_definition(pattern: &str, content: &[u8], longest: usize) -> Vec<u8> {
    let syntax = regex_automata::util::syntax::Config::new().utf8(false);
    let regex =
        Regex::builder().syntax(syntax).configure(Regex::config().utf8_empty(false)).build(pattern).unwrap();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < content.len() {
        let span = at..content.len().min(at + longest);
        let found = regex.search(&Input::new(content).span(span).anchored(Anchored::Yes));
        match found {
            Some(found) => {
                out.push(b'<');
                out.extend_from_slice(&content[found.range()]);
                out.push(b'>');
                at = found.end();
            }
            None => {
                out.push(content[at]);
                at += 1;
            }
        }
    }
    out
}

const PATTERNS: [&str; 16] = [
    "a",
    "ab|abc",
    "abc|ab",
    "a+",
    "a+?b",
    "a.*c",
    "a.*?c",
    "(?s)a.*c",
    r"\ba",
    r"b\b",
    r"(?-u:\b)ab(?-u:\b)",
    "^a",
    "(?m)^[abc]+$",
    "c$",
    "é+",
    "[^a]{2,}b",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn texts_are_replaced_as_in_the_whole_wherever_it_is_cut(
        words in prop::collection::vec((word(), "[a-cX]{0,3}"), 1..5),
        ignore_case in any::<bool>(),
        content in content(),
        cuts in prop::collection::vec(1..20_usize, 1..5),
    ) {
        let finds: Vec<_> = words.iter().map(|(find, _)| find).collect();
        let withs: Vec<_> = words.iter().map(|(_, with)| with).collect();
        let whole = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(ignore_case)
            .build(&finds)
            .unwrap()
            .replace_all_bytes(&content, &withs);
        let all: Vec<_> = words.iter().map(|(find, with)| Rule { ignore_case, ..text(find, with) }).collect();
        let longest = finds.iter().map(|find| find.len()).max().unwrap();
        prop_assert_eq!(replaced(&rules(&all, 1024), pieces(&content, &cuts), longest - 1), whole);
    }

    #[test]
    fn matches_are_replaced_as_in_the_whole_wherever_it_is_cut(
        pattern in prop::sample::select(&PATTERNS[..]),
        longest in 3..40_usize,
        content in content(),
        cuts in prop::collection::vec(1..20_usize, 1..5),
    ) {
        let rules = rules(&[regex(pattern, "<$0>")], longest);
        let out = replaced(&rules, pieces(&content, &cuts), longest + 8);
        let whole = by_definition(pattern, &content, longest);
        prop_assert!(out == whole, "{}: {} != {}", pattern, out.escape_ascii(), whole.escape_ascii());
    }

    #[test]
    fn several_steps_give_what_they_give_one_after_the_other(
        content in content(),
        cuts in prop::collection::vec(1..20_usize, 1..5),
    ) {
        let all = [text("a", "bb"), text("b", "a"), regex("b+", "c"), regex("(c+)(a)", "$2$1"), text("c", "")];
        let mut whole = content.clone();
        for step in [&all[..2], &all[2..3], &all[3..4], &all[4..]] {
            whole = replaced(&rules(step, 100), [&whole[..]], usize::MAX);
        }
        prop_assert_eq!(replaced(&rules(&all, 100), pieces(&content, &cuts), 108), whole);
    }
}

#[test]
fn of_texts_the_leftmost_counts_and_of_those_the_longest() {
    let rules = rules(&[text("the", "A"), text("the end", "B"), text("end of", "C"), text("he", "D")], 1024);
    for (content, out) in [("the end of", "B of"), ("the en", "A en"), ("he end of", "D C"), ("", "")] {
        for cut in 1..=content.len() {
            let out_now = replaced(&rules, content.as_bytes().chunks(cut), 6);
            assert_eq!(String::from_utf8(out_now).unwrap(), out);
        }
    }
}

#[test]
fn what_begins_no_match_goes_on_at_once() {
    let all = [text("password", "*"), regex(r"[0-9]{4}-[0-9]{4}", "*"), regex("<script.*?</script>", "")];
    let mut replacer = Replacer::new(rules(&all, 1024));
    for (bytes, now) in [
        ("all of this", "all of this"),
        (" pass", " "),
        ("ing", "passing"),
        (" 12", " "),
        ("3 and", "123 and"),
        // A match that is whole is one once another byte has come.
        (" 1234-5678", " "),
        (" <b>", "* <b>"),
    ] {
        let mut out = Vec::new();
        replacer.replace(bytes.as_bytes(), false, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), now);
    }
}

#[test]
fn groups_of_a_match_are_named_or_numbered() {
    let all = [regex(r"(?<user>[a-z]+)@([a-z]+)\.example", "$2/${user}_$$")];
    let out = replaced(&rules(&all, 64), [&b"ann@mail.example, bob@x.org"[..]], 72);
    assert_eq!(String::from_utf8(out).unwrap(), "mail/ann_$, bob@x.org");
}

fn filter(keys: &str) -> Box<dyn HttpFilter> {
    testkit::configure(configure, &Lasting::default(), keys).unwrap().filter()
}

const SWAP: &str =
    "replace = [{ find = 'http://', with = 'https://' }, { regex = '(?i)<script[^>]*>', with = '' }]";

fn code(codings: &[Coding], content: &[u8]) -> Vec<u8> {
    codings.iter().fold(content.to_vec(), |content, coding| {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(*coding, Level::default(), Framing::Chunked).unwrap();
        encoder.encode(&content, Flush::End, &mut out).unwrap();
        out
    })
}

fn response(coding: &str) -> Response {
    let fields = [("Content-Type", "text/html"), ("Content-Encoding", coding), ("ETag", "\"1\"")];
    let mut response = testkit::response(200, &fields[..if coding.is_empty() { 1 } else { 3 }]);
    response.read_framing(Framing::Chunked);
    response
}

#[test]
fn rfc9110_8_4_content_is_replaced_in_every_coding_wherever_it_is_cut() {
    let page = b"<a href='http://a.example/'><SCRIPT src=x>".repeat(3);
    let expected = b"<a href='https://a.example/'>".repeat(3);
    for codings in [
        &[][..],
        &[Coding::Gzip],
        &[Coding::Deflate],
        &[Coding::Br],
        &[Coding::Zstd],
        &[Coding::Gzip, Coding::Br],
    ] {
        let tokens = codings.iter().map(|coding| coding.token()).collect::<Vec<_>>().join(", ");
        let coded = code(codings, &page);
        for cut in 0..=coded.len() {
            let (mut filter, mut calls) = (filter(SWAP), Calls::default());
            let request = testkit::request("GET", "/", &[]);
            let mut response = response(&tokens);
            assert_eq!(filter.response(&mut calls.call(), &request, &mut response), Verdict::Edit);
            assert_eq!(response.fields().text("content-encoding").unwrap_or_default(), tokens);
            let mut out = Vec::new();
            for (piece, end) in [(&coded[..cut], false), (&coded[cut..], false), (&[][..], true)] {
                assert_eq!(filter.response_body(&mut calls.call(), piece, end, &mut out), Content::Go);
            }
            let mut plain = Vec::new();
            let codings: Codings = codings.iter().copied().collect();
            Decoder::new(&codings, Limits::default()).decode_all(&out, true, &mut plain).unwrap();
            assert_eq!(
                plain.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "{tokens} at {cut}"
            );
        }
    }
}

#[test]
fn a_bomb_ends_the_connection_and_says_why() {
    let bomb = code(&[Coding::Gzip, Coding::Gzip], &vec![0; 10 << 20]);
    let (mut filter, mut calls) = (filter(SWAP), Calls::default());
    filter.response(&mut calls.call(), &testkit::request("GET", "/", &[]), &mut response("gzip, gzip"));
    let mut went = filter.response_body(&mut calls.call(), &bomb, true, &mut Vec::new());
    while went == Content::More {
        went = filter.response_body(&mut calls.call(), &[], true, &mut Vec::new());
    }
    assert_eq!(went, Content::Reset);
    let sentence = "the content grows by more than it may when it is decoded";
    assert_eq!(calls.exchange.verdict.as_deref(), Some(sentence));
}

#[test]
fn servers_are_asked_for_what_can_be_replaced_in() {
    for (keys, asked, now) in [
        ("", &[("Accept-Encoding", "gzip, DCB, br;q=0.5, *;q=0.1")][..], "gzip, br;q=0.5"),
        ("", &[("Accept-Encoding", "dcb")], "identity"),
        ("", &[("Accept-Encoding", "br, identity;q=0")], "br, identity;q=0"),
        ("", &[], ""),
        ("request = true\nresponse = false\n", &[("Accept-Encoding", "dcb")], "dcb"),
        ("refuse_ranges = true\n", &[("Range", "bytes=1-"), ("If-Range", "\"1\"")], ""),
    ] {
        let mut request = testkit::request("GET", "/", asked);
        filter(&format!("{keys}{SWAP}")).request(&mut Calls::default().call(), &mut request);
        assert_eq!(request.fields().text("accept-encoding").unwrap_or_default(), now);
        assert!(!request.fields().has("range") && !request.fields().has("if-range"));
    }
}

#[test]
fn what_it_is_not_for_goes_on_as_it_came() {
    for fields in [
        &[("Content-Type", "image/png")][..],
        &[("Content-Type", "text/html"), ("Content-Encoding", "dcb")],
        &[("Content-Type", "text/html"), ("Content-Range", "bytes 0-9/100")],
        &[("Content-Type", "text/html"), ("Cache-Control", "no-transform")],
    ] {
        let mut response = testkit::response(200, fields);
        response.read_framing(Framing::Chunked);
        let request = testkit::request("GET", "/", &[]);
        let verdict = filter(SWAP).response(&mut Calls::default().call(), &request, &mut response);
        assert!(verdict == Verdict::Pass && !response.is_edited(), "{fields:?}");
    }
}

#[test]
fn rfc9110_14_2_what_a_request_for_a_part_gets_in_whole_is_changed() {
    let request = testkit::request("GET", "/", &[("Range", "bytes=0-")]);
    assert_eq!(
        filter(SWAP).response(&mut Calls::default().call(), &request, &mut response("gzip")),
        Verdict::Edit
    );
}

#[test]
fn a_request_is_changed_where_so_configured_and_loses_its_digests() {
    let keys = "request = true\nresponse = false\nreplace = [{ find = 'secret', with = '***' }]";
    let (mut filter, mut calls) = (filter(keys), Calls::default());
    let fields = [("Content-Type", "application/json"), ("Content-Digest", "x"), ("Content-Length", "8")];
    let mut request = testkit::request("POST", "/", &fields);
    request.read_framing(Framing::Length(8));
    assert_eq!(filter.request(&mut calls.call(), &mut request), Verdict::Edit);
    assert_eq!(request.fields().iter().map(|(name, _)| name).collect::<Vec<_>>(), ["Content-Type"]);
    let mut out = Vec::new();
    assert_eq!(filter.request_body(&mut calls.call(), b"\"secret\"", true, &mut out), Content::Go);
    assert_eq!(out, b"\"***\"");
}

#[test]
fn a_key_that_is_wrong_is_named() {
    for (keys, key) in [
        ("replace = []", "replace"),
        ("replace = [{ find = '', with = '' }]", "replace[0].find"),
        ("replace = [{ find = 'a', regex = 'b', with = '' }]", "replace[0]"),
        ("replace = [{ find = 'a', with = '' }, { with = '' }]", "replace[1]"),
        ("replace = [{ regex = 'a*', with = '' }]", "replace[0].regex"),
        ("replace = [{ regex = '(a', with = '' }]", "replace[0].regex"),
        ("replace = [{ regex = 'a{2000}', with = '' }]", "replace[0].regex"),
        ("max_match = 0\nreplace = [{ find = 'a', with = '' }]", "max_match"),
        ("response = false\nreplace = [{ find = 'a', with = '' }]", "response"),
        ("types = []\nreplace = [{ find = 'a', with = '' }]", "types"),
        ("replace = [{ regex = '(a)', with = '$2' }]", "replace[0].regex"),
        ("replace = [{ regex = '(?<n>a)', with = '${m}' }]", "replace[0].regex"),
        ("types = ['html']\nreplace = [{ find = 'a', with = '' }]", "types[0]"),
        ("level = { br = 11 }\nreplace = [{ find = 'a', with = '' }]", "level.br"),
        ("find = 'a'", "find"),
    ] {
        let fault = testkit::configure(configure, &Lasting::default(), keys).unwrap_err();
        assert_eq!(fault.key, key, "{fault}");
    }
}
