//! Candidates: rules, schemas, token configurations and a block list in files of their own, tried beside a pipeline's policy.
//!
//! Enters: a pipeline file and candidate files. Leaves: the pipeline's settings, and a second policy that has the candidates in
//! it, compiled whole as if they stood in the pipeline file; or every problem of every file. Nothing is stored.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::blocklist::read_blocklist;
use super::reader::{Section, Sheet};
use super::rules::read_rule;
use super::tokens::{TokenDefaults, read_tokens};
use super::zones::read_document;
use super::{BlockListSettings, Settings, Unusable, draft, folder_of, read, syntax};
use crate::model::{Problem, Problems};
use crate::policy::objects::{RuleObject, SchemaObject, TokenConfigurationObject, ZoneObject};
use crate::policy::{self, Policy};

/// Most candidates of one trial; each keeps counts of its own.
const MAX_CANDIDATES: usize = 100;

/// Files with candidates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidates<'f> {
    /// TOML with `[[rules]]`.
    pub rules: &'f [PathBuf],
    /// OpenAPI documents.
    pub schemas: &'f [PathBuf],
    /// TOML with `[[token_configurations]]`.
    pub token_configurations: &'f [PathBuf],
    /// TOML with `[blocklist]`.
    pub block_list: Option<&'f Path>,
    /// Zone of the candidates that do not say; `None` = the only one.
    pub zone: Option<&'f str>,
    /// Whether schemas come beside the zone's schemas, instead of taking their place.
    pub keep_schemas: bool,
}

/// A policy on trial.
#[derive(Debug)]
pub struct Trial {
    /// The pipeline, with the policy in force.
    pub settings: Settings,
    /// The policy with the candidates.
    pub policy: Arc<Policy>,
    /// The candidates, in the order of the command line.
    pub candidates: Vec<Candidate>,
    /// The block list on trial; that of the pipeline, where none is.
    pub block_list: BlockListSettings,
    /// What is accepted and hardly means what it says.
    pub warnings: Vec<Problem>,
}

/// What is on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of its zone, in both policies.
    pub zone: usize,
    /// Title of a rule or token configuration, name of a schema.
    pub title: String,
    /// What it is.
    pub subject: Subject,
}

/// What a candidate is, and whether it takes the place of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Index of the rule in the zone's rule book.
    Rule {
        /// The index.
        number: usize,
        /// Whether the policy in force has a rule of this name, at the same index.
        replaces: bool,
    },
    /// A schema.
    Schema {
        /// Whether it takes the place of the zone's schemas.
        replaces: bool,
    },
    /// Index of the configuration in the zone's.
    TokenConfiguration {
        /// The index.
        number: usize,
        /// Whether the policy in force has a configuration of this name, at the same index.
        replaces: bool,
    },
}

impl Subject {
    /// Whether it takes the place of something in the policy in force.
    #[must_use]
    pub fn replaces(self) -> bool {
        match self {
            Self::Rule { replaces, .. }
            | Self::Schema { replaces }
            | Self::TokenConfiguration { replaces, .. } => replaces,
        }
    }
}

/// Reads a pipeline file and compiles its policy twice: as it is, and with the candidates.
///
/// # Errors
/// Every problem of the pipeline file; of candidate files when there is none.
pub fn load_trial(path: &Path, files: &Candidates<'_>) -> Result<Trial, Vec<Unusable>> {
    let one = |unusable| vec![unusable];
    let (name, text) = read(path, "give the path of a pipeline file (TOML)").map_err(one)?;
    let (draft, present) = draft(&name, &text, folder_of(path)).map_err(one)?;
    let mut build = Build {
        pipeline: name,
        files,
        present: draft.zones.clone(),
        zones: draft.zones.clone(),
        candidates: Vec::new(),
        sheets: Vec::new(),
        moved: Vec::new(),
        unusable: Vec::new(),
    };
    for path in files.rules {
        build.read_toml(path, "rules", Build::add_rule);
    }
    for path in files.schemas {
        build.add_schema(path);
    }
    let defaults = &draft.token_defaults;
    for path in files.token_configurations {
        let folder = folder_of(path);
        build.read_toml(path, "token_configurations", |build, section, file| {
            build.add_tokens(section, file, folder, defaults);
        });
    }
    // Last, because its thresholds may name rules on trial.
    let block_list = files
        .block_list
        .and_then(|path| build.read_block_list(path));
    let (policy, warnings, candidates) = build.compile()?;
    let settings = draft.into_settings(present);
    let known: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
    let new = |problem: &Problem| !known.contains(&problem.to_string());
    let block_list = block_list.unwrap_or_else(|| settings.block_list.clone());
    Ok(Trial {
        settings,
        policy: Arc::new(policy),
        candidates,
        block_list,
        warnings: warnings.into_iter().filter(new).collect(),
    })
}

/// Where an object of the trial's zones was written.
struct Moved {
    /// Its place among the zones, `zones[0].rules[2]`.
    from: String,
    /// Number of its sheet.
    sheet: usize,
    /// Its place in that file, `rules[0]`.
    to: String,
}

/// Zones that candidates are added to.
struct Build<'b> {
    pipeline: String,
    files: &'b Candidates<'b>,
    present: Vec<ZoneObject>,
    zones: Vec<ZoneObject>,
    candidates: Vec<Candidate>,
    /// Candidate files by name, with their lines and problems.
    sheets: Vec<(String, Sheet)>,
    moved: Vec<Moved>,
    unusable: Vec<Unusable>,
}

impl Build<'_> {
    /// Reads every section called `key` of a file.
    fn read_toml(
        &mut self,
        path: &Path,
        key: &'static str,
        mut add: impl FnMut(&mut Self, &Section<'_>, usize),
    ) {
        self.read_file(path, |build, root, file| {
            let sections = root.sections(key);
            root.finish();
            if sections.is_empty() {
                let hint = format!("write [[{key}]] as below a zone of the pipeline file");
                root.problem(key, "nothing is written to try", &hint);
            }
            for section in &sections {
                if build.candidates.len() < MAX_CANDIDATES {
                    add(build, section, file);
                } else {
                    let message = format!("more than {MAX_CANDIDATES} candidates");
                    root.problem(key, message, "try them in several runs");
                    break;
                }
            }
        });
    }

    /// Reads a TOML file.
    fn read_file(&mut self, path: &Path, take: impl FnOnce(&mut Self, &Section<'_>, usize)) {
        let (name, text) = match read(path, "give the path of a TOML file") {
            Ok(found) => found,
            Err(unusable) => return self.unusable.push(unusable),
        };
        let sheet = Sheet::new(&text);
        let (document, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            return self.unusable.push(syntax(&name, &sheet, errors));
        }
        let file = self.sheets.len();
        let root = Section::new(&sheet, String::new(), Some(document.get_ref()));
        take(self, &root, file);
        drop(root);
        self.sheets.push((name, sheet));
    }

    fn read_block_list(&mut self, path: &Path) -> Option<BlockListSettings> {
        let mut found = None;
        self.read_file(path, |build, root, _| {
            let section = root.section("blocklist");
            root.finish();
            if !section.written() {
                let hint = "write [blocklist] and [[blocklist.thresholds]] as in a pipeline file";
                root.problem("blocklist", "nothing is written to try", hint);
            }
            found = Some(read_blocklist(&section, &build.zones));
        });
        found
    }

    fn add_rule(&mut self, section: &Section<'_>, file: usize) {
        let zone = self.zone_of(section);
        let mut rule = read_rule(section);
        // A rule that is switched off is tried as if it were on.
        rule.enabled = true;
        let Some(zone) = zone else { return };
        let named = |rule: &RuleObject| rule.id.clone().unwrap_or_else(|| rule.title.clone());
        let known = self.present.get(zone);
        let known = known.and_then(|zone| {
            let mut rules = zone.rules.iter();
            rules.position(|known| named(known) == named(&rule))
        });
        let Some(object) = self.zones.get_mut(zone) else {
            return;
        };
        let title = rule.title.clone();
        let free = |number: &usize| {
            let taken = |candidate: &Candidate| {
                let number = *number;
                candidate.zone == zone
                    && matches!(candidate.subject, Subject::Rule { number: at, .. } if at == number)
            };
            !self.candidates.iter().any(taken)
        };
        let replaced = known.filter(free);
        let number = put(&mut object.rules, replaced, rule);
        self.moved.push(Moved {
            from: format!("zones[{zone}].rules[{number}]"),
            sheet: file,
            to: section.place.clone(),
        });
        self.candidates.push(Candidate {
            zone,
            title,
            subject: Subject::Rule {
                number,
                replaces: replaced.is_some(),
            },
        });
    }

    fn add_tokens(
        &mut self,
        section: &Section<'_>,
        file: usize,
        folder: &Path,
        defaults: &TokenDefaults,
    ) {
        let zone = self.zone_of(section);
        let tokens = read_tokens(section, folder, defaults);
        let Some(zone) = zone else { return };
        let named = |tokens: &TokenConfigurationObject| {
            tokens.id.clone().unwrap_or_else(|| tokens.title.clone())
        };
        let known = self.present.get(zone);
        let known = known.and_then(|zone| {
            let mut configurations = zone.token_configurations.iter();
            configurations
                .position(|known| known.title == tokens.title || named(known) == named(&tokens))
        });
        let Some(object) = self.zones.get_mut(zone) else {
            return;
        };
        let title = tokens.title.clone();
        let free = |number: &usize| {
            let taken = |candidate: &Candidate| {
                let number = *number;
                candidate.zone == zone
                    && matches!(candidate.subject, Subject::TokenConfiguration { number: at, .. } if at == number)
            };
            !self.candidates.iter().any(taken)
        };
        let replaced = known.filter(free);
        let number = put(&mut object.token_configurations, replaced, tokens);
        self.moved.push(Moved {
            from: format!("zones[{zone}].token_configurations[{number}]"),
            sheet: file,
            to: section.place.clone(),
        });
        self.candidates.push(Candidate {
            zone,
            title,
            subject: Subject::TokenConfiguration {
                number,
                replaces: replaced.is_some(),
            },
        });
    }

    fn add_schema(&mut self, path: &Path) {
        let name = path.display().to_string();
        let refuse = |place: &str, message: String, hint: &str| {
            Unusable::one(name.clone(), place.to_owned(), message, hint)
        };
        if let Err(error) = std::fs::File::open(path) {
            let hint = "give the path of an OpenAPI document";
            return self
                .unusable
                .push(refuse("--schema", error.to_string(), hint));
        }
        let zone = match self.find_zone(self.files.zone) {
            Ok(zone) => zone,
            Err((message, hint)) => {
                return self.unusable.push(refuse("--zone", message, &hint));
            }
        };
        // The files that it refers to lie beside it.
        let sheet = Sheet::new("");
        let section = Section::new(&sheet, String::new(), None);
        let (document, referenced) = read_document(&section, Path::new(""), &name);
        drop(section);
        self.sheets.push((name.clone(), sheet));
        let present = self.present.get(zone).map(|zone| zone.schemas.as_slice());
        let present = present.unwrap_or_default();
        // Settings of the schema that it takes the place of.
        let settings = present.first().cloned().unwrap_or(SchemaObject {
            formats: true,
            ..SchemaObject::default()
        });
        let replaces = !self.files.keep_schemas && !present.is_empty();
        let Some(object) = self.zones.get_mut(zone) else {
            return;
        };
        let first = |candidate: &Candidate| {
            candidate.zone == zone && matches!(candidate.subject, Subject::Schema { .. })
        };
        if replaces && !self.candidates.iter().any(first) {
            object.schemas.clear();
        }
        object.schemas.push(SchemaObject {
            name: name.clone(),
            document,
            referenced,
            ..settings
        });
        self.candidates.push(Candidate {
            zone,
            title: name,
            subject: Subject::Schema { replaces },
        });
    }

    /// The zone that a section is meant for; a problem of the section when that is not clear.
    fn zone_of(&self, section: &Section<'_>) -> Option<usize> {
        let written = section.string("zone");
        let wanted = written.as_deref().or(self.files.zone);
        let found = self.find_zone(wanted);
        found
            .map_err(|(message, hint)| section.problem("zone", message, &hint))
            .ok()
    }

    fn find_zone(&self, wanted: Option<&str>) -> Result<usize, (String, String)> {
        let ids: Vec<&str> = self.zones.iter().map(|zone| zone.id.as_str()).collect();
        let hint = format!("zones of the pipeline: {}", ids.join(", "));
        match wanted {
            Some(id) => {
                let at = ids.iter().position(|known| *known == id);
                at.ok_or_else(|| (format!("{id:?} is no zone of the pipeline"), hint))
            }
            None if ids.len() == 1 => Ok(0),
            None => Err((
                "the pipeline has several zones, and none is named".to_owned(),
                format!("zone = \"<id>\" here, or --zone; {hint}"),
            )),
        }
    }

    /// The policy with its warnings, or every problem under the file it belongs to.
    fn compile(mut self) -> Result<(Policy, Vec<Problem>, Vec<Candidate>), Vec<Unusable>> {
        let compiled = policy::compile(&self.zones);
        let mut files: Vec<Vec<(Problem, Option<usize>)>> = Vec::new();
        for (_, sheet) in &self.sheets {
            let own = sheet.problems.replace(Problems::default()).0;
            let own = own.into_iter().map(|problem| {
                let line = sheet.line_of(&problem.place);
                (problem, line)
            });
            files.push(own.collect());
        }
        let mut elsewhere = Vec::new();
        let policy = match compiled {
            Ok(policy) => Some(policy),
            Err(problems) => {
                for problem in problems.0 {
                    let Some((sheet, problem, line)) = self.home_of(&problem) else {
                        elsewhere.push((problem, None));
                        continue;
                    };
                    let Some(own) = files.get_mut(sheet) else {
                        continue;
                    };
                    // What follows from a problem already named is not a problem of its own.
                    if !own
                        .iter()
                        .any(|(known, _)| problem.place.starts_with(&known.place))
                    {
                        own.push((problem, line));
                    }
                }
                None
            }
        };
        for ((name, _), mut problems) in self.sheets.iter().zip(files) {
            if !problems.is_empty() {
                problems.sort_by_key(|(_, line)| line.unwrap_or(usize::MAX));
                self.unusable.push(Unusable {
                    file: name.clone(),
                    problems,
                });
            }
        }
        if !elsewhere.is_empty() {
            self.unusable.push(Unusable {
                file: format!("{} with the candidates", self.pipeline),
                problems: elsewhere,
            });
        }
        match policy {
            Some(policy) if self.unusable.is_empty() => {
                let here = |problem: &Problem| match self.home_of(problem) {
                    Some((_, problem, _)) => problem,
                    None => problem.clone(),
                };
                let warnings = policy.warnings.iter().map(here).collect();
                Ok((policy, warnings, self.candidates))
            }
            _ => Err(self.unusable),
        }
    }

    /// The candidate file that a problem belongs to, with its place there.
    fn home_of(&self, problem: &Problem) -> Option<(usize, Problem, Option<usize>)> {
        for moved in &self.moved {
            let rest = problem.place.strip_prefix(&moved.from);
            // `rules[1]` is no part of `rules[12]`, which the bracket ensures.
            let Some(rest) = rest else { continue };
            let place = format!("{}{rest}", moved.to);
            let (_, sheet) = self.sheets.get(moved.sheet)?;
            let line = sheet.line_of(&place);
            let problem = Problem {
                place,
                ..problem.clone()
            };
            return Some((moved.sheet, problem, line));
        }
        // Problems of documents begin with their names.
        let mut sheets = self.sheets.iter();
        let at = sheets.position(|(name, _)| problem.place.starts_with(name.as_str()))?;
        Some((at, problem.clone(), None))
    }
}

/// Puts an object into the place of another one, or behind all.
fn put<T>(into: &mut Vec<T>, at: Option<usize>, object: T) -> usize {
    if let Some((number, place)) = at.and_then(|at| Some((at, into.get_mut(at)?))) {
        *place = object;
        return number;
    }
    into.push(object);
    into.len() - 1
}

#[cfg(test)]
mod tests;
