//! The scripts for other generators say nothing that those do not understand: their lines and calls are held against the tools' own
//! tables, DPDK Pktgen's of 26.02.4 (`cli-functions.c`, `lpktgenlib.c`) and TRex's of v3.08, as far as they are used.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Commands of Pktgen: `<ports>`, `<n>`, `<mac>`, `<ip>` and `<file>` stand for such words, `|` for a choice.
const COMMANDS: &[&str] = &[
    "stop|start <ports>",
    "stop|start <ports> latsampler",
    "clear <ports> stats",
    "enable|disable <ports> range|latency|process",
    "page latency",
    "latency <ports> rate <n>",
    "set <ports> count|size|rate|sport|dport|ttl|seq_cnt <n>",
    "set <ports> type ipv4",
    "set <ports> proto udp|tcp",
    "set <ports> src|dst mac <mac>",
    "set <ports> src|dst ip <ip>",
    "set <ports> latsampler simple|poisson <n> <n> <file>",
    "range <ports> type ipv4",
    "range <ports> proto udp|tcp",
    "range <ports> src|dst mac <mac> <mac> <mac> <mac>",
    "range <ports> src|dst ip <ip> <ip> <ip> <ip>",
    "range <ports> src|dst port <n> <n> <n> <n>",
    "range <ports> ttl <n> <n> <n> <n>",
    "range <ports> size <n> <n> <n> <n>",
    "sequence <n> <ports> dst <mac> src <mac> dst <ip> src <ip> sport <n> dport <n> ipv4 udp|tcp vlan <n> size <n>",
];

/// Functions of Pktgen's Lua library.
const LUA: &[&str] = &["clr", "delay", "portStats", "range.pkt_size", "set", "start", "stop"];

/// Names of TRex's stateless library.
const TREX: &[&str] = &["STLFlowLatencyStats", "STLPktBuilder", "STLStream", "STLTXCont", "STLVM"];

/// A sequence has no more entries.
const ENTRIES: u32 = 16;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn scripts(name: &str, kind: &str) -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(directory(name)).unwrap().map(|entry| entry.unwrap().path());
    let scripts = files.filter(|file| file.extension().is_some_and(|extension| extension == kind));
    scripts.map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

fn fits(shape: &str, command: &[&str]) -> bool {
    let wanted: Vec<&str> = shape.split(' ').collect();
    wanted.len() == command.len() && wanted.iter().zip(command).all(|(wanted, word)| is(wanted, word))
}

fn is(wanted: &str, word: &str) -> bool {
    let is_number = |word: &str| word.parse::<u32>().is_ok();
    match wanted {
        "<ports>" => word == "all" || word.split('-').all(is_number),
        "<n>" => is_number(word),
        "<mac>" => {
            word.split(':').count() == 6
                && word.split(':').all(|byte| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok())
        }
        "<ip>" => {
            let (address, length) = word.split_once('/').unwrap_or((word, "32"));
            address.parse::<Ipv4Addr>().is_ok() && length.parse::<u8>().is_ok_and(|length| length <= 32)
        }
        "<file>" => !word.is_empty(),
        words => words.split('|').any(|known| known == word),
    }
}

/// Why Pktgen would not take a line.
fn fault(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.is_empty() || line.starts_with('#') {
        return None;
    }
    if !COMMANDS.iter().any(|shape| fits(shape, &words)) {
        return Some("no such command".to_owned());
    }
    let entry = words[1].parse::<u32>();
    (words[0] == "sequence" && entry.is_ok_and(|entry| entry >= ENTRIES))
        .then(|| "one entry too many".to_owned())
}

#[test]
fn every_line_is_a_command_of_pktgen() {
    let scripts = scripts("pktgen", "pkt");
    assert!(scripts.len() >= 5);
    for (file, text) in scripts {
        for (number, line) in text.lines().enumerate() {
            assert_eq!(fault(line), None, "{}:{}: {line}", file.display(), number + 1);
        }
    }
}

#[test]
fn a_line_that_is_none_is_found() {
    for line in [
        "set 0 sise 64",
        "set 0 rate 10 20",
        "range 0 src ip 10.0.0.1 10.0.0.1 10.0.0.256 0.0.0.1",
        "range 0 src mac 02:00:00:00:00 0 0 0",
        "stat 0",
        "sequence 16 0 dst 02:00:00:00:00:01 src 02:00:00:00:00:09 dst 10.0.0.1 src 10.0.0.2/16 sport 1 dport 2 ipv4 udp vlan 1 size 64",
    ] {
        assert!(fault(line).is_some(), "{line}");
    }
}

/// Address and port step together with each packet, so the flows are as many as their counts' least common multiple.
#[test]
fn ranges_make_as_many_flows_as_they_say() {
    for (name, flows) in [("nat-64b.pkt", 64_512), ("flows-1k.pkt", 1_024)] {
        let text = fs::read_to_string(directory("pktgen").join(name)).unwrap();
        let field = |name: &str| -> Vec<String> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.split_whitespace().map(str::to_owned).collect()
        };
        let [ips, ports] = ["range 0 src ip ", "range 0 src port "].map(field);
        let address = |at: usize| ips[at].parse::<Ipv4Addr>().unwrap().to_bits();
        let port = |at: usize| ports[at].parse::<u32>().unwrap();
        let counts = [address(2) - address(1) + 1, port(2) - port(1) + 1];
        let divisor = (1..=counts[1]).rev().find(|divisor| counts.iter().all(|count| count % divisor == 0));
        assert_eq!(counts[0] / divisor.unwrap() * counts[1], flows, "{name}");
    }
}

/// Names that follow `prefix` in a script.
fn names<'a>(text: &'a str, prefix: &str, keeps_prefix: bool) -> BTreeSet<&'a str> {
    let starts = text.match_indices(prefix).map(|(at, _)| if keeps_prefix { at } else { at + prefix.len() });
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    starts
        .map(|at| &text[at..])
        .map(|rest| &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())])
        .collect()
}

#[test]
fn lua_parses_and_calls_what_pktgen_has() {
    for (file, text) in scripts("pktgen", "lua") {
        let parsed = Command::new("luac5.4").arg("-p").arg(&file).output().expect("Debian package lua5.4");
        assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
        let unknown: Vec<_> =
            names(&text, "pktgen.", false).into_iter().filter(|name| !LUA.contains(name)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", file.display());
    }
}

#[test]
fn python_parses_and_names_what_trex_has() {
    let scripts = scripts("trex", "py");
    assert!(!scripts.is_empty());
    for (file, text) in scripts {
        let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
        let parsed = Command::new("python3").args(["-c", parse]).arg(&file).output().expect("python3");
        assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
        let unknown: Vec<_> =
            names(&text, "STL", true).into_iter().filter(|name| !TREX.contains(name)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", file.display());
    }
}
