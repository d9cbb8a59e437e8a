//! `pnat flows`: which flows, in which order, with which columns.

use std::io::Write;
use std::path::Path;

use clap::Args;
use pnat_shared::config::parse_bytes;
use pnat_shared::report::Endpoint;
use pnat_shared::time::Duration;

use super::{Ask, CliError, Proto};
use crate::control::answer::Flows;
use crate::control::columns::FlowColumn;
use crate::control::question::{FlowsQuestion, Sort};

#[derive(Debug, Args)]
pub(super) struct FlowsArgs {
    /// Flows of these clients only: an address, with a port or not, or a prefix.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<Endpoint>,
    /// Flows to these servers only, as the client named them.
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Endpoint>,
    /// Flows to this port of the server only.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Flows of this protocol only.
    #[arg(long, visible_alias = "protocol")]
    proto: Option<Proto>,
    /// Flows that this rule decided on only; "(default)" for those that none did.
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Flows in this state only, as listed: connecting, established, closing, open ...
    #[arg(long)]
    state: Option<String>,
    /// Flows at least this old, as in "90s" or "2h 4m".
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    min_age: Option<Duration>,
    /// Flows at most this old.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_age: Option<Duration>,
    /// Flows that carried at least this much, both ways together, as in 1500, "64KiB" or "1MB".
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    min_bytes: Option<u64>,
    /// Flows that carried at most this much.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_bytes: Option<u64>,
    /// The largest first, by this. Looks at every flow.
    #[arg(long)]
    sort: Option<Sort>,
    /// Show at most this many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// What to show of each flow; JSON shows everything.
    #[arg(long, value_delimiter = ',', conflicts_with = "json", value_enum, default_values_t = FlowColumn::USUAL)]
    columns: Vec<FlowColumn>,
    #[command(flatten)]
    ask: Ask,
}

impl FlowsArgs {
    pub(super) fn run(self, config: &Path, out: &mut impl Write) -> Result<(), CliError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let question = FlowsQuestion {
            limit: Some(self.limit),
            proto: self.proto.map(Into::into),
            client: self.client,
            server: self.server,
            port: self.port,
            rule: self.rule,
            state: self.state,
            min_age_ms: self.min_age.map(millis),
            max_age_ms: self.max_age.map(millis),
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            sort: self.sort,
        };
        let flows: Flows = self.ask.client(config)?.get_by("/flows", &question)?;
        if self.ask.json {
            return self.ask.print(&flows, out);
        }
        Ok(out.write_all(flows.table(&self.columns).as_bytes())?)
    }
}

fn bytes(text: &str) -> Result<u64, &'static str> {
    parse_bytes(text).ok_or("a number of bytes is needed, as in 1500, 64KiB or 1MB")
}
