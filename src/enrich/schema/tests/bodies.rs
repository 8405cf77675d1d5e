//! Bodies that are not JSON: forms, XML, texts, lines.

use super::{Case, table};

pub(super) const BODIES: &str = r##"
openapi: 3.0.3
info: {title: bodies, version: "1"}
paths:
  /form:
    post:
      requestBody:
        required: true
        content:
          application/x-www-form-urlencoded:
            schema: {$ref: "#/components/schemas/Person"}
            encoding: {codes: {explode: false}}
          multipart/form-data:
            schema: {$ref: "#/components/schemas/Person"}
            encoding: {photo: {contentType: "image/png, image/jpeg"}}
          application/xml: {schema: {$ref: "#/components/schemas/Person"}}
          text/plain: {schema: {type: integer, minimum: 5}}
          text/csv: {schema: {type: string}}
          application/x-ndjson: {schema: {$ref: "#/components/schemas/Address"}}
          application/jsonl: {schema: {type: array, maxItems: 1, items: {type: integer}}}
          application/octet-stream: {schema: {type: string, format: binary}}
      responses: {default: {description: any}}
components:
  schemas:
    Person:
      type: object
      required: [name]
      additionalProperties: false
      properties:
        name: {type: string, maxLength: 5}
        age: {type: integer, xml: {attribute: true}}
        codes: {type: array, items: {type: integer, xml: {name: code}}}
        tags: {type: array, items: {type: string}, xml: {wrapped: true}}
        home: {$ref: "#/components/schemas/Address"}
        photo: {type: string, format: binary}
    Address: {type: object, required: [city], properties: {city: {type: string}, number: {type: integer}}}
"##;

fn post<'c>(content_type: &'c [(&'c str, &'c str)], body: &'c str) -> Case<'c> {
    Case {
        request: "POST /form",
        headers: content_type,
        body: Some(body),
        ..Case::default()
    }
}

const OK: &str = "conforms / not_evaluated";

#[test]
fn urlencoded_forms() {
    const TYPE: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];
    table(
        BODIES,
        false,
        &[
            (post(TYPE, "name=Ann&age=5&codes=1,2&tags=a&tags=b+c"), OK),
            (post(TYPE, "name=42"), OK),
            (post(TYPE, "name=Ann&home=%7B%22city%22:%22x%22%7D"), OK),
            (
                post(TYPE, "name=Ann&home[city]=x&home[number]=5&tags[]=a"),
                OK,
            ),
            (
                post(TYPE, "name=Ann&age=x"),
                "violates [body invalid_type /age] / not_evaluated",
            ),
            (
                post(TYPE, "age=5"),
                "violates [body missing_required /name] / not_evaluated",
            ),
            (
                post(TYPE, "name=Ann&codes=1,x"),
                "violates [body invalid_type /codes/*] / not_evaluated",
            ),
            (
                post(TYPE, "name=Ann&home={"),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
            (
                post(TYPE, "name=Ann&secret=1"),
                "violates [body constraint_violation /*] / not_evaluated",
            ),
            (
                post(TYPE, "name=%ff"),
                "violates [body invalid_encoding ] / not_evaluated",
            ),
        ],
    );
}

#[test]
fn multipart_forms() {
    const TYPE: &[(&str, &str)] = &[("content-type", "multipart/form-data; boundary=\"xx\"")];
    const BARE: &[(&str, &str)] = &[("content-type", "multipart/form-data")];
    table(
        BODIES,
        false,
        &[
            (
                post(
                    TYPE,
                    "--xx\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nAnn\r\n--xx\r\ncontent-disposition: form-data; name=codes\r\n\r\n1\r\n--xx\r\nContent-Disposition: form-data; name=\"codes\"\r\n\r\n2\r\n--xx\r\nContent-Disposition: form-data; name=\"home\"\r\nContent-Type: application/json\r\n\r\n{\"city\": \"x\"}\r\n--xx\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\u{1}\u{2}\r\n--xx--\r\n",
                ),
                OK,
            ),
            (
                post(
                    TYPE,
                    "--xx\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nAnnabel\r\n--xx--",
                ),
                "violates [body constraint_violation /name] / not_evaluated",
            ),
            (
                post(
                    TYPE,
                    "--xx\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nAnn\r\n--xx\r\nContent-Disposition: form-data; name=\"photo\"\r\nContent-Type: text/html\r\n\r\nx\r\n--xx--",
                ),
                "violates [body unsupported_media_type /photo] / not_evaluated",
            ),
            (
                post(
                    TYPE,
                    "--xx\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nAnn\r\n",
                ),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
            (
                post(TYPE, "nothing"),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
            (
                post(BARE, "--xx--"),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
        ],
    );
}

#[test]
fn xml() {
    const TYPE: &[(&str, &str)] = &[("content-type", "application/xml; charset=utf-8")];
    table(
        BODIES,
        false,
        &[
            (
                post(
                    TYPE,
                    "<?xml version=\"1.0\"?><person age=\"5\"><name>Ann</name><code>1</code><code>2</code><tags><tag>a</tag></tags><home><city>x</city></home></person>",
                ),
                OK,
            ),
            (
                post(TYPE, "<person><name>Annabel</name></person>"),
                "violates [body constraint_violation /name] / not_evaluated",
            ),
            (
                post(TYPE, "<person age=\"x\"><name>Ann</name></person>"),
                "violates [body invalid_type /age] / not_evaluated",
            ),
            (
                post(TYPE, "<person><name>Ann</name><home/></person>"),
                "violates [body missing_required /home/city] / not_evaluated",
            ),
            (
                post(TYPE, "<person><name>Ann</name><more/></person>"),
                "violates [body constraint_violation /*] / not_evaluated",
            ),
            (
                post(TYPE, "<person><name>Ann</person>"),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
        ],
    );
}

#[test]
fn texts_lines_and_bytes() {
    const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];
    const CSV: &[(&str, &str)] = &[("content-type", "text/csv; charset=latin1")];
    const LINES: &[(&str, &str)] = &[("content-type", "application/x-ndjson")];
    const LIST: &[(&str, &str)] = &[("content-type", "application/jsonl")];
    const BYTES: &[(&str, &str)] = &[("content-type", "application/octet-stream")];
    table(
        BODIES,
        false,
        &[
            (post(TEXT, "7"), OK),
            (
                post(TEXT, "3"),
                "violates [body constraint_violation ] / not_evaluated",
            ),
            (
                post(TEXT, "x"),
                "violates [body invalid_type ] / not_evaluated",
            ),
            (post(CSV, "a;b"), OK),
            (post(LINES, "{\"city\": \"a\"}\n\n{\"city\": \"b\"}\n"), OK),
            (
                post(LINES, "{\"city\": \"a\"}\n{}\n"),
                "violates [body missing_required /city] / not_evaluated",
            ),
            (
                post(LINES, "{\"city\": \"a\"}\n{\n"),
                "violates [body invalid_syntax ] / not_evaluated",
            ),
            (post(LIST, "1\n"), OK),
            (
                post(LIST, "1\n2\n"),
                "violates [body constraint_violation ] / not_evaluated",
            ),
            (post(BYTES, "\u{0}"), OK),
        ],
    );
}
