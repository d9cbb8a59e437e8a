//! Property: whatever comes in whatever order, an endpoint is in the state that RFC 9293 says, and answers with the kind of
//! segment that it says. The RFC is in `model.rs`, in plain words; this file drives both.

mod model;
mod world;

use proptest::prelude::*;

use model::{Ack, Event, Place, Segment};
use world::World;

fn ack() -> impl Strategy<Value = Ack> {
    prop_oneof![
        2 => Just(Ack::None),
        8 => Just(Ack::All),
        4 => Just(Ack::First),
        1 => Just(Ack::TooMuch),
        1 => Just(Ack::LongAgo),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        8 => Just(Place::Next),
        8 => (0..=model::STREAM, 0..=model::STREAM).prop_map(|(a, b)| Place::Stream(a.min(b), a.max(b))),
        4 => Just(Place::Stream(0, model::STREAM)),
        1 => Just(Place::Ahead),
        1 => Just(Place::Beyond),
        1 => Just(Place::Before),
        1 => Just(Place::Syn),
    ]
}

fn segment() -> impl Strategy<Value = Segment> {
    let kind = prop_oneof![20 => Just((false, false)), 1 => Just((true, false)), 1 => Just((false, true))];
    (kind, place(), ack(), any::<bool>()).prop_map(|((syn, rst), place, ack, fin)| Segment {
        syn,
        rst,
        fin,
        place,
        ack,
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        16 => segment().prop_map(Event::Arrives),
        2 => Just(Event::Answer),
        2 => Just(Event::Send),
        2 => Just(Event::Shutdown),
        1 => Just(Event::Abort),
        1 => Just(Event::Wait),
    ]
}

/// Handshakes that most runs begin with: chance would find few.
fn opening() -> impl Strategy<Value = Vec<Event>> {
    let plain = |syn, place, ack| Event::Arrives(Segment { syn, rst: false, fin: false, place, ack });
    prop_oneof![
        Just(vec![]),
        Just(vec![Event::Answer, plain(false, Place::Next, Ack::All)]),
        Just(vec![plain(true, Place::Syn, Ack::All)]),
        Just(vec![plain(true, Place::Syn, Ack::None), plain(true, Place::Syn, Ack::All)]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rfc9293_3_10_an_endpoint_goes_through_the_states_of_the_plain_model(
        active in any::<bool>(),
        opening in opening(),
        events in prop::collection::vec(event(), 0..25),
    ) {
        let mut world = World::new(active);
        for event in opening.into_iter().chain(events) {
            world.step(event);
        }
    }
}
