//! Policies for tests of what is done to flows, not of how rules match them.

use crate::config::{Accept, Action, Filter, Http, Match, Policy, Rule};

/// One rule for everything: all filters, in their order.
pub fn one_rule(name: &str, filters: Vec<Filter>) -> Policy {
    let rule = Rule {
        name: name.to_owned(),
        matching: Match::default(),
        action: Action::Proxy,
        accept: Accept::Late,
        filters: (0..filters.len()).collect(),
        congestion: [None; 2],
        line: 1,
    };
    Policy { rules: vec![rule], default_action: Action::Proxy, filters, http: Http::default() }
}
