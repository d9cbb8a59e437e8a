//! `pnat report`: what the gateway has measured, as a table, as files, as a page.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Ask, CliError};
use crate::control::course;
use crate::control::report::Report;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Also write report.txt, latency.hlog and one .hgrm per stage into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also write a page with the last quarter of an hour in charts.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show that page's tables, in Markdown.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    ask: Ask,
}

impl ReportArgs {
    pub(super) fn run(self, config: &Path, out: &mut impl Write) -> Result<(), CliError> {
        let client = self.ask.client(config)?;
        let report: Report = client.get("/report")?;
        let page = if self.html.is_some() || self.markdown {
            Some(course::page(&report, &client.get("/history")?)?)
        } else {
            None
        };
        match &page {
            Some(page) if self.markdown => out.write_all(page.markdown().as_bytes())?,
            _ => self.ask.print(&report, out)?,
        }
        let mut written = self.out.map_or_else(|| Ok(Vec::new()), |dir| report.write(&dir))?;
        if let Some((page, file)) = page.zip(self.html) {
            if let Err(source) = std::fs::write(&file, page.html()) {
                return Err(CliError::File { path: file, source });
            }
            written.push(file);
        }
        // JSON and Markdown on standard output stay what they are.
        for file in written.iter().filter(|_| !self.ask.json && !self.markdown) {
            writeln!(out, "wrote {}", file.display())?;
        }
        Ok(())
    }
}
