//! The block list of an embedded pipeline: the fold of `detect/blocklist.rs` in the process that has the store.
//!
//! What the fold changes goes to the topic file and to a journal beside the store's manifest, and both count with the commit
//! that they belong to: a kill at any instant leaves the list before a flush or the list after it. Proposals of people lie in
//! the store's [inbox]; how far they were applied is committed too, so each counts once.
//!
//! One process at a time has the store. Usually that is `gatewatch run`, through its [`Committer`](super::Committer). While
//! nobody runs the pipeline it is whoever wants something of the list, through a [`Desk`].

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::RecordBatch;

use super::commit::open_edges;
use super::proposing::{self, Decided};
use super::run::Fault;
use crate::clock;
use crate::config::{PublishSettings, Settings};
use crate::detect::blocklist::{BlockList, ENDED, Edit, Rules};
use crate::detect::thresholds::{Said, Watch};
use crate::model::{BlockEntry, Proposal};
use crate::publish::blocklist::lines::{self, Held, Why};
use crate::publish::blocklist::{self as wire, Cause, Entry};
use crate::publish::feed::Feed;
use crate::publish::file::{TopicError, TopicFiles};
use crate::publish::{BLOCK_LIST, PROPOSALS};
use crate::store::StoreSettings;
use crate::store::local::{Commit, Journal, LocalStore, StoreError, inbox};

/// Bytes appended to the journal after which it may be written anew.
const APPENDED: u64 = 1 << 20;

/// What a pipeline file says about the list.
pub(super) fn rules(settings: &Settings) -> Rules {
    Rules {
        enforce: settings.block_list.enforce,
        allow: settings.block_list.allow.clone(),
        max: settings.block_list.max,
        log_only: settings.block_list.log_only(),
    }
}

/// The list, and what changed since the last commit.
pub(super) struct Listing {
    pipeline: String,
    list: BlockList,
    watch: Watch,
    /// How old events may be that list somebody, milliseconds.
    max_age: Option<i64>,
    /// Changes so far: what stands for an offset in the log of proposals.
    sequence: u64,
    /// How far the inbox was taken.
    taken: u64,
    /// Bytes of the journal when it was last written anew, and since.
    whole: u64,
    appended: u64,
    pending: Pending,
}

/// What is to be committed.
#[derive(Default)]
struct Pending {
    /// Lines of the topic files.
    changes: Vec<u8>,
    outcomes: Vec<u8>,
    journal: lines::Journal,
    edits: Vec<Edit>,
    decided: BTreeMap<&'static str, u64>,
    /// Whether something else is to be remembered: how far the inbox was taken, what thresholds have said.
    moved: bool,
}

/// What a commit published.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    /// Changes of the list.
    pub(super) changes: u64,
    /// What became of proposals, and how many entries ended.
    pub(super) decided: BTreeMap<&'static str, u64>,
    /// How far the inbox was taken.
    pub(super) taken: u64,
}

impl Listing {
    /// Takes the list up where the store has it, and brings it in line with the pipeline file.
    pub(super) fn open(settings: &Settings, store: &LocalStore, now: i64) -> Result<Self, Fault> {
        let journal = store.journal()?;
        let held = lines::read(&settings.name, &journal).map_err(Fault::BlockList)?;
        let Held {
            entries,
            sequence,
            taken,
            said,
        } = held;
        let mut listing = Self {
            pipeline: settings.name.clone(),
            list: BlockList::new(rules(settings), entries.into_values()),
            watch: Watch::new(settings.block_list.thresholds.clone(), said),
            max_age: settings.block_list.max_age,
            sequence,
            taken,
            whole: journal.len() as u64,
            appended: 0,
            pending: Pending::default(),
        };
        listing.expire(now);
        let edits = listing.list.reconcile(now);
        listing.caused(Cause::Configuration, edits, now);
        Ok(listing)
    }

    /// Applies what others have left in the inbox, and ends what is over. Gives whether there is something to commit.
    pub(super) fn tend(&mut self, folder: &Path, now: i64) -> Result<bool, StoreError> {
        self.expire(now);
        loop {
            let lines = inbox::left(folder, self.taken)?;
            if lines.is_empty() {
                return Ok(self.is_pending());
            }
            for (line, end) in lines {
                match wire::parse(&self.pipeline, &line) {
                    Ok(Entry::Proposal(proposal)) => self.apply(&proposal, now),
                    Ok(Entry::Outcome(_) | Entry::Foreign) => {}
                    Err(problem) => tracing::warn!(
                        "the proposal before byte {end} of the inbox is not readable: {problem}"
                    ),
                }
                self.taken = end;
                self.pending.moved = true;
            }
        }
    }

    /// How far back rows of the windows matter, milliseconds.
    pub(super) fn reach(&self) -> i64 {
        self.watch.reach()
    }

    /// The tables whose rows matter.
    pub(super) fn tables(&self) -> &'static [&'static str] {
        if self.watch.watches_sessions() {
            &["entity_windows", "session_windows"]
        } else {
            &["entity_windows"]
        }
    }

    /// Adds rows of one of these tables, of a flush.
    pub(super) fn add(&mut self, rows: &RecordBatch) {
        self.watch.add(rows);
    }

    /// Takes over rows of one of these tables as the store has them.
    pub(super) fn add_merged(&mut self, rows: &[RecordBatch]) {
        self.watch.add_merged(rows);
    }

    /// A decision at this moment.
    pub(super) fn decided(&self, now: i64) -> Decided {
        Decided {
            now,
            max_age: self.max_age,
        }
    }

    /// Lists what crossed a threshold with the rows added since the last look.
    pub(super) fn look(&mut self, now: i64) {
        let (crossings, changed) = self.watch.look();
        for key in &changed {
            let nothing = Said::new();
            let said = self.watch.said(key).unwrap_or(&nothing);
            self.pending.journal.said(key, said);
            self.pending.moved = true;
        }
        let found = (self.watch.thresholds(), crossings.as_slice());
        let proposals = proposing::by_thresholds(&self.pipeline, found, self.decided(now));
        for proposal in &proposals {
            self.apply(proposal, now);
        }
    }

    /// Applies one proposal.
    pub(super) fn apply(&mut self, proposal: &Proposal, now: i64) {
        self.sequence += 1;
        let decision = self.list.apply(proposal, self.sequence, now);
        let outcome = decision.outcome.as_str();
        *self.pending.decided.entry(outcome).or_default() += 1;
        if let Some(edit) = decision.edit.clone() {
            self.note(edit, Why::Proposed(proposal, decision.outcome), now);
        }
        if proposal.answer {
            let outcome = wire::outcome(&self.pipeline, proposal, &decision);
            let line = outcome.value.unwrap_or_default();
            self.pending.outcomes.extend(line);
            self.pending.outcomes.push(b'\n');
        }
    }

    fn expire(&mut self, now: i64) {
        let edits = self.list.expire(now);
        self.caused(Cause::Expired, edits, now);
    }

    fn caused(&mut self, cause: Cause, edits: Vec<Edit>, now: i64) {
        for edit in edits {
            self.sequence += 1;
            *self.pending.decided.entry(ENDED).or_default() += 1;
            self.note(edit, Why::Caused(cause), now);
        }
    }

    fn note(&mut self, edit: Edit, why: Why<'_>, now: i64) {
        let event = lines::change(&self.pipeline, &edit, why, self.sequence, now);
        self.pending.changes.extend(event.to_line().into_bytes());
        self.pending.journal.edit(&self.pipeline, &edit);
        self.pending.edits.push(edit);
    }

    fn is_pending(&self) -> bool {
        self.pending.moved || !self.pending.edits.is_empty() || !self.pending.outcomes.is_empty()
    }

    /// Appends what is pending to the topic files, and gives what the journal becomes with the commit.
    pub(super) fn write(&mut self, topics: &mut TopicFiles) -> Result<Option<Journal>, TopicError> {
        if !self.is_pending() {
            return Ok(None);
        }
        topics.append(BLOCK_LIST, &self.pending.changes)?;
        topics.append(PROPOSALS, &self.pending.outcomes)?;
        let mut journal = std::mem::take(&mut self.pending.journal);
        journal.position(self.sequence, self.taken);
        self.appended += journal.lines.len() as u64;
        if self.appended <= self.whole.max(APPENDED) {
            return Ok(Some(Journal::Append(journal.lines)));
        }
        let mut whole = lines::Journal::default();
        for entry in self.list.entries() {
            whole.edit(&self.pipeline, &Edit::Listed(entry.clone()));
        }
        for (key, said) in self.watch.all_said() {
            whole.said(key, said);
        }
        whole.position(self.sequence, self.taken);
        self.whole = whole.lines.len() as u64;
        self.appended = 0;
        Ok(Some(Journal::Replace(whole.lines)))
    }

    /// The list as it is, for a feed that begins.
    pub(super) fn entries(&self) -> Vec<BlockEntry> {
        self.list.entries().cloned().collect()
    }

    /// What was pending counts now, and gateways may know it.
    pub(super) fn committed(&mut self, feed: &Feed) -> Published {
        let pending = std::mem::take(&mut self.pending);
        feed.apply(&pending.edits);
        Published {
            changes: pending.edits.len() as u64,
            decided: pending.decided,
            taken: self.taken,
        }
    }
}

/// The block list of an embedded pipeline that nobody runs.
pub struct Desk {
    store: LocalStore,
    topics: TopicFiles,
    listing: Listing,
    folder: std::path::PathBuf,
}

impl Desk {
    /// Opens store and topics; `None` = another process has them, and applies what is left in its inbox.
    ///
    /// # Errors
    /// They cannot be used, or the pipeline is not embedded.
    pub fn open(settings: &Settings) -> Result<Option<Self>, Fault> {
        let (StoreSettings::Local(folder), PublishSettings::File(topics)) =
            (&settings.store, &settings.publish)
        else {
            return Err(Fault::Stage("configuration"));
        };
        let (store, topics) = match open_edges(settings, folder, topics) {
            Ok(edges) => edges,
            Err(fault) if fault.is_locked() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let listing = Listing::open(settings, &store, clock::now_millis())?;
        Ok(Some(Self {
            store,
            topics,
            listing,
            folder: folder.clone(),
        }))
    }

    /// Applies what was left in the inbox.
    ///
    /// # Errors
    /// The disk refuses; what was left stays there.
    pub fn tend(&mut self) -> Result<(), Fault> {
        let now = clock::now_millis();
        if !self.listing.tend(&self.folder, now)? {
            return Ok(());
        }
        let journal = self.listing.write(&mut self.topics)?;
        self.store.commit(Commit {
            sums: &[],
            events: None,
            checkpoint: None,
            outgrown: None,
            topics: self.topics.lengths(),
            detections: None,
            journal,
            stored_at: now,
        })?;
        // Nobody listens here: whoever runs the pipeline next begins with what is stored.
        let published = self.listing.committed(&Feed::new());
        inbox::make_room(&self.folder, published.taken)?;
        Ok(())
    }
}
