//! Policy on a flow's first packet: which rule, which action, and the same told step by step for people.
//!
//! Runs on: worker, control. Allocates: only [`explain`]. Blocks: never.

use core::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use pnat_shared::config::{Action, Match, Policy, Rule};
use pnat_shared::flow::Protocol;

use super::tuple::Tuple;

/// A policy and its number, as a worker holds them between two bursts; proxy cores hold the same.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts reloads; [`pnat_shared::flow::NewFlow::policy`] quotes it.
    pub generation: u32,
    pub policy: Arc<Policy>,
}

/// What is to be done with a flow, and who said so.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Index of the rule; `None`: the default action.
    pub rule: Option<u16>,
    pub action: Action,
}

/// Decides on the flow whose first packet goes from `inside.src()` to `inside.dst()`.
pub fn decide(policy: &Policy, inside: &Tuple) -> Decision {
    let (protocol, src, dst) = parts(inside);
    let hit = policy.rules.iter().position(|rule| rule.matching.matches(protocol, src, dst));
    decision(policy, hit, protocol)
}

fn decision(policy: &Policy, hit: Option<usize>, protocol: Protocol) -> Decision {
    let action = hit.map_or(policy.default_action, |at| policy.rules[at].action);
    // The proxy carries TCP and UDP; queries of ICMP are translated by the worker alone.
    let action = if protocol == Protocol::Icmp && action == Action::Proxy { Action::Nat } else { action };
    Decision { rule: hit.and_then(|at| u16::try_from(at).ok()), action }
}

fn parts(tuple: &Tuple) -> (Protocol, SocketAddr, SocketAddr) {
    let protocol = tuple.protocol();
    let end = |addr: SocketAddrV4| match protocol {
        Protocol::Icmp => SocketAddrV4::new(*addr.ip(), 0),
        _ => addr,
    };
    (protocol, end(tuple.src()).into(), end(tuple.dst()).into())
}

/// One rule that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub rule: String,
    /// The first of the rule's keys that did not match; `None`: the rule matched.
    pub mismatch: Option<&'static str>,
}

/// How a decision came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The rules asked, in order; the last one matched unless the default action decided.
    pub steps: Vec<Step>,
    pub decision: Decision,
}

/// As [`decide`], with every rule that was asked and what did not match.
pub fn explain(policy: &Policy, inside: &Tuple) -> Explanation {
    let mut steps = Vec::new();
    let mut hit = None;
    for (at, rule) in policy.rules.iter().enumerate() {
        let mismatch = mismatch(rule, inside);
        steps.push(Step { rule: rule.name.clone(), mismatch });
        if mismatch.is_none() {
            hit = Some(at);
            break;
        }
    }
    Explanation { steps, decision: decision(policy, hit, inside.protocol()) }
}

/// The first key of a rule that does not match, by its name in the configuration.
fn mismatch(rule: &Rule, tuple: &Tuple) -> Option<&'static str> {
    let (protocol, src, dst) = parts(tuple);
    let Match { protocol: proto, src: sources, dst: destinations, src_port, dst_port } = &rule.matching;
    // Each key alone, by the same code that decides.
    let alone = |matching: Match| matching.matches(protocol, src, dst);
    let keys = [
        ("proto", Match { protocol: *proto, ..Match::default() }),
        ("src", Match { src: sources.clone(), ..Match::default() }),
        ("dst", Match { dst: destinations.clone(), ..Match::default() }),
        ("src_port", Match { src_port: src_port.clone(), ..Match::default() }),
        ("dst_port", Match { dst_port: dst_port.clone(), ..Match::default() }),
    ];
    keys.into_iter().find(|(_, matching)| !alone(matching.clone())).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::config::Denial;
    use proptest::prelude::*;

    fn rule(name: &str, matching: Match, action: Action) -> Rule {
        Rule { name: name.into(), matching, action, filters: Vec::new() }
    }

    fn policy() -> Policy {
        let tcp = Some(Protocol::Tcp);
        Policy {
            rules: vec![
                rule(
                    "ssh",
                    Match { protocol: tcp, dst_port: vec![22..=22], ..Match::default() },
                    Action::Deny(Denial::Reset),
                ),
                rule(
                    "lab",
                    Match { dst: vec!["203.0.113.0/24".parse().unwrap()], ..Match::default() },
                    Action::Nat,
                ),
            ],
            default_action: Action::Proxy,
            filters: Vec::new(),
        }
    }

    fn tuple(protocol: Protocol, dst: [u8; 4], port: u16) -> Tuple {
        Tuple::new(
            protocol,
            SocketAddrV4::new([10, 0, 0, 2].into(), 4000),
            SocketAddrV4::new(dst.into(), port),
        )
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let decide = |t| decide(&policy(), &t);
        let ssh = decide(tuple(Protocol::Tcp, [203, 0, 113, 1], 22));
        assert_eq!(ssh, Decision { rule: Some(0), action: Action::Deny(Denial::Reset) });
        let web = decide(tuple(Protocol::Tcp, [203, 0, 113, 1], 80));
        assert_eq!(web, Decision { rule: Some(1), action: Action::Nat });
        let rest = decide(tuple(Protocol::Udp, [9, 9, 9, 9], 53));
        assert_eq!(rest, Decision { rule: None, action: Action::Proxy });
    }

    #[test]
    fn icmp_is_never_proxied() {
        assert_eq!(decide(&policy(), &tuple(Protocol::Icmp, [9, 9, 9, 9], 0)).action, Action::Nat);
    }

    #[test]
    fn an_explanation_names_the_key_that_did_not_match() {
        let explanation = explain(&policy(), &tuple(Protocol::Udp, [203, 0, 113, 9], 22));
        let told: Vec<_> = explanation.steps.iter().map(|s| (s.rule.as_str(), s.mismatch)).collect();
        assert_eq!(told, [("ssh", Some("proto")), ("lab", None)]);
    }

    proptest! {
        #[test]
        fn an_explanation_decides_as_the_decision_does(dst: [u8; 4], port in 20u16..24, tcp: bool) {
            let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
            let tuple = tuple(protocol, dst, port);
            prop_assert_eq!(explain(&policy(), &tuple).decision, decide(&policy(), &tuple));
        }
    }
}
