//! The API by TCP: all of it for those who prove themselves, nothing for anybody else, and no harm by them.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use pnat_shared::config::TlsFiles;

use super::super::answer::Health;
use super::super::client::Client;
use super::pki::Pki;
use super::rig::without_cores;
use super::watching::free_port;
use super::*;
use crate::control::tls::Credentials;

/// A gateway that answers by TCP.
struct Remote {
    rig: Rig,
    pki: Pki,
    address: String,
}

impl Remote {
    fn new(test: &str) -> Self {
        let (pki, address) = (Pki::new(test), format!("127.0.0.1:{}", free_port()));
        let rig = Rig::configured(test, &pki.control(&address), None);
        Self { rig, pki, address }
    }

    /// Asks with this certificate.
    fn asks_as(&self, name: &str) -> Result<Stats, ClientError> {
        self.pki.client(&self.address, name).get("/stats")
    }

    /// A counter of the listener's, as everybody can read it.
    fn counted(&self, counter: &str) -> u64 {
        let stats: Stats = self.rig.client().get("/stats").expect("stats");
        stats.groups.iter().find(|group| group.kind == "control").expect("a group").counters[counter]
    }

    /// Waits, a question at a time, until so many are counted.
    fn counts(&self, counter: &str, expected: u64) {
        let reached = (0..5_000).any(|_| self.counted(counter) >= expected);
        assert!(reached, "{counter} stays at {}", self.counted(counter));
        assert_eq!(self.counted(counter), expected, "{counter}");
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).expect("connected")
    }

    /// Connects from another address of this machine.
    fn connect_from(&self, source: [u8; 4]) -> TcpStream {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("bound");
        let address: SocketAddr = self.address.parse().expect("an address");
        socket.connect(&address.into()).expect("connected");
        socket.into()
    }
}

/// Reads until the other side has closed, whichever way it does.
fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read);
    read
}

#[test]
fn a_client_with_a_certificate_of_the_ca_gets_what_the_socket_gives() {
    let remote = Remote::new("remote");
    let client = remote.pki.client(&remote.address, "operator");
    let stats: Stats = client.get("/stats").expect("stats");
    assert_eq!(stats.generation, 1);
    let flows: Flows = client.get("/flows?limit=2").expect("flows");
    assert_eq!(flows.flows.len(), 2);
    remote.counts("clients_admitted", 1);
    // What changes something or streams has a connection of its own.
    let reloaded: Reloaded = client.post("/reload").expect("reloaded");
    assert_eq!(reloaded.generation, 2);
    let mut captured = 0;
    let taken = client.stream("/capture?at=inside&count=3", |chunk| {
        captured += chunk.len();
        Ok(())
    });
    taken.expect("captured");
    assert_eq!(captured, 24 + 3 * (16 + 60));
    remote.counts("clients_admitted", 3);
    assert_eq!((remote.counted("handshakes_failed"), remote.counted("handshakes")), (0, 0));
    let (_, metrics) = watching::by_socket(&remote.rig, "/metrics");
    assert!(metrics.contains("pnat_control_clients_admitted_total{control=\"tls\"} 3\n"), "{metrics}");
}

#[test]
fn a_client_with_a_wrong_certificate_is_turned_away_told_why_and_counted() {
    let remote = Remote::new("wrong-certificates");
    let rows = [
        ("stranger", "UnknownCA"),
        // Its CA has the name of the right one, and another key.
        ("impostor", "DecryptError"),
        ("expired", "CertificateExpired"),
        ("server-only", "UnsupportedCertificate"),
    ];
    for (count, (name, alert)) in (1..).zip(rows) {
        let told = remote.asks_as(name).expect_err(name).to_string();
        let expected = format!("the gateway at https://{} turns this client away: {alert}", remote.address);
        assert_eq!(told, expected, "{name}");
        remote.counts("handshakes_failed", count);
    }
    assert_eq!(remote.counted("clients_admitted"), 0);
    remote.asks_as("operator").expect("others are let in as before");
}

#[test]
fn a_client_without_a_certificate_is_turned_away() {
    let remote = Remote::new("no-certificate");
    let mut roots = rustls::RootCertStore::empty();
    let ca = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_file(
        remote.pki.path("ca.pem"),
    );
    roots.add(ca.expect("a CA")).expect("added");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "127.0.0.1".try_into().expect("a name");
    let session = rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut stream = rustls::StreamOwned::new(session, remote.connect());
    let mut answer = String::new();
    let asked = write!(stream, "GET /stats HTTP/1.1\r\nHost: pnat\r\n\r\n");
    let error = asked.and_then(|()| stream.read_to_string(&mut answer)).expect_err("turned away");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert_eq!(answer, "");
    remote.counts("handshakes_failed", 1);
}

#[test]
fn a_gateway_of_another_ca_or_another_name_is_not_believed() {
    let remote = Remote::new("wrong-gateway");
    let error = remote.pki.client_of(&remote.address, "operator", "stranger-ca.pem").get::<Stats>("/stats");
    let told = error.expect_err("another CA").to_string();
    assert!(told.starts_with(&format!("no secure connection to https://{}: ", remote.address)), "{told}");
    assert!(told.contains("UnknownIssuer"), "{told}");
    let by_name = remote.address.replace("127.0.0.1", "localhost");
    let told =
        remote.pki.client(&by_name, "operator").get::<Stats>("/stats").expect_err("a name").to_string();
    assert!(told.contains("not valid for name"), "{told}");
}

#[test]
fn who_speaks_no_tls_gets_no_answer_and_is_counted() {
    let remote = Remote::new("no-tls");
    let noise: Vec<u8> = (0..4_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let said: [&[u8]; 4] =
        [b"GET /stats HTTP/1.1\r\nHost: pnat\r\n\r\n", &[0; 100], &noise, &[0x16, 3, 3, 0xff, 0xff, 1, 2, 3]];
    for (count, bytes) in (1..).zip(said) {
        let mut stream = remote.connect();
        stream.write_all(bytes).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("ended");
        let answer = read_all(&stream);
        // At most an alert of TLS: a head of five bytes and two more.
        assert!(answer.len() <= 7 && !answer.starts_with(b"HTTP"), "{answer:?}");
        remote.counts("handshakes_failed", count);
    }
    // Who goes without a word is counted as well.
    drop(remote.connect());
    remote.counts("handshakes_failed", 5);
    remote.asks_as("operator").expect("others are served");
}

#[test]
fn handshakes_of_one_address_leave_room_for_others() {
    let remote = Remote::new("half-handshakes");
    let half: Vec<TcpStream> = (0..8).map(|_| remote.connect()).collect();
    remote.counts("handshakes", 8);
    assert!(read_all(&remote.connect()).is_empty(), "the ninth is closed at once");
    remote.counts("connections_refused", 1);
    // One of another address is as free as ever.
    let from_elsewhere = remote.connect_from([127, 0, 0, 2]);
    remote.counts("handshakes", 9);
    drop(from_elsewhere);
    drop(half);
    remote.counts("handshakes_failed", 9);
    remote.asks_as("operator").expect("room again");
}

#[test]
fn a_thousand_connections_do_no_harm() {
    let remote = Remote::new("thousand");
    // Most are closed by the gateway at once; not too many are kept, as a process has only so many files.
    let mut kept = VecDeque::new();
    for number in 0..1_000 {
        kept.push_back(remote.connect());
        kept.drain(..kept.len().saturating_sub(200));
        if number % 50 == 0 {
            remote.rig.client().get::<Stats>("/stats").expect("the socket answers meanwhile");
        }
    }
    drop(kept);
    let turned_away = || remote.counted("connections_refused") + remote.counted("handshakes_failed");
    assert!((0..5_000).any(|_| turned_away() == 1_000), "{} turned away", turned_away());
    assert!(remote.counted("connections_refused") > 0);
    remote.asks_as("operator").expect("served when they are gone");
}

#[test]
fn no_more_clients_than_there_are_places_for_are_served_at_the_same_time() {
    let remote = Remote::new("many-clients");
    let connected: Vec<Client> = (0..64).map(|_| remote.pki.client(&remote.address, "operator")).collect();
    for client in &connected {
        client.get::<Health>("/health").expect("served");
    }
    assert!(remote.asks_as("operator").is_err(), "there is no place");
    remote.counts("connections_refused", 1);
    connected[0].get::<Health>("/health").expect("who is connected is served on");
    drop(connected);
    let served = (0..1_000).any(|_| remote.asks_as("operator").is_ok());
    assert!(served, "places are free again");
}

#[test]
fn a_reload_takes_new_certificates_or_leaves_everything() {
    let remote = Remote::new("new-certificates");
    remote.asks_as("operator").expect("let in");
    let former = fs::read_to_string(remote.pki.path("gateway.key")).expect("read");
    remote.pki.write("gateway.key", "no key at all");
    remote.rig.write_config(&format!("{CONFIG}{MORE_RULES}"));
    let refused = remote.rig.client().post::<Reloaded>("/reload").expect_err("no key");
    let told = refused.to_string();
    assert!(told.contains("lab.toml: control.tls.key: ") && told.contains("no private key"), "{told}");
    assert!(matches!(refused, ClientError::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, .. }));
    assert_eq!(remote.rig.decides_mail(), "proxy", "the policy stays too");
    remote.asks_as("operator").expect("let in as before");
    // From now on clients are of the other CA.
    remote.pki.write("gateway.key", &former);
    let other = fs::read_to_string(remote.pki.path("stranger-ca.pem")).expect("read");
    fs::copy(remote.pki.path("ca.pem"), remote.pki.path("former-ca.pem")).expect("copied");
    remote.pki.write("ca.pem", &other);
    let connected = remote.pki.client_of(&remote.address, "operator", "former-ca.pem");
    connected.get::<Stats>("/stats").expect("let in by the former CA");
    remote.rig.client().post::<Reloaded>("/reload").expect("reloaded");
    connected.get::<Stats>("/stats").expect("who is connected stays so");
    let asked = |name| remote.pki.client_of(&remote.address, name, "former-ca.pem").get::<Stats>("/stats");
    asked("stranger").expect("let in now");
    assert!(matches!(asked("operator"), Err(ClientError::TurnedAway { .. })));
}

#[test]
fn another_address_needs_a_restart() {
    let mut remote = Remote::new("another-address");
    remote.rig.control_keys = remote.pki.control("127.0.0.1:1");
    remote.rig.write_config(CONFIG);
    let told = remote.rig.client().post::<Reloaded>("/reload").expect_err("refused").to_string();
    assert!(told.contains("need a restart: control.listen;"), "{told}");
}

#[test]
fn an_address_that_is_taken_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let (dir, pki) = (tempdir::Dir::new("listen-taken"), Pki::new("listen-taken"));
    let control = pki.control(&address.to_string());
    let text = format!("{CONFIG}[control]\nsocket = \"{}/c\"\n{control}", dir.path().display());
    let gateway = Gateway { credentials: Some(pki.credentials()), ..without_cores(&dir, &text) };
    let told = start(gateway).expect_err("taken").to_string();
    assert!(told.starts_with(&format!("control.listen {address}: ")), "{told}");
}

#[test]
fn files_that_are_no_credentials_are_named_with_their_key() {
    let pki = Pki::new("files");
    pki.write("garbage", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    pki.write("empty", "");
    pki.write("no-certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let files = pki.files();
    let with = |certificate: &str, key: &str, clients: &str| TlsFiles {
        certificate: pki.path(certificate),
        key: pki.path(key),
        clients: pki.path(clients),
    };
    let rows = [
        (with("nowhere", "gateway.key", "ca.pem"), "certificate", "nowhere: No such file or directory"),
        (with("gateway.key", "gateway.key", "ca.pem"), "certificate", "gateway.key: holds no certificate"),
        (with("garbage", "gateway.key", "ca.pem"), "certificate", "garbage: "),
        (with("no-certificate", "gateway.key", "ca.pem"), "certificate", "no-certificate: "),
        (with("gateway.pem", "gateway.pem", "ca.pem"), "key", "gateway.pem: holds no private key"),
        (with("gateway.pem", "empty", "ca.pem"), "key", "empty: holds no private key"),
        (
            with("gateway.pem", "operator.key", "ca.pem"),
            "key",
            "operator.key: is not the key to the certificate",
        ),
        (with("gateway.pem", "gateway.key", "empty"), "clients", "empty: holds no certificate"),
        (with("gateway.pem", "gateway.key", "no-certificate"), "clients", "no-certificate: "),
    ];
    assert!(Credentials::load(Path::new("lab.toml"), &files).is_ok());
    for (files, key, expected) in rows {
        let told = Credentials::load(Path::new("lab.toml"), &files).expect_err(expected).to_string();
        assert!(told.starts_with(&format!("lab.toml: control.tls.{key}")), "{told}");
        assert!(told.contains(expected), "{told}: {expected}");
    }
}

#[test]
fn curl_is_served_with_its_certificate_and_only_with_it() {
    let remote = Remote::new("curl");
    let curl = |proof: &[&str]| {
        let url = format!("https://{}/health", remote.address);
        let ca = remote.pki.path("ca.pem");
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"]).arg(ca).args(proof).arg(url);
        command.output().expect("curl runs")
    };
    let file = |name: &str| remote.pki.path(name).display().to_string();
    let served = curl(&["--cert", &file("operator.pem"), "--key", &file("operator.key")]);
    assert_eq!(String::from_utf8_lossy(&served.stdout), "{\"alive\":true}");
    assert!(!curl(&[]).status.success());
    assert!(!curl(&["--cert", &file("stranger.pem"), "--key", &file("stranger.key")]).status.success());
    remote.counts("handshakes_failed", 2);
}
