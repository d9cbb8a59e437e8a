//! Adds live flows up by client, a bounded look at a time.

use core::net::IpAddr;
use std::cmp::Reverse;
use std::collections::HashMap;

use pnat_shared::report::{FlowQuery, FlowRow, Traffic};

use super::answer::{Client, Clients};
use super::flows::page;
use super::question::{ClientSort, ClientsQuestion};
use super::server::Server;
use super::{CoreError, Role};

/// Clients told where the question names no limit.
const USUAL: usize = 20;
/// Clients told at most.
const MOST: usize = 10_000;
/// Clients added up at most. When there are twice as many, the smaller half is forgotten, and what they do afterwards counts
/// from nothing.
const KEPT: usize = 65_536;

/// The clients with the most of what is asked for. Looks at every flow.
pub(super) async fn collect(server: &Server, question: &ClientsQuestion) -> Result<Clients, CoreError> {
    let sort = question.sort.unwrap_or(ClientSort::Bytes);
    let mut sums = Sums::new(sort);
    for worker in server.gateway.role(Role::Worker) {
        let mut from = Some(0);
        while let Some(start) = from {
            let page = page(worker, &FlowQuery::default(), start).await?;
            page.rows.iter().for_each(|row| sums.add(row));
            from = page.next;
        }
    }
    Ok(sums.largest(question.limit.unwrap_or(USUAL).min(MOST)))
}

/// What was added up so far.
#[derive(Debug)]
struct Sums {
    sort: ClientSort,
    clients: HashMap<IpAddr, Client>,
    partial: bool,
}

impl Sums {
    fn new(sort: ClientSort) -> Self {
        Self { sort, clients: HashMap::new(), partial: false }
    }

    fn add(&mut self, row: &FlowRow) {
        let address = row.client.ip();
        let client = self.clients.entry(address).or_insert_with(|| Client {
            address,
            flows: 0,
            first: Traffic::default(),
            second: Traffic::default(),
        });
        client.flows += 1;
        for (sum, part) in [(&mut client.first, row.first), (&mut client.second, row.second)] {
            sum.packets += part.packets;
            sum.bytes += part.bytes;
        }
        if self.clients.len() >= 2 * KEPT {
            let kept = self.sorted(KEPT);
            self.clients = kept.into_iter().map(|client| (client.address, client)).collect();
            self.partial = true;
        }
    }

    fn sorted(&self, limit: usize) -> Vec<Client> {
        let size = |client: &Client| match self.sort {
            ClientSort::Bytes => client.first.bytes.saturating_add(client.second.bytes),
            ClientSort::Flows => client.flows,
        };
        let mut clients: Vec<Client> = self.clients.values().copied().collect();
        clients.sort_unstable_by_key(|client| (Reverse(size(client)), client.address));
        clients.truncate(limit);
        clients
    }

    fn largest(self, limit: usize) -> Clients {
        Clients { clients: self.sorted(limit), known: self.clients.len(), partial: self.partial }
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, SocketAddr};

    use pnat_shared::flow::{Handle, Protocol, WorkerId};
    use pnat_shared::time::Duration;

    use super::*;

    fn row(client: u32, bytes: u64) -> FlowRow {
        let client = SocketAddr::new(Ipv4Addr::from(client).into(), 4_000);
        FlowRow {
            handle: Handle { worker: WorkerId(0), slot: 0, generation: 0 },
            protocol: Protocol::Tcp,
            client,
            server: client,
            target: None,
            public: client,
            policy: 1,
            rule: None,
            proxy: None,
            state: "open",
            age: Duration::ZERO,
            idle: Duration::ZERO,
            first: Traffic { packets: 1, bytes },
            second: Traffic::default(),
            mtus: [1_500; 2],
            path_mtus: [None; 2],
        }
    }

    #[test]
    fn flows_of_one_client_are_one_line_and_the_largest_stands_first() {
        let flows = [row(1, 100), row(2, 150), row(1, 60)];
        let told = |sort, limit| {
            let mut sums = Sums::new(sort);
            flows.iter().for_each(|row| sums.add(row));
            sums.largest(limit)
        };
        let by_bytes = told(ClientSort::Bytes, 10);
        let lines: Vec<_> = by_bytes.clients.iter().map(|c| (c.address, c.flows, c.first.bytes)).collect();
        let address = |number: u32| IpAddr::from(Ipv4Addr::from(number));
        assert_eq!(lines, [(address(1), 2, 160), (address(2), 1, 150)]);
        assert_eq!((by_bytes.known, by_bytes.partial), (2, false));
        let first = told(ClientSort::Flows, 1);
        assert_eq!((first.clients.len(), first.clients[0].address, first.known), (1, address(1), 2));
    }

    #[test]
    fn however_many_clients_there_are_memory_is_bounded_and_the_largest_are_kept() {
        let mut sums = Sums::new(ClientSort::Bytes);
        for client in 0..3 * KEPT as u32 {
            sums.add(&row(client, if client == 5 { 1_000_000 } else { 1 }));
            assert!(sums.clients.len() <= 2 * KEPT);
        }
        let told = sums.largest(1);
        assert!(told.partial);
        assert_eq!(told.clients[0].first.bytes, 1_000_000);
    }
}
