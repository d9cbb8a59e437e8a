//! The rings between cores: each worker with each proxy core, both ways, and each worker with each other worker.

use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::ring::{Consumer, Producer, ring};

use crate::handoff::Handoff;

/// A worker's ends; vectors are indexed by the other core's number.
#[derive(Debug)]
pub struct WorkerEnds<F> {
    pub to_proxy: Vec<Producer<ToProxy<F>>>,
    pub from_proxy: Vec<Consumer<FromProxy<F>>>,
    /// To the other workers; `None` to itself.
    pub handoff_out: Vec<Option<Producer<Handoff<F>>>>,
    /// From the other workers, in no order.
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
