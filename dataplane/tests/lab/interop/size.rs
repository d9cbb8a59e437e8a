//! Windows and segments of every size: window scale 0 to 14, MSS from the smallest that Linux believes.

use socket2::SockRef;

use super::setting::{Setting, route, sysctl, wire};
use super::talk::{Told, bulk, connect_from, connection, listen};
use super::{Row, Way, lab, run};
use crate::hosts::{CLIENT, SERVER, accept};

/// The smallest that Linux lets a program choose, the smallest that a host must take, those of common paths, odd ones.
const SEGMENTS: [u16; 9] = [88, 128, 257, 536, 1000, 1220, 1400, 1459, 1460];

#[test]
fn windows_and_segments_may_have_any_size() {
    let lab = lab();
    run(&lab, window_scales());
    run(&lab, segment_sizes());
}

fn window_scales() -> impl Iterator<Item = Row> {
    let scales = 0..=14_u8;
    let equal = scales.clone().map(|scale| (scale, scale));
    let opposed = scales.map(|scale| (scale, 14 - scale));
    equal.chain(opposed).map(|(client, server)| {
        Row::new(format!("window scale {client} at the client, {server} at the server"), move |way| {
            windows_are_scaled(way, client, server);
        })
        .client(scaled_by(client))
        .server(scaled_by(server))
    })
}

/// No segment is larger than its receiver wants.
fn segment_sizes() -> impl Iterator<Item = Row> {
    let few = |way| {
        let (client, server) = connection(way);
        bulk(&client, &server, 200_000);
    };
    let receivers = SEGMENTS.into_iter().flat_map(move |mss| {
        [
            Row::new(format!("client wants {mss}"), few).client(at_most(mss)),
            Row::new(format!("server wants {mss}"), few).server(at_most(mss)),
            Row::new(format!("both want {mss}"), few).both(at_most(mss)),
        ]
    });
    let senders = SEGMENTS
        .into_iter()
        .map(|mss| Row::new(format!("both programs choose {mss}"), move |way| segments_are_chosen(way, mss)));

    receivers.chain(senders)
}

/// A host that may open its window so far that it needs this scale, and no further.
fn scaled_by(scale: u8) -> [Setting; 2] {
    [sysctl("tcp_rmem", "4096 131072 1073741823"), route(format!("window {}", (1_u32 << (16 + scale)) - 1))]
}

fn windows_are_scaled(way: Way, client_scale: u8, server_scale: u8) {
    let (client, server) = connection(way);

    assert_eq!(Told::of(CLIENT, &client).scales(), Some((server_scale, client_scale)), "(theirs, ours)");
    assert_eq!(Told::of(SERVER, &server).scales(), Some((client_scale, server_scale)), "(theirs, ours)");
    bulk(&client, &server, 2_000_000);
}

/// A host that announces this MSS and never sees a larger segment.
pub(super) fn at_most(mss: u16) -> [Setting; 2] {
    let packet = mss + 40;
    [route(format!("advmss {mss}")), wire("ingress", format!("meta protocol ip ip length > {packet} drop;"))]
}

/// Both ends have set TCP_MAXSEG, which bounds what a kernel sends as well.
fn segments_are_chosen(way: Way, mss: u16) {
    let listener = listen(way);
    SockRef::from(&listener).set_tcp_mss(mss.into()).unwrap();
    let client = connect_from(0, way, move |socket| socket.set_tcp_mss(mss.into()).unwrap()).unwrap();
    let server = accept(&listener);

    bulk(&client, &server, 200_000);
}
