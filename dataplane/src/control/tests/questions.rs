//! What is asked of flows and of decisions, and how wrong questions are refused.

use super::super::answer::Explanation;
use super::super::columns::FlowColumn;
use super::*;

#[test]
fn flows_are_collected_page_by_page_and_joined_with_their_pairs() {
    let rig = Rig::new("flows");
    let flows: Flows = rig.client().get("/flows?proto=tcp&client=10.77.1.5").expect("flows");
    assert_eq!((flows.flows.len(), flows.more), (6, false));
    let proxied = &flows.flows[1];
    assert_eq!((proxied.rule.as_deref(), proxied.proxy), (Some("web"), Some(1)));
    assert_eq!(proxied.pair.as_ref().map(|pair| pair.state.as_str()), Some("connecting"));
    assert!(flows.flows[0].pair.is_none());
    assert!(flows.flows[4].pair.is_none(), "the same slot of another worker is another flow");

    let some: Flows = rig.client().get("/flows?limit=2").expect("flows");
    assert_eq!((some.flows.len(), some.more), (2, true));
    let none: Flows = rig.client().get("/flows?proto=udp").expect("flows");
    assert_eq!((none.flows.len(), none.more), (0, false));
    let text = some.to_string();
    assert!(text.contains("10.77.1.5:4001  192.0.2.9:80 -> 192.0.2.77:8080  198.18.0.1:2001  web"), "{text}");
}

#[test]
fn flows_are_chosen_by_whatever_is_told_of_them() {
    let rig = Rig::new("chosen");
    let slots = |question: &str| {
        let flows: Flows = rig.client().get(&format!("/flows?{question}")).expect(question);
        flows.flows.iter().map(|flow| (flow.worker, flow.slot)).collect::<Vec<_>>()
    };
    let rows: [(&str, &[(u8, u32)]); 12] = [
        ("client=10.77.1.5:4002", &[(0, 2), (1, 2)]),
        ("client=10.77.0.0/16&limit=1", &[(0, 0)]),
        ("client=10.78.0.0/16", &[]),
        ("server=192.0.2.9&port=80&client=10.77.1.5:4000", &[(0, 0), (1, 0)]),
        ("port=443", &[]),
        ("rule=web", &[(0, 1), (1, 1)]),
        ("rule=(default)&client=10.77.1.5:4000", &[(0, 0), (1, 0)]),
        ("state=connecting", &[(0, 1)]),
        ("state=established&rule=web", &[(1, 1)]),
        ("min_age_ms=5000", &[(0, 2), (1, 2)]),
        ("max_bytes=3100", &[(0, 0), (1, 0)]),
        ("sort=bytes&limit=3", &[(0, 2), (1, 2), (0, 1)]),
    ];
    for (question, expected) in rows {
        assert_eq!(slots(question), expected, "{question}");
    }
    let (status, error) = refused(rig.client().get::<Flows>("/flows?server=192.0.2.9:80&port=443"));
    assert_eq!((status, error.as_str()), (StatusCode::BAD_REQUEST, "server names port 80, and port is 443"));
    let sorted: Flows = rig.client().get("/flows?sort=age&limit=1").expect("flows");
    assert!(sorted.more, "those that did not fit are not forgotten");
}

#[test]
fn explain_names_the_rule_and_the_live_flow() {
    let rig = Rig::new("explain");
    let ask = |path| rig.client().get::<Explanation>(path).expect("explained");
    let web = ask("/explain?proto=tcp&src=10.77.1.5:4001&dst=192.0.2.9:80");
    assert_eq!((web.rule, web.action.as_str(), web.generation), (Some(0), "proxy", Some(1)));
    assert_eq!(web.flows.iter().map(|flow| flow.slot).collect::<Vec<_>>(), [1, 1], "of either worker");
    let dns = ask("/explain?proto=udp&src=10.77.1.5:4001&dst=192.0.2.9:53");
    assert_eq!((dns.rule, dns.steps[0].mismatch.as_deref()), (None, Some("proto")));
    assert!(dns.flows.is_empty());
    let ping = ask("/explain?proto=icmp&src=10.77.1.5&dst=192.0.2.9");
    let expected = "icmp 10.77.1.5 -> 192.0.2.9
  rule 0  web  line 14  no: proto
  no rule matches: default_action decides
decision: nat (policy generation 1)
no such flow lives
none is remembered
";
    assert_eq!(ping.to_string(), expected);
}

#[test]
fn explain_tells_the_past_of_a_client_whose_port_nobody_knows() {
    let rig = Rig::new("past");
    let ask = |path| rig.client().get::<Explanation>(path).expect("explained");
    let told = ask("/explain?proto=tcp&src=10.77.1.5&dst=192.0.2.9:80").to_string();
    let (_, told) = told.split_once("past, the latest first:\n").expect("a past");
    let expected = "  5.00 s ago  10.77.1.5:5001  refused 3 times in a row: ports_exhausted, no public port is free for a new flow
    default_action (policy generation 1)
  10.0 s ago  10.77.1.5:5000  refused 3 times in a row: ports_exhausted, no public port is free for a new flow
    default_action (policy generation 1)
  10.0 s ago  10.77.1.5:5000  ended after 1.50 s: blocked, a filter blocked the flow
    rule web, line 14 (policy generation 1); filter sites: host www.example; site www.example; led to \
192.0.2.77:8080; by proxy 1 as 198.18.0.1:2000, 300 bytes sent, 200 received; not every packet on the client's leg: router, a router said that it carries \
no longer packets; 1 packet was too long, found out 2.00 s before the end
";
    assert_eq!(told, expected);
    let one = ask("/explain?proto=tcp&src=10.77.1.5:5001&dst=192.0.2.9:80");
    assert_eq!((one.flows.len(), one.past.len()), (0, 1));
    assert!(ask("/explain?proto=udp&src=10.77.1.5&dst=192.0.2.9:80").past.is_empty());
}

#[test]
fn what_a_leg_does_not_carry_is_told_with_its_cause_by_the_pair_or_else_the_worker() {
    let rig = Rig::new("mtu");
    let flows: Flows = rig.client().get("/flows?client=10.77.1.5&sort=age").expect("flows");
    let mut mtus: Vec<_> = flows.flows.iter().map(|flow| (flow.slot, flow.worker, flow.mtus)).collect();
    mtus.sort_unstable();
    let translated = [9000, 1400];
    let proxied = [9000, 1064];
    let expected = [(0, 0, translated), (0, 1, translated), (1, 0, proxied), (1, 1, translated)];
    assert_eq!((&mtus[..4], mtus[4].2), (&expected[..], [9000, 1500]));
    let table = flows.table(&[FlowColumn::Client, FlowColumn::Mtu]);
    assert!(table.contains("10.77.1.5:4000  9000/1400\n"), "{table}");
    let told: Explanation =
        rig.client().get("/explain?proto=tcp&src=10.77.1.5:4001&dst=192.0.2.9:80").expect("explained");
    let told = told.to_string();
    for line in [
        "  10.77.1.5:4001: mtu 1064 on the server's leg: black_hole, longer packets vanished without a word; \
         3 packets were too long, found out 2.00 s ago\n",
        "  10.77.1.5:4001: mtu 1400 on the server's leg: router, a router said that it carries no longer packets; \
         3 packets were too long, found out 2.00 s ago\n",
    ] {
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn a_wrong_question_is_answered_with_what_is_allowed() {
    let rig = Rig::new("questions");
    let rows = [
        ("/flows?clinet=10.0.0.1", "unknown field `clinet`"),
        ("/flows?proto=sctp", "unknown variant `sctp`"),
        (
            "/explain?proto=tcp&src=10.0.0.1&dst=10.0.0.2",
            "\"10.0.0.2\" is not an address; allowed: an IP address and a port",
        ),
    ];
    for (path, reason) in rows {
        let (status, error) = refused(rig.client().get::<Flows>(path));
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error.contains(reason), "{path}: {error}");
    }
    assert_eq!(refused(rig.client().get::<Flows>("/nothing")).0, StatusCode::NOT_FOUND);
    for (points, reason) in [("loop", "not a tap point"), ("inside,to_proxy", "packets of one kind")] {
        let (status, error) = refused(rig.client().stream(&format!("/capture?at={points}"), |_| Ok(())));
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error.contains(reason), "{points}: {error}");
    }
}
