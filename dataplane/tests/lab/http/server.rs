//! A server that answers as a test wants, on the port of Apache's.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::APACHE_PORT;
use crate::hosts::{SERVER, finish};

/// It goes with its value; connections that are open go on by themselves.
pub(super) struct Server {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Every connection is a call of `answer`, on a thread of its own.
    pub(super) fn start(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let (ends, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let (listener, own_ends) = (SERVER.listen(APACHE_PORT), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !own_ends.load(Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let answer = Arc::clone(&answer);
                stream.set_nonblocking(false).unwrap();
                // Who takes a response for longer than it is waits no longer than this.
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                thread::spawn(move || answer(stream));
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        self.thread.take().map(finish);
    }
}

/// The target of the next request; `None`: none came.
pub(super) fn target(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next()?;
    lines.for_each(drop);
    first.split(' ').nth(1).map(str::to_owned)
}
