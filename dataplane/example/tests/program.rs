//! The program with the filter of its own, as an operator meets it.

use std::fs;
use std::process::{Command, Output};

/// What `check` says of a configuration with this section.
fn check(section: &str) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("pnat.toml");
    let lab = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conf/lab.toml");
    let config = fs::read_to_string(lab).expect("the lab's configuration") + section;
    let config = config.replace("\"conf/", concat!("\"", env!("CARGO_MANIFEST_DIR"), "/../../conf/"));
    fs::write(&file, config).expect("room on the disk");
    Command::new(env!("CARGO_BIN_EXE_pnat-example"))
        .args(["--config", file.to_str().expect("a plain path"), "check", "--cpus", "2"])
        .output()
        .expect("the program starts")
}

#[test]
fn a_filter_from_outside_is_configured_like_any_other() {
    let good = check("\n[[filter]]\nname = \"kitchen\"\ntype = \"teapot\"\npaths = [\"/coffee\"]\n");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
}

#[test]
fn what_is_wrong_with_it_is_told_with_file_line_and_key() {
    for (keys, told) in [
        ("paths = []", "filter \"kitchen\": paths: is empty; allowed: at least one path"),
        ("path = [\"/coffee\"]", "unknown field `path`"),
        ("paths = 7", "filter \"kitchen\": paths: invalid type: integer `7`"),
    ] {
        let wrong = check(&format!("\n[[filter]]\nname = \"kitchen\"\ntype = \"teapot\"\n{keys}\n"));
        let message = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert_eq!(wrong.status.code(), Some(2), "{message}");
        assert!(message.contains("pnat.toml:") && message.contains(told), "{message}");
    }
}

#[test]
fn a_type_that_nobody_brings_is_told_with_those_there_are() {
    let wrong = check("\n[[filter]]\nname = \"kitchen\"\ntype = \"teapto\"\n");
    let message = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2), "{message}");
    assert!(message.contains("did you mean \"teapot\"?") && message.contains("\"url-block\""), "{message}");
}
