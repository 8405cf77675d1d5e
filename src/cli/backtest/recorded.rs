//! Where recorded traffic is: lines of a file or of standard input, or what topics hold.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::range::{Range, Wanted};
use super::{Args, judging::Trying, unusable};
use crate::cli::{grouped, replay};
use crate::clock;
use crate::config::{Settings, SourceKind};
use crate::decode::Kind;
use crate::enrich::Judge;
use crate::model::EventTime;
use crate::pipeline::stream::Counts;
use crate::source::kafka::history::{History, Topics};

/// How much of a topic is read when nothing is said.
const DEFAULT_LENGTH: Duration = Duration::from_hours(24);
/// Records between two looks at the progress bar.
const LOOK_EVERY: u64 = 1_024;

/// Where recorded traffic is.
pub(super) enum Recording {
    /// A file; `None` = standard input.
    Lines(Option<PathBuf>),
    /// Topics.
    Topics(Topics),
}

impl Recording {
    /// What the command line names, else the source of the pipeline.
    pub(super) fn of(args: &Args, settings: &Settings) -> anyhow::Result<Self> {
        let events = args.input.as_deref().or(args.events.as_deref());
        match (&settings.source.kind, events) {
            (SourceKind::Kafka(source), None) => Ok(Self::Topics(Topics {
                brokers: source.brokers.clone(),
                topics: if args.topic.is_empty() {
                    source.topics.clone()
                } else {
                    args.topic.clone()
                },
                options: source.options.clone(),
            })),
            _ if !args.topic.is_empty() => Err(unusable(
                &args.pipeline,
                "--topic",
                "the source of the pipeline is no Kafka cluster".to_owned(),
                "name a file of events instead",
            )
            .into()),
            (SourceKind::Http(_), None) => Err(unusable(
                &args.pipeline,
                "source.kind",
                "an HTTP source keeps nothing of what it received".to_owned(),
                "name a file of events, or \"-\" for standard input",
            )
            .into()),
            (_, events) => Ok(Self::Lines(replay::path_of(events, settings))),
        }
    }

    /// Its name in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Lines(path) => replay::name_of(path.as_deref()),
            Self::Topics(topics) => format!("{} at {}", topics.topics.join(", "), topics.brokers),
        }
    }

    /// The range to look at. The end of a file is its newest exchange, which takes reading it once more.
    pub(super) fn range(
        &self,
        args: &Args,
        settings: &Settings,
        mut wanted: Wanted,
    ) -> anyhow::Result<Range> {
        let range = match self {
            Self::Lines(None) if wanted.needs_newest() => {
                return Err(unusable(
                    &args.pipeline,
                    "--range",
                    "the end of standard input is not known before it is read".to_owned(),
                    "say --until TIME too, or give a file",
                )
                .into());
            }
            Self::Lines(_) if wanted.needs_newest() => wanted.ending(self.behind_newest(settings)?),
            Self::Lines(_) => wanted.ending(None),
            Self::Topics(_) => {
                if wanted.from.is_none() {
                    wanted.length.get_or_insert(DEFAULT_LENGTH);
                }
                wanted.ending(EventTime::from_millis(clock::now_millis()))
            }
        };
        if range.is_empty() {
            return Err(unusable(
                &args.pipeline,
                "--until",
                "the range ends before it begins".to_owned(),
                "--from is included, --until is not",
            )
            .into());
        }
        Ok(range)
    }

    /// The first instant behind the newest exchange of a file; `None` = there is none.
    fn behind_newest(&self, settings: &Settings) -> anyhow::Result<Option<EventTime>> {
        let Self::Lines(path) = self else {
            return Ok(None);
        };
        let name = self.name();
        let input = replay::open(path.as_deref(), &name)?;
        let bar = Bar::new(input.size, "looking for the end of {wide_msg}");
        let mut newest: Option<EventTime> = None;
        replay::read(input, settings.limits.event, &name, |chunk| {
            for line in &chunk.lines {
                let payload = chunk.bytes.get(line.start..line.start + line.len);
                let payload = payload.unwrap_or_default().trim_ascii();
                // An exchange has the time of its request.
                if let Ok(record) = settings.source.adapter.decode(payload, settings.limits)
                    && record.kind != Kind::Response
                {
                    newest = newest.max(Some(record.exchange.at));
                }
            }
            bar.at(chunk.read, &name);
            true
        })?;
        bar.clear();
        Ok(newest.and_then(|newest| EventTime::from_nanos(newest.nanos() + 1)))
    }

    /// Judges everything, and says what was read.
    pub(super) fn replay(
        &self,
        args: &Args,
        settings: &Settings,
        range: Range,
        judge: Judge,
        trying: &mut Trying<'_>,
    ) -> anyhow::Result<Counts> {
        match self {
            Self::Lines(path) => {
                let name = self.name();
                let input = replay::open(path.as_deref(), &name)?;
                let bar = Bar::new(input.size, "{bar:30} {bytes}/{total_bytes}  {msg}");
                let mut stream = replay::stream(settings, judge);
                replay::read(input, settings.limits.event, &name, |chunk| {
                    replay::apply(&mut stream, chunk, trying);
                    bar.at(chunk.read, &trying.progress());
                    true
                })?;
                stream.drain(trying);
                bar.clear();
                Ok(stream.counts)
            }
            Self::Topics(topics) => {
                self.replay_topics(args, settings, (topics, range), &judge, trying)
            }
        }
    }

    fn replay_topics(
        &self,
        args: &Args,
        settings: &Settings,
        (topics, range): (&Topics, Range),
        judge: &Judge,
        trying: &mut Trying<'_>,
    ) -> anyhow::Result<Counts> {
        let millis = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let future = millis(settings.future);
        // An event may be a little ahead of its record, and its record as late as is asked for.
        let from = range.from.map_or(0, EventTime::millis);
        let until = range.until.map_or(i64::MAX, EventTime::millis);
        let history = History::open(
            topics,
            from.saturating_sub(future),
            until.saturating_add(millis(args.late)),
        )
        .with_context(|| format!("cannot read {}", self.name()))?;
        let bar = Bar::new(
            history.total(),
            "{bar:30} {human_pos}/{human_len} records  {msg}",
        );
        let mut streams = BTreeMap::new();
        let mut records = 0;
        let read = history.read(&mut |record| {
            let stream = streams
                .entry(record.partition)
                .or_insert_with(|| replay::stream(settings, judge.clone()));
            let arrived = record.timestamp;
            let latest =
                arrived.and_then(|arrived| EventTime::from_millis(arrived.saturating_add(future)));
            let at = (record.offset, record.offset + 1);
            stream.apply(record.payload, at, latest, trying);
            records += 1;
            if records % LOOK_EVERY == 0 {
                bar.at(records, &trying.progress());
            }
            true
        });
        read.with_context(|| format!("cannot read {}", self.name()))?;
        let mut counts = Counts::default();
        for stream in streams.values_mut() {
            stream.drain(trying);
            counts += stream.counts;
        }
        bar.clear();
        Ok(counts)
    }
}

/// Progress on a terminal.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(length: u64, template: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    fn at(&self, position: u64, message: &str) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
            bar.set_message(message.to_owned());
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Trying<'_> {
    fn progress(&self) -> String {
        format!("{} exchanges", grouped(self.totals.exchanges))
    }
}
