//! The two hosts: sockets opened, and programs run, in a host's network namespace.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::panic;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::fixture::{self, script};

/// The server's own address, next to the gateway.
pub(crate) const SERVER_ADDRESS: &str = "198.18.0.2";
/// Another address of the server, beyond the gateway's next hop.
pub(crate) const FAR_ADDRESS: &str = "198.18.5.10";
pub(crate) const PUBLIC_ADDRESS: &str = "198.18.0.1";
pub(crate) const CLIENT_ADDRESS: &str = "10.77.1.2";

/// Longer than any single step may take, losses included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(&'static str);

pub(crate) const CLIENT: Host = Host("client");
pub(crate) const SERVER: Host = Host("server");
/// Where the gateway's operator sits.
pub(crate) const GATEWAY: Host = Host("gateway");

impl Host {
    /// A host that a test adds to the lab; `scripts/lab down` knows `near` and `far`.
    pub(crate) const fn named(name: &'static str) -> Self {
        Self(name)
    }

    pub(crate) fn namespace(self) -> String {
        format!("{}-{}", fixture::name(), self.0)
    }

    /// Starts `work` on a thread in this host's namespace.
    pub(crate) fn spawn<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        thread::spawn(move || {
            let namespace = File::open(Path::new("/run/netns").join(self.namespace())).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    /// What `work` gives in this host's namespace. A socket belongs there for good, whoever uses it later.
    pub(crate) fn within<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        finish(self.spawn(work))
    }

    /// Listens on a port of all the host's addresses.
    pub(crate) fn listen(self, port: u16) -> TcpListener {
        let listener = self.within(move || TcpListener::bind(("0.0.0.0", port)).unwrap());
        listener.set_nonblocking(true).unwrap();
        // The library's queue of 128 overflows where thousands come: the host would drop handshakes, and repeat them for half a minute.
        rustix::net::listen(&listener, 4096).unwrap();
        listener
    }

    pub(crate) fn connect(self, address: &str, port: u16) -> TcpStream {
        self.try_connect(address, port, PATIENCE).unwrap()
    }

    pub(crate) fn try_connect(self, address: &str, port: u16, limit: Duration) -> std::io::Result<TcpStream> {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        let stream = self.within(move || TcpStream::connect_timeout(&to, limit))?;
        patient(&stream);
        Ok(stream)
    }

    /// A UDP socket; port 0 stands for any. A server names its address, or it would answer from another one of its own.
    pub(crate) fn udp(self, address: &'static str, port: u16) -> UdpSocket {
        let socket = self.within(move || UdpSocket::bind((address, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    /// Runs a program that must succeed; what it printed.
    pub(crate) fn run(self, command: &[&str]) -> String {
        fixture::succeed(&mut self.command(command))
    }

    /// Runs a program that may fail.
    pub(crate) fn try_run(self, command: &[&str]) -> Output {
        self.command(command).output().unwrap()
    }

    pub(crate) fn command(self, command: &[&str]) -> Command {
        let mut run = script();
        run.arg("run").arg(self.0).args(command);
        run
    }
}

/// The next connection that comes in.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                patient(&stream);
                return stream;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        assert!(start.elapsed() < PATIENCE, "no connection came in within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A thread's result; its panic is the test's.
pub(crate) fn finish<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
}

/// A hanging gateway fails the test instead of stopping it.
pub(crate) fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
}
