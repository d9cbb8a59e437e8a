//! What a policy decides for a flow's first packet, rule by rule. Pure: needs a policy, no gateway.

use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use pnat_shared::config::{Accept, Action, Denial, Match, Policy};
use pnat_shared::flow::Protocol;
use thiserror::Error;

use super::answer::{Explanation, Step};
use crate::nat::policy::{self, Decision};

/// Walks the rules until one matches.
pub fn explain(policy: &Policy, protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Explanation {
    let decision = policy::decide_for(policy, protocol, src, dst);
    let rule = decision.rule.map(usize::from);
    let looked_at = rule.map_or(policy.rules.len(), |rule| rule + 1);
    let steps = policy.rules[..looked_at].iter().map(|rule| Step {
        rule: rule.name.clone(),
        line: rule.line,
        mismatch: mismatch(&rule.matching, protocol, src, dst).map(str::to_owned),
    });
    let decided = rule.map(|rule| &policy.rules[rule]);
    let filters = decided.map_or(&[][..], |rule| &rule.filters);
    Explanation {
        protocol,
        src,
        dst,
        generation: None,
        steps: steps.collect(),
        rule,
        action: action(decision, protocol).to_owned(),
        filters: filters.iter().map(|filter| policy.filters[*filter].name.clone()).collect(),
        flows: Vec::new(),
        past: Vec::new(),
    }
}

/// The first key of a match that excludes a packet. Says of a rule what [`Match::matches`] only answers.
fn mismatch(matching: &Match, protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Option<&'static str> {
    let inside =
        |nets: &[IpNet], address: IpAddr| nets.is_empty() || nets.iter().any(|net| net.contains(&address));
    let among = |ranges: &[core::ops::RangeInclusive<u16>], port: u16| {
        ranges.is_empty() || ranges.iter().any(|range| range.contains(&port))
    };
    let keys = [
        ("proto", matching.protocol.is_none_or(|wanted| wanted == protocol)),
        ("src", inside(&matching.src, src.ip())),
        ("dst", inside(&matching.dst, dst.ip())),
        ("src_port", among(&matching.src_port, src.port())),
        ("dst_port", among(&matching.dst_port, dst.port())),
    ];
    keys.into_iter().find(|(_, fits)| !fits).map(|(key, _)| key)
}

fn action(decision: Decision, protocol: Protocol) -> &'static str {
    match decision.action {
        Action::Proxy if decision.accept == Accept::Early && protocol == Protocol::Tcp => {
            "proxy, accepted early"
        }
        Action::Proxy => "proxy",
        Action::Nat => "nat",
        Action::Deny(Denial::Reset) => "deny with reset",
        Action::Deny(Denial::Icmp) => "deny with icmp",
        Action::Deny(Denial::Silent) => "deny with silent",
    }
}

/// An address that explains nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("\"{written}\" is not an address; allowed: {allowed}")]
pub struct AddressError {
    written: String,
    allowed: &'static str,
}

/// Reads a client as in `10.0.0.5:4000`, or without a port, which then is 0: clients choose theirs as they like.
pub fn parse_client(protocol: Protocol, written: &str) -> Result<SocketAddr, AddressError> {
    let any_port = || written.parse().map(|address| SocketAddr::new(address, 0)).ok();
    let parsed = match protocol {
        Protocol::Icmp => any_port(),
        Protocol::Tcp | Protocol::Udp => written.parse().ok().or_else(any_port),
    };
    let allowed = "an IP address, with a port or not, as in 10.0.0.5 or 10.0.0.5:4000";
    parsed.ok_or_else(|| AddressError { written: written.to_owned(), allowed })
}

/// Reads a server as in `192.0.2.1:80`, or for ICMP `192.0.2.1`.
pub fn parse_server(protocol: Protocol, written: &str) -> Result<SocketAddr, AddressError> {
    let (parsed, allowed) = match protocol {
        Protocol::Icmp => (
            written.parse().map(|address| SocketAddr::new(address, 0)).ok(),
            "an IP address, as in 192.0.2.1",
        ),
        Protocol::Tcp | Protocol::Udp => {
            (written.parse().ok(), "an IP address and a port, as in 192.0.2.1:80")
        }
    };
    parsed.ok_or_else(|| AddressError { written: written.to_owned(), allowed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::config::Rule;
    use proptest::prelude::*;

    fn maybe<T: Clone + core::fmt::Debug>(value: T) -> impl Strategy<Value = Vec<T>> {
        prop_oneof![Just(Vec::new()), Just(vec![value])]
    }

    #[test]
    fn early_accept_is_told_of_tcp_alone() {
        let rule = Rule {
            name: "early".to_owned(),
            matching: Match::default(),
            action: Action::Proxy,
            accept: Accept::Early,
            congestion: [None; 2],
            line: 1,
            filters: Vec::new(),
        };
        let policy = Policy { rules: vec![rule], ..Policy::without_rules(Action::Nat) };
        let (from, to) =
            ("10.0.0.5:4000".parse().expect("address"), "192.0.2.9:80".parse().expect("address"));
        let told = |protocol| explain(&policy, protocol, from, to).action;
        assert_eq!(told(Protocol::Tcp), "proxy, accepted early");
        assert_eq!(told(Protocol::Udp), "proxy");
    }

    proptest! {
        /// The explanation never says otherwise than the policy itself.
        #[test]
        fn a_mismatch_is_named_exactly_where_the_rule_does_not_match(
            protocol in prop_oneof![Just(None), Just(Some(Protocol::Tcp)), Just(Some(Protocol::Udp))],
            src in maybe("10.0.0.0/8".parse::<IpNet>().expect("net")),
            dst in maybe("192.0.2.0/24".parse::<IpNet>().expect("net")),
            src_port in maybe(1000..=2000),
            dst_port in maybe(80..=80),
            from in prop_oneof![Just("10.1.1.1:1500"), Just("11.1.1.1:1500"), Just("10.1.1.1:5")],
            to in prop_oneof![Just("192.0.2.1:80"), Just("192.0.3.1:80"), Just("192.0.2.1:81")],
        ) {
            let matching = Match { protocol, src, dst, src_port, dst_port };
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().expect("address"), to.parse().expect("address"));
            let named = mismatch(&matching, Protocol::Tcp, from, to);
            prop_assert_eq!(named.is_none(), matching.matches(Protocol::Tcp, from, to), "{:?}", named);
        }
    }
}
