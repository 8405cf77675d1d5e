//! The direction rules of `src/lib.rs`, read from every `use crate::…` and `crate::…` path; and the size of files.

use std::fs;
use std::path::{Path, PathBuf};

/// (module, what it may import besides itself). A module that is not listed fails the test.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("decode", &["model"]),
    ("correlate", &["model"]),
    ("policy", &["model"]),
    ("enrich", &["model", "decode", "policy"]),
    ("window", &["model", "enrich"]),
    ("detect", &["model", "window"]),
    ("enforce", &["model", "detect"]),
    ("posture", &["model", "policy", "detect"]),
    ("traffic", &["model", "policy"]),
    ("wire", &["model"]),
    ("source", &["model", "clock", "telemetry", "policy", "wire"]),
    ("store", &["model", "clock", "window", "wire"]),
    (
        "publish",
        &["model", "clock", "telemetry", "detect", "enforce", "wire"],
    ),
    (
        "pipeline",
        &[
            "model",
            "clock",
            "telemetry",
            "decode",
            "correlate",
            "policy",
            "enrich",
            "window",
            "detect",
            "source",
            "store",
            "publish",
            "wire",
            "config",
        ],
    ),
    (
        "api",
        &[
            "model",
            "clock",
            "telemetry",
            "policy",
            "enrich",
            "enforce",
            "publish",
            "wire",
            "config",
        ],
    ),
    (
        "config",
        &[
            "model",
            "decode",
            "correlate",
            "policy",
            "detect",
            "enforce",
            "store",
            "publish",
            "wire",
        ],
    ),
];

/// Words that layer 1 must not contain: I/O, clocks, environment, channels, threads.
const LAYER_1: &[&str] = &[
    "decode",
    "correlate",
    "policy",
    "enrich",
    "window",
    "detect",
    "enforce",
    "posture",
    "traffic",
    "model",
];
const FORBIDDEN: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net::Tcp",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "sync::mpsc",
    "tokio::sync",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn module_of(root: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(root).unwrap();
    let first = relative
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end]
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// First segments of every `crate::…` path, groups included.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut word)),
                    _ if depth == 0 => word.push(c),
                    _ => {}
                }
            }
            found.push(word);
        } else {
            found.push(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    let first = |path: String| {
        path.trim()
            .split("::")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    found
        .into_iter()
        .map(first)
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn imports_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for file in sources(&root) {
        let module = module_of(&root, &file);
        if ["lib", "main", "cli"].contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            breaches.push(format!("{module} has no place in the house"));
            continue;
        };
        let test = file
            .components()
            .any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs")
            || file.file_name().is_some_and(|name| name == "fixtures.rs");
        if test {
            continue;
        }
        for import in imports(&code(&fs::read_to_string(&file).unwrap())) {
            if import != module && !allowed.contains(&import.as_str()) {
                breaches.push(format!("{} imports {import}", file.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn layer_1_is_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for file in sources(&root) {
        if !LAYER_1.contains(&module_of(&root, &file).as_str()) || file.ends_with("tests.rs") {
            continue;
        }
        let code = code(&fs::read_to_string(&file).unwrap());
        for word in FORBIDDEN.iter().filter(|word| code.contains(**word)) {
            breaches.push(format!("{} contains {word}", file.display()));
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_model_is_not_serialized() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model");
    for file in sources(&root) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!code(&text).contains("serde"), "{}", file.display());
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    for file in ["src", "tests", "benches"]
        .iter()
        .flat_map(|folder| sources(&root.join(folder)))
    {
        let text = fs::read_to_string(&file).unwrap();
        if text.lines().count() > 600 {
            problems.push(format!("{} has more than 600 lines", file.display()));
        }
        if !text
            .trim_start_matches("#![forbid(unsafe_code)]\n")
            .starts_with("//!")
        {
            problems.push(format!("{} does not open with //!", file.display()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
