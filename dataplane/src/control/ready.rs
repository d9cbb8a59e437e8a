//! Whether the gateway carries traffic: asked of those who do, not remembered.

use pnat_shared::time::Duration;

use super::CoreMessage;
use super::answer::Ready;
use super::server::Server;

/// How long a core may take to answer. One that turns its loop does within a millisecond; who probes waits a second as a
/// rule.
const PATIENCE: Duration = Duration::from_millis(500);

/// Ready are a gateway whose ports are up, whose cores turn their loops, and hold the policy that is in force; until it is
/// told to stop.
pub(super) async fn look(server: &Server) -> Ready {
    let gateway = &server.gateway;
    let asked: Vec<_> =
        gateway.cores.iter().map(|core| (core.name(), core.ask(CoreMessage::Policies))).collect();
    let mut reasons = Vec::new();
    for gauge in gateway.gauges.iter().filter(|gauge| gauge.kind == "port") {
        gauge.counters.counters(&mut |metric, value| {
            if metric.name == "link_up" && value == 0 {
                reasons.push(format!("port {}: its link is down", gauge.name));
            }
        });
    }
    let generation = server.live.borrow().generation;
    for (core, asked) in asked {
        match asked.answer_within(PATIENCE).await {
            Ok(newest) if newest < generation => {
                reasons.push(format!("{core} holds policy generation {newest}, not {generation}"));
            }
            Ok(_) => {}
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if server.is_stopping() {
        reasons.push("the gateway is stopping and takes no new flows".to_owned());
    }
    Ready { ready: reasons.is_empty(), reasons }
}
