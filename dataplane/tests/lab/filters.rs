//! The four filters, as clients and servers notice them.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::exchange::{connection, noise, read_exactly, receive_all, send_all};
use crate::fixture::{Lab, printed, text};
use crate::hosts::{CLIENT, finish};
use crate::policy::filtered;

/// Where `exchange::connection` leads.
const PORT: u16 = 7000;

#[test]
fn blocked_http_host_gets_a_page_and_others_get_theirs() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/blocked.html");
    let block =
        format!("type = \"block\"\nhosts = [\"blocked.example\"]\nanswer = \"page\"\npage = \"{page}\"");
    let lab = Lab::start(&filtered(80, &block));

    let fetch = |url| CLIENT.run(&["curl", "-sS", "-m", "10", "-w", "%{http_code}", url]);

    assert_eq!(fetch("http://blocked.example/"), fs::read_to_string(page).unwrap() + "403");
    assert_eq!(fetch("http://www.lab.example/"), "hello from the server\n200");
    let seen = fs::read_to_string(lab.file("log/nginx-access.log")).unwrap();
    assert!(!seen.contains("blocked.example"), "the server saw nothing of it: {seen}");
}

#[test]
fn blocked_tls_name_is_reset_and_others_pass() {
    let lab = Lab::start(&filtered(443, "type = \"block\"\nsni = [\"blocked.example\"]\nanswer = \"reset\""));
    let ca = lab.file("ca.pem");

    let fetch = |url| CLIENT.try_run(&["curl", "-sS", "-m", "10", "--cacert", text(&ca), url]);

    let blocked = fetch("https://blocked.example/");
    assert!(printed(&blocked).to_lowercase().contains("reset"), "{}", printed(&blocked));
    assert_eq!(printed(&fetch("https://www.lab.example/")), "hello from the server\n");
}

#[test]
fn blocked_pattern_resets_the_flow_even_when_it_comes_in_two_segments() {
    let _lab =
        Lab::start(&filtered(PORT, "type = \"block\"\npatterns = [\"forbidden words\"]\nanswer = \"reset\""));
    let (mut client, mut server) = connection();
    client.write_all(b"harmless words; ").unwrap();
    assert_eq!(read_exactly(&mut server, 16), b"harmless words; ");

    in_two_segments(&mut client, b"forbidden", b" words");

    let error = client.read(&mut [0; 10]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn replacement_of_another_length_works_across_segments() {
    let replace = "type = \"replace\"\nfind = \"teapot\"\nwith = \"samovar\"\nstream = \"both\"";
    let _lab = Lab::start(&filtered(PORT, replace));
    let (mut client, mut server) = connection();

    in_two_segments(&mut server, b"a little tea", b"pot, two teapots");
    in_two_segments(&mut client, b"teapot? t", b"eapot! tea");
    finish(send_all(&server, Vec::new()));
    finish(send_all(&client, Vec::new()));

    assert_eq!(receive_all(&client), b"a little samovar, two samovars");
    assert_eq!(receive_all(&server), b"samovar? samovar! tea");
}

#[test]
fn replacement_leaves_a_long_stream_whole() {
    let replace = "type = \"replace\"\nfind = \"teapot\"\nwith = \"pot\"\nstream = \"second\"";
    let _lab = Lab::start(&filtered(PORT, replace));
    let (client, server) = connection();
    let chapter = |word: &[u8]| (0..200).flat_map(|n| [&noise(n, 5000), word].concat()).collect::<Vec<u8>>();

    let sending = send_all(&server, chapter(b"teapot"));

    assert!(receive_all(&client) == chapter(b"pot"));
    finish(sending);
}

#[test]
fn limit_shapes_a_flow_to_its_rate() {
    const BYTES: usize = 6_000_000;
    let limit = "type = \"limit\"\nbytes_per_second = 2_000_000\nburst = 100_000\nby = \"flow\"";
    let _lab = Lab::start(&filtered(PORT, limit));
    let (client, server) = connection();
    let start = Instant::now();

    let sending = send_all(&server, noise(1, BYTES));

    assert!(receive_all(&client) == noise(1, BYTES));
    let seconds = start.elapsed().as_secs_f64();
    assert!((2.7..4.0).contains(&seconds), "3 s worth of bytes took {seconds} s");
    finish(sending);
}

#[test]
fn content_of_both_streams_is_kept_up_to_the_cap() {
    let lab = Lab::start(&filtered(
        PORT,
        "type = \"log\"\npath = \"more.jsonl\"\ncontent_dir = \"content\"\ncontent_cap = 5000",
    ));
    let (client, server) = connection();
    finish(send_all(&client, noise(1, 3000)));
    finish(send_all(&server, noise(2, 9000)));
    assert!(receive_all(&server) == noise(1, 3000));
    assert!(receive_all(&client) == noise(2, 9000));

    lab.logged(|line| line["rule"] == "filtered");

    let files = fs::read_dir(lab.file("content")).unwrap();
    let contents: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(contents.contains(&noise(1, 3000)), "the first stream, whole");
    assert!(contents.contains(&noise(2, 5000)), "the second stream, up to the cap");
}

/// Writes twice, with enough of a pause that the bytes cannot share a segment.
fn in_two_segments(stream: &mut TcpStream, one: &[u8], two: &[u8]) {
    stream.write_all(one).unwrap();
    thread::sleep(Duration::from_millis(100));
    stream.write_all(two).unwrap();
}
