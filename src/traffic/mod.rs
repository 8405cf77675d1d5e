//! Synthetic traffic with known truth: events in format `gatewatch` together with the exact report that they must give.
//!
//! Enters: a [`Scenario`], a seed, a number of exchanges, a start and a span. Leaves: lines, one at a time, in the order in which
//! a log would show them, and at the end the [`Truth`]. Equal arguments give equal bytes. Memory does not grow with the number of
//! events: the truth is counters, and lines on their way are bounded.
//!
//! No pipeline code is called: outcomes follow from what was put into an event on purpose (a flaw, a bad token, a certificate
//! that has lapsed by then, a half that is lost). Deliberately not here: reading and writing files, pacing, progress.

mod bad;
mod bank;
mod callers;
mod certificates;
mod credentials;
mod delivery;
mod endpoints;
mod events;
mod exchange;
mod random;
mod scenario;
mod shop;
mod template;
mod truth;

pub use credentials::SigningFault;
pub use scenario::Scenario;
pub use truth::{Range, Truth};

use callers::Crowd;
use certificates::Certificates;
use credentials::{Wallet, oversized};
use delivery::{Join, Record, Road, Waiting};
use events::{TimeWriter, push_json};
use exchange::{Draft, Prepared, Workshop};
use random::Random;
use template::push_number;

use crate::model::EventTime;

/// When traffic starts unless it is told otherwise: 2026-11-18T00:00:00Z, because the embedded certificates begin, lapse and are
/// revoked in the 40 hours after.
pub const DEFAULT_START_SECONDS: i64 = 1_794_960_000;
/// The span that goes with it, seconds.
pub const DEFAULT_SPAN_SECONDS: u32 = 40 * 3600;
/// Share of exchanges that are delivered late unless it is told otherwise, per mille.
pub const DEFAULT_LATE_PER_MILLE: u32 = 20;
/// Longest delay of a late delivery, milliseconds.
const LATEST_MILLIS: u32 = 20 * 60_000;
/// Lines that may be on their way at once; beyond that nothing is sent late.
const MOST_ON_THE_ROAD: usize = 50_000;

/// How an exchange is put into the log.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// One record.
    Exchange,
    /// Two records.
    Pair { response_first: bool },
    /// Two records that are late on their own.
    Apart,
    /// The request is sent twice with one id.
    Retried,
    /// The response never comes.
    Unanswered,
    /// The request is lost.
    Orphan,
    /// Of a host that is in no zone.
    Unzoned,
}

/// Writes traffic line by line.
#[derive(Debug)]
pub struct Generator {
    workshop: Workshop,
    scenario: Scenario,
    prepared: Vec<Prepared>,
    random: Random,
    seed: u64,
    start: i64,
    span: i64,
    events: u64,
    made: u64,
    order: u64,
    late_per_mille: u32,
    bad_per_mille: u32,
    road: Road,
    join: Join,
    times: TimeWriter,
    draft: Draft,
    truth: Truth,
}

impl Generator {
    /// Prepares traffic of `events` exchanges that begin in the `span_seconds` after `start`. Signs the tokens, which takes a
    /// fraction of a second.
    ///
    /// # Errors
    /// When the embedded demo keys cannot be used.
    pub fn new(
        scenario: &Scenario,
        seed: u64,
        events: u64,
        start: EventTime,
        span_seconds: u32,
    ) -> Result<Self, SigningFault> {
        let mut random = Random::new(seed);
        let clients = clients(&mut random);
        let mut generator = Self {
            workshop: Workshop {
                crowd: Crowd {
                    wallet: Wallet::new(start, span_seconds)?,
                    oversized: oversized(),
                },
                certificates: Certificates::embedded(),
                clients,
            },
            scenario: scenario.clone(),
            prepared: scenario
                .endpoints()
                .iter()
                .enumerate()
                .map(Prepared::new)
                .collect(),
            random,
            seed,
            start: start.millis(),
            span: i64::from(span_seconds) * 1000,
            events,
            made: 0,
            order: 0,
            late_per_mille: DEFAULT_LATE_PER_MILLE,
            bad_per_mille: 0,
            road: Road::default(),
            join: Join::default(),
            times: TimeWriter::default(),
            draft: Draft::default(),
            truth: Truth::new(scenario, None),
        };
        let newest = events.checked_sub(1).map(|last| generator.millis_of(last));
        generator.truth = Truth::new(scenario, newest.and_then(EventTime::from_millis));
        Ok(generator)
    }

    /// The same with another share of exchanges that are delivered up to 20 minutes late, per mille.
    #[must_use]
    pub fn late_per_mille(mut self, share: u32) -> Self {
        self.late_per_mille = share;
        self
    }

    /// The same with unreadable lines in between, per mille of the exchanges.
    #[must_use]
    pub fn bad_per_mille(mut self, share: u32) -> Self {
        self.bad_per_mille = share;
        self
    }

    /// Exchanges made so far; their lines may still be on their way.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made
    }

    /// The truth of the lines written so far; of the whole traffic once [`Self::next_line`] has said `false`.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Appends the next line with its line feed to `out`; `false` when there is none.
    pub fn next_line(&mut self, out: &mut Vec<u8>) -> bool {
        loop {
            let more = self.made < self.events;
            let until = if more {
                self.millis_of(self.made)
            } else {
                i64::MAX
            };
            if let Some(arrived) = self.road.arrived(until) {
                out.extend_from_slice(&arrived.line);
                out.push(b'\n');
                self.join
                    .apply(arrived.record, arrived.millis, &mut self.truth);
                self.road.recycle(arrived.line);
                return true;
            }
            if !more {
                self.join.finish(&mut self.truth);
                return false;
            }
            self.make();
            self.made += 1;
        }
    }

    /// Start of the exchange with this number: somewhere in its even share of the span. It depends on the number alone, so that
    /// the newest one is known beforehand.
    fn millis_of(&self, number: u64) -> i64 {
        let place = Random::new(self.seed ^ number).below(1 << 16);
        let shares = u128::from(number) << 16 | u128::from(place);
        let millis = shares * u128::from(self.span.unsigned_abs()) / u128::from(self.events.max(1));
        self.start + i64::try_from(millis >> 16).unwrap_or(0)
    }

    /// Makes the next exchange and sends its lines on their way.
    fn make(&mut self) {
        let number = self.made;
        let last = number + 1 == self.events;
        let millis = self.millis_of(number);
        if self.bad_per_mille > 0 && self.random.per_mille(self.bad_per_mille) {
            let mut line = self.road.buffer();
            let reason = bad::write(&mut self.random, millis, &mut line);
            self.send(millis, None, line, Record::Bad(reason));
        }

        let prepared = self
            .random
            .weighted(&self.prepared, |prepared| prepared.endpoint.weight);
        let Some(prepared) = prepared else { return };
        let elapsed = (millis - self.start) * 1000 / self.span.max(1);
        let Some((facts, answer)) = self.workshop.make(
            prepared,
            millis,
            u32::try_from(elapsed).unwrap_or(0),
            &mut self.random,
            &mut self.draft,
        ) else {
            return;
        };
        let zone = prepared.endpoint.zone;

        let kind = if last {
            // The newest minute is known beforehand because the last exchange is a plain one.
            Kind::Exchange
        } else {
            self.draw_kind(millis)
        };
        let late = !last
            && self.random.per_mille(self.late_per_mille)
            && self.road.len() < MOST_ON_THE_ROAD;
        let delay = if late {
            i64::from(self.random.below(LATEST_MILLIS))
        } else {
            0
        };
        let zone = self
            .random
            .per_mille(200)
            .then(|| self.scenario.zone(zone).map(|zone| zone.id))
            .flatten();
        let request_seen = millis + delay + i64::from(self.random.below(50));
        let answered = millis + i64::from(self.draft.duration);
        let response_seen = answered + delay + i64::from(self.random.below(50));

        match kind {
            Kind::Exchange => {
                let line = self.line("exchange", number, millis, zone, true, true);
                let record = Record::Exchange(facts, answer);
                self.send(response_seen, Some(millis), line, record);
            }
            Kind::Unzoned => {
                let mut line = self.road.buffer();
                self.open(&mut line, "exchange", number, millis, None);
                line.extend_from_slice(br#","request":{"method":"GET","host":"unknown.example","path":"/","headers":{}},"response":{"status":200}}"#);
                self.send(response_seen, Some(millis), line, Record::Unzoned);
            }
            Kind::Pair { response_first } => {
                let request = self.line("request", number, millis, zone, true, false);
                let response = self.line("response", number, answered, zone, false, true);
                let request_seen = if response_first {
                    response_seen + 1 + i64::from(self.random.below(400))
                } else {
                    request_seen.min(response_seen)
                };
                let record = Record::Request(number, facts);
                self.send(request_seen, Some(millis), request, record);
                let record = Record::Response(number, answer);
                self.send(response_seen, Some(answered), response, record);
            }
            Kind::Apart => {
                let request = self.line("request", number, millis, zone, true, false);
                let response = self.line("response", number, answered, zone, false, true);
                let mut other = || i64::from(self.random.below(LATEST_MILLIS));
                let (first, second) = (millis + other(), answered + other());
                let record = Record::Request(number, facts);
                self.send(first, Some(millis), request, record);
                let record = Record::Response(number, answer);
                self.send(second, Some(answered), response, record);
            }
            Kind::Retried => {
                let again = millis + 400;
                let first = self.line("request", number, millis, zone, true, false);
                let second = self.line("request", number, again, zone, true, false);
                let response = self.line("response", number, again + 200, zone, false, true);
                self.send(
                    millis + delay,
                    Some(millis),
                    first,
                    Record::Request(number, facts),
                );
                let facts = truth::Facts {
                    millis: again,
                    ..facts
                };
                let record = Record::Request(number, facts);
                self.send(again + delay, Some(again), second, record);
                let record = Record::Response(number, answer);
                self.send(again + 200 + delay, Some(again + 200), response, record);
            }
            Kind::Unanswered => {
                let request = self.line("request", number, millis, zone, true, false);
                let record = Record::Request(number, facts);
                self.send(request_seen, Some(millis), request, record);
            }
            Kind::Orphan => {
                let response = self.line("response", number, answered, zone, false, true);
                let record = Record::Response(number, answer);
                self.send(response_seen, Some(answered), response, record);
            }
        }
    }

    fn draw_kind(&mut self, millis: i64) -> Kind {
        match self.random.below(1000) {
            0..=279 => Kind::Pair {
                response_first: self.random.per_mille(150),
            },
            280..=299 => Kind::Unanswered,
            300..=307 => Kind::Orphan,
            308..=315 => Kind::Unzoned,
            316..=321 if self.late_per_mille > 0 => Kind::Apart,
            // The second request lies a little later, and nothing may be newer than the last exchange; nor may it lie in
            // another second, in which a token or certificate may be worth something else.
            322..=327 if millis.rem_euclid(1000) < 500 && millis + 1000 < self.newest() => {
                Kind::Retried
            }
            _ => Kind::Exchange,
        }
    }

    fn newest(&self) -> i64 {
        self.millis_of(self.events.saturating_sub(1))
    }

    /// Writes a line from the draft.
    fn line(
        &mut self,
        kind: &str,
        number: u64,
        millis: i64,
        zone: Option<&str>,
        request: bool,
        response: bool,
    ) -> Vec<u8> {
        let mut line = self.road.buffer();
        self.open(&mut line, kind, number, millis, zone);
        if request {
            line.extend_from_slice(&self.draft.front);
        }
        if response {
            line.extend_from_slice(&self.draft.back);
        }
        line.push(b'}');
        line
    }

    /// Writes what every event begins with.
    fn open(
        &mut self,
        line: &mut Vec<u8>,
        kind: &str,
        number: u64,
        millis: i64,
        zone: Option<&str>,
    ) {
        line.extend_from_slice(b"{\"kind\":\"");
        line.extend_from_slice(kind.as_bytes());
        line.push(b'"');
        // Only halves need an id.
        if kind != "exchange" || self.random.per_mille(800) {
            line.extend_from_slice(b",\"id\":\"req-");
            push_number(line, number);
            line.push(b'"');
        }
        line.extend_from_slice(b",\"time\":");
        self.times.push(millis, &mut self.random, line);
        if let Some(zone) = zone {
            line.extend_from_slice(b",\"zone\":");
            push_json(zone.as_bytes(), line);
        }
        if self.random.per_mille(50) {
            // Unknown members are ignored.
            line.extend_from_slice(b",\"gateway\":{\"node\":\"edge-3\",\"version\":[1,2]}");
        }
    }

    fn send(&mut self, delivered: i64, millis: Option<i64>, line: Vec<u8>, record: Record) {
        self.order += 1;
        self.road.send(Waiting {
            delivered,
            order: self.order,
            millis,
            line,
            record,
        });
    }
}

/// `client` members of everybody who calls.
fn clients(random: &mut Random) -> Vec<Vec<u8>> {
    const COUNTRIES: [&str; 6] = ["NL", "DE", "FR", "US", "BR", "JP"];
    (0..200_u32)
        .map(|number| {
            let address = match number % 5 {
                0 => format!("2001:db8:{:x}::{:x}", number % 7, number + 1),
                1 => format!("198.51.100.{}", number % 250 + 1),
                _ => format!("203.0.113.{}", number % 250 + 1),
            };
            let country = random.pick(&COUNTRIES).copied().unwrap_or("NL");
            let port = random.between(1024, 65_535);
            let asn = 64_496 + number % 16;
            let more = if number % 3 == 0 {
                String::new()
            } else {
                format!(r#","port":{port},"asn":{asn},"country":"{country}""#)
            };
            format!(r#","client":{{"ip":"{address}"{more}}}"#).into_bytes()
        })
        .collect()
}

#[cfg(test)]
mod tests;
