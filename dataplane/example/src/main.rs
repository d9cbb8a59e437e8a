//! A gateway with a filter of its own: `teapot`, which answers for coffee machines (RFC 2324) and marks all other responses.
//!
//! This is all that a filter outside of PNAT's tree takes: [`HttpFilter`] for one connection, [`HttpFactory`] for what the
//! operator configured, a function that reads the section, and [`Kinds::add`]. The program is then `pnat` with one type more:
//!
//! ```toml
//! [[filter]]
//! name = "kitchen"
//! type = "teapot"
//! paths = ["/coffee"]
//! ```
//!
//! Here it is run by `cargo run -p pnat-example -- run --config FILE`. In a repository of its own the `Cargo.toml` names PNAT's crates,
//! and its bindings for DPDK in the place of crates.io's; `scripts/setup` installs what those are built with:
//!
//! ```toml
//! [dependencies]
//! pnat-dataplane = { path = "../pnat/dataplane" }
//! pnat-http = { path = "../pnat/proxy/http" }
//! serde = { version = "1", features = ["derive"] }
//!
//! [patch.crates-io]
//! capsule-ffi = { path = "../pnat/dataplane/ffi" }
//! ```

use std::process::ExitCode;
use std::sync::Arc;

use pnat_dataplane::cli;
use pnat_dataplane::filters::Kinds;
use pnat_http::filter::{Call, ConfigFault, HttpFactory, HttpFilter, Verdict};
use pnat_http::filters::Section;
use pnat_http::message::{Answer, Request, Response};
use serde::Deserialize;

fn main() -> ExitCode {
    cli::main(Kinds::default().add("teapot", configure))
}

/// The section's keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// What the paths of coffee machines begin with.
    paths: Vec<String>,
}

/// The filter as configured. All proxy cores share it.
#[derive(Debug)]
struct Teapot {
    settings: Arc<Settings>,
}

fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let settings: Settings = section.read()?;
    if settings.paths.is_empty() {
        let message = "is empty; allowed: at least one path".to_owned();
        return Err(ConfigFault { key: "paths".to_owned(), message });
    }
    Ok(Arc::new(Teapot { settings: Arc::new(settings) }))
}

impl HttpFactory for Teapot {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(Pot { settings: Arc::clone(&self.settings) })
    }
}

/// The filter of one connection.
struct Pot {
    settings: Arc<Settings>,
}

impl HttpFilter for Pot {
    fn request(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        if !self.settings.paths.iter().any(|path| request.path().starts_with(path)) {
            return Verdict::Pass;
        }
        call.exchange.verdict = Some("no coffee here".into());
        Verdict::Answer(Box::new(Answer::page(418, "I'm a teapot", "<h1>Short and stout</h1>\n")))
    }

    fn response(&mut self, _call: &mut Call<'_>, _request: &Request, response: &mut Response) -> Verdict {
        response.fields_mut().set("X-Brewed-By", b"teapot");
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use pnat_http::filters::Lasting;
    use pnat_http::testkit::{self, Calls};

    use super::*;

    #[test]
    fn coffee_is_answered_and_everything_else_is_marked() {
        let kitchen =
            testkit::configure(configure, &Lasting::default(), "paths = [\"/coffee\"]").expect("good keys");
        let mut filter = kitchen.filter();
        let mut calls = Calls::default();
        let mut coffee = testkit::request("BREW", "/coffee/black", &[("Host", "kitchen.example")]);
        let verdict = filter.request(&mut calls.call(), &mut coffee);
        assert!(matches!(verdict, Verdict::Answer(answer) if answer.response.status() == 418));

        let mut tea = testkit::request("GET", "/tea", &[("Host", "kitchen.example")]);
        assert_eq!(filter.request(&mut calls.call(), &mut tea), Verdict::Pass);
        let mut response = testkit::response(200, &[]);
        assert_eq!(filter.response(&mut calls.call(), &tea, &mut response), Verdict::Pass);
        assert_eq!(response.fields().text("X-Brewed-By"), Some("teapot"));
    }
}
