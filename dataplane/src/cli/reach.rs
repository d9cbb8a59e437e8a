//! Which gateway a command asks: the one of the configuration file, of a socket, or one on another machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use pnat_shared::config::Config;

use super::{CliError, cpus_of_this_machine};
use crate::control::client::{Client, Place, Remote};

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which gateway")]
pub(super) struct Reach {
    /// Ask at this control socket, without reading the configuration.
    #[arg(long, value_name = "PATH", conflicts_with = "control")]
    socket: Option<PathBuf>,
    /// Ask the gateway at this address (its `[control] listen`), as in `https://gateway.example:9443`; else PNAT_CONTROL
    /// names one.
    #[arg(long, value_name = "URL")]
    control: Option<String>,
    /// This client's certificate, in PEM form; else PNAT_CERTIFICATE.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    certificate: Option<PathBuf>,
    /// The key to it; else PNAT_KEY.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    key: Option<PathBuf>,
    /// The CA that the gateway's certificate must come from; else PNAT_CA.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    ca: Option<PathBuf>,
}

impl Reach {
    pub(super) fn client(&self, config: &Path) -> Result<Client, CliError> {
        Ok(Client::new(self.place(config, |name| std::env::var_os(name))?)?)
    }

    /// Whether nobody named a gateway, so that it is the one of the configuration file.
    pub(super) fn is_configured(&self) -> bool {
        self.socket.is_none() && self.url(|name| std::env::var_os(name)).is_none()
    }

    fn url(&self, variable: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
        self.control.clone().map(OsString::from).or_else(|| variable("PNAT_CONTROL"))
    }

    fn place(&self, config: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Result<Place, CliError> {
        if let Some(socket) = &self.socket {
            return Ok(Place::Socket(socket.clone()));
        }
        let Some(url) = self.url(&variable) else {
            return Ok(Place::Socket(Config::load(config, cpus_of_this_machine())?.control.socket));
        };
        let file = |given: &Option<PathBuf>, option: &'static str, name: &'static str| {
            let file = given.clone().or_else(|| variable(name).map(PathBuf::from));
            file.ok_or(CliError::NoCredentials { option, variable: name })
        };
        let certificate = file(&self.certificate, "--certificate", "PNAT_CERTIFICATE")?;
        let key = file(&self.key, "--key", "PNAT_KEY")?;
        let ca = file(&self.ca, "--ca", "PNAT_CA")?;
        Ok(Place::Remote(Remote::new(&url.to_string_lossy(), &certificate, &key, &ca)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(reach: &Reach, variables: &[(&str, &str)]) -> Result<Place, CliError> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        reach.place(Path::new("none.toml"), variable)
    }

    #[test]
    fn a_socket_that_is_named_needs_nothing_else() {
        let reach = Reach { socket: Some("a.sock".into()), ..Reach::default() };
        let place = place(&reach, &[("PNAT_CONTROL", "https://elsewhere:1")]).expect("a place");
        assert_eq!(place.to_string(), "a.sock");
    }

    #[test]
    fn a_gateway_elsewhere_needs_three_files_and_what_is_missing_is_named() {
        let reach = Reach { control: Some("https://a:1".to_owned()), ..Reach::default() };
        let told = |variables: &[(&str, &str)]| place(&reach, variables).expect_err("missing").to_string();
        assert_eq!(told(&[]), "a gateway elsewhere is asked with --certificate FILE (or PNAT_CERTIFICATE)");
        let told = told(&[("PNAT_CERTIFICATE", "c.pem"), ("PNAT_KEY", "k.pem")]);
        assert_eq!(told, "a gateway elsewhere is asked with --ca FILE (or PNAT_CA)");
    }

    #[test]
    fn the_environment_may_name_everything() {
        let variables = [
            ("PNAT_CONTROL", "https://a:1"),
            ("PNAT_CERTIFICATE", "no-such.pem"),
            ("PNAT_KEY", "no-such.key"),
            ("PNAT_CA", "no-such-ca.pem"),
        ];
        let told = place(&Reach::default(), &variables).expect_err("no files").to_string();
        assert_eq!(told, "no-such.pem: No such file or directory (os error 2)");
        let told = place(&Reach::default(), &[]).expect_err("no file").to_string();
        assert!(told.starts_with("none.toml: cannot be read"), "{told}");
    }
}
