//! `url-block`: requests to unwanted domains and URLs, by lists of up to millions of them, are answered here or reset.
//!
//! Runs on: proxy cores. Allocates: until the memory of earlier requests is enough, and for what it blocks. Blocks: never: lists
//! are read elsewhere (`source`) and exchanged whole.
//!
//! A domain covers its subdomains, a path what lies below it. Hosts and paths are brought to one form before they are looked up
//! (`place`). An exception of a list holds for the lists of its category, however wide or narrow it is; those of `allow` hold
//! for all. A request without a host that could be one is judged by the server's address.

mod groups;
mod lists;
mod page;
mod parse;
mod place;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use self::groups::{GroupSettings, Groups};
pub use self::lists::{Builder, Covered, Lists, Membership, Tally, TooMany};
use self::page::{Blocked, Page};
pub use self::parse::{Entry, Format};
pub use self::place::{NoHost, Place};
pub use self::source::{ListReport, report};
use self::source::{ListSettings, Origin, Source};
use super::Section;
use crate::filter::{Call, ConfigFault, HttpFactory, HttpFilter, Verdict};
use crate::message::{Answer, Request, Response, reason};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    lists: Vec<ListSettings>,
    /// Plain entries that are never blocked.
    #[serde(default)]
    allow: Vec<String>,
    /// What is unwanted for whom no group decides; all that there are, if left out.
    categories: Option<Vec<String>>,
    #[serde(default)]
    groups: Vec<GroupSettings>,
    /// Of the groups' hours and days; UTC, if left out.
    time_zone: Option<String>,
    #[serde(default)]
    answer: AnswerSetting,
    /// The file of a template.
    page: Option<PathBuf>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "not \"page\", \"reset\" or a status from 400 to 599")]
enum AnswerSetting {
    Word(AnswerWord),
    Status(u16),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnswerWord {
    Page,
    Reset,
}

impl Default for AnswerSetting {
    fn default() -> Self {
        Self::Word(AnswerWord::Page)
    }
}

/// Makes the filter from its section; reads the lists.
pub fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let settings: Settings = section.read()?;
    let answer = BlockAnswer::new(settings.answer, settings.page.as_deref())?;
    let origin = Origin { lists: settings.lists, allow: settings.allow };
    let others = match &settings.categories {
        None => u64::MAX,
        Some(categories) => categories.iter().enumerate().try_fold(0, |all, (at, category)| {
            let lists = origin.of_category(category);
            lists.map(|lists| all | lists).ok_or_else(|| {
                fault(&format!("categories[{at}]"), format!("no list is of category {category:?}"))
            })
        })?,
    };
    let groups = Groups::new(&settings.groups, settings.time_zone.as_deref(), others, |category| {
        origin.of_category(category)
    })?;
    let source = match section.rehearsal {
        true => Source::unwatched(section.name, origin)?.0,
        false => Source::open(section.lasting, section.name, origin)?,
    };
    Ok(Arc::new(UrlBlockFactory(Arc::new(Unwanted { source, groups, answer }))))
}

fn fault(key: &str, message: String) -> ConfigFault {
    ConfigFault { key: key.to_owned(), message }
}

#[derive(Debug)]
struct UrlBlockFactory(Arc<Unwanted>);

/// The filter as configured.
#[derive(Debug)]
struct Unwanted {
    source: Arc<Source>,
    groups: Groups,
    answer: BlockAnswer,
}

#[derive(Debug)]
enum BlockAnswer {
    Page(Box<Page>),
    Reset,
    Status(u16),
}

impl BlockAnswer {
    fn new(setting: AnswerSetting, page: Option<&Path>) -> Result<Self, ConfigFault> {
        let answer = match setting {
            AnswerSetting::Word(AnswerWord::Page) => Self::Page(Box::new(match page {
                None => Page::default(),
                Some(path) => {
                    read_page(path).map_err(|error| fault("page", format!("{}: {error}", path.display())))?
                }
            })),
            AnswerSetting::Word(AnswerWord::Reset) => Self::Reset,
            AnswerSetting::Status(status @ 400..=599) => Self::Status(status),
            AnswerSetting::Status(status) => {
                return Err(fault("answer", format!("{status} is not a status from 400 to 599")));
            }
        };
        if page.is_some() && !matches!(answer, Self::Page(_)) {
            return Err(fault("page", "is for answer = \"page\" only".to_owned()));
        }
        Ok(answer)
    }
}

fn read_page(path: &Path) -> Result<Page, Box<dyn std::error::Error>> {
    Ok(Page::new(fs::read_to_string(path)?)?)
}

impl HttpFactory for UrlBlockFactory {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(UrlBlock { unwanted: Arc::clone(&self.0), place: Place::default() })
    }
}

/// One connection's instance.
struct UrlBlock {
    unwanted: Arc<Unwanted>,
    place: Place,
}

impl HttpFilter for UrlBlock {
    fn request(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        let client = *call.exchange.client.ip();
        let lists = self.unwanted.groups.unwanted(client, call.gateway.unix_time());
        if lists == 0 {
            return Verdict::Pass;
        }
        let (authority, path) = match request.method() {
            "CONNECT" => (request.target(), ""),
            _ => (request.authority(), request.path_and_query()),
        };
        if self.place.read(authority.as_bytes(), path.as_bytes()).is_err() {
            self.place.read_at(*call.exchange.server.ip(), path.as_bytes());
        }
        let Some((list, rule)) = self.blocked(lists) else { return Verdict::Pass };
        call.exchange.verdict =
            Some(format!("{rule} is in {} ({})", list.path.display(), list.category).into());
        match &self.unwanted.answer {
            BlockAnswer::Reset => Verdict::Reset,
            BlockAnswer::Status(status) => {
                let mut response = Response::new(*status, reason(*status));
                response.fields_mut().push("Cache-Control", b"no-store");
                Verdict::Answer(Box::new(Answer::new(response, Vec::new())))
            }
            BlockAnswer::Page(page) => {
                let host = self.place.host_name(self.place.host().len());
                let url = format!("http://{authority}{path}");
                let category = list.category.clone();
                // It was tried when it was configured; what may fail still leaves the page empty.
                let html = page.render(&Blocked { url, host, category, client: Some(client), rule });
                let page = Answer::page(403, reason(403), html.unwrap_or_default());
                Verdict::Answer(Box::new(page))
            }
        }
    }
}

impl UrlBlock {
    /// The list and its narrowest entry for which the place is blocked, if it is, by one of `lists`.
    fn blocked(&self, lists: u64) -> Option<(&ListSettings, String)> {
        let source = &self.unwanted.source;
        let current = source.lists();
        let mut all = Membership::default();
        current.as_ref().walk(&self.place, |membership, _| {
            all.listed |= membership.listed;
            all.excepted |= membership.excepted;
        });
        let blocked = all.listed & lists & !all.excepted;
        if blocked == 0 {
            return None;
        }
        let mut narrowest = None;
        current.as_ref().walk(&self.place, |membership, covered| {
            let by = membership.listed & blocked;
            if by != 0 {
                narrowest = Some((by.trailing_zeros() as usize, covered));
            }
        });
        let (list, covered) = narrowest?;
        Some((source.origin().lists.get(list)?, covered.spell(&self.place)))
    }
}

#[cfg(test)]
mod tests;
