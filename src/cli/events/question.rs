//! What is asked of stored evidence: an expression of every zone, a range, and the columns that both need.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_expr::PhysicalExpr;

use super::{Args, row, unusable};
use crate::cli::BadConfiguration;
use crate::enrich::evidence::{column_name, has_column};
use crate::enrich::rules::filter;
use crate::policy::rules::fields::Field;
use crate::policy::rules::{Expression, Names};
use crate::policy::{Policy, Zone};
use crate::store::Range;
use crate::window::{self, events};

/// A question, compiled.
pub(super) struct Question {
    /// What must be true; `None` = nothing.
    filter: Option<Expr>,
    columns: SchemaRef,
    /// The range, and the range and the filter, over the columns.
    planned: Option<Planned>,
}

struct Planned {
    range: Arc<dyn PhysicalExpr>,
    whole: Arc<dyn PhysicalExpr>,
}

impl Question {
    /// Compiles the expression of the command line for every zone that is asked for: token configurations and lists are
    /// those of a zone.
    ///
    /// # Errors
    /// A zone that the pipeline does not have; the place where the expression is wrong; a field that is not stored.
    pub(super) fn compile(policy: &Policy, args: &Args) -> Result<Self, BadConfiguration> {
        let zones: Vec<&Zone> = match &args.zone {
            None => policy.zones.iter().collect(),
            Some(id) => {
                let zone = policy.zone_by_id(id).and_then(|at| policy.zones.get(at));
                let zone = zone.ok_or_else(|| {
                    let known: Vec<&str> = policy.zones.iter().map(|z| z.id.as_str()).collect();
                    let hint = format!("one of {}", known.join(", "));
                    let message = format!("the pipeline has no zone {id:?}");
                    unusable("--zone", message, &hint)
                })?;
                vec![zone]
            }
        };
        let mut fields = Vec::new();
        let mut filters = Vec::new();
        for zone in &zones {
            let of_zone = col(column_name(Field::Zone)).eq(lit(zone.id.as_str()));
            let Some(text) = &args.filter else {
                filters.push(of_zone);
                continue;
            };
            let place = match zones.as_slice() {
                [_] => "--where".to_owned(),
                _ => format!("--where, in zone {}", zone.id),
            };
            let several = zones.len() > 1;
            let names = Names::new(&zone.tokens, &zone.lists);
            let expression = Expression::compile(text, &names).map_err(|error| {
                let message = format!("{error}\n{}", error.render(text));
                // Names differ from zone to zone, so another one may be meant.
                let hint = if several {
                    "--zone ID asks one zone"
                } else {
                    ""
                };
                unusable(&place, message, hint)
            })?;
            let filter = filter(&expression, zone).map_err(|refused| {
                let hint = "fields with a column are marked in the README's table of fields";
                unusable(&place, refused.to_string(), hint)
            })?;
            fields.extend(expression.fields());
            fields.push(Field::TokenOutcomes);
            filters.push(of_zone.and(filter));
        }
        let everything = args.filter.is_none() && args.zone.is_none();
        fields.retain(|field| has_column(*field));
        let named: Vec<String> = fields.into_iter().map(column_name).collect();
        let schema = events::schema();
        let wanted = schema.fields().iter().filter(|column| {
            args.json
                || row::SHOWN.contains(&column.name().as_str())
                || named.contains(column.name())
        });
        Ok(Self {
            filter: filters.into_iter().reduce(Expr::or).filter(|_| !everything),
            columns: Arc::new(Schema::new(wanted.cloned().collect::<Vec<_>>())),
            planned: None,
        })
    }

    /// The columns that have to be read.
    pub(super) fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    /// Asks only for what lies within `range`, epoch milliseconds.
    ///
    /// # Errors
    /// DataFusion cannot plan our own expression, which is a bug.
    pub(super) fn within(&mut self, range: Range) -> datafusion::error::Result<()> {
        let context = window::context();
        let schema = DFSchema::try_from(Arc::clone(&self.columns))?;
        let stamp = |millis: i64| {
            let stamp = ScalarValue::TimestampMillisecond(Some(millis), Some("UTC".into()));
            Expr::Literal(stamp, None)
        };
        let from = col(events::TIME).gt_eq(stamp(range.from));
        let inside = from.and(col(events::TIME).lt(stamp(range.to)));
        let whole = match &self.filter {
            Some(filter) => inside.clone().and(filter.clone()),
            None => inside.clone(),
        };
        self.planned = Some(Planned {
            range: context.create_physical_expr(inside, &schema)?,
            whole: context.create_physical_expr(whole, &schema)?,
        });
        Ok(())
    }

    /// The rows for which the answer is yes, and how many lie within the range.
    ///
    /// # Errors
    /// DataFusion cannot evaluate our own expression, which is a bug.
    pub(super) fn ask(&self, rows: &RecordBatch) -> datafusion::error::Result<(RecordBatch, u64)> {
        let Some(planned) = &self.planned else {
            return Ok((rows.clone(), rows.num_rows() as u64));
        };
        let within = planned.range.evaluate(rows)?.into_array(rows.num_rows())?;
        let within = within.as_boolean().true_count() as u64;
        let kept = planned.whole.evaluate(rows)?.into_array(rows.num_rows())?;
        Ok((filter_record_batch(rows, kept.as_boolean())?, within))
    }
}
