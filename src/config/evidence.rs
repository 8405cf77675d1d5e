//! `[evidence]`: which exchanges are kept, and for how long.

use std::time::Duration;

use super::EvidenceSettings;
use super::edges::positive;
use super::reader::Section;
use crate::store::StoreSettings;

/// Share of ordinary exchanges: enough to see what ordinary is (100 a second give 8,640 a day), too few to cost anything.
const SAMPLE: f64 = 0.001;
/// Most exchanges of a flush: a table gets about one block a second, and a flood of 10,000 looks like one of a million.
const PER_FLUSH: u64 = 10_000;
/// Most that can be asked for: one block of an insert.
const MOST_PER_FLUSH: u64 = 100_000;
/// As long as minutes are kept: whoever sees a figure finds what it was made of.
const RETENTION: Duration = Duration::from_hours(8 * 24);

/// `[evidence]`; without it nothing is kept, because rows name people: addresses, paths, certificates. The store is told how
/// long its rows last.
pub(super) fn read_evidence(section: &Section<'_>, store: &mut StoreSettings) -> EvidenceSettings {
    let written = section.written();
    let enabled = section.boolean("enabled", written);
    let sample = section.share("sample", SAMPLE);
    let per_flush = section.integer("per_flush", PER_FLUSH);
    if !(1..=MOST_PER_FLUSH).contains(&per_flush) {
        section.problem(
            "per_flush",
            format!("{per_flush} is not from 1 to {MOST_PER_FLUSH}"),
            "enabled = false keeps nothing",
        );
    }
    let retention = positive(section, "retention", RETENTION);
    section.finish();
    if let StoreSettings::ClickHouse(store) = store
        && written
    {
        store.retention.events = Some(retention);
    }
    EvidenceSettings {
        enabled,
        sample,
        per_flush: usize::try_from(per_flush).unwrap_or(usize::MAX),
        retention,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    fn read(section: &str) -> Result<EvidenceSettings, String> {
        let text = format!(
            "name = \"p\"\n[source]\nkind = \"file\"\npath = \"-\"\n{section}\n[[zones]]\nid = \"z\"\n\
             hosts = [\"api.example\"]\n"
        );
        let settings = parse("pipeline.toml", &text, Path::new("."));
        settings
            .map(|settings| settings.evidence)
            .map_err(|unusable| unusable.to_string())
    }

    #[test]
    fn nothing_is_kept_unless_it_is_asked_for() {
        let day = Duration::from_hours(24);
        for (text, expected) in [
            ("", (false, SAMPLE, 10_000, 8 * day)),
            ("[evidence]", (true, SAMPLE, 10_000, 8 * day)),
            (
                "[evidence]\nenabled = false",
                (false, SAMPLE, 10_000, 8 * day),
            ),
            (
                "[evidence]\nsample = 0.25\nper_flush = 7\nretention = \"30d\"",
                (true, 0.25, 7, 30 * day),
            ),
            ("[evidence]\nsample = 1", (true, 1.0, 10_000, 8 * day)),
            ("[evidence]\nsample = 0", (true, 0.0, 10_000, 8 * day)),
        ] {
            let found = read(text).unwrap();
            let (enabled, sample, per_flush, retention) = expected;
            let expected = EvidenceSettings {
                enabled,
                sample,
                per_flush,
                retention,
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, place, hint) in [
            ("sample = 1.5", "evidence.sample", "from 0 to 1"),
            ("sample = -0.1", "evidence.sample", "from 0 to 1"),
            ("sample = nan", "evidence.sample", "from 0 to 1"),
            ("sample = \"all\"", "evidence.sample", "from 0 to 1"),
            ("per_flush = 0", "evidence.per_flush", "enabled = false"),
            ("per_flush = 100_001", "evidence.per_flush", "100000"),
            (
                "retention = \"0s\"",
                "evidence.retention",
                "longer than zero",
            ),
            ("share = 1", "evidence.share", ""),
        ] {
            let problems = read(&format!("[evidence]\n{text}")).unwrap_err();
            assert!(
                problems.contains(place) && problems.contains(hint),
                "{text}: {problems}"
            );
        }
    }
}
