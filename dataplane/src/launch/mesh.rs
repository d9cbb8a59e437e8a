//! The rings between cores: each worker with each proxy core, both ways, and each worker with each other worker.

use std::sync::Arc;

use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::ring::{Consumer, Producer, RingLevel, ring};

use crate::handoff::Handoff;

/// A worker's ends; vectors are indexed by the other core's number.
#[derive(Debug)]
pub struct WorkerEnds<F> {
    pub to_proxy: Vec<Producer<ToProxy<F>>>,
    pub from_proxy: Vec<Consumer<FromProxy<F>>>,
    /// To the other workers; `None` to itself.
    pub handoff_out: Vec<Option<Producer<Handoff<F>>>>,
    /// From the other workers, in order of their numbers.
    pub handoff_in: Vec<Consumer<Handoff<F>>>,
}

/// A proxy core's ends, indexed by worker.
#[derive(Debug)]
pub struct ProxyEnds<F> {
    pub to_proxy: Vec<Consumer<ToProxy<F>>>,
    pub from_proxy: Vec<Producer<FromProxy<F>>>,
}

/// All rings, `slots` elements each.
pub fn mesh<F>(workers: usize, proxies: usize, slots: usize) -> (Vec<WorkerEnds<F>>, Vec<ProxyEnds<F>>) {
    let none = || WorkerEnds {
        to_proxy: Vec::new(),
        from_proxy: Vec::new(),
        handoff_out: Vec::new(),
        handoff_in: Vec::new(),
    };
    let mut worker_ends: Vec<_> = (0..workers).map(|_| none()).collect();
    let mut proxy_ends: Vec<_> =
        (0..proxies).map(|_| ProxyEnds { to_proxy: Vec::new(), from_proxy: Vec::new() }).collect();
    for worker in &mut worker_ends {
        for proxy in &mut proxy_ends {
            let (producer, consumer) = ring(slots);
            worker.to_proxy.push(producer);
            proxy.to_proxy.push(consumer);
            let (producer, consumer) = ring(slots);
            proxy.from_proxy.push(producer);
            worker.from_proxy.push(consumer);
        }
    }
    for from in 0..workers {
        for to in 0..workers {
            let outlet = (from != to).then(|| {
                let (producer, consumer) = ring(slots);
                worker_ends[to].handoff_in.push(consumer);
                producer
            });
            worker_ends[from].handoff_out.push(outlet);
        }
    }
    (worker_ends, proxy_ends)
}

/// How full each ring is, by its name: as in `to_proxy 0-1`, which leads from worker 0 to proxy core 1.
pub(super) fn levels<F>(
    workers: &[WorkerEnds<F>],
    proxies: &[ProxyEnds<F>],
) -> Vec<(String, Arc<RingLevel>)> {
    let mut levels = Vec::new();
    for (to, proxy) in proxies.iter().enumerate() {
        let named = proxy.to_proxy.iter().enumerate();
        levels.extend(named.map(|(from, ring)| (format!("to_proxy {from}-{to}"), ring.level())));
    }
    for (to, worker) in workers.iter().enumerate() {
        let named = worker.from_proxy.iter().enumerate();
        levels.extend(named.map(|(from, ring)| (format!("from_proxy {from}-{to}"), ring.level())));
        let others = (0..workers.len()).filter(|from| *from != to);
        let named = others.zip(&worker.handoff_in);
        levels.extend(named.map(|(from, ring)| (format!("handoff {from}-{to}"), ring.level())));
    }
    levels
}
