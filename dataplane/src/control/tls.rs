//! Certificates and keys: what either end of the API by TCP proves itself with, and whom it believes. TLS 1.3 only.
//!
//! Every file is read as a whole and checked before anything is made of it, so that a configuration with a wrong one is
//! refused like any other wrong configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pnat_shared::config::{ConfigError, Fault, Problem, TlsFiles};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;

/// What is spoken inside.
const HTTP: &[u8] = b"http/1.1";

/// The gateway's side: its certificate, and the CAs whose clients are let in.
#[derive(Clone, Debug)]
pub struct Credentials(pub(super) Arc<ServerConfig>);

/// A file that cannot be used.
#[derive(Debug, Error)]
#[error("{}: {reason}", file.display())]
pub struct TlsError {
    pub file: PathBuf,
    pub reason: String,
}

impl Credentials {
    /// Reads the files that `config_file` names; an error names the key.
    pub fn load(config_file: &Path, files: &TlsFiles) -> Result<Self, ConfigError> {
        let problem = |key: &str, TlsError { file, reason }| {
            let (file, fault) = (config_file.to_owned(), Fault::File { file, reason });
            ConfigError::Invalid(vec![Problem { file, line: None, key: format!("control.tls.{key}"), fault }])
        };
        let chain = certificates(&files.certificate).map_err(|error| problem("certificate", error))?;
        let key = private_key(&files.key).map_err(|error| problem("key", error))?;
        let clients = authorities(&files.clients).map_err(|error| problem("clients", error))?;
        let unusable = |file: &Path, reason: String| TlsError { file: file.to_owned(), reason };
        let verifier = WebPkiClientVerifier::builder_with_provider(clients.into(), provider())
            .build()
            .map_err(|error| problem("clients", unusable(&files.clients, error.to_string())))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("invariant: the provider has suites for TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| match &error {
                rustls::Error::InvalidCertificate(_) => {
                    problem("certificate", unusable(&files.certificate, error.to_string()))
                }
                _ => problem("key", unusable(&files.key, misfit(&error))),
            })?;
        config.alpn_protocols = vec![HTTP.to_owned()];
        // Each connection is judged anew: a session that goes on would outlive the certificate that began it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(config.into()))
    }
}

/// An operator's side: a client's certificate with its key, and the CA that the gateway's certificate must come from.
pub(super) fn client(certificate: &Path, key: &Path, ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let (chain, private) = (certificates(certificate)?, private_key(key)?);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("invariant: the provider has suites for TLS 1.3")
        .with_root_certificates(authorities(ca)?)
        .with_client_auth_cert(chain, private)
        .map_err(|error| TlsError { file: key.to_owned(), reason: misfit(&error) })?;
    config.alpn_protocols = vec![HTTP.to_owned()];
    Ok(config.into())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn misfit(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "is not the key to the certificate".to_owned(),
        other => other.to_string(),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |reason: String| TlsError { file: file.to_owned(), reason };
    let chain: Result<Vec<_>, pem::Error> =
        CertificateDer::pem_file_iter(file).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(|error| unusable(reason(error)))?;
    if chain.is_empty() {
        return Err(unusable("holds no certificate in PEM form".to_owned()));
    }
    Ok(chain)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let reason = match error {
            pem::Error::NoItemsFound => "holds no private key in PEM form".to_owned(),
            other => reason(other),
        };
        TlsError { file: file.to_owned(), reason }
    })
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store
            .add(certificate)
            .map_err(|error| TlsError { file: file.to_owned(), reason: error.to_string() })?;
    }
    Ok(store)
}

fn reason(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
