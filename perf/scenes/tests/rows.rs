//! The program that the regression guard watches.

use std::process::{Command, Output};

fn rows(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pnat-rows")).args(args).output().unwrap()
}

#[test]
fn a_row_tells_how_many_packets_counted() {
    let told = rows(&["tcp/segment_in"]);
    assert!(told.status.success());
    assert_eq!(String::from_utf8(told.stdout).unwrap(), "4096\n");
}

#[test]
fn rows_are_told_by_name_and_others_refused() {
    let told = String::from_utf8(rows(&[]).stdout).unwrap();
    assert!(told.lines().any(|name| name == "pair/pass/10k"), "{told}");
    assert_eq!(rows(&["pair/pass/11k"]).status.code(), Some(2));
}
