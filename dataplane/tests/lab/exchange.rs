//! Exchanges that must work whichever way the gateway carries them; `ways` runs each over every way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::fixture::{Lab, text};
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, SERVER, SERVER_ADDRESS, accept, finish};

/// A port that no server of `scripts/lab` has.
const PORT: u16 = 7000;

pub(crate) fn http_page_is_fetched_by_name(_: &Lab) {
    let page = CLIENT.run(&["curl", "-sS", "-m", "30", "http://www.lab.example/"]);

    assert_eq!(page, "hello from the server\n");
}

pub(crate) fn https_page_is_fetched_by_name(lab: &Lab) {
    let ca = lab.file("ca.pem");
    let page = CLIENT.run(&["curl", "-sS", "-m", "30", "--cacert", text(&ca), "https://www.lab.example/"]);

    assert_eq!(page, "hello from the server\n");
}

pub(crate) fn names_are_looked_up(_: &Lab) {
    let answer = CLIENT.run(&["dig", "+short", "+time=1", "+tries=5", "@198.18.0.2", "far.lab.example"]);

    // When a try is lost, dig says so first.
    assert_eq!(answer.lines().last(), Some(FAR_ADDRESS));
}

pub(crate) fn ping_is_answered(_: &Lab) {
    for address in [SERVER_ADDRESS, FAR_ADDRESS] {
        let told = CLIENT.run(&["ping", "-q", "-c", "5", "-i", "0.1", "-W", "2", address]);

        assert!(told.contains("5 packets transmitted, 5 received"), "{told}");
    }
}

pub(crate) fn big_file_goes_down_and_up_at_the_same_time_unharmed(lab: &Lab) {
    let page = lab.file("www/big");
    let copies = [lab.file("down"), lab.file("uploads/up")];
    let mut down =
        CLIENT.command(&["curl", "-sS", "-m", "300", "-o", text(&copies[0]), "http://198.18.5.10/big"]);
    let mut up =
        CLIENT.command(&["curl", "-sS", "-m", "300", "-T", text(&page), "http://198.18.0.2/uploads/up"]);

    let transfers = [down.spawn().unwrap(), up.spawn().unwrap()];

    for mut transfer in transfers {
        assert!(transfer.wait().unwrap().success());
    }
    for copy in copies {
        assert_eq!(
            CLIENT.run(&["sha256sum", text(&copy)])[..64],
            CLIENT.run(&["sha256sum", text(&page)])[..64]
        );
    }
}

pub(crate) fn two_thousand_connections_are_open_at_once(_: &Lab) {
    const CONNECTIONS: usize = 2000;
    const THREADS: usize = 50;
    let listener = SERVER.listen(PORT);
    let server = thread::spawn(move || (0..CONNECTIONS).map(|_| accept(&listener)).collect());
    let openers: Vec<_> = (0..THREADS)
        .map(|_| {
            thread::spawn(|| (0..CONNECTIONS / THREADS).map(|_| CLIENT.connect(FAR_ADDRESS, PORT)).collect())
        })
        .collect();
    let mut clients: Vec<TcpStream> = openers.into_iter().flat_map(finish::<Vec<_>>).collect();
    let mut servers: Vec<TcpStream> = finish(server);

    for (seed, client) in clients.iter_mut().enumerate() {
        breathe(seed);
        client.write_all(&noise(seed, 4000)).unwrap();
    }
    for (number, server) in servers.iter_mut().enumerate() {
        breathe(number);
        let heard = read_exactly(server, 4000);
        server.write_all(&heard).unwrap();
    }

    for (seed, client) in clients.iter_mut().enumerate() {
        assert!(read_exactly(client, 4000) == noise(seed, 4000), "connection {seed} got its own bytes back");
    }
}

/// Now and then, a pause: what all send at once is more than a port's queue holds, and hosts that have lost it wait longer each time.
fn breathe(number: usize) {
    if number.is_multiple_of(20) {
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn client_may_end_its_stream_first(_: &Lab) {
    let (client, server) = connection();
    let asking = send_all(&client, noise(1, 300_000));
    assert!(receive_all(&server) == noise(1, 300_000));
    finish(asking);

    let answering = send_all(&server, noise(2, 500_000));

    assert!(receive_all(&client) == noise(2, 500_000));
    finish(answering);
}

pub(crate) fn server_may_speak_first_and_end_its_stream_first(_: &Lab) {
    let (client, server) = connection();
    let greeting = send_all(&server, b"220 ready\r\n".to_vec());
    assert_eq!(receive_all(&client), b"220 ready\r\n");
    finish(greeting);

    let sending = send_all(&client, noise(3, 500_000));

    assert!(receive_all(&server) == noise(3, 500_000));
    finish(sending);
}

pub(crate) fn slow_reader_gets_every_byte(_: &Lab) {
    const BYTES: usize = 20_000_000;
    let (client, server) = connection();
    let sending = send_all(&server, noise(4, BYTES));

    // Long enough for every buffer on the way to fill.
    thread::sleep(Duration::from_secs(2));

    assert!(receive_all(&client) == noise(4, BYTES));
    finish(sending);
}

pub(crate) fn reset_reaches_the_other_side(_: &Lab) {
    let (client, mut server) = connection();
    server.write_all(b"unread").unwrap();
    thread::sleep(Duration::from_millis(200));

    // A socket that is closed over unread bytes resets the connection.
    drop(client);

    let error = server.read(&mut [0; 10]).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

pub(crate) fn datagrams_keep_their_boundaries(_: &Lab) {
    let server = SERVER.udp(FAR_ADDRESS, PORT);
    let client = CLIENT.udp(CLIENT_ADDRESS, 0);
    client.connect((FAR_ADDRESS, PORT)).unwrap();
    let mut buffer = [0; 2000];
    for bytes in [0, 1, 512, 1472, 0, 1472, 1] {
        client.send(&noise(bytes, bytes)).unwrap();
        let (heard, from) = server.recv_from(&mut buffer).unwrap();
        assert!(
            buffer[..heard] == noise(bytes, bytes),
            "{bytes} bytes arrive as one datagram, not as {heard}"
        );

        server.send_to(&noise(bytes + 1, bytes), from).unwrap();

        let answered = client.recv(&mut buffer).unwrap();
        assert!(buffer[..answered] == noise(bytes + 1, bytes), "{bytes} bytes come back as {answered}");
    }
}

pub(crate) fn port_unreachable_reaches_the_udp_client(_: &Lab) {
    let client = CLIENT.udp(CLIENT_ADDRESS, 0);
    client.connect((FAR_ADDRESS, PORT)).unwrap();
    client.send(b"anybody there?").unwrap();

    let error = client.recv(&mut [0; 10]).expect_err("nobody is");

    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// A TCP connection: the client's end and the server's.
pub(crate) fn connection() -> (TcpStream, TcpStream) {
    let listener = SERVER.listen(PORT);
    let client = CLIENT.connect(FAR_ADDRESS, PORT);
    (client, accept(&listener))
}

/// Sends on a thread, for nobody may be reading yet, and then ends this direction.
pub(crate) fn send_all(stream: &TcpStream, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

/// All bytes until the other side ends its direction.
pub(crate) fn receive_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

pub(crate) fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Bytes that differ with the seed and repeat nowhere near (xorshift).
pub(crate) fn noise(seed: usize, count: usize) -> Vec<u8> {
    let mut state = seed as u64 * 2 + 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}
