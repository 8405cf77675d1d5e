//! `gatewatch generate`: synthetic traffic with known truth, to a file, standard output or a Kafka topic.
//!
//! Enters: arguments. Leaves: NDJSON in format `gatewatch`, on request a pipeline folder that reads it and a file with the truth.
//! What the traffic consists of is in [`crate::traffic`].

mod kafka;

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Stopwatch;
use crate::model::EventTime;
use crate::traffic::{
    DEFAULT_LATE_PER_MILLE, DEFAULT_SPAN_SECONDS, DEFAULT_START_SECONDS, Generator, Scenario, Truth,
};

/// First line of the pipeline files that are ours to overwrite.
const OURS: &str = "# Written by `gatewatch generate`.";
/// Name of the log in a pipeline folder.
const LOG: &str = "traffic.ndjson";
/// Bytes that are collected before they are written.
const CHUNK: usize = 1 << 18;
/// Longest sleep while pacing, so that the output flows instead of coming in bursts.
const PACE: Duration = Duration::from_millis(20);

/// Make synthetic traffic with known truth
///
/// Writes events in format `gatewatch`, one JSON object per line: good, expired and forged tokens, client certificates,
/// requests against their schema, halves that travel apart, late and lost lines. On request also a pipeline that reads
/// them, and the reports that it must give.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gatewatch generate --events 1000                       print a thousand exchanges
  gatewatch generate --pipeline demo --truth truth.json  a folder to run: log, pipeline file, schemas, keys
  gatewatch run demo/pipeline.toml                       … and running it
  gatewatch generate --rate 200/s --out - | gatewatch run PIPELINE.toml   a stream (source.path = \"-\")
  gatewatch generate --kafka localhost:9092 --topic events --partitions 4 --rate 1000/s   to Kafka")]
pub struct Args {
    /// Equal seeds (with equal other arguments) give equal bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Exchanges to make; there are more lines, because some requests and responses travel apart
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    events: u64,

    /// Lines per second of wall time, such as 200/s; as fast as possible when missing
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Event time that the traffic covers, such as 90m, 40h or 7d
    #[arg(long, value_name = "DURATION", value_parser = parse_span, default_value_t = Span(DEFAULT_SPAN_SECONDS))]
    span: Span,

    /// Event time at which the traffic begins (RFC 3339); the embedded certificates lapse and are revoked in the 40 hours after
    /// the default, 2026-11-18T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_start)]
    start: Option<EventTime>,

    /// Exchanges in a thousand that are delivered up to 20 minutes late
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LATE_PER_MILLE, value_parser = clap::value_parser!(u32).range(0..=1000))]
    late_per_mille: u32,

    /// Lines that must be rejected, per thousand exchanges
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    bad_per_mille: u32,

    /// What the traffic goes to
    #[arg(long, value_enum, default_value_t = Zones::Everything)]
    scenario: Zones,

    /// File to write, or - for standard output [default: traffic.ndjson in the folder of --pipeline, else -]
    #[arg(long, value_name = "FILE|-")]
    out: Option<PathBuf>,

    /// Brokers of a Kafka cluster (host:port, separated by commas) to produce the lines to
    #[arg(long, value_name = "BROKERS", requires = "topic", conflicts_with_all = ["out", "pipeline"])]
    kafka: Option<String>,

    /// Topic to produce to; the key of a record is the id of its exchange
    #[arg(long, value_name = "TOPIC", requires = "kafka")]
    topic: Option<String>,

    /// Create the topic with this many partitions when it is missing
    #[arg(long, value_name = "N", requires = "kafka", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,

    /// Option of librdkafka, such as security.protocol=ssl; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", requires = "kafka", value_parser = parse_option)]
    option: Vec<(String, String)>,

    /// Folder to write a complete pipeline into that reads the log: pipeline.toml, schemas, keys, certificates
    #[arg(long, value_name = "DIR")]
    pipeline: Option<PathBuf>,

    /// File to write the truth to: the reports that the pipeline must give for 24h and 7d, labels, insights, rejects
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
}

/// Which zones there are.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Zones {
    /// One shop: API, partner feed with client certificates, old site without a schema
    Demo,
    /// The shop, a bank whose sessions are token claims, and a zone without configuration
    Everything,
}

/// Seconds of event time.
#[derive(Clone, Copy, Debug)]
struct Span(u32);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            seconds if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

fn parse_span(text: &str) -> Result<Span, String> {
    let wrong = || "a whole number above zero with s, m, h or d, such as 40h".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text
        .get(..text.len() - 1)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(wrong)?;
    match number.checked_mul(unit) {
        None | Some(0) => Err(wrong()),
        Some(seconds) => Ok(Span(seconds)),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a number above zero, such as 200/s".to_owned()),
    }
}

fn parse_option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a name and a value, such as security.protocol=ssl".to_owned()),
    }
}

fn parse_start(text: &str) -> Result<EventTime, String> {
    EventTime::parse(text).ok_or_else(|| {
        "an RFC 3339 time between 1970 and 2100, such as 2026-11-18T00:00:00Z".into()
    })
}

/// Writes the traffic.
///
/// # Errors
/// When a file cannot be written, or the pipeline folder holds a pipeline file that was not written here. A reader that closes the
/// pipe early is no error.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let scenario = match args.scenario {
        Zones::Demo => Scenario::demo(),
        Zones::Everything => Scenario::everything(),
    };
    let Some(start) = args
        .start
        .or(EventTime::from_seconds(DEFAULT_START_SECONDS))
    else {
        bail!("the start lies outside 1970–2100");
    };
    // A day more, because late responses follow the last request.
    if EventTime::from_seconds(start.seconds() + i64::from(args.span.0) + 86_400).is_none() {
        bail!("start and span reach beyond the year 2100");
    }
    let out = match (&args.out, &args.pipeline) {
        (Some(out), _) => out.clone(),
        (None, Some(folder)) => folder.join(LOG),
        (None, None) => PathBuf::from("-"),
    };
    if let Some(folder) = &args.pipeline {
        write_pipeline(folder, &scenario, &out)?;
    }

    let mut generator = Generator::new(&scenario, args.seed, args.events, start, args.span.0)?
        .late_per_mille(args.late_per_mille)
        .bad_per_mille(args.bad_per_mille);
    if let Some(brokers) = &args.kafka {
        produce(args, brokers, &mut generator)?;
        return write_truth(args, &generator);
    }
    let progress = progress(args.events, &out);
    let written = if out == Path::new("-") {
        let stdout = io::stdout().lock();
        write_lines(&mut generator, stdout, args.rate, &progress)
    } else {
        let file = File::create(&out).with_context(|| format!("cannot write {}", out.display()))?;
        write_lines(&mut generator, file, args.rate, &progress)
    };
    progress.finish_and_clear();
    match written {
        Ok(()) => {}
        // Whoever read has seen enough; the truth would be that of lines nobody saw.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write {}", out.display()));
        }
    }

    write_truth(args, &generator)
}

/// Produces to Kafka and says how many records were delivered.
fn produce(args: &Args, brokers: &str, generator: &mut Generator) -> anyhow::Result<()> {
    let target = kafka::Target {
        brokers,
        topic: args.topic.as_deref().unwrap_or_default(),
        partitions: args.partitions,
        options: args.option.iter().cloned().collect(),
    };
    let bar = bar(args.events);
    let delivered = kafka::produce(generator, &target, Pace::start(args.rate), &bar);
    bar.finish_and_clear();
    eprintln!(
        "{} records delivered to {}",
        super::grouped(delivered?),
        target.topic
    );
    Ok(())
}

fn write_truth(args: &Args, generator: &Generator) -> anyhow::Result<()> {
    if let Some(path) = &args.truth {
        let mut text = serde_json::to_string_pretty(&generator.truth().document())?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Writes a pipeline folder with its log for `gatewatch demo`, and says what the pipeline must find in it.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write_demo(folder: &Path, seed: u64, events: u64) -> anyhow::Result<Truth> {
    let scenario = Scenario::demo();
    let log = folder.join(LOG);
    write_pipeline(folder, &scenario, &log)?;
    let Some(start) = EventTime::from_seconds(DEFAULT_START_SECONDS) else {
        bail!("the start lies outside 1970–2100");
    };
    let mut generator = Generator::new(&scenario, seed, events, start, DEFAULT_SPAN_SECONDS)?;
    let progress = progress(events, &log);
    let written = File::create(&log)
        .and_then(|file| write_lines(&mut generator, file, None, &progress))
        .with_context(|| format!("cannot write {}", log.display()));
    progress.finish_and_clear();
    written?;
    Ok(generator.truth().clone())
}

/// Writes every line, at most `rate` a second.
fn write_lines(
    generator: &mut Generator,
    to: impl Write,
    rate: Option<f64>,
    progress: &ProgressBar,
) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(CHUNK, to);
    let pace = Pace::start(rate);
    let mut line = Vec::new();
    let mut lines = 0_u64;
    loop {
        line.clear();
        if !generator.next_line(&mut line) {
            break;
        }
        to.write_all(&line)?;
        lines += 1;
        if lines.is_multiple_of(4096) {
            progress.set_position(generator.made());
        }
        pace.wait::<io::Error>(lines, &mut |left| {
            to.flush()?;
            progress.set_position(generator.made());
            std::thread::sleep(left);
            Ok(())
        })?;
    }
    to.flush()
}

/// Holds lines back to a rate.
#[derive(Clone, Copy, Debug)]
struct Pace {
    watch: Stopwatch,
    rate: Option<f64>,
}

impl Pace {
    /// Starts now; without a rate nothing is held back.
    fn start(rate: Option<f64>) -> Self {
        Self {
            watch: Stopwatch::start(),
            rate,
        }
    }

    /// Calls `rest` with short times to wait, as often as it takes until the next line after so many is due.
    fn wait<E>(self, lines: u64, rest: &mut dyn FnMut(Duration) -> Result<(), E>) -> Result<(), E> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        let due = Duration::from_secs_f64(lines as f64 / rate);
        while let Some(left) = due
            .checked_sub(self.watch.elapsed())
            .filter(|left| !left.is_zero())
        {
            rest(left.min(PACE))?;
        }
        Ok(())
    }
}

/// A bar on standard error when that is a terminal and the lines go elsewhere.
fn progress(events: u64, out: &Path) -> ProgressBar {
    if out == Path::new("-") && io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    bar(events)
}

/// A bar on standard error when that is a terminal.
fn bar(events: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(events), ProgressDrawTarget::stderr());
    let style = "{bar:40} {human_pos} of {human_len} exchanges, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

/// Whether a pipeline file was written by this command.
pub(super) fn is_ours(pipeline: &Path) -> bool {
    fs::read_to_string(pipeline).is_ok_and(|text| text.starts_with(OURS))
}

/// Writes the files of a pipeline folder.
fn write_pipeline(folder: &Path, scenario: &Scenario, log: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let main = folder.join("pipeline.toml");
    match fs::read_to_string(&main) {
        Ok(text) if !text.starts_with(OURS) => bail!(
            "{} is there already and was not written by `gatewatch generate`\n    hint: choose another folder",
            main.display()
        ),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", main.display()));
        }
        Ok(_) | Err(_) => {}
    }
    // Paths in a pipeline file are relative to it, those of the command line to the working folder.
    let log = if log == Path::new("-") {
        log.to_path_buf()
    } else {
        match log.strip_prefix(folder) {
            Ok(inside) => inside.to_path_buf(),
            Err(_) => std::path::absolute(log)
                .with_context(|| format!("cannot find {}", log.display()))?,
        }
    };
    for (name, text) in scenario.pipeline_files(&log.display().to_string()) {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Args, Span, parse_rate, parse_span, run};

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Command::try_parse_from([&["generate"], words].concat()).map(|command| command.args)
    }

    #[test]
    fn spans_and_rates() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("40h", 144_000), ("7d", 604_800)] {
            assert_eq!(parse_span(text).map(|span| span.0), Ok(seconds));
        }
        for text in ["", "h", "0h", "4", "4 h", "-1h", "9999999999d", "1µ"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        assert_eq!(Span(144_000).to_string(), "40h");
        assert_eq!(parse_rate("200/s"), Ok(200.0));
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for text in ["0", "-1/s", "NaN", "inf", "fast"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_folder_to_run_is_written_twice_but_never_over_a_stranger() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = folder.path().join("demo");
        let truth = folder.path().join("truth.json");
        let words = [
            "--events",
            "500",
            "--pipeline",
            pipeline.to_str().unwrap(),
            "--truth",
            truth.to_str().unwrap(),
        ];
        let args = parse(&words).unwrap();
        run(&args).unwrap();
        let first = std::fs::read(pipeline.join("traffic.ndjson")).unwrap();
        run(&args).unwrap();
        assert!(first == std::fs::read(pipeline.join("traffic.ndjson")).unwrap());
        let text = std::fs::read_to_string(pipeline.join("pipeline.toml")).unwrap();
        assert!(text.contains("path = \"traffic.ndjson\""), "{text}");
        let truth: serde_json::Value =
            serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap();
        assert_eq!(truth["24h"]["range"], "24h");

        std::fs::write(pipeline.join("pipeline.toml"), "name = \"mine\"").unwrap();
        let error = run(&args).unwrap_err().to_string();
        assert!(error.contains("was not written by"), "{error}");
    }

    #[test]
    fn refusals_come_from_the_arguments() {
        for words in [
            ["--late-per-mille", "1001"],
            ["--span", "0h"],
            ["--start", "today"],
            ["--events", "many"],
        ] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
    }
}
