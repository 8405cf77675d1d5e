//! `[feeds]`, `[check]`, `[[exporters]]`: who may read the block list, who may ask about a request, which gateways are
//! told.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::edges::{positive, read_secret};
use super::reader::Section;
use super::{ApiSettings, CheckSettings, FeedKey, FeedSettings, Unavailable};
use crate::enforce::Selection;
use crate::publish::exporters::{ExporterSettings, Kind, Socket};
use crate::wire::secret::SharedKey;

/// Longest time between a change and its delivery that nobody notices, and short enough for a second's promise.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Tokens verified in a second by the inline check: with RSA of 2048 bit or P-256 a fifth of one core.
const VERIFICATIONS: u64 = 5_000;
/// A gateway that does not read its configuration in this time has another problem.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// `[feeds]`. Without keys nobody can read them.
pub(super) fn read_feeds(
    section: &Section<'_>,
    api: Option<&ApiSettings>,
    zones: &[&str],
    folder: &Path,
) -> Option<FeedSettings> {
    if !section.written() {
        return None;
    }
    if api.is_none() {
        section.problem_at("[feeds]", "needs a server", "add [api] with listen");
    }
    let mut names = BTreeSet::new();
    let mut keys = Vec::new();
    for key in section.sections("keys") {
        let name = key.required("name", "name = \"bouncer-1\"");
        if !name.is_empty() && !names.insert(name.clone()) {
            let hint = "each reader has a name and a key of its own";
            key.problem("name", format!("{name:?} is given twice"), hint);
        }
        let zones = read_zones(&key, zones);
        if !key.has("key") {
            let hint = "key = { env = \"GATEWATCH_BOUNCER_KEY\" }";
            key.problem("key", "is missing", hint);
        }
        let secret = key.secret("key");
        let secret = secret.and_then(|secret| read_secret(&key, "key", &secret, folder));
        key.finish();
        if let Some(secret) = secret {
            let key = SharedKey::new(secret.as_bytes());
            keys.push(FeedKey { name, key, zones });
        }
    }
    if !section.has("keys") {
        let hint = "[[feeds.keys]] with name = \"bouncer-1\" and key = { env = \"…\" }";
        section.problem("keys", "is missing: nobody could read the feeds", hint);
    }
    section.finish();
    let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
    Some(FeedSettings { keys, zones })
}

/// `[check]`.
pub(super) fn read_check(
    section: &Section<'_>,
    api: Option<&ApiSettings>,
    folder: &Path,
) -> Option<CheckSettings> {
    if !section.written() {
        if let Some(ApiSettings {
            ext_authz: Some(_), ..
        }) = api
        {
            let hint = "add [check]";
            section.problem_at("api.ext_authz", "has nothing to answer with", hint);
        }
        return None;
    }
    let judge = section.boolean("judge", false);
    let unavailable = match section.string("unavailable").as_deref() {
        None | Some("allow") => Unavailable::Allow,
        Some("refuse") => Unavailable::Refuse,
        Some(other) => {
            let problem = format!("{other:?} is not a choice");
            section.problem("unavailable", problem, "allow or refuse");
            Unavailable::Allow
        }
    };
    let verifications = section.integer("verifications", VERIFICATIONS);
    if verifications == 0 {
        section.problem(
            "verifications",
            "0 would verify no token",
            "leave it out, or judge = false: then only claims of listed sessions need it",
        );
    }
    let verifications = u32::try_from(verifications).unwrap_or(u32::MAX);
    let trusted_hops = usize::try_from(section.integer("trusted_hops", 0)).unwrap_or(usize::MAX);
    let secret = section.secret("key");
    let key = secret.and_then(|secret| read_secret(section, "key", &secret, folder));
    let key = key.map(|key| SharedKey::new(key.as_bytes()));
    match api {
        None => section.problem_at("[check]", "needs a server", "add [api] with listen"),
        Some(api) => {
            let reachable = std::iter::once(api.listen).chain(api.ext_authz);
            if !section.has("key") && reachable.into_iter().any(|at| !at.ip().is_loopback()) {
                section.problem(
                    "key",
                    "is missing: whoever reaches the address could ask in a gateway's name",
                    "key = { env = \"GATEWATCH_CHECK_KEY\" }, or listen on a loopback address",
                );
            }
        }
    }
    section.finish();
    Some(CheckSettings {
        judge,
        unavailable,
        verifications,
        allow: Vec::new(),
        trusted_hops,
        key,
    })
}

/// `[[exporters]]`.
pub(super) fn read_exporters(
    sections: &[Section<'_>],
    zones: &[&str],
    folder: &Path,
) -> Vec<ExporterSettings> {
    let mut names = BTreeSet::new();
    let mut exporters = Vec::new();
    for section in sections {
        if let Some(exporter) = read_exporter(section, zones, folder) {
            if !names.insert(exporter.name.clone()) {
                let problem = format!("{:?} is given twice", exporter.name);
                section.problem("name", problem, "name = \"edge-2\" tells them apart");
            }
            if let Some(other) = exporters.iter().find(|other| collide(other, &exporter)) {
                let problem = format!(
                    "is that of {:?}, which writes other entries there",
                    other.name
                );
                section.problem("folder", problem, "a folder of its own for each selection");
            }
            exporters.push(exporter);
        }
    }
    exporters
}

/// Whether two exporters would write the same files in turn, each with what the other leaves out.
fn collide(one: &ExporterSettings, other: &ExporterSettings) -> bool {
    one.kind.name() == other.kind.name()
        && one.selection != other.selection
        && lexical(&one.folder) == lexical(&other.folder)
}

/// A path as it reads without `.` and `..`; the folders need not be there yet.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(plain.components().next_back(), Some(Component::Normal(_))) =>
            {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn read_exporter(section: &Section<'_>, zones: &[&str], folder: &Path) -> Option<ExporterSettings> {
    let written = section.required("kind", "kind = \"nginx\"");
    let kind = Kind::parse(&written);
    if kind.is_none() && !written.is_empty() {
        let known: Vec<&str> = Kind::names().collect();
        let hint = format!("known kinds: {}", known.join(", "));
        section.problem("kind", format!("{written:?} is not a kind"), &hint);
    }
    let name = section.string("name").unwrap_or_else(|| written.clone());
    let target = section.required("folder", "folder = \"/etc/nginx/gatewatch\"");
    let selection = Selection {
        zones: read_zones(section, zones),
        simulated: section.boolean("simulated", false),
    };
    let debounce = section.duration("debounce", DEBOUNCE);
    let time_limit = positive(section, "time_limit", TIME_LIMIT);
    let test = section.strings("test", false);
    let reload = section.strings("reload", false);
    let (socket, folder_there) = if written == "haproxy" {
        (
            read_socket(section, folder),
            read_folder_there(section, &target),
        )
    } else {
        (None, None)
    };
    section.finish();
    Some(ExporterSettings {
        name,
        kind: kind?,
        folder: folder.join(target),
        selection,
        debounce,
        test,
        reload,
        time_limit,
        socket,
        folder_there,
    })
}

/// `"/run/haproxy/admin.sock"` or `"127.0.0.1:9999"`.
fn read_socket(section: &Section<'_>, folder: &Path) -> Option<Socket> {
    let text = section.string("socket")?;
    Some(match text.parse::<SocketAddr>() {
        Ok(address) => Socket::Tcp(address),
        Err(_) => Socket::Unix(folder.join(PathBuf::from(text))),
    })
}

/// The name of the folder stands in commands of the run-time interface, whose words end at blanks.
fn read_folder_there(section: &Section<'_>, folder: &str) -> Option<String> {
    let there = section.string("folder_there");
    let plain = |c: char| {
        !c.is_whitespace() && !c.is_control() && !matches!(c, ';' | '\\' | '"' | '\'' | '(' | ')')
    };
    let (key, shown) = match &there {
        Some(there) => ("folder_there", there.as_str()),
        None => ("folder", folder),
    };
    if section.has("socket") && !shown.chars().all(plain) {
        let problem = format!("{shown:?} cannot stand in a command of HAProxy");
        section.problem(key, problem, "a path without blanks, quotes and ;");
    }
    there
}

/// Zone ids that this pipeline knows; none = all.
fn read_zones(section: &Section<'_>, known: &[&str]) -> Vec<String> {
    let zones = section.strings("zones", true);
    for zone in &zones {
        if !known.contains(&zone.as_str()) {
            let problem = format!("{zone:?} is no zone of this pipeline");
            section.problem(
                "zones",
                problem,
                &format!("known here: {}", known.join(", ")),
            );
        }
    }
    zones
}

#[cfg(test)]
mod tests;
