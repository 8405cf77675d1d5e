//! The posture as a table for people.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle,
};

use super::grouped;
use crate::model::EventTime;
use crate::posture::Endpoint;

/// The table with its heading and legend, or that there is nothing.
#[must_use]
pub fn posture(endpoints: &[Endpoint], as_of: Option<EventTime>, range: &str) -> String {
    let Some(as_of) = as_of else {
        return "the store is empty\nhint: `gatewatch run PIPELINE.toml` fills it\n".to_owned();
    };
    let count = endpoints.len();
    let s = if count == 1 { "" } else { "s" };
    format!(
        "Posture of the {range} up to {as_of}: {count} endpoint{s}\n{}\n{LEGEND}\n",
        table(endpoints)
    )
}

/// Lines around the table and under its heading; none between the rows, so that many endpoints fit a screen.
pub(super) const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

const LEGEND: &str = "auth: share of successful requests with a session identifier · tokens, certificates: all requests · \
                      violating: requests against their schema";

fn table(endpoints: &[Endpoint]) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let heads = [
        "endpoint",
        "requests",
        "2xx",
        "auth",
        "tokens",
        "violating",
        "certificates",
        "labels",
    ];
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    for endpoint in endpoints {
        let operation = &endpoint.operation;
        let number = |count: u64| Cell::new(grouped(count)).set_alignment(CellAlignment::Right);
        let labels = endpoint.labels.join("\n");
        let labels = if labels.is_empty() {
            Cell::new("–")
        } else {
            Cell::new(labels).fg(Color::Red)
        };
        table.add_row(vec![
            Cell::new(format!(
                "{} {}{}",
                operation.method, operation.host, endpoint.declared
            )),
            number(endpoint.total),
            number(
                endpoint
                    .status_classes
                    .get("2xx")
                    .copied()
                    .unwrap_or_default(),
            ),
            Cell::new(authentication(endpoint)).set_alignment(CellAlignment::Right),
            Cell::new(tokens(endpoint)),
            number(
                endpoint
                    .schema_request
                    .get("violates")
                    .copied()
                    .unwrap_or_default(),
            ),
            Cell::new(certificates(endpoint)),
            labels,
        ]);
    }
    table
}

/// Share of successful requests with an identifier; "–" where nothing is known.
fn authentication(endpoint: &Endpoint) -> String {
    let count = |name: &str| {
        endpoint
            .session_successful
            .get(name)
            .copied()
            .unwrap_or_default()
    };
    let (present, absent) = (count("present"), count("absent"));
    match present + absent {
        0 => "–".to_owned(),
        known if present == known => "100 %".to_owned(),
        // Not rounded up to 100: one request without an identifier is the finding.
        known => format!("{:.1} %", (present as f64 / known as f64 * 100.0).min(99.9)),
    }
}

fn tokens(endpoint: &Endpoint) -> String {
    let mut lines = Vec::new();
    for (title, counts) in &endpoint.tokens {
        let outcome = |name: &str| counts.outcomes.get(name).copied().unwrap_or_default();
        let (valid, invalid) = (outcome("valid"), outcome("invalid"));
        if valid + invalid > 0 {
            let accepted = match counts.successful_invalid {
                0 => String::new(),
                accepted => format!(" ({} accepted)", grouped(accepted)),
            };
            lines.push(format!(
                "{title}: {} valid, {} invalid{accepted}",
                grouped(valid),
                grouped(invalid)
            ));
        }
    }
    if lines.is_empty() {
        "–".to_owned()
    } else {
        lines.join("\n")
    }
}

fn certificates(endpoint: &Endpoint) -> String {
    let shown = ["verified", "failed", "revoked"];
    let parts: Vec<String> = shown
        .iter()
        .filter_map(|name| {
            endpoint
                .mtls
                .get(*name)
                .filter(|count| **count > 0)
                .map(|count| (name, count))
        })
        .map(|(name, count)| format!("{} {name}", grouped(*count)))
        .collect();
    if parts.is_empty() {
        "–".to_owned()
    } else {
        parts.join("\n")
    }
}
