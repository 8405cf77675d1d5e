//! Server objects → hosts and base paths.
//!
//! Enters: a list of servers. Leaves: every host (or none = every host of the zone) with its base path; variables take
//! their default and each alternative of `enum`. Schemes and ports are dropped: operations are told apart by host.

use serde_json::{Map, Value};

/// Combinations of variable values that one server may have.
const MAX_COMBINATIONS: usize = 256;

/// Where operations live.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Lower-case host without a port; `None` = every host of the zone.
    pub host: Option<String>,
    /// Path in front of every template; empty, or a leading slash and no trailing one.
    pub base: String,
}

/// Sites of a list of servers; of an empty list, every host without a base path. Sorted, each once.
///
/// # Errors
/// Number of the server and what is wrong with it.
pub(super) fn sites(servers: &[Value]) -> Result<Vec<Site>, Vec<(usize, String)>> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let Some(url) = server.get("url").and_then(Value::as_str) else {
            continue;
        };
        let empty = Map::new();
        let variables = server
            .get("variables")
            .and_then(Value::as_object)
            .unwrap_or(&empty);
        match expand(url, variables) {
            Ok(urls) => {
                for url in urls {
                    match site(&url) {
                        Ok(site) => found.push(site),
                        Err(why) => errors.push((number, why)),
                    }
                }
            }
            Err(why) => errors.push((number, why)),
        }
    }
    if !errors.is_empty() {
        errors.dedup();
        return Err(errors);
    }
    if servers.is_empty() {
        found.push(Site {
            host: None,
            base: String::new(),
        });
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Every URL that the variables of a template can make.
fn expand(url: &str, variables: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut done = vec![String::new()];
    let mut rest = url;
    while let Some((before, tail)) = rest.split_once('{') {
        let Some((name, behind)) = tail.split_once('}') else {
            return Err("the server URL has a `{` without `}`".into());
        };
        let Some(variable) = variables.get(name) else {
            return Err(format!("the server variable {name:?} is not declared"));
        };
        let default = variable
            .get("default")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut values = vec![default];
        let alternatives = variable.get("enum").and_then(Value::as_array);
        for value in alternatives.into_iter().flatten().filter_map(Value::as_str) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        if done.len() * values.len() > MAX_COMBINATIONS {
            return Err(format!(
                "the server variables make more than {MAX_COMBINATIONS} URLs"
            ));
        }
        done = done
            .iter()
            .flat_map(|start| {
                values
                    .iter()
                    .map(move |value| format!("{start}{before}{value}"))
            })
            .collect();
        rest = behind;
    }
    for url in &mut done {
        url.push_str(rest);
    }
    Ok(done)
}

fn site(url: &str) -> Result<Site, String> {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = if let Some((_, rest)) = url.split_once("://") {
        authority(rest)?
    } else if let Some(rest) = url.strip_prefix("//") {
        authority(rest)?
    } else {
        (None, url)
    };
    // Normalising removes dot segments, which relative URLs such as `./v1` begin with.
    let base = crate::policy::path::normalise(path);
    Ok(Site {
        host,
        base: base.trim_end_matches('/').to_owned(),
    })
}

fn authority(rest: &str) -> Result<(Option<String>, &str), String> {
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err("the server URL has no host".into());
    }
    Ok((Some(host.to_ascii_lowercase()), path))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Site, sites};

    fn listed(servers: &Value) -> Vec<(Option<&'static str>, &'static str)> {
        sites(servers.as_array().unwrap())
            .unwrap()
            .into_iter()
            .map(|Site { host, base }| (host.map(|h| &*h.leak()), &*base.leak()))
            .collect()
    }

    #[test]
    fn tells_hosts_and_base_paths() {
        for (servers, expected) in [
            (json!([]), vec![(None, "")]),
            (json!([{"url": "/"}]), vec![(None, "")]),
            (json!([{"url": "/api/v1/"}]), vec![(None, "/api/v1")]),
            (json!([{"url": "./v1"}]), vec![(None, "/v1")]),
            (
                json!([{"url": "https://API.example:8443"}]),
                vec![(Some("api.example"), "")],
            ),
            (
                json!([{"url": "https://api.example/v1"}, {"url": "http://api.example/v1/"}]),
                vec![(Some("api.example"), "/v1")],
            ),
            (
                json!([{"url": "//u@api.example/v1?x#y"}]),
                vec![(Some("api.example"), "/v1")],
            ),
            (
                json!([{"url": "https://[::1]:80/v1"}]),
                vec![(Some("[::1]"), "/v1")],
            ),
            (
                json!([{"url": "https://{env}.example:{port}/{base}", "variables": {
                    "env": {"default": "prod", "enum": ["prod", "test"]},
                    "port": {"default": "443"},
                    "base": {"default": "v2"},
                }}]),
                vec![(Some("prod.example"), "/v2"), (Some("test.example"), "/v2")],
            ),
            (
                json!([{"url": "{scheme}://api.example", "variables": {"scheme": {"default": "https", "enum": ["http", "https"]}}}]),
                vec![(Some("api.example"), "")],
            ),
        ] {
            assert_eq!(listed(&servers), expected, "{servers}");
        }
    }

    #[test]
    fn refuses_what_names_no_place() {
        for servers in [
            json!([{"url": "https://{x}.example"}]),
            json!([{"url": "https://{x.example"}]),
            json!([{"url": "https:///v1"}]),
        ] {
            assert!(sites(servers.as_array().unwrap()).is_err(), "{servers}");
        }
    }
}
