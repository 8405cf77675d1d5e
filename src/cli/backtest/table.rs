//! The result as text for people.

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table};

use super::wire::{Report, action, compares, kind, standing};
use crate::cli::blocklist::escaped;
use crate::cli::grouped;
use crate::cli::table::STYLE;
use crate::config::{Candidate, Subject};
use crate::model::{EventTime, RuleAction};
use crate::posture::backtest::{Ranking, Tally};

/// Heading of the endpoints.
const ENDPOINT: &str = "endpoint";

/// The whole result.
pub(super) fn text(report: &Report<'_>) -> String {
    let totals = &report.tried.totals;
    let mut text = format!("Back-test on {}\n", escaped(&report.source));
    let span = |span: Option<(EventTime, EventTime)>| {
        span.map_or(String::new(), |(first, last)| {
            format!(", {first} to {last}")
        })
    };
    let (exchanges, in_range) = (totals.exchanges, totals.in_range);
    let _ = writeln!(
        text,
        "  {} of {} exchanges are in the range{}",
        grouped(in_range),
        grouped(exchanges),
        span(totals.judged),
    );
    let rejected: u64 = totals.rejected.values().sum();
    let left: Vec<String> = [
        (report.read.unzoned, "of hosts that no zone lists"),
        (report.read.unanswered, "unanswered"),
        (report.read.orphan_responses, "responses without a request"),
        (rejected, "refused"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{} {what}", grouped(count)))
    .collect();
    if !left.is_empty() {
        let _ = writeln!(text, "  of everything that was read: {}", left.join(", "));
    }
    if in_range == 0 {
        let (from, until) = (report.range.from, report.range.until);
        let moment = |at: Option<EventTime>, open: &str| {
            at.map_or_else(|| open.to_owned(), |at| at.to_string())
        };
        let _ = writeln!(
            text,
            "  the range is empty: nothing from {} until {}{}",
            moment(from, "the beginning"),
            moment(until, "the end"),
            match totals.seen {
                Some((first, last)) => format!("; what was read goes from {first} to {last}"),
                None => "; nothing was read".to_owned(),
            },
        );
        return text;
    }
    for (candidate, tallies) in report.trial.candidates.iter().zip(&report.tried.tallies) {
        text.push('\n');
        describe(report, candidate, &tallies.requests, &mut text);
        if let Some(responses) = &tallies.responses {
            describe_responses(report, responses, &mut text);
        }
    }
    text.push('\n');
    whole_list(report, &mut text);
    if !report.comparable {
        text += "\nhashes are of this run only: the pipeline has no key for them yet\n";
    }
    text
}

fn describe(report: &Report<'_>, candidate: &Candidate, tally: &Tally, text: &mut String) {
    let zone = report.trial.policy.zones.get(candidate.zone);
    let action = report.action(candidate);
    let action = action.map_or(String::new(), |action| format!(" ({})", action.as_str()));
    let _ = writeln!(
        text,
        "{} {:?}{action} in zone {}{}",
        kind(candidate).replace('_', " "),
        candidate.title,
        zone.map_or("", |zone| &zone.name),
        if candidate.subject.replaces() {
            ", in the place of what is there"
        } else {
            ""
        },
    );
    let verb = match candidate.subject {
        Subject::Rule { .. } => "fires on",
        Subject::Schema { .. } => "is violated by the requests of",
        Subject::TokenConfiguration { .. } => "finds an invalid token in",
    };
    judged(verb, tally, text);
    let matches = tally.matches;
    if matches > 0 {
        let _ = writeln!(
            text,
            "  {} are new; to {} the policy in force objects already",
            grouped(tally.newly),
            grouped(tally.already)
        );
    }
    if compares(candidate) && tally.no_longer > 0 {
        let _ = writeln!(
            text,
            "  {} would be objected to no longer",
            grouped(tally.no_longer)
        );
    }
    if matches == 0 {
        return;
    }
    successful(report, candidate, tally, text);
    block_list(report, candidate, tally, text);
    if tally.reasons.matching() > 0 {
        table(&tally.reasons, "why", report.top, text);
    }
    table(&tally.endpoints, ENDPOINT, report.top, text);
    for (kind, ranking) in &tally.entities {
        table(ranking, kind.as_str(), report.top, text);
    }
    samples(tally, text);
}

/// How many exchanges could be judged, and how many of them match.
fn judged(verb: &str, tally: &Tally, text: &mut String) {
    let (matches, judged) = (tally.matches, tally.judged);
    let share = match judged {
        0 => String::new(),
        _ => format!(" ({:.1} %)", matches as f64 / judged as f64 * 100.0),
    };
    let _ = writeln!(
        text,
        "  {verb} {} of {} exchanges that could be judged{share}",
        grouped(matches),
        grouped(judged)
    );
    for (count, what) in [
        (
            tally.not_captured,
            "could not be judged: the log does not show what it takes",
        ),
        (tally.not_covered, "are none that it is about"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "  {} {what}", grouped(count));
        }
    }
}

/// The other side of a schema.
fn describe_responses(report: &Report<'_>, tally: &Tally, text: &mut String) {
    text.push('\n');
    judged("it is violated by the responses of", tally, text);
    let (newly, already) = (grouped(tally.newly), grouped(tally.already));
    if tally.matches > 0 {
        let _ = writeln!(
            text,
            "  {newly} are new; {already} violate the schemas in force too"
        );
    }
    if tally.no_longer > 0 {
        let _ = writeln!(
            text,
            "  {} would violate no longer",
            grouped(tally.no_longer)
        );
    }
    for (ranking, what) in [(&tally.reasons, "why"), (&tally.endpoints, ENDPOINT)] {
        if ranking.matching() > 0 {
            violations(ranking, what, report.top, text);
        }
    }
}

/// The block list of the whole configuration.
fn whole_list(report: &Report<'_>, text: &mut String) {
    let listed = &report.tried.listed;
    let compared = report.compared();
    let count = |count: usize| grouped(u64::try_from(count).unwrap_or(u64::MAX));
    let _ = writeln!(
        text,
        "the block list of the whole configuration, thresholds included, as if it were enforced"
    );
    let mut said = format!(
        "  {} entities, {} of them new; {} would be listed no longer",
        count(listed.ledger.len()),
        count(compared.new),
        count(compared.no_longer),
    );
    for (left, what) in [
        (
            u64::try_from(listed.ledger.exempt.len()).unwrap_or(u64::MAX),
            "spared by the allow list",
        ),
        (listed.ledger.full, "times there was no room"),
        (listed.overflow, "signals under a cap"),
    ] {
        if left > 0 {
            let _ = write!(said, "; {} {what}", grouped(left));
        }
    }
    let _ = writeln!(text, "{said}");
    if listed.ledger.is_empty() {
        return;
    }
    let later = compared.later;
    let _ = writeln!(
        text,
        "  later they sent {} requests, {} of them answered with success to valid sessions: likely false positives",
        grouped(later.total),
        grouped(later.wanted),
    );
    if listed.followed.overflow > 0 {
        let overflow = grouped(listed.followed.overflow);
        let _ = writeln!(text, "  {overflow} requests under a cap are not among them");
    }
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let heads = [
        "block list",
        "by",
        "signals",
        "since",
        "later requests",
        "likely false positives",
    ];
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    let number = |count: u64| Cell::new(grouped(count)).set_alignment(CellAlignment::Right);
    for (key, listed, later) in compared.rows.iter().take(report.top) {
        let rules: Vec<&str> = listed.rules.iter().map(String::as_str).collect();
        let by = format!("{} ({})", rules.join(", "), action(listed).as_str());
        table.add_row(vec![
            Cell::new(escaped(&format!(
                "{}/{}",
                key.kind().as_str(),
                key.entity()
            ))),
            Cell::new(escaped(&by)),
            number(listed.evidence.values().sum()),
            Cell::new(EventTime::clamped(listed.first_at)),
            number(later.total),
            number(later.wanted),
        ]);
    }
    let _ = writeln!(text, "\n{table}");
    let more = compared.rows.len().saturating_sub(report.top);
    if more > 0 {
        let _ = writeln!(text, "  {} more", count(more));
    }
}

fn successful(report: &Report<'_>, candidate: &Candidate, tally: &Tally, text: &mut String) {
    let successful = &tally.successful;
    let _ = write!(
        text,
        "  {} were answered with success",
        grouped(successful.total)
    );
    let _ = if report.knows_sessions(candidate) {
        let valid = grouped(successful.valid);
        writeln!(
            text,
            ", {valid} of them to valid sessions: likely false positives"
        )
    } else {
        writeln!(
            text,
            "; the zone has no session identifiers, so nobody knows to whom"
        )
    };
}

fn block_list(report: &Report<'_>, candidate: &Candidate, tally: &Tally, text: &mut String) {
    let would = match (candidate.subject, report.action(candidate)) {
        (Subject::Rule { .. }, Some(RuleAction::Log)) => {
            "with action = \"block\" the block list would have got"
        }
        _ => "the block list would have got",
    };
    let exempt = match tally.exempt {
        0 => String::new(),
        exempt => format!("; the allow list spares {} exchanges", grouped(exempt)),
    };
    let entities = u64::try_from(tally.listed.matching()).unwrap_or(u64::MAX);
    let _ = writeln!(
        text,
        "  {would} {} entities{}{exempt}",
        grouped(entities),
        over(&tally.listed),
    );
    if entities > 0 {
        table(&tally.listed, "block list", report.top, text);
    }
}

/// Says what a cap left out.
fn over(ranking: &Ranking) -> String {
    match ranking.overflow {
        0 => String::new(),
        overflow => format!(" and those of {} more exchanges", grouped(overflow)),
    }
}

/// Violations of responses.
fn violations(ranking: &Ranking, what: &str, most: usize, text: &mut String) {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let shares = what == ENDPOINT;
    let heads = [what, "responses", "of", "first"];
    let heads = heads.into_iter().filter(|head| shares || *head != "of");
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    let number = |count: u64| Cell::new(grouped(count)).set_alignment(CellAlignment::Right);
    for (name, row) in ranking.top(most) {
        let mut cells = vec![Cell::new(escaped(name)), number(row.matches)];
        if shares {
            cells.push(number(row.judged));
        }
        cells.push(Cell::new(row.first_at));
        table.add_row(cells);
    }
    let _ = writeln!(text, "\n{table}");
    more(ranking, most, text);
}

fn more(ranking: &Ranking, most: usize, text: &mut String) {
    let more = ranking.matching().saturating_sub(most);
    if more > 0 || ranking.overflow > 0 {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        let _ = writeln!(text, "  {} more{}", grouped(more), over(ranking));
    }
}

fn table(ranking: &Ranking, what: &str, most: usize, text: &mut String) {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    // Entities are counted where they match only.
    let shares = what == ENDPOINT;
    let heads = [what, "matches", "of", "likely false positives", "first"];
    let heads = heads.into_iter().filter(|head| shares || *head != "of");
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    let number = |count: u64| Cell::new(grouped(count)).set_alignment(CellAlignment::Right);
    for (name, row) in ranking.top(most) {
        let mut cells = vec![Cell::new(escaped(name)), number(row.matches)];
        if shares {
            cells.push(number(row.judged));
        }
        cells.extend([number(row.probably_wanted), Cell::new(row.first_at)]);
        table.add_row(cells);
    }
    let _ = writeln!(text, "\n{table}");
    more(ranking, most, text);
}

fn samples(tally: &Tally, text: &mut String) {
    let chosen = tally.samples.chosen();
    if chosen.is_empty() {
        return;
    }
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["sample", "time", "request", "status", "client", "why"];
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    for sample in chosen {
        let status = sample
            .status
            .map_or("–".to_owned(), |status| status.to_string());
        let wanted = sample.probably_wanted.then_some("likely false positive");
        let reasons = sample.reasons.iter().map(String::as_str);
        let why: Vec<&str> = wanted.into_iter().chain(reasons).collect();
        let request = format!("{} {}{}", sample.method, sample.host, sample.endpoint);
        table.add_row(vec![
            Cell::new(escaped(sample.id.as_deref().unwrap_or("–"))),
            Cell::new(sample.at),
            Cell::new(escaped(&request)),
            Cell::new(status),
            Cell::new(standing(sample.standing)),
            Cell::new(escaped(&why.join(", "))),
        ]);
    }
    let _ = writeln!(text, "\n{table}");
}
