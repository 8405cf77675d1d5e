//! Merged reads: ClickHouse adds up, what comes back is what the embedded store would return.

use arrow::array::RecordBatch;

use super::connection::{LONG, SHORT};
use super::{ClickHouse, StoreError, columns};
use crate::store::Range;
use crate::window::{Merge, Resolution, Table};

/// First and last second that the time columns hold: 1970 to 2106.
const SECONDS: [i64; 2] = [0, u32::MAX as i64];

impl ClickHouse {
    /// Rows of `table` within `range`, merged into buckets of `resolution`, or over all time without one; ordered by
    /// their time and keys.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn read(
        &self,
        table: &Table,
        range: Range,
        resolution: Option<Resolution>,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let parts: Vec<String> = range
            .cover(resolution.unwrap_or(Resolution::Day))
            .into_iter()
            .map(|(width, part)| self.part(table, width, &within(part)))
            .collect();
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        self.merged(table, &parts.join(" UNION ALL "), resolution)
            .await
    }

    /// Merged rows of exactly these minutes, epoch milliseconds.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn read_minutes(
        &self,
        table: &Table,
        minutes: &[i64],
    ) -> Result<Vec<RecordBatch>, StoreError> {
        if minutes.is_empty() {
            return Ok(Vec::new());
        }
        let seconds: Vec<String> = minutes
            .iter()
            .map(|minute| seconds(*minute).to_string())
            .collect();
        let condition = format!("window_start IN ({})", seconds.join(", "));
        let part = self.part(table, Resolution::Minute, &condition);
        self.merged(table, &part, Some(Resolution::Minute)).await
    }

    /// The newest minute with an exchange, epoch milliseconds. Once the minutes have expired it is the start of the newest
    /// hour, then of the newest day.
    ///
    /// # Errors
    /// Refused, or still unreachable after the deadline.
    pub async fn newest_minute(&self) -> Result<Option<i64>, StoreError> {
        for width in Resolution::ALL {
            // Rows are sorted by their time, so this reads the end of the table and not all zones of it.
            let sql = format!(
                "SELECT toInt64(toUnixTimestamp(window_start)) * 1000 AS newest FROM {} WHERE {} \
                 ORDER BY window_start DESC LIMIT 1",
                self.table(&name("endpoint_windows", width)),
                self.zones.as_deref().unwrap_or("1"),
            );
            for batch in self.query("the newest minute", SHORT, &sql).await? {
                let shape = |source| self.shape("endpoint_windows", source);
                let newest = columns::signed(&batch, "newest").map_err(shape)?;
                if let Some(newest) = newest.first() {
                    return Ok(Some(*newest));
                }
            }
        }
        Ok(None)
    }

    /// The rows of one width.
    fn part(&self, table: &Table, width: Resolution, condition: &str) -> String {
        let measures = table.measures.iter().map(|(measure, _)| *measure);
        let names: Vec<&str> = table.keys.iter().copied().chain(measures).collect();
        format!(
            "SELECT window_start, {} FROM {} WHERE {condition} AND {}",
            names.join(", "),
            self.table(&name(table.name, width)),
            self.zones.as_deref().unwrap_or("1"),
        )
    }

    async fn merged(
        &self,
        table: &Table,
        parts: &str,
        resolution: Option<Resolution>,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let sql = merge_sql(table, parts, resolution);
        let batches = self.query(table.name, LONG, &sql).await?;
        columns::rows(table, resolution, &batches).map_err(|source| self.shape(table.name, source))
    }
}

/// The table that holds buckets of this width.
pub(super) fn name(table: &str, width: Resolution) -> String {
    match width {
        Resolution::Minute => table.to_owned(),
        Resolution::Hour => format!("{table}_hours"),
        Resolution::Day => format!("{table}_days"),
    }
}

fn seconds(millis: i64) -> i64 {
    let [first, last] = SECONDS;
    millis.div_euclid(1_000).clamp(first, last)
}

fn within(range: Range) -> String {
    if range == Range::ALL {
        return "1".to_owned();
    }
    format!(
        "window_start >= {} AND window_start < {}",
        seconds(range.from),
        seconds(range.to),
    )
}

/// [`Table::merge_sql`] in ClickHouse's words.
fn merge_sql(table: &Table, parts: &str, resolution: Option<Resolution>) -> String {
    let keys = table.keys.join(", ");
    let measures: Vec<String> = table
        .measures
        .iter()
        .map(|(measure, merge)| match merge {
            Merge::Sum => format!("sum(part.{measure}) AS {measure}"),
            Merge::Sketch | Merge::Samples => format!("maxMap(part.{measure}) AS {measure}"),
            Merge::Sample => format!("max(part.{measure}) AS {measure}"),
        })
        .collect();
    let measures = measures.join(", ");
    let Some(resolution) = resolution else {
        return format!(
            "SELECT {keys}, {measures} FROM ({parts}) AS part GROUP BY {keys} ORDER BY {keys}"
        );
    };
    let bucket = match resolution {
        Resolution::Minute => "part.window_start",
        Resolution::Hour => "toStartOfHour(part.window_start)",
        Resolution::Day => "toStartOfDay(part.window_start)",
    };
    // A time of its own name would hide the column that it is made of.
    format!(
        "SELECT toDateTime64(bucket, 3, 'UTC') AS window_start, * EXCEPT (bucket) FROM \
         (SELECT {bucket} AS bucket, {keys}, {measures} FROM ({parts}) AS part \
         GROUP BY bucket, {keys}) ORDER BY bucket, {keys}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_the_columns_are_clamped() {
        let range = Range {
            from: -86_400_000,
            to: 60_000,
        };
        assert_eq!(within(range), "window_start >= 0 AND window_start < 60");
        assert_eq!(within(Range::ALL), "1");
        assert_eq!(seconds(i64::MAX), i64::from(u32::MAX));
    }
}
