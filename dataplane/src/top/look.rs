//! Asks the gateway everything that is shown.

use pnat_shared::time::Duration;
use tokio::time::Instant;

use crate::control::answer::{Clients, Ready, Stats};
use crate::control::client::{Client, ClientError};
use crate::control::question::{ClientSort, ClientsQuestion};
use crate::control::report::Report;

/// Clients asked for: more than a screen shows, so that those of the highest rate are among those of the most bytes.
const CLIENTS: usize = 256;
/// The gateway looks at every flow to add them up by client. It is asked again after this many times what that took.
const REST: u32 = 20;
/// How long an answer may take; a gateway that has stopped in its tracks never gives one.
const PATIENCE: Duration = Duration::from_secs(5);

/// One answer to each question.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) stats: Stats,
    pub(super) report: Report,
    pub(super) ready: Ready,
    /// May be older than the rest, by [`REST`].
    pub(super) clients: ClientsLook,
    /// What `clients` were the time before.
    pub(super) earlier_clients: Option<ClientsLook>,
}

/// Clients, and when they were told.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientsLook {
    pub(super) answer: Clients,
    /// Since the first question.
    pub(super) at: Duration,
}

/// Asks one gateway again and again.
#[derive(Debug)]
pub(super) struct Asker {
    client: Client,
    interval: Duration,
    began: Instant,
    clients: Option<ClientsLook>,
    earlier_clients: Option<ClientsLook>,
    /// When clients are asked for next.
    due: Instant,
}

impl Asker {
    pub(super) fn new(client: Client, interval: Duration) -> Self {
        let began = Instant::now();
        let client = client.with_patience(PATIENCE);
        Self { client, interval, began, clients: None, earlier_clients: None, due: began }
    }

    /// Asks. After an error nothing is known any more: the gateway may be another one when it answers again.
    pub(super) fn look(&mut self) -> Result<Look, ClientError> {
        let answered = self.ask();
        if answered.is_err() {
            (self.clients, self.earlier_clients, self.due) = (None, None, Instant::now());
        }
        answered
    }

    fn ask(&mut self) -> Result<Look, ClientError> {
        let stats = self.client.get("/stats")?;
        let report = self.client.get("/report")?;
        let ready = self.client.get_either("/ready")?;
        let clients = self.clients()?;
        Ok(Look { stats, report, ready, clients, earlier_clients: self.earlier_clients.clone() })
    }

    fn clients(&mut self) -> Result<ClientsLook, ClientError> {
        let asked = Instant::now();
        if let Some(known) = &self.clients
            && asked < self.due
        {
            return Ok(known.clone());
        }
        let question = ClientsQuestion { limit: Some(CLIENTS), sort: Some(ClientSort::Bytes) };
        let answer = self.client.get_by("/clients", &question)?;
        let took = asked.elapsed();
        // An answer that comes at once is asked for each time, though the intervals are not quite regular.
        self.due = asked + (took * REST).max(self.interval / 2);
        let look = ClientsLook { answer, at: self.began.elapsed() };
        self.earlier_clients = self.clients.replace(look.clone());
        Ok(look)
    }
}
