//! The command line, against a running gateway.

use clap::Parser as _;

use super::*;

#[test]
fn every_command_of_the_cli_is_answered_by_a_running_gateway() {
    let rig = Rig::new("commands");
    let (dir, config) = (rig.dir.path().display(), rig.config_file());
    let rows = [
        ("stats".to_owned(), "worker 0 (CPU 0)"),
        ("stats --json".to_owned(), "\"generation\": 1"),
        ("flows --client 10.77.1.5 --proto tcp --limit 1".to_owned(), "1 flows, and more (--limit)"),
        ("flows --sort bytes --json".to_owned(), "\"flows\": ["),
        (
            "flows --state connecting --rule web --min-age 2s --max-age 1h --min-bytes 1KB --columns client,legs,name"
                .to_owned(),
            "client          legs               name\n10.77.1.5:4001  syn_held/syn_sent  www.example\n1 flows\n",
        ),
        ("explain tcp 10.77.1.5:4001 192.0.2.9:80".to_owned(), "decision: proxy (policy generation 1)"),
        (format!("report --out {dir}/out"), "nat.hgrm"),
        (format!("report --html {dir}/page.html"), "page.html"),
        ("report --markdown".to_owned(), "## The last minutes"),
        (format!("capture --write {dir}/inside.pcap --at inside --count 3"), "3 packets in "),
        ("reload".to_owned(), "policy generation 2: 1 rules, 0 filters"),
    ];
    for (line, expected) in rows {
        let words = ["pnat", "--config", config.to_str().expect("plain")].into_iter().chain(line.split(' '));
        let mut out = Vec::new();
        crate::cli::Cli::try_parse_from(words)
            .expect("a command")
            .run(Kinds::default(), &mut out)
            .expect(&line);
        let out = String::from_utf8(out).expect("text");
        assert!(out.contains(expected), "{line}: {out}");
    }
    assert_eq!(fs::metadata(rig.dir.path().join("inside.pcap")).expect("written").len(), 24 + 3 * (16 + 60));
    let page = fs::read_to_string(rig.dir.path().join("page.html")).expect("written");
    assert!(page.contains("Packets by port") && page.contains("Latency by percentile and stage"), "{page}");
}
