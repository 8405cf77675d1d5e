//! The router against the plain reading of templates, and the bound of its work.

use std::fmt::Write as _;

use super::{Router, Template};
use crate::policy::operations::Segment;

/// Numbers without a pattern (splitmix64), the same on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((word ^ (word >> 31)) % end as u64).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

fn parsed(texts: &[String]) -> Vec<Template> {
    let mut templates: Vec<Template> = Vec::new();
    for text in texts {
        let template = Template::parse(text).unwrap();
        if templates.iter().all(|t| t.segments != template.segments) {
            templates.push(template);
        }
    }
    templates
}

fn router(templates: &[Template]) -> Router {
    Router::new(templates.iter().zip(0..))
}

/// Every match in the order of the router, and what it cost.
fn all(router: &Router, path: &str) -> (Vec<usize>, usize) {
    let mut found = Vec::new();
    let steps = router.find(path, &mut |number| {
        found.push(number as usize);
        false
    });
    (found, steps)
}

/// Whether a template matches a path, segment by segment.
fn matches(template: &Template, path: &str) -> bool {
    let parts: Vec<&str> = path[1..].split('/').collect();
    parts.len() == template.segments.len()
        && parts
            .iter()
            .zip(&template.segments)
            .all(|(part, segment)| match segment {
                Segment::Literal(text) => **text == **part,
                Segment::Whole => !part.is_empty(),
                Segment::Partial(pattern) => pattern.matches(part, |_| {}),
            })
}

#[test]
fn finds_what_the_plain_reading_finds_most_specific_first() {
    let words = [
        "a",
        "b",
        "files",
        "orders",
        "fifteen-letters",
        "sixteen-letters-",
        "a-label-that-is-longer-than-any-edge",
        "a-label-that-is-longer-than-any-other",
        "x.json",
        "%C3%A9",
    ];
    let segments = [
        "{}", "{}", "{}.json", "{}.{}", "v{}", "{}-{}.{}", "x{}", "{}{}",
    ];
    let asked = [
        "a.b", "x.y.json", ".json", "v1", "v", "a-b.c", "é", "\u{0}", "a\u{0}", "x",
    ];
    let mut numbers = Numbers(7);
    let mut looked_up = 0;
    for round in 0..400 {
        // Small sets are one bucket, large ones trees with buckets below.
        let size = 1 + numbers.below(if round % 2 == 0 { 12 } else { 200 });
        let vocabulary = &words[..=numbers.below(words.len())];
        let texts: Vec<String> = (0..size)
            .map(|_| {
                let mut text = String::new();
                let mut variable = 0;
                for _ in 0..=numbers.below(5) {
                    text.push('/');
                    if numbers.below(2) == 0 {
                        text.push_str(numbers.one(vocabulary));
                        continue;
                    }
                    for part in numbers.one(&segments).split_inclusive("{}") {
                        if let Some(literal) = part.strip_suffix("{}") {
                            variable += 1;
                            let _ = write!(text, "{literal}{{v{variable}}}");
                        } else {
                            text.push_str(part);
                        }
                    }
                }
                if numbers.below(6) == 0 {
                    text.push('/');
                }
                text
            })
            .collect();
        let templates = parsed(&texts);
        let router = router(&templates);
        for _ in 0..50 {
            let mut path = String::new();
            for _ in 0..=numbers.below(5) {
                path.push('/');
                let all = [vocabulary, &asked[..]][numbers.below(2)];
                path.push_str(numbers.one(all));
            }
            if numbers.below(6) == 0 {
                path.push('/');
            }
            let mut expected: Vec<usize> = (0..templates.len())
                .filter(|number| matches(&templates[*number], &path))
                .collect();
            expected.sort_by(|one, other| {
                super::by_specificity(&templates[*one].segments, &templates[*other].segments)
            });
            let (found, steps) = all(&router, &path);
            assert_eq!(found, expected, "{path} in {texts:#?}");
            for pair in found.windows(2) {
                let order = templates[pair[0]].specificity(&templates[pair[1]]);
                assert!(order.is_le(), "{path} in {texts:#?}");
            }
            assert!(steps <= bound(&templates), "{steps} steps for {path}");
            looked_up += usize::from(!found.is_empty());
        }
    }
    // A test of misses alone would prove little.
    assert!(looked_up > 4_000, "{looked_up}");
}

/// What the documentation of `find` promises.
fn bound(templates: &[Template]) -> usize {
    let segments: usize = templates.iter().map(|t| t.segments.len() + 1).sum();
    2 * segments
}

#[test]
fn ambiguous_templates_cost_no_more_than_there_are() {
    // Every way to write ten segments as `a` or a variable; the path fits all of them but for its end.
    let texts: Vec<String> = (0..1_024)
        .map(|mask| {
            let segments: Vec<String> = (0..10)
                .map(|at| match mask >> at & 1 {
                    0 => "/a".to_owned(),
                    _ => format!("/{{v{at}}}"),
                })
                .collect();
            format!("{}/end", segments.concat())
        })
        .collect();
    let templates = parsed(&texts);
    let router = router(&templates);
    let (found, steps) = all(&router, "/a/a/a/a/a/a/a/a/a/a/end");
    assert_eq!(found.len(), 1_024);
    assert!(steps <= bound(&templates));
    let (found, steps) = all(&router, "/a/a/a/a/a/a/a/a/a/a/other");
    assert_eq!(found.len(), 0);
    assert!(steps <= 3 * 1_024, "{steps}");
    // The first match ends the search.
    let mut count = 0;
    let steps = router.find("/a/a/a/a/a/a/a/a/a/a/end", &mut |_| {
        count += 1;
        true
    });
    assert_eq!(count, 1);
    assert!(steps <= 24, "{steps}");
}

#[test]
fn a_look_up_costs_the_same_among_ten_and_among_very_many() {
    for size in [10, 1_000, 20_000] {
        let texts: Vec<String> = (0..size)
            .map(|n| format!("/api/v1/group{}/{{id}}/resource{n}/{{item}}", n % 100))
            .collect();
        let templates = parsed(&texts);
        let router = router(&templates);
        for number in (0..size).step_by(size / 10) {
            let path = format!("/api/v1/group{}/7/resource{number}/8", number % 100);
            let (found, steps) = all(&router, &path);
            assert_eq!(found, [number]);
            assert!(steps <= 8 + 8, "{steps} steps among {size}");
        }
    }
}
