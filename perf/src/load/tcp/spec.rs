//! What connections are opened, and what is said over them.

use pnat_shared::time::Duration;

use super::sockets::Sockets;
use crate::load::schedule::Rate;

/// What a trial of TCP connections consists of.
#[derive(Clone, Debug)]
pub struct TcpLoad {
    pub classes: Vec<Class>,
    /// Connections at a time, at most: those beyond are not opened.
    pub most: u32,
    /// How long a client's socket rests after a connection.
    pub time_wait: Duration,
}

/// Connections of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    pub name: String,
    pub clients: Sockets,
    pub servers: Sockets,
    pub arrival: Arrival,
    pub talk: Talk,
    pub pace: Pace,
    /// How the servers take SYNs.
    pub answer: Answer,
    /// How long a connection may take to open, and how long nothing may come where something is awaited.
    pub timeout: Duration,
    /// Largest receive window of both ends, in bytes.
    pub window: u32,
}

/// When connections are opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Open loop: so many every second, whatever becomes of those before.
    Rate(Rate),
    /// Closed loop: so many at a time, of which the first come evenly over `ramp`. Each that ends is followed by another.
    Concurrent { count: u32, ramp: Duration },
}

/// What is said over a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Talk {
    Requests(Requests),
    Bulk(Bulk),
    /// A SYN and then nothing; forgotten after so long.
    HalfOpen(Duration),
}

/// Requests and their responses, one after the other.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    /// `None`: until the trial ends.
    pub count: Option<u32>,
    /// Bytes of each.
    pub request: u64,
    pub response: u64,
    /// Between a response's last byte and the next request.
    pub think: Duration,
    pub closer: Closer,
}

/// Who ends a connection, and how.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Closer {
    Client,
    Server,
    ClientReset,
    /// By RST in answer to the client's FIN: an earlier one might overtake what the client has not read.
    ServerReset,
}

/// As much as goes through, for a time; who sends ends its stream then.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bulk {
    pub upload: bool,
    pub download: bool,
    pub lasts: Duration,
}

/// How slow clients are.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Bytes per second that they take; `None`: all that come.
    pub read: Option<u64>,
    /// They send one byte at a time, with so much time between two.
    pub byte_every: Option<Duration>,
}

/// What servers do with a SYN.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    Accept,
    /// RST.
    Refuse,
    /// Nothing.
    Silent,
}

impl TcpLoad {
    /// Connections per second that are to be opened, without those of closed loops.
    pub fn rate(&self) -> f64 {
        let rates = self.classes.iter().filter_map(|class| match class.arrival {
            Arrival::Rate(rate) => Some(rate.per_second()),
            Arrival::Concurrent { .. } => None,
        });
        rates.sum()
    }

    /// The same with another rate; its classes keep their shares.
    #[must_use]
    pub fn at_rate(&self, rate: f64) -> Self {
        let factor = rate / self.rate();
        let mut load = self.clone();
        for class in &mut load.classes {
            if let Arrival::Rate(rate) = &mut class.arrival {
                *rate = Rate::exactly(rate.per_second() * factor);
            }
        }
        load
    }

    /// The same with so many connections at a time in place of all that closed loops have; their classes keep their shares.
    #[must_use]
    pub fn with_concurrent(&self, connections: u32) -> Self {
        let all = f64::from(self.concurrent().max(1));
        let mut load = self.clone();
        for class in &mut load.classes {
            if let Arrival::Concurrent { count, ramp } = &mut class.arrival {
                let share = f64::from(connections) / all;
                *count = ((f64::from(*count) * share).round() as u32).max(1);
                *ramp = ramp.mul_f64(share);
            }
        }
        load
    }

    /// Connections that closed loops keep at a time.
    pub fn concurrent(&self) -> u32 {
        let counts = self.classes.iter().filter_map(|class| match class.arrival {
            Arrival::Rate(_) => None,
            Arrival::Concurrent { count, .. } => Some(count),
        });
        counts.sum()
    }
}
