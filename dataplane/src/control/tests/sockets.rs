//! The socket's file: whose it is, when it goes, and what it replaces.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::super::client::{Client, Place};
use super::rig::without_cores;
use super::*;

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_gateway() {
    let mut rig = Rig::new("socket");
    let mode = fs::metadata(rig.socket()).expect("exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(rig.control.take());
    assert!(!rig.socket().exists());
    let told = rig.client().get::<Stats>("/stats").expect_err("nobody there").to_string();
    assert!(told.starts_with("no gateway answers at "), "{told}");
}

#[test]
fn the_socket_is_for_the_members_of_a_group_where_one_is_named() {
    use std::os::unix::fs::MetadataExt;

    let own = rustix::process::getgid().as_raw();
    let rig = Rig::configured("socket-group", &format!("group = \"{own}\"\n"), None);
    let socket = fs::metadata(rig.socket()).expect("exists");
    assert_eq!((socket.permissions().mode() & 0o777, socket.gid()), (0o660, own));
    let dir = tempdir::Dir::new("socket-no-group");
    let socket = dir.path().join("c");
    let text = format!("{CONFIG}[control]\nsocket = \"{}\"\ngroup = \"no-such-group\"\n", socket.display());
    let told = start(without_cores(&dir, &text)).expect_err("no such group").to_string();
    assert_eq!(told, "control.group no-such-group: /etc/group knows no group of that name");
    assert!(!socket.exists(), "nobody is let in by mistake");
}

#[test]
fn a_client_finds_a_gateway_that_began_anew() {
    let dir = tempdir::Dir::new("anew");
    let text = format!("{CONFIG}[control]\nsocket = \"{}/c\"\n", dir.path().display());
    let client = Client::new(Place::Socket(dir.path().join("c"))).expect("a client");
    for _ in 0..2 {
        let control = start(without_cores(&dir, &text)).expect("starts");
        for _ in 0..3 {
            client.get::<Stats>("/stats").expect("answered");
        }
        drop(control);
        let error = client.get::<Stats>("/stats").expect_err("nobody there");
        assert!(matches!(error, ClientError::NoGateway { .. }), "{error}");
    }
}

#[test]
fn a_socket_left_behind_is_replaced_but_nothing_else_is() {
    let dir = tempdir::Dir::new("left-behind");
    let path = dir.path().join("control.sock");
    let gateway = |path: &Path| {
        let text = format!("{CONFIG}[control]\nsocket = \"{}\"\n", path.display());
        without_cores(&dir, &text)
    };
    drop(UnixListener::bind(&path).expect("bound"));
    let first = start(gateway(&path)).expect("replaces the dead socket");
    let second = start(gateway(&path)).expect_err("the first one lives").to_string();
    assert!(second.ends_with("another gateway answers there"), "{second}");
    drop(first);
    fs::write(&path, "precious").expect("written");
    let third = start(gateway(&path)).expect_err("not a socket").to_string();
    assert!(third.ends_with("this file exists and is no socket"), "{third}");
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
}
