//! Tables: numbered migrations, which are embedded in the binary, and what start-up insists on.
//!
//! Recipe for a change: a new file in `sql/clickhouse/` whose statements can be repeated, a line in [`MIGRATIONS`], and
//! its columns in `sql/README.md`. Files that were released are never edited.

use std::time::Duration;

use super::connection::{Connection, SHORT};
use super::read::name;
use super::{Settings, StoreError, columns, identifier, literal};
use crate::window::{Resolution, TABLES, events};

/// One numbered file.
struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
    /// Whether it is about tables that only a cluster has.
    clustered: bool,
}

macro_rules! migration {
    ($version:literal, $name:literal, $clustered:literal) => {
        Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../sql/clickhouse/", $name, ".sql")),
            clustered: $clustered,
        }
    };
}

const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_schema", false),
    migration!(2, "0002_windows", false),
    migration!(3, "0003_rollups", false),
    migration!(4, "0004_ledger", false),
    migration!(5, "0005_detections", false),
    migration!(6, "0006_distributed", true),
    migration!(7, "0007_views", false),
    migration!(8, "0008_samples", false),
    migration!(9, "0009_samples_distributed", true),
    migration!(10, "0010_events", false),
    migration!(11, "0011_events_distributed", true),
];

/// Blocks that every table remembers (design section 6).
const WINDOW: u64 = 100_000;
/// Seconds that replicated tables remember them: a week.
pub(super) const WINDOW_SECONDS: u64 = 604_800;
/// How long evidence is kept by tables of a pipeline that says nothing of it.
const EVENTS: Duration = Duration::from_hours(8 * 24);
/// The ledger is kept at least as long.
const LEAST_LEDGER: Duration = Duration::from_hours(35 * 24);

/// How long rows of the ledger are kept.
pub(super) fn kept_ledger(settings: &Settings) -> Duration {
    settings.retention.hours.max(LEAST_LEDGER)
}

/// Version of the tables that this program makes and understands.
pub(super) fn latest() -> u32 {
    MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// Version of the tables that are there; 0 = none.
pub(super) async fn found(connection: &Connection, settings: &Settings) -> Result<u32, StoreError> {
    let exists = format!(
        "SELECT count() AS number FROM system.tables WHERE database = {} AND name = 'gatewatch_schema'",
        literal(&settings.database),
    );
    if number(connection, settings, &exists).await? == 0 {
        return Ok(0);
    }
    let database = identifier(&settings.database);
    // Without replication every node has a table of its own.
    let table = match &settings.cluster {
        Some(cluster) => format!(
            "clusterAllReplicas({}, {database}, gatewatch_schema)",
            literal(cluster)
        ),
        None => format!("{database}.gatewatch_schema"),
    };
    let newest = format!("SELECT max(version) AS number FROM {table}");
    let version = number(connection, settings, &newest).await?;
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// Applies what is missing and brings retention up to date; the names of what was done.
pub(super) async fn migrate(
    connection: &Connection,
    settings: &Settings,
) -> Result<Vec<String>, StoreError> {
    let found = found(connection, settings).await?;
    if found > latest() {
        return Err(version_error(settings, found));
    }
    let mut applied = Vec::new();
    for migration in MIGRATIONS
        .iter()
        .filter(|migration| migration.version > found)
    {
        for statement in statements(migration, settings) {
            connection.execute(&statement).await?;
        }
        connection.execute(&note(migration, settings)).await?;
        applied.push(migration.name.to_owned());
    }
    applied.extend(apply_retention(connection, settings).await?);
    Ok(applied)
}

pub(super) fn version_error(settings: &Settings, found: u32) -> StoreError {
    StoreError::Version {
        database: settings.database.clone(),
        found,
        known: latest(),
    }
}

/// A retention that was changed in the pipeline file holds from now on.
async fn apply_retention(
    connection: &Connection,
    settings: &Settings,
) -> Result<Vec<String>, StoreError> {
    let mut applied = Vec::new();
    let definitions = definitions(connection, settings).await?;
    for (table, kept) in kept(settings) {
        let Some((_, definition)) = definitions.iter().find(|(name, _)| *name == table) else {
            continue;
        };
        let wanted = expiry(kept);
        if !definition.contains(&wanted) {
            let statement = format!(
                "ALTER TABLE {}.{table} {} MODIFY TTL {wanted}",
                identifier(&settings.database),
                on_cluster(settings),
            );
            connection.execute(&statement).await?;
            applied.push(format!("retention of {table}"));
        }
    }
    Ok(applied)
}

/// Checks that every table is there and remembers enough blocks; the least number that one remembers.
pub(super) async fn verify(
    connection: &Connection,
    settings: &Settings,
) -> Result<u64, StoreError> {
    let definitions = definitions(connection, settings).await?;
    let mut least = u64::MAX;
    for table in logged(settings) {
        let place = || format!("{}.{table}", settings.database);
        let Some((_, definition)) = definitions.iter().find(|(name, _)| *name == table) else {
            return Err(StoreError::MissingTable { table: place() });
        };
        let demands: &[(&str, u64)] = if definition.starts_with("Replicated") {
            &[
                ("replicated_deduplication_window", WINDOW),
                ("replicated_deduplication_window_seconds", WINDOW_SECONDS),
            ]
        } else {
            &[("non_replicated_deduplication_window", WINDOW)]
        };
        for (name, needed) in demands {
            let value = setting(definition, name);
            if value.unwrap_or(0) < *needed {
                return Err(StoreError::Deduplication {
                    table: place(),
                    found: value
                        .map_or_else(|| format!("no {name}"), |value| format!("{name} = {value}")),
                    needed: format!("{name} = {needed}"),
                });
            }
            if !name.ends_with("_seconds") {
                least = least.min(value.unwrap_or(0));
            }
        }
    }
    Ok(least)
}

/// The value of a setting in a table's definition.
fn setting(definition: &str, name: &str) -> Option<u64> {
    let (_, settings) = definition.rsplit_once("SETTINGS ")?;
    settings.split(", ").find_map(|setting| {
        let (key, value) = setting.split_once(" = ")?;
        (key == name).then(|| value.parse().ok()).flatten()
    })
}

/// Engine, keys, expiry and settings of every table of the database, by name.
async fn definitions(
    connection: &Connection,
    settings: &Settings,
) -> Result<Vec<(String, String)>, StoreError> {
    let sql = format!(
        "SELECT name, engine_full FROM system.tables WHERE database = {}",
        literal(&settings.database),
    );
    let mut definitions = Vec::new();
    for batch in connection.fetch(&sql, SHORT).await? {
        let shape = |source| shape(source, "system.tables");
        let names = columns::texts(&batch, "name").map_err(shape)?;
        definitions.extend(
            names
                .into_iter()
                .zip(columns::texts(&batch, "engine_full").map_err(shape)?),
        );
    }
    Ok(definitions)
}

async fn number(
    connection: &Connection,
    settings: &Settings,
    sql: &str,
) -> Result<u64, StoreError> {
    let shape = |source| shape(source, &settings.database);
    let mut numbers = Vec::new();
    for batch in connection.fetch(sql, SHORT).await? {
        numbers.extend(columns::unsigned(&batch, "number").map_err(shape)?);
    }
    Ok(numbers.into_iter().max().unwrap_or(0))
}

fn shape(source: arrow::error::ArrowError, table: &str) -> StoreError {
    StoreError::Shape {
        table: table.to_owned(),
        source,
    }
}

/// Suffix of the tables that hold rows.
fn local(settings: &Settings) -> &'static str {
    if settings.cluster.is_some() {
        "_local"
    } else {
        ""
    }
}

/// Tables whose rows expire, with their retention; evidence only where it is said.
fn kept(settings: &Settings) -> Vec<(String, Duration)> {
    let retention = settings.retention;
    let widths = [
        (Resolution::Minute, retention.minutes),
        (Resolution::Hour, retention.hours),
        (Resolution::Day, retention.days),
    ];
    let local = local(settings);
    let windows = TABLES.iter().flat_map(|table| {
        widths.map(|(width, kept)| (format!("{}{local}", name(table.name, width)), kept))
    });
    let ledger =
        ["flushes", "detections"].map(|table| (format!("{table}{local}"), kept_ledger(settings)));
    let events = retention.events;
    let events = events.map(|kept| (format!("{}{local}", events::TABLE), kept));
    windows.chain(ledger).chain(events).collect()
}

/// Tables whose log makes retries harmless: everything that an insert reaches.
fn logged(settings: &Settings) -> Vec<String> {
    let others = ["positions", "newest_detections", events::TABLE];
    let others = others.map(|table| format!("{table}{}", local(settings)));
    let mut logged: Vec<String> = kept(settings).into_iter().map(|(table, _)| table).collect();
    logged.retain(|table| !others.contains(table));
    logged.extend(others);
    logged
}

/// When a row is forgotten, as ClickHouse prints it.
fn expiry(kept: Duration) -> String {
    format!(
        "toDateTime(stored_at) + toIntervalSecond({})",
        kept.as_secs()
    )
}

fn on_cluster(settings: &Settings) -> String {
    let cluster = settings.cluster.as_deref();
    cluster.map_or(String::new(), |cluster| {
        format!("ON CLUSTER {}", identifier(cluster))
    })
}

/// The statements of one file for these settings.
fn statements(migration: &Migration, settings: &Settings) -> Vec<String> {
    if migration.clustered && settings.cluster.is_none() {
        return Vec::new();
    }
    let text = render(migration.sql, settings);
    let statements = text.split(";\n").map(str::trim);
    let code = |statement: &&str| {
        statement
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim().starts_with("--"))
    };
    statements.filter(code).map(str::to_owned).collect()
}

/// Every statement of every migration as these settings would have it run, for whoever reviews DDL before it is applied.
#[must_use]
pub fn definitions_of(settings: &Settings) -> Vec<String> {
    MIGRATIONS
        .iter()
        .flat_map(|migration| {
            let mut statements = statements(migration, settings);
            statements.push(note(migration, settings));
            statements
        })
        .collect()
}

/// Remembers that a file was applied.
fn note(migration: &Migration, settings: &Settings) -> String {
    format!(
        "INSERT INTO {}.gatewatch_schema (version, name) SELECT {}, {}",
        identifier(&settings.database),
        migration.version,
        literal(migration.name),
    )
}

/// Replaces `${name}`.
fn render(sql: &str, settings: &Settings) -> String {
    let mut text = String::with_capacity(sql.len() * 2);
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        text.push_str(before);
        text.push_str(&value(name, settings));
        rest = after;
    }
    text.push_str(rest);
    text
}

fn value(name: &str, settings: &Settings) -> String {
    let retention = settings.retention;
    match name {
        "database" => identifier(&settings.database),
        "cluster" => settings.cluster.as_deref().map_or(String::new(), identifier),
        "on_cluster" => on_cluster(settings),
        "local" => local(settings).to_owned(),
        "merge_tree" => engine(settings, "MergeTree", ""),
        "aggregating" => engine(settings, "AggregatingMergeTree", ""),
        "replacing" => engine(settings, "ReplacingMergeTree", ""),
        "replacing_by_last" => engine(settings, "ReplacingMergeTree", "last"),
        "replacing_by_version" => engine(settings, "ReplacingMergeTree", "version"),
        // One table for all shards, so that every node sees the same version.
        "everywhere_replacing" if settings.replicated => {
            "ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}', '{shard}-{replica}')".to_owned()
        }
        "everywhere_replacing" => "ReplacingMergeTree".to_owned(),
        "keep_minutes" => expiry(retention.minutes),
        "keep_hours" => expiry(retention.hours),
        "keep_days" => expiry(retention.days),
        "keep_events" => expiry(retention.events.unwrap_or(EVENTS)),
        "keep_ledger" => expiry(kept_ledger(settings)),
        "deduplication" if settings.replicated => format!(
            "replicated_deduplication_window = {WINDOW}, replicated_deduplication_window_seconds = {WINDOW_SECONDS}"
        ),
        "deduplication" => format!("non_replicated_deduplication_window = {WINDOW}"),
        // ClickHouse refuses the statement then, in the tests already.
        unknown => format!("${{{unknown}}}"),
    }
}

/// An engine; the server puts in the macros of its own configuration, its database and its table.
fn engine(settings: &Settings, engine: &str, argument: &str) -> String {
    if settings.replicated {
        let separator = if argument.is_empty() { "" } else { ", " };
        return format!(
            "Replicated{engine}('/clickhouse/tables/{{shard}}/{{database}}/{{table}}', '{{replica}}'{separator}{argument})"
        );
    }
    if argument.is_empty() {
        engine.to_owned()
    } else {
        format!("{engine}({argument})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_consecutive_and_files_are_named_by_them() {
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, at + 1);
            assert!(
                migration
                    .name
                    .starts_with(&format!("{:04}_", migration.version))
            );
        }
    }

    #[test]
    fn every_placeholder_has_a_value_and_every_statement_its_cluster() {
        for (cluster, replicated) in [
            (None, false),
            (None, true),
            (Some("c1"), false),
            (Some("c1"), true),
        ] {
            let settings = Settings {
                cluster: cluster.map(str::to_owned),
                replicated,
                ..super::super::tests::settings("http://127.0.0.1:1", "g")
            };
            for statement in definitions_of(&settings) {
                assert!(!statement.contains("${"), "{statement}");
                assert_eq!(
                    statement.contains("ON CLUSTER `c1`") || statement.starts_with("INSERT"),
                    cluster.is_some() || statement.starts_with("INSERT"),
                    "{statement}"
                );
                let plain = statement.contains("MergeTree") && !statement.contains("Replicated");
                assert!(!(plain && replicated), "{statement}");
            }
        }
    }

    /// The columns of the table of evidence are written in SQL and made from the fields of the rules language.
    #[test]
    fn the_table_of_evidence_has_a_column_for_every_column() {
        use arrow::datatypes::DataType;

        let migration = MIGRATIONS.iter().find(|known| known.name == "0010_events");
        let sql = migration.unwrap().sql;
        let lines = sql.lines().filter_map(|line| line.strip_prefix("    "));
        let mut written: Vec<(&str, &str)> = lines
            .filter_map(|line| line.trim_end_matches(',').split_once(' '))
            .map(|(name, kind)| (name.trim_matches('`'), kind))
            .collect();
        let (arrival, unknown) = (written.pop().unwrap().0, written.pop().unwrap().0);
        assert_eq!(
            (unknown, arrival),
            (super::super::events::UNKNOWN, "stored_at")
        );
        let columns = events::schema();
        assert_eq!(written.len(), columns.fields().len());
        for (column, (name, kind)) in columns.fields().iter().zip(written) {
            assert_eq!(column.name(), name);
            let expected = match column.data_type() {
                DataType::List(_) => "Array(",
                DataType::Map(_, _) => "Map(",
                DataType::Timestamp(_, _) => "DateTime64(3, 'UTC')",
                DataType::Utf8 => "String",
                DataType::Boolean => "Bool",
                DataType::Int32 => "Int32",
                DataType::Int64 => "Int64",
                DataType::UInt64 => "UInt64",
                other => panic!("{name} is {other}"),
            };
            assert!(kind.contains(expected), "{name} {kind}");
            let nested = matches!(column.data_type(), DataType::List(_) | DataType::Map(_, _));
            assert_eq!(
                kind.contains("Nullable"),
                column.is_nullable() && !nested,
                "{name}"
            );
        }
    }

    #[test]
    fn evidence_expires_where_a_pipeline_says_when() {
        let said = super::super::tests::settings("http://127.0.0.1:1", "g");
        let silent = kept(&said).into_iter().map(|(table, _)| table);
        assert!(silent.clone().all(|table| table != "events"));
        assert!(logged(&said).contains(&"events".to_owned()));
        let mut said = said;
        said.retention.events = Some(Duration::from_secs(7));
        assert!(kept(&said).contains(&("events".to_owned(), Duration::from_secs(7))));
        assert_eq!(
            logged(&said)
                .iter()
                .filter(|table| *table == "events")
                .count(),
            1
        );
        let statements = definitions_of(&said);
        assert!(
            statements
                .iter()
                .any(|sql| sql.contains("toIntervalSecond(7)"))
        );
    }

    #[test]
    fn settings_are_read_by_their_whole_name() {
        let definition = "AggregatingMergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 7, index_granularity = 8192";
        assert_eq!(
            setting(definition, "non_replicated_deduplication_window"),
            Some(7)
        );
        assert_eq!(setting(definition, "replicated_deduplication_window"), None);
        assert_eq!(setting("MergeTree ORDER BY a", "index_granularity"), None);
    }
}
