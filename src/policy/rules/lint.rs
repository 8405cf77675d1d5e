//! What is suspicious about an expression that is otherwise right: it never changes its answer, it says the opposite of
//! what its kind of rule is for, or it steps into a known trap.
//!
//! Whether its answer can change is worked out in `puzzle`; nothing is said about what is too large for that.

mod puzzle;
#[cfg(test)]
mod tests;

use self::puzzle::{Puzzle, Subject};
use super::Expression;
use super::ast::{Node, Operand};
use super::fields::Field;
use super::functions::Function;

/// Which truth value lets a rule fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// The rule fires when the expression is true: custom and mTLS rules.
    Ordinary,
    /// The rule fires when the expression is false: token rules (feature map section 4.3).
    Inverted,
}

/// What kind of finding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LintKind {
    /// The expression is true of every request.
    AlwaysTrue,
    /// The expression is true of no request.
    AlwaysFalse,
    /// The rule fires for those who do show who they are, and spares those who do not.
    Inverted,
    /// A certificate that was revoked counts as verified.
    RevokedCounts,
    /// A key that no message can have.
    NeverPresent,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// What kind.
    pub kind: LintKind,
    /// What is suspicious: a lower-case fact without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Everything that is suspicious about an expression in a rule of this polarity.
#[must_use]
pub fn lint(expression: &Expression, polarity: Polarity) -> Vec<Lint> {
    let mut lints = Vec::new();
    let mut add = |kind, message: &str, hint: &str| {
        lints.push(Lint {
            kind,
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    };
    let puzzle = Puzzle::of(expression.root());
    match (puzzle.as_ref().and_then(Puzzle::constant), polarity) {
        (Some(true), Polarity::Ordinary) => add(
            LintKind::AlwaysTrue,
            "the expression is always true: the rule fires for every request",
            "name the requests that are meant",
        ),
        (Some(false), Polarity::Ordinary) => add(
            LintKind::AlwaysFalse,
            "the expression is never true: the rule never fires",
            "look for parts that exclude each other",
        ),
        (Some(true), Polarity::Inverted) => add(
            LintKind::AlwaysTrue,
            "the expression is always true: a token rule fires when it is false, so this one never does",
            "\"valid, or not there\" is: is_jwt_valid(\"…\") or not is_jwt_present(\"…\")",
        ),
        (Some(false), Polarity::Inverted) => add(
            LintKind::AlwaysFalse,
            "the expression is never true: a token rule fires when it is false, so this one fires for every request",
            "look for parts that exclude each other",
        ),
        (None, _) => {}
    }
    let fires = polarity == Polarity::Ordinary;
    let fields = expression.fields();
    // What else the expression asks may be the very thing that is wrong about those who do show who they are.
    let plain = fields
        .iter()
        .all(|field| says_where(*field) || says_who(*field));
    let inverted = puzzle.iter().filter(|_| plain);
    for (group, what) in inverted.flat_map(|puzzle| puzzle.inverted(fires)) {
        let hint = match (group, polarity) {
            (Subject::Token(_), Polarity::Inverted) => {
                "a token rule says what good requests are like: write it without `not`"
            }
            (Subject::Session, _) => {
                "to catch those without one: not cf.api_gateway.auth_id_present"
            }
            (Subject::Certificate, _) => {
                "to catch those without one: not cf.tls_client_auth.cert_verified"
            }
            _ => "to catch those without one: not is_jwt_valid(\"…\"), or a rule of the kind token",
        };
        add(LintKind::Inverted, what, hint);
    }
    if fields.contains(&Field::CertVerified) && !fields.contains(&Field::CertRevoked) {
        add(
            LintKind::RevokedCounts,
            "cf.tls_client_auth.cert_verified is also true of a revoked certificate",
            match polarity {
                Polarity::Ordinary => {
                    "(not cf.tls_client_auth.cert_verified or cf.tls_client_auth.cert_revoked)"
                }
                Polarity::Inverted => {
                    "(cf.tls_client_auth.cert_verified and not cf.tls_client_auth.cert_revoked)"
                }
            },
        );
    }
    expression.operands(&mut |operand| {
        let (field, key) = match operand {
            Operand::Member(field, key) => (*field, key.as_ref()),
            Operand::Call(call) => match (&call.function, call.arguments.first()) {
                (Function::HasKey(key), Some(Operand::Field(field))) => (*field, key.as_ref()),
                _ => return,
            },
            _ => return,
        };
        if matches!(field, Field::Headers | Field::ResponseHeaders)
            && key.bytes().any(|byte| byte.is_ascii_uppercase())
        {
            let message = format!("{}[{key:?}] is never there", field.name());
            let hint = format!("names are in lower case: {:?}", key.to_ascii_lowercase());
            add(LintKind::NeverPresent, &message, &hint);
        }
    });
    lints
}

/// Whether a field tells which requests are meant, and nothing about whether they are any good.
fn says_where(field: Field) -> bool {
    let name = field.name().trim_start_matches("raw.");
    name.starts_with("http.request.uri")
        || name.starts_with("ip.")
        || [
            "http.host",
            "http.request.method",
            "http.request.full_uri",
            "http.user_agent",
            "ssl",
        ]
        .contains(&name)
}

/// Whether a field tells whether somebody showed who they are.
fn says_who(field: Field) -> bool {
    matches!(
        field,
        Field::AuthIdPresent | Field::CertPresented | Field::CertVerified | Field::CertRevoked
    )
}

/// The one answer that the expression ever gives; `None` when it can give both, or when that is too much to find out.
pub(super) fn constant(root: &Node) -> Option<bool> {
    Puzzle::of(root)?.constant()
}
