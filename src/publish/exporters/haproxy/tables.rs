//! Which tables of a running `HAProxy` follow our files.
//!
//! Enters: lines of `show acl`. Leaves: the names of tables, and how they are written in commands. `HAProxy` names a table
//! as its configuration spells the file and keeps one for every spelling, so all that mean the file are ours: with doubled
//! slashes or `/./` in them, as `file@`, `opt@` or `virt@` (`HAProxy` 3.0 and later), or relative to the folder that it was
//! started in. A file of the same name in another folder is somebody else's.

/// What may stand in front of a path.
const SCHEMES: [&str; 3] = ["file@", "opt@", "virt@"];

/// The name of the table that a line of `show acl` is about, where it has one:
/// `0 (/etc/haproxy/blocked_ips.acl) pattern loaded from file …`.
pub(super) fn named(line: &str) -> Option<&str> {
    let (number, rest) = line.split_once(" (")?;
    let number = number.strip_prefix('-').unwrap_or(number);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let end = rest
        .find(") pattern loaded from")
        .or_else(|| rest.find(')'))?;
    rest.get(..end).filter(|name| !name.is_empty())
}

/// Whether the table of this name is to hold what the file holds.
pub(super) fn follows(name: &str, folder: &str, file: &str) -> bool {
    let path = SCHEMES
        .iter()
        .find_map(|scheme| name.strip_prefix(scheme))
        .unwrap_or(name);
    let ours = parts(folder).chain([file]);
    if path.starts_with('/') == folder.starts_with('/') {
        return parts(path).eq(ours);
    }
    // One of the two is relative to a folder that is not known here: its parts are the last ones of the other.
    let ours: Vec<&str> = ours.collect();
    let theirs: Vec<&str> = parts(path).collect();
    let (shorter, longer) = if path.starts_with('/') {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    // A bare file name would be anybody's.
    shorter.len() > 1 && longer.ends_with(&shorter)
}

/// The folders of a path and its file.
fn parts(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// A name as a word of a command.
pub(super) fn escaped(name: &str) -> String {
    let mut word = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, ' ' | '\t' | ';' | '\\') {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::{escaped, follows, named};

    #[test]
    fn a_line_names_a_table() {
        for (line, expected) in [
            (
                "0 (/l/a.acl) pattern loaded from file '/l/a.acl' used by acl at file 'h.cfg' line 3. curr_ver=0 next_ver=0 entry_cnt=1",
                Some("/l/a.acl"),
            ),
            ("-1 (virt@/l/a.acl) pattern loaded", Some("virt@/l/a.acl")),
            (
                "12 (/l (1)/a.acl) pattern loaded from file",
                Some("/l (1)/a.acl"),
            ),
            ("# id (file) description", None),
            ("1 () acl 'src' file 'h.cfg' line 7.", None),
            ("", None),
        ] {
            assert_eq!(named(line), expected, "{line}");
        }
    }

    #[test]
    fn every_spelling_of_our_file_is_ours_and_nothing_else() {
        for (name, folder, ours) in [
            ("/l/x.acl", "/l", true),
            ("/l/x.acl", "/l/", true),
            ("/l//x.acl", "/l", true),
            ("/l/./x.acl", "//l", true),
            ("file@/l/x.acl", "/l", true),
            ("opt@/l/x.acl", "/l", true),
            ("virt@/l/x.acl", "/l", true),
            ("export/x.acl", "/srv/export", true),
            ("./export/x.acl", "/srv/export", true),
            ("/srv/export/x.acl", "./export", true),
            ("export/x.acl", "export/", true),
            ("x.acl", "/srv/export", false),
            ("other/x.acl", "/srv/export", false),
            ("xport/x.acl", "/srv/export", false),
            ("/other/x.acl", "/l", false),
            ("/l/sub/x.acl", "/l", false),
            ("/l/x.acl", "/l/sub", false),
            ("/l/x.acl.old", "/l", false),
            ("/l/sub/../x.acl", "/l", false),
        ] {
            assert_eq!(follows(name, folder, "x.acl"), ours, "{name} in {folder}");
        }
        assert_eq!(escaped("/a b;c\\d"), "/a\\ b\\;c\\\\d");
    }
}
