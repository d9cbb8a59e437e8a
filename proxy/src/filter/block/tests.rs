//! What is blocked and what is not, on single instances of the filter.

use proptest::prelude::*;

use super::*;

fn names(list: &[&str]) -> Names {
    Names::new(&list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
}

#[test]
fn a_suffix_matches_every_name_below_it_and_not_the_name_itself() {
    let names = names(&["Exact.example", "*.Below.example."]);
    for name in ["exact.example", "a.below.example", "a.b.below.example", ".below.example"] {
        assert!(names.contain(name), "{name}");
    }
    for name in ["", "a.exact.example", "below.example", "xbelow.example", "below.example.org", "example"] {
        assert!(!names.contain(name), "{name}");
    }
}

proptest! {
    /// Whatever the segments, a pattern is found, and in the segment that completes it, not later.
    #[test]
    fn a_pattern_is_found_in_the_segment_in_which_one_ends_first(
        patterns in prop::collection::vec("[ab]{1,5}", 1..4),
        segments in prop::collection::vec("[abc]{0,7}", 0..20),
    ) {
        let bytes: Vec<Vec<u8>> = patterns.iter().map(|pattern| pattern.clone().into_bytes()).collect();
        let searcher = Patterns::new(&bytes).unwrap().unwrap();
        let mut tail = Vec::new();
        let found = segments.iter().position(|segment| searcher.find(&mut tail, segment.as_bytes()).is_some());
        let expected = (0..segments.len()).find(|&last| {
            let stream = segments[..=last].concat();
            patterns.iter().any(|pattern| stream.contains(pattern.as_str()))
        });
        prop_assert_eq!(found, expected);
        prop_assert!(found.is_some() || tail.len() <= searcher.overlap);
    }
}
