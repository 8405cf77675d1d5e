//! Kept exchanges as a table for people.

use std::collections::HashMap;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};

use super::row::Event;
use crate::cli::blocklist::escaped;
use crate::cli::grouped;
use crate::cli::table::STYLE;
use crate::model::EventTime;
use crate::store::Range;

/// Violations that are written out; more are counted.
const MOST: usize = 3;

/// The table with its heading, newest first; `names` are those of zones by id.
pub(super) fn text<'e>(
    events: impl Iterator<Item = &'e Event>,
    names: &HashMap<&str, &str>,
    range: Range,
    full: bool,
) -> String {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["time", "zone", "request", "status", "what was wrong"];
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    let mut count = 0_u64;
    for event in events {
        count += 1;
        let zone = event.text("gatewatch.zone");
        let zone = names.get(zone).copied().filter(|name| !name.is_empty());
        let request = format!(
            "{} {}{}",
            event.text("http.request.method"),
            event.text("http.host"),
            event.text("http.request.uri.path"),
        );
        let status = event.field("http.response.code");
        let status = status.map_or("–".to_owned(), ToString::to_string);
        let wrong = wrong(event);
        let wrong = if wrong.is_empty() {
            Cell::new("–")
        } else {
            Cell::new(wrong.join("\n")).fg(Color::Red)
        };
        table.add_row(vec![
            Cell::new(&event.time),
            Cell::new(escaped(zone.unwrap_or(event.text("gatewatch.zone")))),
            Cell::new(escaped(&request)),
            Cell::new(status),
            wrong,
        ]);
    }
    let s = if count == 1 { "" } else { "s" };
    let more = if full {
        ", there may be more (--limit)"
    } else {
        ""
    };
    format!(
        "Evidence {}: {} exchange{s}, the newest first{more}\n{table}\n",
        of(range),
        grouped(count),
    )
}

/// What is said when nothing matches.
pub(super) fn nothing(looked_at: u64, range: Range) -> String {
    let s = if looked_at == 1 { "" } else { "s" };
    let hint = if looked_at == 0 {
        "a longer --range, or --since and --until, look further back"
    } else {
        "without --where all of them are shown"
    };
    format!(
        "no match among {} exchange{s} kept {}\nhint: {hint}\n",
        grouped(looked_at),
        of(range)
    )
}

fn of(range: Range) -> String {
    let last = EventTime::clamped(range.to.saturating_sub(1));
    format!("from {} up to {last}", EventTime::clamped(range.from))
}

/// What was wrong, in a few words each.
fn wrong(event: &Event) -> Vec<String> {
    let rules = event.rules.iter();
    let mut wrong: Vec<String> = rules
        .map(|rule| format!("rule {:?} ({})", rule.title, rule.action))
        .collect();
    for violation in event.violations.iter().take(MOST) {
        wrong.push(escaped(&format!(
            "{} {} {}: {}",
            violation.direction, violation.location, violation.target, violation.class
        )));
    }
    if event.violations.len() > MOST {
        wrong.push(format!(
            "and {} more violations",
            event.violations.len() - MOST
        ));
    }
    if event.text("gatewatch.token.outcome") == "invalid" {
        let reasons = event.field("gatewatch.token.reasons");
        let reasons = reasons.and_then(serde_json::Value::as_object);
        let mut reasons: Vec<&str> = reasons
            .into_iter()
            .flat_map(serde_json::Map::values)
            .filter_map(serde_json::Value::as_str)
            .collect();
        reasons.dedup();
        wrong.push(format!("token {}", reasons.join(", ")));
    }
    match event.text("gatewatch.mtls.outcome") {
        "revoked" => wrong.push("certificate revoked".to_owned()),
        "failed" => {
            let reason = event.text("gatewatch.mtls.reason");
            wrong.push(format!("certificate {reason}").trim_end().to_owned());
        }
        _ => {}
    }
    wrong
}
