//! The whole gateway in virtual time: two workers, two proxy cores, hosts on bad links, a NIC that delivers where it likes.
//!
//! A failure prints `PNAT_SEED=...`, which repeats that run alone; `PNAT_SEEDS=500` tries more.

mod chooser;
mod host;
mod stages;
mod world;

use pnat_shared::config::{Accept, Action};
use pnat_shared::flow::Offloads;
use pnat_shared::testkit::LinkSpec;
use pnat_shared::time::Duration;

use world::{Run, World};

/// Runs with every seed, or with the one that the environment names.
fn with_seeds(seeds: u64, run: &Run) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let all = 0..number("PNAT_SEEDS").unwrap_or(seeds);
    for seed in number("PNAT_SEED").map_or(all, |seed: u64| seed..seed + 1) {
        if let Err(problem) = World::new(run, seed).play() {
            panic!("{problem}\nPNAT_SEED={seed}\n{run:?}");
        }
    }
}

/// Loses, repeats, delays and damages.
fn bad_link() -> LinkSpec {
    LinkSpec {
        loss: 0.03,
        duplication: 0.02,
        reordering: 0.1,
        reorder_by: Duration::from_millis(3),
        corruption: 0.01,
        ..LinkSpec::default()
    }
}

#[test]
fn proxied_flows_are_byte_exact_and_leave_nothing_behind() {
    with_seeds(10, &Run::default());
}

#[test]
fn translated_flows_are_byte_exact() {
    with_seeds(10, &Run { action: Action::Nat, ..Run::default() });
}

#[test]
fn bad_links_slow_proxied_flows_down_and_do_no_harm() {
    with_seeds(10, &Run { flows: 10, link: bad_link(), ..Run::default() });
}

/// Without corruption: translation keeps the sender's checksum, and two bits turned over on two links may cancel out.
#[test]
fn bad_links_slow_translated_flows_down_and_do_no_harm() {
    let link = LinkSpec { corruption: 0.0, ..bad_link() };
    with_seeds(10, &Run { flows: 10, action: Action::Nat, link, ..Run::default() });
}

/// On links that damage packets, so that what the ports find wrong is to be told from what they find right.
#[test]
fn flows_are_byte_exact_whichever_port_sees_to_checksums() {
    let completes = Offloads { checksum: true, segments: 1 };
    let cuts = Offloads { checksum: true, segments: 8 };
    let none = Offloads::NONE;
    for offloads in [[completes; 2], [completes, none], [none, completes], [cuts; 2], [cuts, none]] {
        for accept in [Accept::Late, Accept::Early] {
            with_seeds(3, &Run { flows: 10, accept, offloads, link: bad_link(), ..Run::default() });
        }
        with_seeds(3, &Run { action: Action::Nat, offloads, ..Run::default() });
    }
}

#[test]
fn flows_accepted_early_are_byte_exact_and_leave_nothing_behind() {
    with_seeds(10, &Run { accept: Accept::Early, ..Run::default() });
}

#[test]
fn bad_links_slow_flows_accepted_early_down_and_do_no_harm() {
    with_seeds(10, &Run { flows: 10, accept: Accept::Early, link: bad_link(), ..Run::default() });
}

#[test]
fn flows_whose_servers_a_filter_chooses_are_byte_exact_and_ask_no_server_in_vain() {
    with_seeds(5, &Run { accept: Accept::Early, chosen: true, ..Run::default() });
}

#[test]
fn bad_links_do_no_harm_to_flows_whose_servers_a_filter_chooses() {
    with_seeds(4, &Run { flows: 8, accept: Accept::Early, chosen: true, link: bad_link(), ..Run::default() });
}

#[test]
fn rfc4987_spoofed_syns_cost_next_to_nothing_and_keep_no_client_out() {
    with_seeds(5, &Run { syn_cookies_above: 10, spoofed: 20_000, ..Run::default() });
}
