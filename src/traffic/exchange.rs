//! Makes one exchange: draws who calls, what is sent, what comes back and what the log captured, and keeps the truth of it.
//!
//! Enters: an endpoint, a time, random numbers. Leaves: the members of the event as text, and the facts. The facts come from
//! what was drawn: the flaw that was put in, the token that was taken, the parts that were left out.

use super::callers::{Caller, Crowd, judge_bank, judge_shop};
use super::certificates::{Certificates, show_finding};
use super::endpoints::{Coverage, Endpoint, Flaw, Posture, RequestCase, ResponseCase};
use super::events::{BodyForm, Capture, Fields, push_body, push_headers, push_json};
use super::random::Random;
use super::template::{Template, push_number};
use super::truth::{Answer, Facts};
use crate::model::{
    Location, MtlsOutcome, SchemaOutcome, SessionOutcome, TokenOutcome, ViolationClass,
};

/// An endpoint with its texts parsed.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Place in the endpoints of the scenario.
    index: usize,
    pub(super) endpoint: Endpoint,
    requests: Vec<(RequestCase, [Template; 3])>,
    admitted: Vec<(ResponseCase, Template)>,
    refused: (ResponseCase, Template),
    bad: (ResponseCase, Template),
}

/// One exchange as text and truth. Buffers are kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// `client`, `tls` and `request` members, each with a comma in front.
    pub(super) front: Vec<u8>,
    /// `response` member with a comma in front.
    pub(super) back: Vec<u8>,
    /// Time from request to response, milliseconds.
    pub(super) duration: u32,
    fields: Fields,
    scratch: Vec<u8>,
}

impl Prepared {
    pub(super) fn new((index, endpoint): (usize, &Endpoint)) -> Self {
        let answer = |case: &ResponseCase| (*case, Template::parse(case.body));
        let request = |case: &RequestCase| {
            let texts = [case.path, case.query, case.body.unwrap_or_default()];
            (*case, texts.map(Template::parse))
        };
        Self {
            index,
            endpoint: *endpoint,
            requests: endpoint.requests.iter().map(request).collect(),
            admitted: endpoint.admitted.iter().map(answer).collect(),
            refused: answer(&endpoint.refused),
            bad: answer(&endpoint.bad),
        }
    }
}

/// What an exchange is drawn from.
#[derive(Debug)]
pub(super) struct Workshop {
    pub(super) crowd: Crowd,
    pub(super) certificates: Certificates,
    /// Client members, ready to write.
    pub(super) clients: Vec<Vec<u8>>,
}

impl Workshop {
    /// Makes one exchange after `elapsed` thousandths of the span. `None` only for an endpoint without cases.
    pub(super) fn make(
        &self,
        prepared: &Prepared,
        millis: i64,
        elapsed: u32,
        random: &mut Random,
        draft: &mut Draft,
    ) -> Option<(Facts, Answer)> {
        let endpoint = &prepared.endpoint;
        let posture = endpoint.posture.at(elapsed);
        let seconds = millis.div_euclid(1000);
        let (case, texts) = random.weighted(&prepared.requests, |(case, _)| case.weight)?;
        let caller = self.crowd.caller(posture, seconds, random);

        draft.front.clear();
        if random.per_mille(970)
            && let Some(client) = random.pick(&self.clients)
        {
            draft.front.extend_from_slice(client);
        }
        let mtls = match posture {
            Posture::Certificate => self.certificates.show(random, seconds, &mut draft.front),
            _ => show_finding(random, &mut draft.front),
        };

        let capture = draw_capture(endpoint, case, random);
        let body_known = write_request(endpoint, case, texts, &caller, capture, random, draft);

        let facts = Facts {
            endpoint: prepared.index,
            millis,
            mtls,
            ..judge(endpoint, case, &caller, capture, body_known)
        };

        let welcome = match posture {
            Posture::Open | Posture::Mixed => true,
            Posture::Guarded
            | Posture::BearerOnly
            | Posture::Bank
            | Posture::Repaired
            | Posture::Slipping => caller.welcome,
            Posture::Careless => {
                caller.welcome || (caller.token.is_some() && random.per_mille(300))
            }
            Posture::Certificate => match mtls {
                MtlsOutcome::Verified | MtlsOutcome::NotCaptured => true,
                // The gateway reads the revocation list too seldom.
                MtlsOutcome::Revoked => random.per_mille(500),
                MtlsOutcome::Absent | MtlsOutcome::Failed => false,
            },
        };
        let (answer, text) = if !welcome {
            &prepared.refused
        } else if case.flaw.is_some() && random.per_mille(600) {
            &prepared.bad
        } else {
            random.weighted(&prepared.admitted, |(case, _)| case.weight)?
        };
        let answer = write_response(endpoint, answer, text, random, draft);
        Some((facts, answer))
    }
}

/// Lists of captured headers are only drawn where the list alone decides what is known.
fn draw_capture(endpoint: &Endpoint, case: &RequestCase, random: &mut Random) -> Capture {
    let said = random.per_mille(300);
    match random.below(1000) {
        _ if case.whole_headers => Capture::Whole { said },
        0..=29 => Capture::Nothing { said },
        30..=69 if endpoint.posture != Posture::Bank && !endpoint.reads_headers => {
            Capture::Listed(&["Authorization", "Content-Type"])
        }
        70..=89
            if endpoint.posture != Posture::Bank
                && !endpoint.reads_headers
                && case.body.is_none() =>
        {
            Capture::Listed(&["cookie"])
        }
        _ => Capture::Whole { said },
    }
}

/// Writes the `request` member, and tells whether its body is known.
fn write_request(
    endpoint: &Endpoint,
    case: &RequestCase,
    [path, query, body]: &[Template; 3],
    caller: &Caller<'_>,
    capture: Capture,
    random: &mut Random,
    draft: &mut Draft,
) -> bool {
    let out = &mut draft.front;
    out.extend_from_slice(b",\"request\":{\"method\":");
    push_json(endpoint.method.as_bytes(), out);
    if random.per_mille(800) {
        out.extend_from_slice(b",\"scheme\":\"https\"");
    }
    out.extend_from_slice(b",\"host\":\"");
    match random.below(50) {
        0 => out.extend_from_slice(endpoint.host.to_ascii_uppercase().as_bytes()),
        1 => {
            out.extend_from_slice(endpoint.host.as_bytes());
            out.extend_from_slice(b":443");
        }
        _ => out.extend_from_slice(endpoint.host.as_bytes()),
    }
    out.extend_from_slice(b"\",\"path\":");
    draft.scratch.clear();
    match random.below(200) {
        // Ways to write the same path that normalisation undoes (RFC 3986 section 6.2.2).
        0 => draft.scratch.extend_from_slice(b"/."),
        1 => draft.scratch.extend_from_slice(b"/old/.."),
        2 => draft.scratch.push(b'/'),
        _ => {}
    }
    path.write(random, &mut draft.scratch);
    push_json(&draft.scratch, out);
    if !case.query.is_empty() {
        out.extend_from_slice(b",\"query\":");
        draft.scratch.clear();
        query.write(random, &mut draft.scratch);
        push_json(&draft.scratch, out);
    }

    let fields = &mut draft.fields;
    fields.clear();
    fields.push(("user-agent", b"demo/1.0".to_vec()));
    if let Some(value) = &caller.authorization {
        fields.push(("authorization", value.clone()));
    }
    if let Some((name, value)) = &caller.header {
        fields.push((name, value.clone()));
    }
    let mut cookies = caller.cookies.clone();
    if let Some(own) = case.cookie {
        if !cookies.is_empty() {
            cookies.extend_from_slice(b"; ");
        }
        cookies.extend_from_slice(own.as_bytes());
    }
    if !cookies.is_empty() {
        fields.push(("cookie", cookies));
    }
    if let Some((name, value)) = case.header {
        fields.push((lower(name), value.as_bytes().to_vec()));
    }
    if !case.content_type.is_empty() {
        fields.push(("content-type", case.content_type.as_bytes().to_vec()));
    }
    push_headers(fields, capture, random, out);

    let known = if case.body.is_some() {
        draft.scratch.clear();
        body.write(random, &mut draft.scratch);
        // A flaw in the content type is only certain where the body is there to be typed.
        let form = if case.whole_headers {
            BodyForm::Text
        } else {
            BodyForm::draw(random, case.binary)
        };
        push_body(&draft.scratch, form, random, out)
    } else {
        if random.per_mille(200) {
            push_body(b"", BodyForm::Text, random, out);
        }
        true
    };
    out.push(b'}');
    known
}

/// Header names in the tables are written as in the schema; the writer wants them in lower case.
fn lower(name: &'static str) -> &'static str {
    match name {
        "X-Page-Size" => "x-page-size",
        "X-Total-Count" => "x-total-count",
        other => other,
    }
}

/// The facts of a request from what was drawn.
fn judge(
    endpoint: &Endpoint,
    case: &RequestCase,
    caller: &Caller<'_>,
    capture: Capture,
    body_known: bool,
) -> Facts {
    let (session, identifiers, tokens) = match endpoint.zone {
        0 => judge_shop(caller, capture),
        1 => judge_bank(caller, capture),
        _ => (SessionOutcome::NotConfigured, 0, [TokenOutcome::Missing; 2]),
    };

    let missing_credential =
        endpoint.posture == Posture::BearerOnly && caller.authorization.is_none();
    let flaw = if missing_credential {
        Some(Flaw {
            location: Location::Security,
            class: ViolationClass::MissingCredential,
        })
    } else {
        case.flaw
    };
    let seen = flaw.filter(|flaw| match flaw.location {
        Location::Header | Location::Cookie | Location::Security => capture.complete(),
        Location::Body => body_known,
        Location::Path | Location::Query | Location::Status => true,
    });
    let known = body_known && (capture.complete() || !endpoint.reads_headers);
    let (request, flaw) = outcome(endpoint.coverage, seen, known);
    Facts {
        endpoint: 0,
        millis: 0,
        session,
        identifiers,
        tokens,
        request,
        flaw,
        mtls: MtlsOutcome::NotCaptured,
    }
}

/// The schema outcome of one side: what is violated and seen, else whether all of it was seen.
fn outcome(coverage: Coverage, seen: Option<Flaw>, known: bool) -> (SchemaOutcome, Option<Flaw>) {
    match coverage {
        Coverage::NoOperation => (SchemaOutcome::NoOperation, None),
        Coverage::Operation if seen.is_some() => (SchemaOutcome::Violates, seen),
        Coverage::Operation if known => (SchemaOutcome::Conforms, None),
        Coverage::Operation | Coverage::Uncovered => (SchemaOutcome::NotEvaluated, None),
    }
}

/// Writes the `response` member and tells its truth.
fn write_response(
    endpoint: &Endpoint,
    case: &ResponseCase,
    body: &Template,
    random: &mut Random,
    draft: &mut Draft,
) -> Answer {
    draft.duration = random.between(1, 40) * random.between(1, 40);
    let out = &mut draft.back;
    out.clear();
    out.extend_from_slice(b",\"response\":{\"status\":");
    push_number(out, u64::from(case.status));

    let said = random.per_mille(300);
    let capture = match random.below(1000) {
        0..=39 => Capture::Nothing { said },
        40..=69 => Capture::Listed(&["content-type"]),
        _ => Capture::Whole { said },
    };
    draft.fields.clear();
    if !case.content_type.is_empty() {
        let value = case.content_type.as_bytes().to_vec();
        draft.fields.push(("content-type", value));
    }
    if let Some((name, value)) = case.header {
        draft.fields.push((lower(name), value.as_bytes().to_vec()));
    }
    push_headers(&draft.fields, capture, random, out);

    draft.scratch.clear();
    body.write(random, &mut draft.scratch);
    let form = BodyForm::draw(random, false);
    let body_known = push_body(&draft.scratch, form, random, out);
    if random.per_mille(700) {
        out.extend_from_slice(b",\"duration_ms\":");
        push_number(out, u64::from(draft.duration));
        out.extend_from_slice(b".5");
    }
    out.push(b'}');

    let headers_matter = endpoint.answers_headers && (200..300).contains(&case.status);
    let seen = case.flaw.filter(|flaw| match flaw.location {
        Location::Body => body_known,
        Location::Header => capture.complete(),
        _ => true,
    });
    let known = body_known && (capture.complete() || !headers_matter);
    let (response, flaw) = outcome(endpoint.coverage, seen, known);
    Answer {
        status: case.status,
        response,
        flaw,
    }
}
