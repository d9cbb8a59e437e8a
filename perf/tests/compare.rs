//! The regression guard as a command: what it prints, writes and ends with. In valgrind's place stands a script that has
//! "counted" a thousand instructions per packet, so the test takes no time; `scripts/test` runs the real one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VALGRIND: &str = r#"#!/bin/sh
[ "$1" = --version ] && { echo valgrind-3.19.0; exit; }
for word; do case $word in --callgrind-out-file=*) out=${word#*=} ;; esac; done
printf 'events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\ntotals: 10000 0 0 0 50\n' >"$out"
echo 10
"#;

/// A directory with a baselines file and the script; gone with the test.
struct Desk(PathBuf);

impl Desk {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("pnat-perf-compare-{name}.{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let valgrind = dir.join("valgrind");
        fs::write(&valgrind, VALGRIND).unwrap();
        fs::set_permissions(&valgrind, fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join("baselines.toml")
    }

    fn compare(&self, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.0.display(), std::env::var("PATH").unwrap());
        Command::new(env!("CARGO_BIN_EXE_pnat-perf"))
            .args(["compare", "--program", "/bin/true", "--baselines"])
            .arg(self.file())
            .args(args)
            .env("PATH", path)
            .output()
            .unwrap()
    }

    /// Has the guard write the baselines, and then changes one's instructions.
    fn agree_to(&self, instructions: u32) {
        assert_eq!(self.compare(&["--update"]).status.code(), Some(0));
        let written = fs::read_to_string(self.file()).unwrap();
        let changed = written.replacen("instructions = 1000", &format!("instructions = {instructions}"), 1);
        fs::write(self.file(), changed).unwrap();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn printed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_costs_as_much_as_before_is_good() {
    let desk = Desk::new("good");
    desk.agree_to(1000);
    let output = desk.compare(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = printed(&output.stdout);
    assert_eq!(table.lines().filter(|line| line.ends_with(" 5 %  good")).count(), 9, "{table}");
}

#[test]
fn a_row_that_costs_more_than_its_bound_allows_fails_and_is_named() {
    let desk = Desk::new("worse");
    desk.agree_to(950);
    let output = desk.compare(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(printed(&output.stderr), "beyond the bound: nat_hit/1k\n");
    assert!(printed(&output.stdout).contains("+5.3 %"), "{output:?}");
    let other = desk.compare(&["--row", "pair/pass/1"]);
    assert_eq!(other.status.code(), Some(0), "that row is as it was");
}

#[test]
fn a_row_that_costs_much_less_asks_for_an_update_which_keeps_what_people_wrote() {
    let desk = Desk::new("better");
    desk.agree_to(1100);
    let written = fs::read_to_string(desk.file()).unwrap().replacen("bound = 5", "bound = 8", 1);
    fs::write(desk.file(), &written).unwrap();
    let output = desk.compare(&["--row", "nat_hit/1k"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(printed(&output.stdout).contains("better: --update"), "{output:?}");
    assert_eq!(desk.compare(&["--row", "nat_hit/1k", "--update"]).status.code(), Some(0));
    let updated = fs::read_to_string(desk.file()).unwrap();
    assert_eq!(updated, written.replacen("instructions = 1100", "instructions = 1000", 1));
}

#[test]
fn a_faulty_file_is_refused_with_file_line_and_key_before_anything_is_counted() {
    let desk = Desk::new("faulty");
    desk.agree_to(0);
    let output = desk.compare(&[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let expected = format!(
        "{}:10: row \"nat_hit/1k\": instructions: 0 is not allowed; allowed: 1 to 4294967295\n",
        desk.file().display()
    );
    assert_eq!((printed(&output.stderr), printed(&output.stdout)), (expected, String::new()));
    fs::remove_file(desk.file()).unwrap();
    assert_eq!(desk.compare(&[]).status.code(), Some(2));
    assert!(!Path::new(&desk.file()).exists());
}

#[test]
fn a_row_that_there_is_not_is_refused_with_those_that_there_are() {
    let output = Desk::new("row").compare(&["--row", "nat_hit/1m"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(printed(&output.stderr).contains("there are nat_hit/1k, nat_miss/translated"), "{output:?}");
}
