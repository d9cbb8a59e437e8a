//! Cookies forged, aged, replayed, and all that a SYN may ask for.

use core::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::flow::Protocol;
use proptest::prelude::*;

use super::*;

fn tuple(client: u32, port: u16) -> Tuple {
    let client = SocketAddrV4::new(Ipv4Addr::from_bits(client), port);
    Tuple::new(Protocol::Tcp, client, SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 80), 80))
}

/// The ACK by which a client completes the handshake, 30 ms after the SYN.
fn ack(irs: Seq, cookie: Cookie, offered: &Options) -> Header {
    let stamps = offered.timestamps.zip(cookie.stamp);
    Header {
        seq: irs + 1,
        ack: cookie.seq + 1,
        options: Options {
            timestamps: stamps.map(|((value, _), stamp)| (value.wrapping_add(30), stamp)),
            ..Options::default()
        },
        ..Header::default()
    }
}

/// A SYN with these options that asks for nothing else.
fn syn(options: Options) -> Header {
    Header { flags: Flags::SYN, options, ..Header::default() }
}

fn offer() -> impl Strategy<Value = Options> {
    let shift = prop::option::of(0u8..=14);
    let stamps = prop::option::of(any::<u32>().prop_map(|value| (value, 0)));
    (any::<Option<u16>>(), shift, any::<bool>(), stamps).prop_map(
        |(mss, window_scale, sack_permitted, timestamps)| Options {
            mss,
            window_scale,
            sack_permitted,
            timestamps,
            ..Options::default()
        },
    )
}

/// A time of day, and how long the client takes to answer: never longer than one step, however the two lie to the steps.
fn times() -> impl Strategy<Value = (Instant, Instant)> {
    (64_000u64..90_000_000, 0u64..=64_000)
        .prop_map(|(at, later)| (Instant::from_millis(at), Instant::from_millis(at + later)))
}

proptest! {
    #[test]
    fn rfc4987_3_6_what_a_syn_said_comes_back_with_the_ack(
        secret: u128, client: u32, port: u16, irs: u32, offered in offer(), ecn: bool, (made, back) in times(),
    ) {
        let (mut cookies, tuple, irs) = (Cookies::new(secret), tuple(client, port), Seq(irs));
        let asks = if ecn { Flags::ECE.with(Flags::CWR) } else { Flags::default() };
        let kept = keep(&Header { flags: Flags::SYN.with(asks), ..syn(offered) });
        let cookie = cookies.make(&tuple, irs, &kept, made);
        let ack = ack(irs, cookie, &offered);
        prop_assert!(cookies.are_awaited(back));
        let Kept { options: theirs, ecn: theirs_ecn } = cookies.redeem(&tuple, &ack, back).expect("a cookie of ours");
        let expected = Options { timestamps: ack.options.timestamps.map(|(value, _)| (value, 0)), ..kept.options };
        prop_assert_eq!(theirs, expected);

        // Nothing is gained but by rounding: all options with timestamps, the MSS alone without.
        let mss = offered.mss.unwrap_or(536);
        prop_assert!(theirs.mss <= Some(mss.max(88)));
        let stamped = offered.timestamps.is_some();
        prop_assert_eq!(theirs.window_scale, offered.window_scale.filter(|_| stamped));
        prop_assert_eq!(theirs.sack_permitted, offered.sack_permitted && stamped);
        prop_assert_eq!(theirs_ecn, ecn && stamped);
    }

    #[test]
    fn rfc4987_3_6_a_cookie_that_was_tampered_with_is_refused(
        secret: u128, client: u32, irs: u32, offered in offer(), (made, back) in times(), bit in 0u32..32, what in 0usize..7,
    ) {
        let (mut cookies, irs) = (Cookies::new(secret), Seq(irs));
        let cookie = cookies.make(&tuple(client, 4000), irs, &keep(&syn(offered)), made);
        let mut ack = ack(irs, cookie, &offered);
        let mut from = tuple(client, 4000);
        match what {
            0 => ack.ack = Seq(ack.ack.0 ^ 1 << bit),
            1 => ack.seq = Seq(ack.seq.0 ^ 1 << bit),
            2 => from = tuple(client ^ 1 << bit, 4000),
            3 => from = tuple(client, 4000 ^ 1 << (bit % 16)),
            4 => cookies = Cookies::new(secret ^ 1 << bit),
            // Other options than the SYN had.
            5 => ack.options.timestamps = match ack.options.timestamps {
                Some((value, echo)) => Some((value, echo ^ 1 << (bit % 6))),
                None => Some((1, u32::from(NO_SHIFT))),
            },
            _ => ack.options.timestamps = match ack.options.timestamps {
                Some(_) => None,
                None => Some((1, u32::from(SACK) | (bit % 15))),
            },
        }
        // An unlucky guess is possible, once in 2^28 cases.
        prop_assert_eq!(cookies.redeem(&from, &ack, back), None);
    }

    #[test]
    fn rfc7323_5_4_stamps_of_a_connection_never_go_back(
        secret: u128, client: u32, at in 64_000u64..90_000_000, waits in prop::collection::vec(0u64..200, 1..20),
        offered in offer(),
    ) {
        let (mut cookies, tuple) = (Cookies::new(secret), tuple(client, 4000));
        let kept = keep(&syn(Options { timestamps: Some((1, 0)), ..offered }));
        let (mut now, mut last) = (at, None);
        for wait in waits {
            now += wait;
            let now = Instant::from_millis(now);
            let stamp = cookies.make(&tuple, Seq(1), &kept, now).stamp.expect("a stamp");
            let clock = cookies.stamp(&tuple, now);
            prop_assert!(clock.wrapping_sub(stamp) < 64, "{stamp} is not just before {clock}");
            prop_assert!(last.is_none_or(|last| !Seq(stamp).before(Seq(last))), "{last:?} before {stamp}");
            last = Some(stamp);
        }
    }
}

#[test]
fn a_cookie_is_good_for_one_to_two_steps_and_then_for_nothing() {
    let mut cookies = Cookies::new(7);
    let (tuple, irs) = (tuple(1, 4000), Seq(9));
    for made in [64_000, 100_000, 127_999] {
        let mss = Options { mss: Some(1460), ..Options::default() };
        let cookie = cookies.make(&tuple, irs, &keep(&syn(mss)), Instant::from_millis(made));
        let ack = ack(irs, cookie, &mss);
        let mut is_good = |millis| cookies.redeem(&tuple, &ack, Instant::from_millis(millis)).is_some();
        assert!(is_good(made) && is_good(127_999) && is_good(128_000) && is_good(191_999));
        // Two steps later the lowest bit is the same again, and the secret is not.
        assert!([192_000, 255_999, 256_000, 1_000_000].into_iter().all(|late| !is_good(late)));
    }
}

#[test]
fn cookies_are_awaited_only_while_one_may_come_back() {
    let mut cookies = Cookies::new(7);
    let made = Instant::from_secs(100);
    assert!(!cookies.are_awaited(Instant::ZERO) && !cookies.are_awaited(made));
    cookies.make(&tuple(1, 4000), Seq(9), &keep(&syn(Options::default())), made);
    assert!(cookies.are_awaited(made + Duration::from_secs(127)));
    assert!(!cookies.are_awaited(made + Duration::from_secs(128)));
}

#[test]
fn in_the_first_step_no_earlier_one_is_looked_for() {
    let mut cookies = Cookies::new(7);
    for ack in 0..1000u32 {
        let header = Header { ack: Seq(ack.wrapping_mul(0x9e37_79b9)), ..Header::default() };
        assert_eq!(cookies.redeem(&tuple(1, 4000), &header, Instant::ZERO), None);
    }
}

#[test]
fn a_successor_of_a_lost_segment_is_known_by_the_time_that_it_echoes() {
    let cookies = Cookies::new(7);
    let (tuple, now) = (tuple(1, 4000), Instant::from_secs(1000));
    let echoes = |millis| Header {
        options: Options {
            timestamps: Some((5, cookies.stamp(&tuple, Instant::from_millis(millis)))),
            ..Options::default()
        },
        ..Header::default()
    };
    assert!(cookies.may_follow(&tuple, &echoes(1_000_000), now));
    assert!(cookies.may_follow(&tuple, &echoes(872_000), now));
    assert!(!cookies.may_follow(&tuple, &echoes(871_999), now));
    assert!(!cookies.may_follow(&tuple, &echoes(1_000_001), now));
    assert!(!cookies.may_follow(&tuple, &Header::default(), now));
}

#[test]
fn every_mss_of_the_table_is_itself_and_what_lies_between_is_rounded_down() {
    for (index, mss) in MSS_TABLE.into_iter().enumerate() {
        assert_eq!(mss_index(mss), index as u32);
        assert_eq!(mss_index(mss - 1), (index as u32).saturating_sub(1));
    }
    assert_eq!((mss_index(0), mss_index(u16::MAX)), (0, 7));
}
