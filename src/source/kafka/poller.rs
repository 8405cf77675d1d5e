//! The polling thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::{Change, Context};
use super::slot::Slot;
use super::{
    Assignment, Commit, Committed, Event, Lag, Lease, Refused, Request, Settings, SourceError,
    TopicPartition,
};
use crate::clock::Stopwatch;
use crate::wire::kafka;

/// Bytes of records under way to their judge over all partitions; a partition has its share, and at least
/// [`LEAST_BUDGET`].
const BUDGET: usize = 64 << 20;
/// Smallest share of one partition: two events of the default greatest size.
const LEAST_BUDGET: usize = 4 << 20;
/// A batch is handed on at this size, bytes.
const BATCH_BYTES: usize = 512 << 10;
/// … or at this many records.
const BATCH_RECORDS: usize = 2_048;
/// Longest sleep without anything to do: how late a rebalance is served.
const TICK: Duration = Duration::from_millis(20);
/// How long one question to the cluster may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before a partition that could not be asked about is asked about again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the broker may refuse our generation before we join anew: about as long as a rebalance takes.
const DOUBT: Duration = Duration::from_secs(10);
/// Pause before a failed question is asked again.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Takes what the thread says; must not block.
pub(super) type Deliver = Box<dyn FnMut(Event) + Send>;

pub(super) struct Poller {
    consumer: Arc<BaseConsumer<Context>>,
    topics: Vec<String>,
    slots: HashMap<TopicPartition, Slot>,
    epochs: u64,
    commits: Vec<Commit>,
    /// The membership is to be renewed: somebody else may own what we were assigned, or a position is not there any more,
    /// after which librdkafka reads a partition only once it is assigned anew. Where to go on is decided as at every
    /// assignment.
    rejoin: bool,
    /// Since when the broker has doubted our membership.
    doubted: Option<Stopwatch>,
    /// Whether the cluster has ever accepted us.
    accepted: bool,
    wake: Sender<Request>,
    deliver: Deliver,
    lag: Lag,
}

impl Poller {
    pub(super) fn new(
        settings: &Settings,
        lag: Lag,
        wake: Sender<Request>,
        deliver: Deliver,
    ) -> Result<Self, SourceError> {
        let mut config = kafka::client(&settings.brokers, &std::collections::BTreeMap::new());
        config
            .set("statistics.interval.ms", "5000")
            .set("fetch.wait.max.ms", "100")
            // Bounds what librdkafka holds for each partition that is not being polled.
            .set("queued.max.messages.kbytes", "8192")
            // A full queue is filled again at once when it has room; the default of a second is most of the time here.
            .set("fetch.queue.backoff.ms", "10");
        for (name, value) in &settings.options {
            config.set(name, value);
        }
        config
            .set("group.id", &settings.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false");
        let refused = |error: KafkaError| SourceError::Options(error.to_string());
        let consumer: BaseConsumer<Context> = config
            .create_with_context(Context::new(lag.clone()))
            .map_err(refused)?;
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(refused)?;
        Ok(Self {
            consumer: Arc::new(consumer),
            topics: settings.topics.clone(),
            slots: HashMap::new(),
            epochs: 0,
            commits: Vec::new(),
            rejoin: false,
            doubted: None,
            accepted: false,
            wake,
            deliver,
            lag,
        })
    }

    /// Polls until told to stop or refused for good.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        let last = match self.work(requests) {
            Ok(()) => Event::Stopped,
            Err(error) => Event::Failed(error),
        };
        for commit in self.commits.drain(..) {
            let _ = commit.done.send(Err(Refused));
        }
        // The queues hold the consumer; they go first, so that dropping the consumer leaves the group.
        self.slots.clear();
        let Self {
            consumer,
            mut deliver,
            ..
        } = self;
        drop(consumer);
        deliver(last);
    }

    fn work(&mut self, requests: &Receiver<Request>) -> Result<(), SourceError> {
        loop {
            let mut busy = self.poll_main()?;
            self.follow_changes();
            self.learn();
            self.start_waiting();
            busy |= self.poll_partitions();
            self.commit()?;
            self.renew();
            let wait = if busy { Duration::ZERO } else { TICK };
            let mut request = requests.recv_timeout(wait);
            loop {
                match request {
                    Ok(Request::Start { lease, from, reach }) => self.start(&lease, from, reach),
                    Ok(Request::Commit(commit)) => self.commits.push(commit),
                    Ok(Request::Wake) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    // Without anybody who can ask, nobody listens either.
                    Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
                request = requests.recv_timeout(Duration::ZERO);
            }
        }
    }

    /// Serves rebalances and errors. Records of partitions that are being read have queues of their own.
    fn poll_main(&mut self) -> Result<bool, SourceError> {
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(Duration::ZERO) {
            // A record fetched before its partition was started; it is fetched again after the seek.
            Some(Ok(_)) => Ok(true),
            Some(Err(error)) => self.judge(error).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether an error passes by itself.
    fn judge(&mut self, error: KafkaError) -> Result<(), SourceError> {
        if let KafkaError::PartitionEOF(_) = error {
            return Ok(());
        }
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        if fatal || (!self.accepted && kafka::is_definite(&error)) {
            let words = self.consumer.context().words();
            return Err(SourceError::Definite { error, words });
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation) => {
                tracing::warn!("a position is not there any more: {error}");
                self.rejoin = true;
            }
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => {
                let topics = self.topics.join(", ");
                tracing::warn!(
                    "a topic is missing ({topics}): {error}; waiting for it to be created"
                );
            }
            _ => tracing::warn!("Kafka: {error}; trying again"),
        }
        Ok(())
    }

    /// Ends and begins leases as the group decided.
    fn follow_changes(&mut self) {
        for change in self.consumer.context().changes() {
            match change {
                Change::Assigned(names) => {
                    if !std::mem::replace(&mut self.accepted, true) {
                        (self.deliver)(Event::Joined);
                    }
                    for (topic, partition) in names {
                        let topic = Arc::from(topic);
                        self.lease(TopicPartition { topic, partition });
                    }
                }
                Change::Revoked(names) => {
                    for (topic, partition) in names {
                        let topic = Arc::from(topic);
                        self.end(&TopicPartition { topic, partition });
                    }
                }
            }
        }
    }

    /// Begins a lease; an earlier one of the same partition ends.
    fn lease(&mut self, at: TopicPartition) {
        self.end(&at);
        self.epochs += 1;
        let epoch = self.epochs;
        let lease = Lease {
            at: at.clone(),
            epoch,
        };
        self.slots.insert(at, Slot::new(lease));
    }

    /// Ends a lease: what was collected is dropped, and no commit for it happens from here on.
    fn end(&mut self, at: &TopicPartition) {
        if let Some(slot) = self.slots.remove(at) {
            (self.deliver)(Event::Revoked(slot.lease));
        }
    }

    /// Asks the group for the offsets of new partitions, all at once. A partition that cannot be asked about now, because
    /// it has no leader, holds no other one up.
    fn learn(&mut self) {
        let due = |slot: &&Slot| {
            let asked = slot.asked.as_ref();
            slot.unknown && asked.is_none_or(|asked| asked.elapsed() >= AGAIN)
        };
        let new: Vec<TopicPartition> = self
            .slots
            .values()
            .filter(due)
            .map(|slot| slot.lease.at.clone())
            .collect();
        if new.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for at in &new {
            list.add_partition(&at.topic, at.partition);
        }
        let known = self.consumer.committed_offsets(list, PATIENCE);
        for at in new {
            let learned = known
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|known| self.standing(&at, known));
            let Some(slot) = self.slots.get_mut(&at) else {
                continue;
            };
            match learned {
                Ok((committed, low, high)) => {
                    slot.unknown = false;
                    (self.deliver)(Event::Assigned(Assignment {
                        lease: slot.lease.clone(),
                        committed,
                        low,
                        high,
                    }));
                }
                Err(error) => {
                    slot.asked = Some(Stopwatch::start());
                    tracing::warn!("cannot learn where {at} stands: {error}; trying again");
                    // The others are asked about after the next poll, so that waiting for many does not add up.
                    return;
                }
            }
        }
    }

    /// What is committed of a partition, and where it begins and ends.
    fn standing(
        &self,
        at: &TopicPartition,
        known: &TopicPartitionList,
    ) -> Result<(Option<Committed>, u64, u64), KafkaError> {
        let mut committed = None;
        if let Some(element) = known.find_partition(&at.topic, at.partition) {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                committed = Some((unsigned(offset), element.metadata().to_owned()));
            }
        }
        let (low, high) = self
            .consumer
            .fetch_watermarks(&at.topic, at.partition, PATIENCE)?;
        Ok((committed, unsigned(low), unsigned(high)))
    }

    fn start(&mut self, lease: &Lease, from: u64, reach: u64) {
        if let Some(slot) = self.slots.get_mut(&lease.at)
            && slot.lease == *lease
        {
            slot.start = Some((from, reach));
        }
    }

    /// Starts what is to be started and can be.
    fn start_waiting(&mut self) {
        for slot in self.slots.values_mut() {
            let Some((from, reach)) = slot.start else {
                continue;
            };
            if let Err(error) = slot.begin(&self.consumer, &self.wake, from, reach) {
                tracing::debug!("{} cannot be read yet: {error}", slot.lease.at);
                continue;
            }
            slot.start = None;
        }
    }

    /// Takes records of every partition that has budget left.
    fn poll_partitions(&mut self) -> bool {
        let budget = (BUDGET / self.slots.len().max(1)).max(LEAST_BUDGET);
        let lag = &self.lag;
        let mut busy = false;
        let mut misplaced = false;
        for slot in self.slots.values_mut() {
            let Some(queue) = slot.queue.take() else {
                continue;
            };
            let known = lag.end_of(&slot.lease.at);
            let mut empty = false;
            for _ in 0..BATCH_RECORDS {
                if slot.under_way.load(Ordering::Relaxed) + slot.pending.bytes.len() >= budget {
                    break;
                }
                match queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => {
                        busy = true;
                        slot.keep(&message);
                        if slot.pending.bytes.len() >= BATCH_BYTES {
                            slot.hand_on(budget, &self.wake, &mut self.deliver);
                        }
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => {
                        slot.hand_on(budget, &self.wake, &mut self.deliver);
                        slot.reached(lag.version(), &mut self.deliver);
                    }
                    Some(Err(error)) => {
                        misplaced |= matches!(
                            error.rdkafka_error_code(),
                            Some(
                                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation
                            )
                        );
                        tracing::warn!("{}: {error}", slot.lease.at);
                    }
                    None => {
                        empty = true;
                        break;
                    }
                }
            }
            slot.hand_on(budget, &self.wake, &mut self.deliver);
            if empty {
                slot.emptied(known, &mut self.deliver);
            }
            slot.queue = Some(queue);
        }
        self.rejoin |= misplaced;
        busy
    }

    /// Commits everything that was asked for in one request to the broker; what cannot be committed now stays.
    fn commit(&mut self) -> Result<(), SourceError> {
        let mut alive = Vec::with_capacity(self.commits.len());
        for commit in std::mem::take(&mut self.commits) {
            let slot = self.slots.get(&commit.lease.at);
            if slot.is_some_and(|slot| slot.lease == commit.lease) {
                alive.push(commit);
            } else {
                let _ = commit.done.send(Err(Refused));
            }
        }
        // A lost assignment is revoked with the next poll; until then somebody else may own it already.
        if alive.is_empty() || self.consumer.assignment_lost() {
            self.commits = alive;
            return Ok(());
        }
        match self.consumer.commit(&listed(&alive), CommitMode::Sync) {
            Ok(()) => {
                self.doubted = None;
                for commit in alive {
                    let _ = commit.done.send(Ok(()));
                }
                Ok(())
            }
            Err(error) => self.uncommitted(alive, error),
        }
    }

    /// What becomes of commits that the broker did not take.
    fn uncommitted(&mut self, alive: Vec<Commit>, error: KafkaError) -> Result<(), SourceError> {
        let code = error.rdkafka_error_code();
        match code {
            Some(RDKafkaErrorCode::OffsetMetadataTooLarge) => {
                let longest = alive.iter().map(|commit| commit.metadata.len()).max();
                self.commits = alive;
                return Err(SourceError::Metadata(longest.unwrap_or_default()));
            }
            Some(
                RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::StaleMemberEpoch
                | RDKafkaErrorCode::FencedMemberEpoch,
            ) => {
                // While the group rebalances this says nothing yet: the next generation is about to be told. When it is
                // not, the group goes on without us.
                let since = self.doubted.get_or_insert_with(Stopwatch::start);
                if since.elapsed() >= DOUBT {
                    tracing::warn!("the group goes on without us ({error}); joining again");
                    self.rejoin = true;
                }
            }
            _ if kafka::is_definite(&error) => {
                self.commits = alive;
                let words = self.consumer.context().words();
                return Err(SourceError::Definite { error, words });
            }
            // A rebalance in progress, a coordinator that moves, a broker that is down: asked again after a poll. One
            // partition that is gone must not hold up the others.
            _ if alive.len() > 1 && code != Some(RDKafkaErrorCode::RebalanceInProgress) => {
                for commit in alive {
                    let alone = listed(std::slice::from_ref(&commit));
                    if self.consumer.commit(&alone, CommitMode::Sync).is_ok() {
                        let _ = commit.done.send(Ok(()));
                    } else {
                        self.commits.push(commit);
                    }
                }
                tracing::warn!("offsets are not all committed yet: {error}");
                std::thread::sleep(BACK_OFF);
                return Ok(());
            }
            _ => tracing::warn!("offsets are not committed yet: {error}"),
        }
        self.commits = alive;
        std::thread::sleep(BACK_OFF);
        Ok(())
    }

    /// Ends every lease and joins the group anew.
    fn renew(&mut self) {
        if !std::mem::take(&mut self.rejoin) {
            return;
        }
        self.doubted = None;
        let all: Vec<TopicPartition> = self.slots.keys().cloned().collect();
        for at in &all {
            self.end(at);
        }
        for commit in self.commits.drain(..) {
            let _ = commit.done.send(Err(Refused));
        }
        self.consumer.unsubscribe();
        // The revocation of what was assigned is served here, so that it cannot end a lease of the next membership.
        while self
            .consumer
            .assignment()
            .is_ok_and(|list| list.count() > 0)
        {
            self.consumer.poll(TICK);
        }
        self.consumer.context().changes();
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            tracing::error!("cannot subscribe again: {error}");
            self.rejoin = true;
        }
    }
}

/// The offsets to commit, with their metadata.
fn listed(commits: &[Commit]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for commit in commits {
        let at = &commit.lease.at;
        let offset = i64::try_from(commit.offset).unwrap_or(i64::MAX);
        let mut element = list.add_partition(&at.topic, at.partition);
        if let Err(error) = element.set_offset(Offset::Offset(offset)) {
            tracing::warn!("{at}: {error}");
        }
        element.set_metadata(&commit.metadata);
    }
    list
}

/// Offsets of real records are never negative.
pub(super) fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or_default()
}
