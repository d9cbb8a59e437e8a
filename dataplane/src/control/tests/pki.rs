//! Certificates of one test: a CA, what it has signed, and a stranger's.

use std::fs;
use std::path::{Path, PathBuf};

use pnat_shared::config::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};

use super::tempdir;
use crate::control::client::{Client, Place, Remote};
use crate::control::tls::Credentials;

type Ca = CertifiedIssuer<'static, KeyPair>;

/// Files in a directory that goes with the test. The gateway is 127.0.0.1.
pub(in crate::control) struct Pki {
    dir: tempdir::Dir,
    own: Ca,
}

impl Pki {
    pub(in crate::control) fn new(test: &str) -> Self {
        let dir = tempdir::Dir::new(&format!("{test}-pki"));
        let pki = Self { dir, own: ca("own") };
        pki.write("ca.pem", &pki.own.pem());
        let stranger = ca("another");
        pki.write("stranger-ca.pem", &stranger.pem());
        pki.leaf("gateway", &pki.own, |_| {});
        pki.leaf("operator", &pki.own, |_| {});
        pki.leaf("stranger", &stranger, |_| {});
        pki.leaf("impostor", &ca("own"), |_| {});
        pki.leaf("expired", &pki.own, |params| params.not_after = date_time_ymd(2001, 1, 1));
        pki.leaf("server-only", &pki.own, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        pki
    }

    /// Makes NAME.pem and NAME.key.
    pub(in crate::control) fn leaf(
        &self,
        name: &str,
        issuer: &Ca,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        self.write(&format!("{name}.pem"), &params.signed_by(&key, issuer).expect("signed").pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    pub(in crate::control) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    pub(in crate::control) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The keys of `[control]` for a gateway at this address.
    pub(in crate::control) fn control(&self, address: &str) -> String {
        let [certificate, key, clients] =
            ["gateway.pem", "gateway.key", "ca.pem"].map(|file| self.path(file));
        format!(
            "listen = \"{address}\"\ntls = {{ certificate = {certificate:?}, key = {key:?}, clients = {clients:?} }}\n"
        )
    }

    pub(in crate::control) fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.path("gateway.pem"),
            key: self.path("gateway.key"),
            clients: self.path("ca.pem"),
        }
    }

    pub(in crate::control) fn credentials(&self) -> Credentials {
        Credentials::load(Path::new("lab.toml"), &self.files()).expect("good files")
    }

    /// A client with the certificate NAME, of a gateway of this CA.
    pub(in crate::control) fn client(&self, address: &str, name: &str) -> Client {
        self.client_of(address, name, "ca.pem")
    }

    pub(in crate::control) fn client_of(&self, address: &str, name: &str, ca: &str) -> Client {
        let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let remote = Remote::new(&format!("https://{address}"), &certificate, &key, &self.path(ca));
        Client::new(Place::Remote(remote.expect("good files"))).expect("a client")
    }
}

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}
