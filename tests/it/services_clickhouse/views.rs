//! Views and reports over ClickHouse show the figures of the report over the local store.

use std::collections::BTreeMap;

use gatewatch::cli::report::{Span, compute};
use gatewatch::store::StoreSettings;
use gatewatch::store::clickhouse::ClickHouse;
use serde_json::Value;

use super::{flushes, now, range, settings, sql};

#[test]
fn reports_and_views_agree_with_the_known_truth() {
    let Some(settings) = settings("views") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut pipeline, truth, flushes) =
        runtime.block_on(flushes::of_traffic(folder.path(), 2_000, 700));
    pipeline.store = StoreSettings::ClickHouse(Box::new(settings.clone()));
    let report = |span: Span| {
        let report = compute(&pipeline, span, None).unwrap();
        report.to_json(&pipeline.policy).unwrap()
    };
    assert_eq!(
        report(Span::Day)["as_of"],
        Value::Null,
        "nothing is there yet"
    );
    runtime.block_on(async {
        let store = ClickHouse::open(&settings, "shop").await.unwrap();
        for flush in &flushes {
            let range = range(flush.first, flush.last);
            store.write(&range, &flush.sums, now()).await.unwrap();
        }
    });
    for (span, name, expected) in [
        (
            Span::Day,
            "24h",
            truth.report(gatewatch::traffic::Range::Day),
        ),
        (
            Span::Week,
            "7d",
            truth.report(gatewatch::traffic::Range::Week),
        ),
    ] {
        let report = report(span);
        assert_eq!(report, expected, "{name}");
        let statement = format!(
            "SELECT * FROM {}.endpoint_posture_{name} FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0",
            settings.database
        );
        let rows = runtime.block_on(sql(&settings, &statement)).unwrap();
        let rows: Vec<Value> = rows
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let endpoints = report["endpoints"].as_array().unwrap();
        assert!(endpoints.len() > 5);
        assert_eq!(rows.len(), endpoints.len(), "{name}");
        for endpoint in endpoints {
            let row = rows
                .iter()
                .find(|row| {
                    let id = |key: &str| row[key] == endpoint[key];
                    id("zone")
                        && id("host")
                        && id("method")
                        && canonical(&row["endpoint"]) == canonical(&endpoint["endpoint"])
                })
                .unwrap_or_else(|| panic!("{endpoint} has no row in the view"));
            compare(row, endpoint);
        }
    }
    overlaps(&runtime, &settings, &report(Span::Week));
    runtime.block_on(questions(&settings));
}

/// A template with nothing but the places of its parameters: the report shows declared names, the view canonical ones.
fn canonical(template: &Value) -> String {
    let segments = template.as_str().unwrap().split('/');
    let places = segments.map(|segment| {
        if segment.starts_with('{') {
            "{}"
        } else {
            segment
        }
    });
    places.collect::<Vec<_>>().join("/")
}

fn compare(row: &Value, endpoint: &Value) {
    let what = &endpoint["operation_id"];
    assert_eq!(row["requests"], endpoint["requests"]["total"], "{what}");
    for class in ["1xx", "2xx", "3xx", "4xx", "5xx", "none"] {
        assert_eq!(
            row[format!("requests_{class}")],
            endpoint["requests"][class],
            "{what} {class}"
        );
    }
    for outcome in ["present", "absent", "not_captured"] {
        assert_eq!(
            row[format!("successful_{outcome}")],
            endpoint["session"]["successful"][outcome],
            "{what}"
        );
    }
    for outcome in ["present", "absent", "not_captured", "not_configured"] {
        assert_eq!(
            row[format!("session_{outcome}")],
            endpoint["session"]["all"][outcome],
            "{what}"
        );
    }
    assert_eq!(
        row["identifiers"], endpoint["session"]["identifiers"],
        "{what}"
    );
    for side in ["request", "response"] {
        for outcome in ["conforms", "violates", "no_operation", "not_evaluated"] {
            assert_eq!(
                row[format!("{side}_{outcome}")],
                endpoint["schema"][side][outcome],
                "{what}"
            );
        }
    }
    assert_eq!(
        row["successful_violating"], endpoint["schema"]["successful_violating"],
        "{what}"
    );
    for outcome in ["verified", "absent", "failed", "revoked", "not_captured"] {
        assert_eq!(
            row[format!("mtls_{outcome}")],
            endpoint["mtls"][outcome],
            "{what}"
        );
    }
    assert_eq!(row["labels"], endpoint["labels"], "{what}");
}

/// The views over time, added up, are the figures of a report that covers all of it.
fn overlaps(
    runtime: &tokio::runtime::Runtime,
    settings: &gatewatch::store::clickhouse::Settings,
    report: &Value,
) {
    let ask = |columns: &str, view: &str| -> BTreeMap<String, u64> {
        let statement = format!(
            "SELECT {columns} FROM {}.{view} GROUP BY 1 FORMAT TSV",
            settings.database
        );
        let rows = runtime.block_on(sql(settings, &statement)).unwrap();
        let rows = rows.lines().map(|line| line.split_once('\t').unwrap());
        rows.map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
            .filter(|(_, count)| *count > 0)
            .collect()
    };
    let mut identifiers: BTreeMap<String, u64> = BTreeMap::new();
    let mut tokens: BTreeMap<String, u64> = BTreeMap::new();
    let mut certificates: BTreeMap<String, u64> = BTreeMap::new();
    let add = |into: &mut BTreeMap<String, u64>, name: &str, count: &Value| {
        if count.as_u64().unwrap() > 0 {
            *into.entry(name.to_owned()).or_default() += count.as_u64().unwrap();
        }
    };
    for endpoint in report["endpoints"].as_array().unwrap() {
        for (name, count) in endpoint["session"]["identifiers"].as_object().unwrap() {
            add(&mut identifiers, name, count);
        }
        for counts in endpoint["tokens"].as_object().unwrap().values() {
            for outcome in ["valid", "missing", "invalid", "not_captured"] {
                add(&mut tokens, outcome, &counts[outcome]);
            }
        }
        for (name, count) in endpoint["mtls"].as_object().unwrap() {
            add(&mut certificates, name, count);
        }
    }
    let mut found = ask("identifier, sum(successful)", "authentication_over_time");
    found.remove("none");
    assert_eq!(found, identifiers);
    assert_eq!(
        ask("outcome, sum(requests_total)", "token_outcomes"),
        tokens
    );
    assert_eq!(
        ask("mtls, sum(requests_total)", "client_certificates"),
        certificates
    );
    assert!(!ask("class, sum(violations_total)", "schema_violations").is_empty());
}

/// Every question of `sql/README.md` has an answer.
async fn questions(settings: &gatewatch::store::clickhouse::Settings) {
    let readme = include_str!("../../../sql/README.md");
    let (_, code) = readme.split_once("```sql\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let here = gatewatch::store::clickhouse::Settings {
        url: format!("{}/?database={}", settings.url, settings.database),
        ..settings.clone()
    };
    let questions: Vec<&str> = code
        .split(";\n")
        .filter(|text| !text.trim().is_empty())
        .collect();
    assert!(questions.len() >= 8);
    let mut answered = 0;
    for question in questions {
        let answer = sql(&here, question).await;
        assert!(answer.is_ok(), "{question}\n{answer:?}");
        answered += usize::from(!answer.unwrap().is_empty());
    }
    // The generated traffic is of one day of the past: what asks for the last days of wall time may find nothing.
    assert!(answered >= 6, "{answered} answers");
}
