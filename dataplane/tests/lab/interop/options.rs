//! TCP's options on and off on either host: what both ends want is agreed end to end, and everything arrives.

use std::fs;
use std::path::Path;

use super::setting::{route, sysctl};
use super::talk::{Told, bulk, bulk_over, connection};
use super::{Row, Way, lab, run};
use crate::hosts::{CLIENT, SERVER};

/// Options that are on where both hosts offer them: the key of `net.ipv4`, and how `ss` calls it.
const OFFERED: [(&str, &str); 3] =
    [("tcp_timestamps", "ts"), ("tcp_sack", "sack"), ("tcp_window_scaling", "wscale")];

#[test]
fn hosts_agree_on_what_both_offer_and_every_variant_of_the_kernel_gets_every_byte() {
    let lab = lab();
    let sets = 0..1 << OFFERED.len();
    let offers = sets.clone().flat_map(|client| sets.clone().map(move |server| offering(client, server)));
    let on_either_host = |key: &'static str, value: &'static str| {
        let row = |host| Row::new(format!("{key}={value} on {host}"), |way| bulk_over(way, 300_000));
        let setting = [sysctl(key, value)];
        [row("the client").client(setting.clone()), row("the server").server(setting)]
    };
    let variants = VARIANTS.iter().filter(|&&(key, _)| kernel_has(key));
    let variants = variants.flat_map(|&(key, values)| values.iter().map(move |&value| (key, value)));
    let rows = variants.flat_map(|(key, value)| on_either_host(key, value));

    run(&lab, offers.chain(rows).chain(congestion_controlled()).chain(congestion_notified()));
}

/// Settings of the kernel's TCP that are seen on the wire, with the values that are not the default.
const VARIANTS: &[(&str, &[&str])] = &[
    ("tcp_adv_win_scale", &["-2", "4"]),
    ("tcp_autocorking", &["0"]),
    ("tcp_comp_sack_nr", &["0"]),
    ("tcp_dsack", &["0"]),
    ("tcp_early_retrans", &["0"]),
    ("tcp_fastopen", &["0"]),
    ("tcp_frto", &["0"]),
    ("tcp_limit_output_bytes", &["20000"]),
    ("tcp_low_latency", &["1"]),
    ("tcp_max_reordering", &["3"]),
    ("tcp_min_snd_mss", &["536"]),
    ("tcp_moderate_rcvbuf", &["0"]),
    ("tcp_mtu_probing", &["1", "2"]),
    ("tcp_notsent_lowat", &["4096"]),
    ("tcp_pacing_ss_ratio", &["100"]),
    ("tcp_pingpong_thresh", &["3"]),
    ("tcp_recovery", &["0", "2", "4", "7"]),
    ("tcp_reordering", &["10"]),
    ("tcp_retrans_collapse", &["0"]),
    ("tcp_rfc1337", &["1"]),
    ("tcp_rmem", &["4096 8192 16384", "4096 131072 33554432"]),
    ("tcp_shrink_window", &["1"]),
    ("tcp_slow_start_after_idle", &["0"]),
    ("tcp_stdurg", &["1"]),
    ("tcp_syncookies", &["2"]),
    ("tcp_thin_linear_timeouts", &["1"]),
    ("tcp_timestamps", &["2"]),
    ("tcp_tso_win_divisor", &["1"]),
    ("tcp_wmem", &["4096 4096 4096"]),
    ("tcp_workaround_signed_windows", &["1"]),
];

/// A set is a number whose bits stand for [`OFFERED`].
fn offering(client: usize, server: usize) -> Row {
    let settings = |set: usize| {
        let value = move |index: usize| if set & 1 << index != 0 { "1" } else { "0" };
        OFFERED.iter().enumerate().map(move |(index, (key, _))| sysctl(key, value(index)))
    };
    let names = |set: usize| {
        let on = OFFERED.iter().enumerate().filter(|(index, _)| set & 1 << index != 0);
        on.map(|(_, (_, name))| *name).collect::<Vec<_>>().join("+")
    };
    let exchange = move |way| options_are_agreed(way, client & server);
    Row::new(format!("client offers [{}], server [{}]", names(client), names(server)), exchange)
        .client(settings(client))
        .server(settings(server))
}

fn options_are_agreed(way: Way, agreed: usize) {
    let (client, server) = connection(way);
    let told = [Told::of(CLIENT, &client), Told::of(SERVER, &server)];

    for (index, (_, name)) in OFFERED.iter().enumerate() {
        let on = told.each_ref().map(|told| told.says(name) || told.value(name).is_some());
        assert_eq!(on, [agreed & 1 << index != 0; 2], "{name} at the client and at the server");
    }
    let [at_client, at_server] = told.map(|told| told.scales());
    assert_eq!(
        at_client,
        at_server.map(|(theirs, ours)| (ours, theirs)),
        "each host's own shift at the other"
    );
    bulk(&client, &server, 100_000);
}

/// Each congestion control of this kernel. A namespace may not choose all of them for itself, but a route may.
fn congestion_controlled() -> impl Iterator<Item = Row> {
    let available = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    let names: Vec<_> = available.split_whitespace().map(str::to_owned).collect();
    names.into_iter().map(|name| {
        Row::new(format!("{name} on both hosts"), |way| bulk_over(way, 3_000_000))
            .both([route(format!("congctl {name}"))])
    })
}

/// ECN asked for, accepted and refused, by each host (RFC 3168).
fn congestion_notified() -> impl Iterator<Item = Row> {
    (0..=2).flat_map(|asks: u8| {
        (0..=2).map(move |answers: u8| {
            Row::new(format!("ECN {asks} at the client, {answers} at the server"), |way| {
                bulk_over(way, 50_000)
            })
            .client([sysctl("tcp_ecn", asks.to_string())])
            .server([sysctl("tcp_ecn", answers.to_string())])
        })
    })
}

/// Kernels differ in the keys that they have, and some keys are not a namespace's own.
fn kernel_has(key: &'static str) -> bool {
    CLIENT.within(move || Path::new("/proc/sys/net/ipv4").join(key).exists())
}
