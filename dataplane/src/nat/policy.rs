//! Policy on a flow's first packet: which rule, which action.
//!
//! Runs on: worker, control. Allocates: never. Blocks: never.

use core::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use pnat_shared::config::{Accept, Action, Policy};
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
    /// Of interest to TCP by [`Action::Proxy`].
    pub accept: Accept,
}

/// Decides on the flow whose first packet goes from `inside.src()` to `inside.dst()`.
pub fn decide(policy: &Policy, inside: &Tuple) -> Decision {
    let (protocol, src, dst) = parts(inside);
    decide_for(policy, protocol, src, dst)
}

/// The same by addresses, as people name them; the ports of ICMP are 0.
pub fn decide_for(policy: &Policy, protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Decision {
    let hit = policy.rules.iter().position(|rule| rule.matching.matches(protocol, src, dst));
    let action = hit.map_or(policy.default_action, |at| policy.rules[at].action);
    // The proxy carries TCP and UDP; queries of ICMP are translated by the worker alone.
    let action = if protocol == Protocol::Icmp && action == Action::Proxy { Action::Nat } else { action };
    let accept = hit.map_or(Accept::Late, |at| policy.rules[at].accept);
    Decision { rule: hit.and_then(|at| u16::try_from(at).ok()), action, accept }
}

/// As rules see a flow: identifiers of ICMP are no ports.
fn parts(tuple: &Tuple) -> (Protocol, SocketAddr, SocketAddr) {
    let protocol = tuple.protocol();
    let end = |addr: SocketAddrV4| match protocol {
        Protocol::Icmp => SocketAddrV4::new(*addr.ip(), 0),
        _ => addr,
    };
    (protocol, end(tuple.src()).into(), end(tuple.dst()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::config::{Denial, Match, Rule};

    fn rule(name: &str, matching: Match, action: Action) -> Rule {
        Rule {
            name: name.into(),
            matching,
            action,
            accept: Accept::Late,
            filters: Vec::new(),
            congestion: [None; 2],
            line: 1,
        }
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
            ..Policy::without_rules(Action::Proxy)
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
        let accept = Accept::Late;
        let ssh = decide(tuple(Protocol::Tcp, [203, 0, 113, 1], 22));
        assert_eq!(ssh, Decision { rule: Some(0), action: Action::Deny(Denial::Reset), accept });
        let web = decide(tuple(Protocol::Tcp, [203, 0, 113, 1], 80));
        assert_eq!(web, Decision { rule: Some(1), action: Action::Nat, accept });
        let rest = decide(tuple(Protocol::Udp, [9, 9, 9, 9], 53));
        assert_eq!(rest, Decision { rule: None, action: Action::Proxy, accept });
    }

    #[test]
    fn icmp_is_never_proxied() {
        assert_eq!(decide(&policy(), &tuple(Protocol::Icmp, [9, 9, 9, 9], 0)).action, Action::Nat);
    }
}
