//! The binary as an operator meets it: what it prints, and what it ends with.

use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = r#"[[port]]
name = "inside"
device = "net_null0"
addresses = ["10.77.1.1/24"]
[[port]]
name = "outside"
device = "net_null1"
addresses = ["198.18.0.1/24"]
gateway = "198.18.0.2"
[cores]
workers = [0]
proxies = [0]
[nat]
public = ["198.18.0.1"]
[[filter]]
name = "slow"
type = "limit"
bytes_per_second = "1MB"
[[rule]]
name = "web"
match = { proto = "tcp", dst_port = 80 }
action = "proxy"
filters = ["slow"]
[control]
socket = "no-gateway.sock"
"#;

/// Runs `pnat` beside a configuration file named `lab.toml`.
fn pnat(test: &str, config: &str, args: &[&str]) -> Output {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("lab.toml"), config).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pnat"));
    command.current_dir(&dir).args(args).args(["--config", "lab.toml"]).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_says_what_it_understood() {
    let output = pnat("check", GOOD, &["check", "--cpus", "2"]);
    let expected = "\
lab.toml is good.
port inside: net_null0, 10.77.1.1/24; inside, faces the clients
port outside: net_null1, 198.18.0.1/24, gateway 198.18.0.2; outside, faces the servers
cores: workers [0], proxies [0], main 1, idle adaptive
nat: 198.18.0.1, ports 1024-65535, 262144 flows per worker, 16384 per client
policy: 1 rules, 1 filters, default proxy
control: no-gateway.sock
";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_configuration_error_ends_every_command_with_2_and_a_message_on_standard_error() {
    let bad = GOOD.replace("filters = [\"slow\"]", "filters = [\"slwo\"]");
    for command in [&["check"][..], &["run"], &["stats"], &["explain", "tcp", "10.77.1.5:1", "192.0.2.1:80"]]
    {
        let output = pnat("bad", &bad, command);
        let told =
            "lab.toml:23: rule \"web\": filters: no filter is named \"slwo\"; did you mean \"slow\"?\n";
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), (told, Some(2)), "{command:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_wrong_address_for_metrics_is_named_with_its_key_before_anything_is_touched() {
    for wrong in ["9100", "localhost:9100", "127.0.0.1", "127.0.0.1:0"] {
        let output = pnat("metrics", &format!("{GOOD}metrics = \"{wrong}\"\n"), &["run"]);
        let told = format!(
            "lab.toml:26: control.metrics: \"{wrong}\" is not allowed; allowed: an IP address of this machine and a \
             port, as in \"127.0.0.1:9100\"\n"
        );
        assert_eq!((text(&output.stderr), output.status.code()), (told, Some(2)));
    }
    let good = pnat("metrics", &format!("{GOOD}metrics = \"127.0.0.1:9100\"\n"), &["check"]);
    let told = "control: no-gateway.sock, metrics at http://127.0.0.1:9100/metrics\n";
    assert!(text(&good.stdout).ends_with(told), "{}", text(&good.stdout));
}

#[test]
fn a_plan_that_the_machine_cannot_carry_out_is_a_configuration_error() {
    let config = format!("{GOOD}[memory]\nframes = 1024\n");
    let output = pnat("few", &config, &["run"]);
    let told = "lab.toml: memory.frames: 1024 frames are too few; these ports and cores need at least ";
    assert!(text(&output.stderr).starts_with(told), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn explain_answers_from_the_file_where_no_gateway_runs() {
    let output = pnat("explain", GOOD, &["explain", "tcp", "10.77.1.5:4000", "192.0.2.1:80"]);
    let expected = "\
tcp 10.77.1.5:4000 -> 192.0.2.1:80
  rule 0  web  line 19  matches
decision: proxy, filters slow (by the file; no gateway runs)
";
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
}

#[test]
fn asking_a_gateway_that_does_not_run_fails_with_1_and_says_where_it_asked() {
    let output = pnat("nobody", GOOD, &["stats"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.starts_with("no gateway answers at no-gateway.sock: "), "{told}");
}

#[test]
fn a_wrong_address_is_told_with_what_is_allowed() {
    let output = pnat("address", GOOD, &["explain", "udp", "10.77.1.5", "192.0.2.1"]);
    let told = "\"192.0.2.1\" is not an address; allowed: an IP address and a port, as in 192.0.2.1:80\n";
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), (told, Some(2)));
}

#[test]
fn filters_that_do_nothing_in_a_rule_are_told() {
    let filters =
        "[[filter]]\nname = \"pool\"\ntype = \"redirect\"\nservers = [{ address = \"198.18.0.2:80\" }]";
    let rule = |name: &str, keys: &str| {
        format!("[[rule]]\nname = \"{name}\"\naction = \"proxy\"\nfilters = [\"pool\"]\n{keys}\n")
    };
    let rules = [
        rule("late", "match = {}"),
        rule("early", "match = {}\naccept = \"early\""),
        rule("names", "match = { proto = \"udp\" }"),
    ];
    let config = GOOD.replacen("[[rule]]", &format!("{filters}\n{}[[rule]]", rules.concat()), 1);
    let output = pnat("doubts", &config, &["check"]);
    let told = text(&output.stdout);
    let notes: Vec<_> = told.lines().filter(|line| line.starts_with("note: ")).collect();
    assert_eq!(
        notes,
        [
            "note: rule \"late\", line 23: filter \"pool\" does nothing: it needs clients that are accepted early (accept = \"early\")",
            "note: rule \"names\", line 34: filter \"pool\" does nothing: it is over HTTP, and the rule for UDP",
        ]
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn files_of_the_api_by_tcp_that_cannot_be_read_are_named_before_anything_is_touched() {
    let tls = "tls = { certificate = \"no.pem\", key = \"no.key\", clients = \"ca.pem\" }";
    let config = format!("{GOOD}listen = \"127.0.0.1:9443\"\n{tls}\n");
    for command in ["run", "check"] {
        let output = pnat("no-pem", &config, &[command]);
        let told = "lab.toml: control.tls.certificate: no.pem: No such file or directory (os error 2)\n";
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), (told, Some(2)), "{command}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_gateway_elsewhere_is_asked_with_an_address_and_three_files_or_not_at_all() {
    let files = ["--certificate", "no.pem", "--key", "no.key", "--ca", "ca.pem"];
    let rows = [
        (
            "https://10.0.0.1:9443",
            &[][..],
            "a gateway elsewhere is asked with --certificate FILE (or PNAT_CERTIFICATE)\n",
        ),
        ("10.0.0.1:9443", &files, "\"10.0.0.1:9443\" is no address of a gateway; "),
        ("https://10.0.0.1:9443", &files, "no.pem: No such file or directory"),
    ];
    for (url, files, told) in rows {
        let output = pnat("elsewhere", GOOD, &[&["stats", "--control", url][..], files].concat());
        let error = text(&output.stderr);
        assert!(error.starts_with(told), "{error}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn top_needs_a_terminal_or_prints_one_frame() {
    let output = pnat("top", GOOD, &["top"]);
    let told = "standard output is not a terminal; --once prints a frame of plain text\n";
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), (told, Some(2)));
    let output = pnat("top", GOOD, &["top", "--once"]);
    assert!(text(&output.stderr).starts_with("no gateway answers at no-gateway.sock: "));
    assert_eq!(output.status.code(), Some(1));
}
