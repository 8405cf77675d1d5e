//! Styles of parameters: how texts stand for lists and objects.

use super::{Case, get, table};

pub(super) const STYLES: &str = r##"
openapi: 3.0.3
info: {title: styles, version: "1"}
paths:
  /simple/{l}/{o}/{e}:
    get:
      parameters:
        - {name: l, in: path, required: true, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: o, in: path, required: true, schema: {$ref: "#/components/schemas/Colour"}}
        - {name: e, in: path, required: true, explode: true, schema: {$ref: "#/components/schemas/Colour"}}
      responses: {default: {description: any}}
  /label/{s}/{l}/{e}/{o}:
    get:
      parameters:
        - {name: s, in: path, required: true, style: label, schema: {type: integer}}
        - {name: l, in: path, required: true, style: label, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: e, in: path, required: true, style: label, explode: true, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: o, in: path, required: true, style: label, explode: true, schema: {$ref: "#/components/schemas/Colour"}}
      responses: {default: {description: any}}
  /matrix/{s}/{l}/{e}/{o}:
    get:
      parameters:
        - {name: s, in: path, required: true, style: matrix, schema: {type: integer}}
        - {name: l, in: path, required: true, style: matrix, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: e, in: path, required: true, style: matrix, explode: true, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: o, in: path, required: true, style: matrix, explode: true, schema: {$ref: "#/components/schemas/Colour"}}
      responses: {default: {description: any}}
  /query:
    get:
      parameters:
        - {name: f, in: query, explode: false, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: s, in: query, style: spaceDelimited, explode: false, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: p, in: query, style: pipeDelimited, explode: false, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: c, in: query, explode: true, schema: {$ref: "#/components/schemas/Colour"}}
        - {name: n, in: query, explode: false, schema: {$ref: "#/components/schemas/Colour"}}
        - {name: d, in: query, style: deepObject, explode: true, schema: {$ref: "#/components/schemas/Deep"}}
        - {name: j, in: query, content: {application/json: {schema: {$ref: "#/components/schemas/Colour"}}}}
        - {name: b, in: query, schema: {type: boolean}}
        - {name: v, in: query, allowEmptyValue: true, schema: {type: integer}}
        - {name: a, in: query, schema: {anyOf: [{type: integer, minimum: 10}, {type: string, pattern: "^[0-9]$"}]}}
      responses: {default: {description: any}}
  /files/{name}.{ext}:
    get:
      parameters:
        - {name: name, in: path, required: true, schema: {type: string, maxLength: 3}}
        - {name: ext, in: path, required: true, schema: {type: string, enum: [json, "tar.gz"]}}
      responses: {default: {description: any}}
  /header:
    get:
      parameters:
        - {name: X-List, in: header, schema: {$ref: "#/components/schemas/Numbers"}}
        - {name: X-Colour, in: header, explode: true, schema: {$ref: "#/components/schemas/Colour"}}
        - {name: X-Json, in: header, content: {application/json: {schema: {$ref: "#/components/schemas/Numbers"}}}}
        - {name: ids, in: cookie, explode: false, schema: {$ref: "#/components/schemas/Numbers"}}
      responses: {default: {description: any}}
components:
  schemas:
    Numbers: {type: array, minItems: 1, items: {type: integer}}
    Colour: {type: object, required: [R], properties: {R: {type: integer}, G: {type: integer}}}
    Deep: {type: object, properties: {R: {type: integer}, l: {$ref: "#/components/schemas/Numbers"}, c: {$ref: "#/components/schemas/Colour"}}}
"##;

#[test]
fn every_style_is_read() {
    let ok = "conforms / not_evaluated";
    table(
        STYLES,
        false,
        &[
            (get("GET /simple/1,2/R,1,G,2/R=1,G=2"), ok),
            (
                get("GET /simple/1,x/R,1/R=1"),
                "violates [path invalid_type l] / not_evaluated",
            ),
            (
                get("GET /simple/1/G,1/R=x"),
                "violates [path missing_required o] [path invalid_type e] / not_evaluated",
            ),
            (
                get("GET /simple/1/R/R"),
                "violates [path invalid_syntax o] [path invalid_syntax e] / not_evaluated",
            ),
            (get("GET /label/.5/.1,2/.1.2/.R=1.G=2"), ok),
            (
                get("GET /label/5/.1,x/.1.2/.R=1"),
                "violates [path invalid_syntax s] [path invalid_type l] / not_evaluated",
            ),
            (get("GET /matrix/;s=5/;l=1,2/;e=1;e=2/;R=1;G=2"), ok),
            (
                get("GET /matrix/;s=x/;x=1/;e=1;f=2/;G=2"),
                "violates [path invalid_type s] [path invalid_syntax l] [path invalid_syntax e] [path missing_required o] / not_evaluated",
            ),
            (
                get(
                    "GET /query?f=1,2&s=1%202&p=1%7C2&R=1&n=R,1,G,2&d[R]=1&d%5Bl%5D=1&d[l]=2&d[c][R]=1&j=%7B%22R%22:1%7D&b=true&v=",
                ),
                ok,
            ),
            (get("GET /query?s=1+2&p=1|2&a=5&v=3"), ok),
            (
                get("GET /query?f=1,x"),
                "violates [query invalid_type f] / not_evaluated",
            ),
            (
                get("GET /query?f="),
                "violates [query constraint_violation f] / not_evaluated",
            ),
            (
                get("GET /query?s=1%20x&p=1%7Cx"),
                "violates [query invalid_type s] [query invalid_type p] / not_evaluated",
            ),
            (
                get("GET /query?G=1"),
                "violates [query missing_required c] / not_evaluated",
            ),
            (
                get("GET /query?d[R]=x"),
                "violates [query invalid_type d] / not_evaluated",
            ),
            (
                get("GET /query?d[c][G]=1"),
                "violates [query missing_required d] / not_evaluated",
            ),
            (
                get("GET /query?j={}"),
                "violates [query missing_required j] / not_evaluated",
            ),
            (
                get("GET /query?j={"),
                "violates [query invalid_syntax j] / not_evaluated",
            ),
            (
                get("GET /query?b=yes"),
                "violates [query invalid_type b] / not_evaluated",
            ),
            (get("GET /query?a=15"), ok),
            (
                get("GET /query?v=x"),
                "violates [query invalid_type v] / not_evaluated",
            ),
            (get("GET /files/a.json"), ok),
            (get("GET /files/a.tar.gz"), ok),
            (
                get("GET /files/abcd.json"),
                "violates [path constraint_violation name] / not_evaluated",
            ),
            (
                get("GET /files/a.exe"),
                "violates [path constraint_violation ext] / not_evaluated",
            ),
            (get("GET /files/plain"), "no_operation / not_evaluated"),
            (
                Case {
                    headers: &[
                        ("x-list", "1, 2"),
                        ("x-list", "3"),
                        ("x-colour", "R=1, G=2"),
                        ("x-json", "[1, 2]"),
                        ("cookie", "ids=1,2"),
                    ],
                    ..get("GET /header")
                },
                ok,
            ),
            (
                Case {
                    headers: &[("x-list", "1, x"), ("x-colour", "G=2"), ("cookie", "ids=x")],
                    ..get("GET /header")
                },
                "violates [header invalid_type X-List] [header missing_required X-Colour] [cookie invalid_type ids] / not_evaluated",
            ),
        ],
    );
}
