//! Which categories are unwanted, by client and time.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::{Offset, TimeZone};
use pnat_shared::time::Duration;
use serde::Deserialize;

use crate::filter::ConfigFault;

/// Some clients, at some times.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupSettings {
    /// Networks of clients; empty: all.
    #[serde(default)]
    clients: Vec<Ipv4Net>,
    /// What is unwanted for them; empty: nothing is.
    categories: Vec<String>,
    /// From and until, as in `08:00-17:00`. Until before from: over midnight.
    hours: Option<String>,
    /// The days on which the hours begin, as in `mon-fri` or `sat,sun`.
    days: Option<String>,
}

/// Who must not get what, and when: the first group that a client is in and whose time it is decides.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Vec<Group>,
    zone: TimeZone,
    /// For whom no group decides.
    others: u64,
}

#[derive(Debug)]
struct Group {
    clients: Vec<Ipv4Net>,
    lists: u64,
    times: Option<Times>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Times {
    /// In minutes of the day.
    from: u16,
    until: u16,
    /// A bit for each day, Monday first.
    days: u8,
}

const ALL_DAYS: u8 = 0x7f;
const DAY: u16 = 24 * 60;

impl Groups {
    /// `lists` answers which lists belong to a category, if any.
    pub(super) fn new(
        settings: &[GroupSettings],
        zone: Option<&str>,
        others: u64,
        lists: impl Fn(&str) -> Option<u64>,
    ) -> Result<Self, ConfigFault> {
        let fault = |at: usize, key: &str, message: String| ConfigFault {
            key: format!("groups[{at}].{key}"),
            message,
        };
        let mut groups = Vec::new();
        for (at, group) in settings.iter().enumerate() {
            let mut of_group = 0;
            for category in &group.categories {
                of_group |= lists(category)
                    .ok_or_else(|| fault(at, "categories", format!("no list is of category {category:?}")))?;
            }
            let hours = group.hours.as_deref().map(|text| {
                hours(text).ok_or_else(|| fault(at, "hours", format!("{text:?} is not like 08:00-17:00")))
            });
            let days = group.days.as_deref().map(|text| {
                days(text)
                    .ok_or_else(|| fault(at, "days", format!("{text:?} is not like mon-fri or sat,sun")))
            });
            let times = match (hours.transpose()?, days.transpose()?) {
                (None, None) => None,
                (hours, days) => {
                    let (from, until) = hours.unwrap_or((0, DAY));
                    Some(Times { from, until, days: days.unwrap_or(ALL_DAYS) })
                }
            };
            groups.push(Group { clients: group.clients.clone(), lists: of_group, times });
        }
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => time_zone(name).ok_or_else(|| ConfigFault {
                key: "time_zone".to_owned(),
                message: format!(
                    "{name:?} is neither a time zone of this system, as Europe/Berlin, nor +01:00"
                ),
            })?,
        };
        Ok(Self { groups, zone, others })
    }

    /// The lists that hold for a client at a Unix time.
    pub(super) fn unwanted(&self, client: Ipv4Addr, unix_time: Duration) -> u64 {
        let mut local = None;
        let of_client = |group: &&Group| {
            group.clients.is_empty() || group.clients.iter().any(|network| network.contains(&client))
        };
        let mut groups = self.groups.iter().filter(of_client);
        let decides = groups.find(|group| {
            let Some(times) = group.times else { return true };
            times.have(*local.get_or_insert_with(|| self.local(unix_time)))
        });
        decides.map_or(self.others, |group| group.lists)
    }

    fn local(&self, unix_time: Duration) -> DateTime {
        let seconds = i64::try_from(unix_time.as_secs()).unwrap_or_default();
        self.zone.to_datetime(Timestamp::from_second(seconds).unwrap_or_default())
    }
}

impl Times {
    fn have(self, time: DateTime) -> bool {
        let minute = time.hour().unsigned_abs() as u16 * 60 + time.minute().unsigned_abs() as u16;
        let is_day = |day: Weekday| self.days >> day.to_monday_zero_offset() & 1 == 1;
        if self.from < self.until {
            return is_day(time.weekday()) && (self.from..self.until).contains(&minute);
        }
        (minute >= self.from && is_day(time.weekday()))
            || (minute < self.until && is_day(time.weekday().previous()))
    }
}

/// `08:00-17:00` in minutes of the day. From and until are never the same.
fn hours(text: &str) -> Option<(u16, u16)> {
    let time = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        let minutes = (hour <= 24 && minute < 60).then(|| hour * 60 + minute)?;
        (minutes <= DAY).then_some(minutes)
    };
    let (from, until) = text.split_once('-')?;
    let (from, until) = (time(from)?, time(until)?);
    (from != until && from < DAY).then_some((from, until))
}

/// `mon-fri,sun` as bits.
fn days(text: &str) -> Option<u8> {
    let day = |name: &str| {
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        names.iter().position(|own| own.eq_ignore_ascii_case(name.trim()))
    };
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|next| days |= 1 << ((first + next) % 7));
    }
    Some(days)
}

/// By its name on this system, or by its distance from UTC.
fn time_zone(name: &str) -> Option<TimeZone> {
    let Some((sign, distance)) = name
        .strip_prefix('+')
        .map(|rest| (1, rest))
        .or_else(|| name.strip_prefix('-').map(|rest| (-1, rest)))
    else {
        return TimeZone::get(name).ok();
    };
    let (hour, minute) = distance.split_once(':')?;
    let (hour, minute): (u8, u8) = (hour.parse().ok()?, minute.parse().ok()?);
    let seconds = (i32::from(hour) * 60 + i32::from(minute)) * 60;
    (hour < 24 && minute < 60)
        .then(|| Offset::from_seconds(sign * seconds).ok().map(TimeZone::fixed))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn groups(toml: &str, zone: Option<&str>) -> Result<Groups, ConfigFault> {
        #[derive(Deserialize)]
        struct Keys {
            groups: Vec<GroupSettings>,
        }
        let keys: Keys = toml::from_str(toml).expect("the keys are TOML");
        let lists =
            |category: &str| ["ads", "games"].iter().position(|own| *own == category).map(|at| 1 << at);
        Groups::new(&keys.groups, zone, 0b100, lists)
    }

    /// 2026-11-23 is a Monday.
    fn at(groups: &Groups, time: &str) -> u64 {
        let time: Timestamp = time.parse().expect("a time");
        groups.unwanted(CLIENT, Duration::from_secs(time.as_second().unsigned_abs()))
    }

    #[test]
    fn the_first_group_that_a_client_is_in_and_whose_time_it_is_decides() {
        let groups = groups(
            r#"groups = [
                { clients = ["10.0.1.0/24"], categories = [] },
                { clients = ["10.0.9.0/24", "10.0.0.0/24"], categories = ["ads", "games"], hours = "08:00-17:00", days = "mon-fri" },
                { clients = ["10.0.0.5/32"], categories = ["games"], days = "sun" },
            ]"#,
            None,
        )
        .expect("that is right");
        assert_eq!(at(&groups, "2026-11-23T07:59:59Z"), 0b100);
        assert_eq!(at(&groups, "2026-11-23T08:00:00Z"), 0b011);
        assert_eq!(at(&groups, "2026-11-27T16:59:59Z"), 0b011);
        assert_eq!(at(&groups, "2026-11-27T17:00:00Z"), 0b100);
        assert_eq!(at(&groups, "2026-11-28T12:00:00Z"), 0b100);
        assert_eq!(at(&groups, "2026-11-29T23:59:59Z"), 0b010);
        let monday = Duration::from_secs(1_795_413_600);
        assert_eq!(groups.unwanted(Ipv4Addr::new(10, 0, 1, 1), monday), 0);
        assert_eq!(groups.unwanted(Ipv4Addr::new(10, 0, 2, 1), monday), 0b100);
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_on_which_they_begin() {
        let groups =
            groups(r#"groups = [{ categories = ["ads"], hours = "22:30-06:00", days = "fri" }]"#, None)
                .expect("that is right");
        for (time, lists) in [
            ("2026-11-27T05:00:00Z", 0b100),
            ("2026-11-27T22:29:00Z", 0b100),
            ("2026-11-27T22:30:00Z", 1),
            ("2026-11-28T05:59:00Z", 1),
            ("2026-11-28T06:00:00Z", 0b100),
            ("2026-11-28T23:00:00Z", 0b100),
        ] {
            assert_eq!(at(&groups, time), lists, "{time}");
        }
    }

    #[test]
    fn hours_are_those_of_the_time_zone_in_summer_and_winter() {
        let keys = r#"groups = [{ categories = ["ads"], hours = "08:00-09:00" }]"#;
        for (zone, winter, summer) in [
            ("Europe/Berlin", "07", "06"),
            ("+01:00", "07", "07"),
            ("-03:30", "11", "11"),
            ("UTC", "08", "08"),
        ] {
            let groups = groups(keys, Some(zone)).expect(zone);
            assert_eq!(at(&groups, &format!("2026-01-12T{winter}:30:00Z")), 1, "{zone}");
            assert_eq!(at(&groups, &format!("2026-07-13T{summer}:30:00Z")), 1, "{zone}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_key() {
        let fault = |keys: &str| groups(&format!("groups = [{{ {keys} }}]"), None).expect_err(keys).key;
        assert_eq!(fault(r#"categories = ["news"]"#), "groups[0].categories");
        for text in [
            "8-17",
            "08:00-08:00",
            "24:00-01:00",
            "08:60-09:00",
            "99999:00-1:00",
            "2000:00-17:00",
            "08:00-25:00",
        ] {
            assert_eq!(
                fault(&format!(r#"categories = ["ads"], hours = "{text}""#)),
                "groups[0].hours",
                "{text}"
            );
        }
        assert_eq!(fault(r#"categories = ["ads"], days = "mon-""#), "groups[0].days");
        for zone in ["Mars/Olympus", "+25:00", "+1"] {
            assert_eq!(groups("groups = []", Some(zone)).expect_err(zone).key, "time_zone");
        }
    }

    #[test]
    fn days_go_round() {
        assert_eq!(days("sat-mon"), Some(0b110_0001));
        assert_eq!(days("Mon, wed-thu"), Some(0b000_1101));
        assert_eq!(days(""), None);
    }
}
