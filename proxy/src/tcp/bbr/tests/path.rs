//! A path with one bottleneck, and the delivery rate estimator of the draft (section 4.1) in its plainest form.

use std::collections::VecDeque;

use pnat_shared::testkit::Random;

use super::super::super::congestion::Rate;
use super::*;

/// One transmission.
struct Segment {
    id: u64,
    sent: Instant,
    /// When its ACK arrives; `None`: lost.
    acked: Option<Instant>,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    in_flight: u32,
    lost: u64,
    app_limited: bool,
}

pub(super) struct Path {
    pub(super) bbr: Bbr,
    pub(super) now: Instant,
    /// Bytes per second.
    pub(super) rate: u64,
    delay: Duration,
    /// Bytes that wait for the bottleneck at most.
    queue: u32,
    /// Probability of a loss.
    pub(super) loss: f64,
    /// Every segment is marked.
    pub(super) marks: bool,
    /// ACKs arrive together, this far apart.
    pub(super) bunch: Duration,
    /// Bytes per second that the application has; `None`: any.
    pub(super) demand: Option<u64>,
    /// Bytes that it has had since it was asked for.
    offered: f64,
    pub(super) flight: u32,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    random: Random,
    sent: u64,
    flying: VecDeque<Segment>,
    free_at: Instant,
    delivered_at: Instant,
    first_sent: Instant,
    app_limited: u64,
    /// Recovery lasts until this one is acknowledged.
    until: Option<u64>,
}

impl Path {
    pub(super) fn new(bbr: Bbr, rate: u64, delay: Duration, queue: u32) -> Self {
        let now = Instant::from_secs(1);
        Self {
            bbr,
            now,
            rate,
            delay,
            queue,
            loss: 0.0,
            marks: false,
            bunch: Duration::ZERO,
            demand: None,
            offered: 0.0,
            flight: 0,
            delivered: 0,
            lost: 0,
            random: Random::new(1),
            sent: 0,
            flying: VecDeque::new(),
            free_at: now,
            delivered_at: now,
            first_sent: now,
            app_limited: 0,
            until: None,
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run(self.now + time, |_| false);
    }

    /// Runs until `end`, or until `stop` says so.
    pub(super) fn run(&mut self, end: Instant, stop: impl Fn(&Bbr) -> bool) {
        while self.now < end && !stop(&self.bbr) {
            self.send();
            let ack = self.flying.iter().find_map(|segment| segment.acked).unwrap_or(Instant::FAR);
            let release =
                if self.may_send() && self.has_data() { self.bbr.pacer.release() } else { Instant::FAR };
            let more = if self.has_data() { Instant::FAR } else { self.now + Duration::from_micros(500) };
            let next = ack.min(release.max(self.now + Duration::from_micros(1))).min(more).min(end);
            if ack == Instant::FAR && !self.flying.is_empty() && next >= end {
                self.time_out();
                continue;
            }
            if let Some(demand) = self.demand {
                self.offered += (next - self.now).as_secs_f64() * demand as f64;
            }
            self.now = next;
            if ack <= self.now {
                self.acknowledge();
            }
        }
    }

    /// The application has nothing for a while.
    pub(super) fn pause(&mut self, time: Duration) {
        let (demand, offered) = (self.demand.replace(0), std::mem::take(&mut self.offered));
        self.run_for(time);
        (self.demand, self.offered) = (demand, offered);
    }

    fn has_data(&self) -> bool {
        self.demand.is_none() || self.offered >= f64::from(MSS)
    }

    fn may_send(&self) -> bool {
        self.flight + MSS <= self.bbr.window()
    }

    fn send(&mut self) {
        while self.may_send() {
            if !self.has_data() {
                self.app_limited = (self.delivered + u64::from(self.flight)).max(1);
                return;
            }
            if !self.bbr.pacer.is_open(self.now) {
                return;
            }
            if self.demand.is_some() {
                self.offered -= f64::from(MSS);
            }
            self.bbr.on_sent(self.flight, self.now);
            self.bbr.pacer.sent(MSS, self.now);
            if self.flight == 0 {
                (self.first_sent, self.delivered_at) = (self.now, self.now);
            }
            self.flight += MSS;
            let acked = self.pass();
            self.flying.push_back(Segment {
                id: self.sent,
                sent: self.now,
                acked,
                delivered: self.delivered,
                delivered_at: self.delivered_at,
                first_sent: self.first_sent,
                in_flight: self.flight,
                lost: self.lost,
                app_limited: self.app_limited > 0,
            });
            self.sent += 1;
        }
    }

    /// Through the bottleneck and back: when the ACK arrives.
    fn pass(&mut self) -> Option<Instant> {
        let waiting = (self.free_at - self.now).as_secs_f64() * self.rate as f64;
        if waiting > f64::from(self.queue) || self.random.chance(self.loss) {
            return None;
        }
        let time = Duration::from_nanos(u64::from(MSS) * 1_000_000_000 / self.rate);
        self.free_at = self.free_at.max(self.now) + time;
        let back = self.free_at + self.delay;
        let bunch = self.bunch.as_nanos() as u64;
        Some(if bunch == 0 { back } else { Instant::from_nanos(back.as_nanos().div_ceil(bunch) * bunch) })
    }

    /// All that has arrived by now is acknowledged at once; what was sent three segments before is lost.
    fn acknowledge(&mut self) {
        let (prior_flight, delivered_before, lost_before) = (self.flight, self.delivered, self.lost);
        let now = self.now;
        // What arrives keeps its order.
        let arrives = |segment: &Segment| segment.acked.is_some_and(|at| at <= now);
        let place = self.flying.iter().take_while(|s| s.acked.is_none() || arrives(s)).count();
        let mut passed: Vec<Segment> = self.flying.drain(..place).collect();
        let last = passed.iter().rposition(arrives).expect("an ACK was due");
        let lost = |segment: &Segment| segment.acked.is_none() && segment.id + 3 <= passed[last].id;
        self.lost += passed.iter().filter(|s| lost(s)).count() as u64 * u64::from(MSS);
        self.delivered += passed.iter().filter(|s| arrives(s)).count() as u64 * u64::from(MSS);
        let waiting: Vec<bool> = passed.iter().map(|s| !arrives(s) && !lost(s)).collect();
        let newest = passed.remove(last);
        let mut waiting = waiting.into_iter().enumerate().filter(|(n, _)| *n != last).map(|(_, keep)| keep);
        passed.retain(|_| waiting.next() == Some(true));
        for segment in passed.into_iter().rev() {
            self.flying.push_front(segment);
        }
        self.flight = self.flying.len() as u32 * MSS;
        if self.delivered > self.app_limited {
            self.app_limited = 0;
        }
        let interval = (newest.sent - newest.first_sent).max(now - newest.delivered_at);
        (self.delivered_at, self.first_sent) = (now, newest.sent);
        let newly_lost = (self.lost - lost_before) as u32;
        if newly_lost > 0 && self.until.is_none() {
            self.bbr.on_loss(prior_flight, now);
            // What was lost has to be sent again and acknowledged, too.
            self.until = Some(self.sent + 8);
        } else if self.until.is_some_and(|until| newest.id >= until) {
            self.bbr.on_recovered(now);
            self.until = None;
        }
        let newly = (self.delivered - delivered_before) as u32;
        let rtt = Some(now.nanos_since(newest.sent));
        self.bbr.on_ack(&Acked {
            now,
            delivered: newly,
            progress: newly,
            lost: newly_lost,
            prior_flight,
            flight: self.flight,
            limited: false,
            rtt,
            srtt: rtt,
            rate: Some(Rate {
                delivered: (self.delivered - newest.delivered) as u32,
                interval,
                prior_delivered: newest.delivered,
                total: self.delivered,
                is_app_limited: newest.app_limited,
                tx_in_flight: newest.in_flight,
                lost: (self.lost - newest.lost) as u32,
            }),
            una: Seq(0),
            nxt: Seq(0),
            phase: if self.until.is_some() { Phase::Recovery { until: Seq(0) } } else { Phase::Open },
            ece: self.marks,
        });
    }

    /// Nothing that is in flight will be acknowledged.
    fn time_out(&mut self) {
        self.now += Duration::from_millis(200);
        self.bbr.on_timeout(self.flight, true, self.now);
        self.lost += u64::from(self.flight);
        self.flight = 0;
        self.flying.clear();
    }
}
