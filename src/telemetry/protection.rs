//! What the way back counts: the block list, its deliveries to gateways, the inline check.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Because, Metrics, WithResult, add, names};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByExporter {
    exporter: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivery {
    exporter: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listed {
    kind: &'static str,
    mode: &'static str,
}

/// See the head of this file.
#[derive(Clone)]
pub(super) struct Protection {
    entries: Family<Listed, Gauge>,
    decisions: Family<WithResult, Counter>,
    stale: Gauge,
    exports: Family<Delivery, Counter>,
    export_entries: Family<ByExporter, Gauge>,
    export_left_out: Family<ByExporter, Gauge>,
    checks: Family<WithResult, Counter>,
    undecided: Family<Because, Counter>,
    signatures: Counter,
}

impl Protection {
    pub(super) fn register(r: &mut Registry) -> Self {
        Self {
            entries: add(
                r,
                names::BLOCK_LIST_ENTRIES,
                "Entries of the block list by kind, enforced and simulated",
                Family::default(),
            ),
            decisions: add(
                r,
                names::BLOCK_LIST_DECISIONS,
                "What became of proposals for the block list, and entries that ended",
                Family::default(),
            ),
            stale: add(
                r,
                names::BLOCK_LIST_STALE,
                "Time for which Kafka has not confirmed that the block list of this process is the newest; 0 = it has",
                Gauge::default(),
            ),
            exports: add(
                r,
                names::EXPORTS,
                "Deliveries of the block list to gateways",
                Family::default(),
            ),
            export_entries: add(
                r,
                names::EXPORT_ENTRIES,
                "Entries in the last delivery",
                Family::default(),
            ),
            export_left_out: add(
                r,
                names::EXPORT_LEFT_OUT,
                "Entries that the format of the last delivery cannot express",
                Family::default(),
            ),
            checks: add(
                r,
                names::CHECKS,
                "Answers of the inline check",
                Family::default(),
            ),
            undecided: add(
                r,
                names::CHECKS_UNDECIDED,
                "Requests whose answer rested on a token that the inline check did not verify",
                Family::default(),
            ),
            signatures: add(
                r,
                names::CHECK_SIGNATURES,
                "Signatures of tokens that the inline check verified",
                Counter::default(),
            ),
        }
    }
}

impl Metrics {
    /// Sets how many entries of a kind the block list has. Both come from closed lists.
    pub fn block_list(&self, kind: &'static str, enforced: usize, simulated: usize) {
        for (mode, count) in [("enforced", enforced), ("simulated", simulated)] {
            let of = Listed { kind, mode };
            let entries = self.protection.entries.get_or_create(&of);
            entries.set(whole(count));
        }
    }

    /// Counts what became of proposals for the block list; `result` is of a closed list.
    pub fn block_list_decided(&self, result: &'static str, count: u64) {
        let decisions = &self.protection.decisions;
        decisions
            .get_or_create(&WithResult { result })
            .inc_by(count);
    }

    /// Sets for how long nobody has confirmed that the block list is the newest one, seconds.
    pub fn block_list_stale(&self, seconds: u64) {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.protection.stale.set(seconds);
    }

    /// Counts a delivery of the block list by a configured exporter.
    pub fn exported(&self, exporter: &str, delivered: bool) {
        let result = if delivered { "delivered" } else { "failed" };
        let exporter = exporter.to_owned();
        let delivery = Delivery { exporter, result };
        self.protection.exports.get_or_create(&delivery).inc();
    }

    /// Sets what the last delivery of an exporter held and left out.
    pub fn exported_entries(&self, exporter: &str, entries: usize, left_out: usize) {
        let exporter = exporter.to_owned();
        let of = ByExporter { exporter };
        let protection = &self.protection;
        protection
            .export_entries
            .get_or_create(&of)
            .set(whole(entries));
        protection
            .export_left_out
            .get_or_create(&of)
            .set(whole(left_out));
    }

    /// Counts an answer of the inline check; `result` is of a closed list.
    pub fn checked(&self, result: &'static str) {
        let checks = &self.protection.checks;
        checks.get_or_create(&WithResult { result }).inc();
    }

    /// Counts a request that the inline check could not decide; `reason` is of a closed list.
    pub fn undecided(&self, reason: &'static str) {
        let undecided = &self.protection.undecided;
        undecided.get_or_create(&Because { reason }).inc();
    }

    /// Sets how many signatures of tokens the inline check verified since the start; it only grows.
    pub fn check_signatures(&self, signatures: u64) {
        let counter = self.protection.signatures.inner();
        counter.fetch_max(signatures, Ordering::Relaxed);
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
