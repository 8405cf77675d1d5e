//! The pipeline file: what it says (`reader.rs`) → what the program needs (`resolve.rs`), all problems at once.
//!
//! Secrets are never in the file: it names an environment variable or another file.

mod blocklist;
mod edges;
mod evidence;
mod feeds;
mod reader;
mod resolve;
mod rules;
mod tokens;
mod trial;
mod zones;

pub(crate) use reader::parse_duration;
pub use trial::{Candidate, Candidates, Subject, Trial, load_trial};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::detect::thresholds::Threshold;
use crate::model::{Network, Problem, Problems};
use crate::policy::{self, Policy};
use crate::publish::exporters::ExporterSettings;
use crate::store::StoreSettings;
use crate::wire::secret::SharedKey;
use crate::{correlate, decode};

/// Everything one pipeline needs.
#[derive(Debug)]
pub struct Settings {
    /// Name of the pipeline.
    pub name: String,
    /// Where events come from.
    pub source: SourceSettings,
    /// Bounds of the join.
    pub correlate: correlate::Limits,
    /// Wall time after which a partition without events is drained.
    pub correlate_idle: Duration,
    /// Wall time after which a flush ends.
    pub flush_every: Duration,
    /// Bounds of decoding.
    pub limits: decode::Limits,
    /// Most different tokens that a flush has verified.
    pub verifications: usize,
    /// How far an event may be ahead of its record's own timestamp.
    pub future: Duration,
    /// Where sums are kept.
    pub store: StoreSettings,
    /// Where events go.
    pub publish: PublishSettings,
    /// The server; `None` = no server.
    pub api: Option<ApiSettings>,
    /// Whether dead letters hold the refused bytes.
    pub dead_letter_bytes: bool,
    /// Detection.
    pub detect: DetectSettings,
    /// Exchanges that are kept as evidence.
    pub evidence: EvidenceSettings,
    /// The block list.
    pub block_list: BlockListSettings,
    /// Who may read the list; `None` = nobody.
    pub feeds: Option<FeedSettings>,
    /// The inline check; `None` = nobody is answered.
    pub check: Option<CheckSettings>,
    /// Gateways that are told the list.
    pub exporters: Vec<ExporterSettings>,
    /// Key of the hashes; `None` = generated in the store's folder.
    pub hash_key: Option<Vec<u8>>,
    /// What to judge against.
    pub policy: Arc<Policy>,
    /// What is accepted but has no effect, to be said once.
    pub warnings: Vec<Problem>,
}

/// Where events come from.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Log format.
    pub adapter: decode::Adapter,
    /// What is read.
    pub kind: SourceKind,
}

/// What is read.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// A file, or standard input.
    File(FileSource),
    /// Topics of a Kafka cluster, as a member of a consumer group.
    Kafka(KafkaSource),
    /// Batches that somebody sends.
    Http(HttpSource),
}

/// A file source.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// The file; `None` = standard input.
    pub path: Option<PathBuf>,
    /// Whether to go on reading a file that grows and rotates.
    pub follow: bool,
}

/// A Kafka source.
#[derive(Clone)]
pub struct KafkaSource {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// Topics, at least one.
    pub topics: Vec<String>,
    /// Consumer group.
    pub group: String,
    /// Where a partition starts that nobody has read yet.
    pub start: Start,
    /// What to do when records are gone before they were read.
    pub on_gap: Gap,
    /// librdkafka's own settings; may hold secrets.
    pub options: BTreeMap<String, String>,
}

/// An HTTP source.
#[derive(Clone)]
pub struct HttpSource {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Bearer token that senders must show; only a loopback address may do without.
    pub token: Option<String>,
}

/// Where a partition starts that has neither a committed offset nor a row in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its first record.
    Earliest,
    /// After its last record.
    Latest,
}

/// What to do when retention removed records that were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Stop and say which.
    Fail,
    /// Count them and go on.
    Continue,
}

/// Where events go.
#[derive(Clone, Debug)]
pub enum PublishSettings {
    /// Folder of the topic files.
    File(PathBuf),
    /// Topics of a Kafka cluster.
    Kafka(KafkaPublish),
}

/// Topics of a Kafka cluster.
#[derive(Clone)]
pub struct KafkaPublish {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// librdkafka's own settings; may hold secrets.
    pub options: BTreeMap<String, String>,
    /// What topic names start with.
    pub prefix: String,
    /// Replication factor of topics that are made.
    pub replication: i32,
}

// Options hold passwords, so only their names are shown.
impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("start", &self.start)
            .field("on_gap", &self.on_gap)
            .field("options", &self.options.keys())
            .finish()
    }
}

impl fmt::Debug for KafkaPublish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaPublish")
            .field("brokers", &self.brokers)
            .field("options", &self.options.keys())
            .field("prefix", &self.prefix)
            .field("replication", &self.replication)
            .finish()
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The server.
#[derive(Clone, Copy, Debug)]
pub struct ApiSettings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Address of the inline check over gRPC.
    pub ext_authz: Option<SocketAddr>,
}

/// Who may read the block list.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// One for each reader.
    pub keys: Vec<FeedKey>,
    /// Zones of this pipeline: what a reader may ask about.
    pub zones: Vec<String>,
}

/// A reader of the block list.
#[derive(Clone, Debug)]
pub struct FeedKey {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub key: SharedKey,
    /// Zones whose entries it sees; empty = all.
    pub zones: Vec<String>,
}

/// The inline check.
#[derive(Clone, Debug)]
pub struct CheckSettings {
    /// Whether `block` rules refuse a request too, besides the list.
    pub judge: bool,
    /// What is answered while the list has not been read, and where the answer rests on a token that was not verified.
    pub unavailable: Unavailable,
    /// Most tokens that are verified in a second.
    pub verifications: u32,
    /// Addresses that nothing refuses: `blocklist.allow`.
    pub allow: Vec<Network>,
    /// How many proxies in front of Envoy are trusted to say who the client is in `x-forwarded-for`.
    pub trusted_hops: usize,
    /// What gateways show; only loopback addresses may do without.
    pub key: Option<SharedKey>,
}

/// What is answered when there is nothing to decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The request may pass.
    Allow,
    /// It may not.
    Refuse,
}

/// When and over what labels and insights are decided.
#[derive(Clone, Debug)]
pub struct DetectSettings {
    /// Distance of ticks.
    pub every: Duration,
    /// How far the watermark must be past a tick.
    pub lateness: Duration,
    /// Wall time without a flush after which a partition no longer holds the watermark back.
    pub idle: Duration,
    /// Methods without authentication labels.
    pub excluded_methods: Vec<String>,
    /// Fewest successful requests in 24 hours for a label.
    pub min_successful: u64,
}

/// What is kept as evidence, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvidenceSettings {
    /// Whether anything is.
    pub enabled: bool,
    /// Share of ordinary exchanges, 0 to 1.
    pub sample: f64,
    /// Most exchanges of one flush.
    pub per_flush: usize,
    /// How long rows are kept, counted from their arrival.
    pub retention: Duration,
}

/// What is listed, and whether it is meant.
#[derive(Clone, Debug)]
pub struct BlockListSettings {
    /// Whether entries are enforced; else they are marked as simulated.
    pub enforce: bool,
    /// Networks that are never listed.
    pub allow: Vec<Network>,
    /// Most entries.
    pub max: usize,
    /// How old events may be that list somebody, milliseconds of wall time; `None` = as old as they are.
    pub max_age: Option<i64>,
    /// Thresholds over what entities do.
    pub thresholds: Vec<Threshold>,
}

impl BlockListSettings {
    /// Thresholds that only log: their entries are simulated whatever `enforce` says.
    #[must_use]
    pub fn log_only(&self) -> BTreeSet<String> {
        let logs = self.thresholds.iter().filter(|threshold| !threshold.blocks);
        logs.map(|threshold| threshold.name.clone()).collect()
    }
}

/// A pipeline file that cannot be used.
#[derive(Debug, Error)]
pub struct Unusable {
    /// The file.
    pub file: String,
    /// What is wrong with it, each with its line where known.
    pub problems: Vec<(Problem, Option<usize>)>,
}

impl Unusable {
    /// One problem without a line; an empty hint is none.
    #[must_use]
    pub fn one(file: String, place: String, message: String, hint: &str) -> Self {
        let problem = Problem {
            place,
            message,
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        };
        Self {
            file,
            problems: vec![(problem, None)],
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let s = if count == 1 { "" } else { "s" };
        write!(f, "{} has {count} problem{s}", self.file)?;
        for (problem, line) in &self.problems {
            match line {
                Some(line) => write!(f, "\n  line {line}: {problem}")?,
                None => write!(f, "\n  {problem}")?,
            }
        }
        Ok(())
    }
}

/// Reads and checks a pipeline file with every file that it names.
///
/// # Errors
/// Every problem at once.
pub fn load(path: &Path) -> Result<Settings, Unusable> {
    let (file, text) = read(path, "give the path of a pipeline file (TOML)")?;
    parse(&file, &text, folder_of(path))
}

/// The name of a file to show, and its text.
fn read(path: &Path, hint: &str) -> Result<(String, String), Unusable> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((file, text)),
        Err(error) => Err(Unusable::one(file.clone(), file, error.to_string(), hint)),
    }
}

/// What relative paths in a file start at.
fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Checks the text of a pipeline file; relative paths start at `folder`.
///
/// # Errors
/// Every problem at once.
pub fn parse(file: &str, text: &str, folder: &Path) -> Result<Settings, Unusable> {
    let (draft, policy) = draft(file, text, folder)?;
    Ok(draft.into_settings(policy))
}

/// What is wrong with the syntax of a file.
fn syntax(file: &str, sheet: &reader::Sheet, errors: Vec<toml::de::Error>) -> Unusable {
    let problem = |error: toml::de::Error| {
        let line = error.span().map(|span| sheet.line(span.start));
        let message = error.message().replace('\n', ", ");
        (
            Problem {
                place: "syntax".to_owned(),
                message,
                hint: None,
            },
            line,
        )
    };
    Unusable {
        file: file.to_owned(),
        problems: errors.into_iter().map(problem).collect(),
    }
}

/// Everything that a pipeline file says, and its policy.
fn draft(file: &str, text: &str, folder: &Path) -> Result<(resolve::Draft, Policy), Unusable> {
    let sheet = reader::Sheet::new(text);
    let (document, errors) = toml::de::DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax(file, &sheet, errors));
    }
    let root = reader::Section::new(&sheet, String::new(), Some(document.get_ref()));
    let draft = resolve::resolve(&root, folder);
    let compiled = policy::compile(&draft.zones);
    let mut problems = sheet.problems.replace(Problems::default()).0;
    let policy = match compiled {
        Ok(policy) => policy,
        Err(more) => {
            // What follows from a problem already named is not a problem of its own.
            let known: Vec<String> = problems
                .iter()
                .map(|problem| problem.place.clone())
                .collect();
            let new =
                |problem: &Problem| !known.iter().any(|place| problem.place.starts_with(place));
            problems.extend(more.0.into_iter().filter(new));
            Policy::default()
        }
    };
    if problems.is_empty() {
        return Ok((draft, policy));
    }
    let mut problems: Vec<_> = problems
        .into_iter()
        .map(|problem| {
            let line = sheet.line_of(&problem.place);
            (problem, line)
        })
        .collect();
    problems.sort_by_key(|(_, line)| line.unwrap_or(usize::MAX));
    Err(Unusable {
        file: file.to_owned(),
        problems,
    })
}

#[cfg(test)]
mod tests;
