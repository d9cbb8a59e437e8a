//! What the hosts of a row say to each other, and how each of them notices the end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::Way;
use super::setting::tool;
use crate::exchange::{noise, send_all};
use crate::hosts::{CLIENT, FAR_ADDRESS, Host, PATIENCE, SERVER, accept, finish, patient};

/// How a stream ended for the host that read it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Error(ErrorKind),
}

pub(crate) const RESET: End = End::Error(ErrorKind::ConnectionReset);

pub(crate) fn listen(way: Way) -> TcpListener {
    SERVER.listen(way.port())
}

/// A connection by this way: the client's end and the server's.
pub(crate) fn connection(way: Way) -> (TcpStream, TcpStream) {
    let listener = listen(way);
    let client = CLIENT.connect(FAR_ADDRESS, way.port());
    (client, accept(&listener))
}

/// A socket of the client's that is bound to this port (0: any) and set up before it connects.
pub(crate) fn connect_from(
    port: u16,
    way: Way,
    set_up: impl FnOnce(&Socket) + Send + 'static,
) -> std::io::Result<TcpStream> {
    let to = SocketAddrV4::new(FAR_ADDRESS.parse().unwrap(), way.port());
    let stream = CLIENT.within(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        set_up(&socket);
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    })?;
    patient(&stream);
    Ok(stream)
}

/// Both hosts send so many bytes at the same time and end their streams; both get all of it.
pub(crate) fn bulk(client: &TcpStream, server: &TcpStream, bytes: usize) {
    let sending = [send_all(client, noise(1, bytes)), send_all(server, noise(2, bytes))];
    let hearing = {
        let server = server.try_clone().unwrap();
        thread::spawn(move || read(&server))
    };
    expect(&read(client), noise(2, bytes), End::Fin);
    expect(&finish(hearing), noise(1, bytes), End::Fin);
    sending.into_iter().for_each(finish);
}

/// The same over a connection of its own.
pub(crate) fn bulk_over(way: Way, bytes: usize) {
    let (client, server) = connection(way);
    bulk(&client, &server, bytes);
}

/// A question, and an answer as long.
pub(crate) fn ask(mut client: &TcpStream, mut server: &TcpStream, bytes: usize) {
    let mut heard = vec![0; bytes];
    client.write_all(&noise(3, bytes)).unwrap();
    server.read_exact(&mut heard).unwrap();
    assert!(heard == noise(3, bytes), "the server heard the question");
    server.write_all(&noise(4, bytes)).unwrap();
    client.read_exact(&mut heard).unwrap();
    assert!(heard == noise(4, bytes), "the client heard the answer");
}

/// All that comes, and how it ends.
pub(crate) fn read(mut stream: &TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).map_or_else(|error| End::Error(error.kind()), |_| End::Fin);
    (bytes, end)
}

/// Exactly these bytes came, and then this end.
pub(crate) fn expect((heard, end): &(Vec<u8>, End), said: Vec<u8>, expected: End) {
    assert_eq!((heard.len(), *end), (said.len(), expected), "bytes, and their end");
    assert!(*heard == said, "the very bytes that were sent");
}

/// What writing ends in once the other host has reset: the first write after it may still succeed.
pub(crate) fn write_until_refused(mut stream: &TcpStream) -> ErrorKind {
    for _ in 0..500 {
        if let Err(error) = stream.write(b"anybody there?") {
            return error.kind();
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("writes went on for a second");
}

/// Sends FIN.
pub(crate) fn end(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Closes with RST.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// What a host's kernel says of its end of a connection: the words of `ss -i`.
pub(crate) struct Told(Vec<String>);

impl Told {
    pub(crate) fn of(host: Host, stream: &TcpStream) -> Self {
        let (local, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let told = tool(host, &format!("ss -Htino src {local} dst {peer}"));
        Self(told.split_whitespace().map(str::to_owned).collect())
    }

    pub(crate) fn says(&self, word: &str) -> bool {
        self.0.iter().any(|said| said == word)
    }

    /// The value of `key:value`.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix(':'))
    }

    /// Shift of the windows that the host gets, and of those that it gives.
    pub(crate) fn scales(&self) -> Option<(u8, u8)> {
        let (theirs, ours) = self.value("wscale")?.split_once(',')?;
        Some((theirs.parse().ok()?, ours.parse().ok()?))
    }
}
