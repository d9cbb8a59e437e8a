//! The API over a real socket, with cores that are threads and answer what the test says.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use hyper::StatusCode;

use super::answer::{Flows, Reloaded, Stats};
use super::client::ClientError;
use super::*;
use crate::filters::{Clock, Kinds};
use fake_core::Told;
use rig::Rig;

mod captures;
mod commands;
mod description;
mod fake_core;
pub(super) mod pki;
mod questions;
mod reloading;
mod remote;
mod rig;
mod sockets;
mod tempdir;
mod totals;
mod watching;
mod web;

const CONFIG: &str = r#"[[port]]
name = "inside"
device = "net_null0"
addresses = ["10.77.1.1/24"]
[[port]]
name = "outside"
device = "net_null1"
addresses = ["198.18.0.1/24"]
[cores]
workers = [0, 1]
proxies = [0, 1]
[nat]
public = ["198.18.0.1"]
[[rule]]
name = "web"
match = { proto = "tcp", dst_port = 80 }
action = "proxy"
"#;

const MORE_RULES: &str = "[[rule]]\nname = \"mail\"\nmatch = { dst_port = 25 }\naction = \"deny\"\n";

/// Makes chains; nothing is logged.
fn filters() -> Filters {
    Filters::start(65_535, Kinds::default(), Clock::start()).expect("a thread").0
}

#[track_caller]
fn refused<T: core::fmt::Debug>(answer: Result<T, ClientError>) -> (StatusCode, String) {
    match answer.expect_err("refused") {
        ClientError::Refused { status, error } => (status, error),
        other => panic!("not a refusal: {other}"),
    }
}
