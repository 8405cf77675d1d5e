//! scratch
use std::borrow::Cow;
use std::time::Instant;
use gatewatch::policy::objects::*;
use crate::fuzz_targets::judging;

fn doc(schema: &str, media: &str) -> String {
    format!(r##"{{"openapi":"3.1.0","info":{{"title":"t","version":"1"}},"paths":{{"/x":{{"post":{{"parameters":[{{"name":"q","in":"query","schema":{{"type":"array","items":{{"type":"integer"}}}}}},{{"name":"d","in":"query","style":"deepObject","schema":{{"type":"object"}}}}],"requestBody":{{"content":{{"{media}":{{"schema":{schema}}}}}}},"responses":{{"default":{{"description":"d"}}}}}}}}}},"components":{{"schemas":{{
    "Node":{{"oneOf":[{{"type":"object","properties":{{"a":{{"$ref":"#/components/schemas/Node"}}}},"required":["a"]}},{{"type":"object","properties":{{"a":{{"$ref":"#/components/schemas/Node"}},"b":{{"type":"integer"}}}},"required":["b"]}},{{"type":"object","properties":{{"a":{{"$ref":"#/components/schemas/Node"}}}}}}]}},
    "Tree":{{"anyOf":[{{"type":"array","items":{{"$ref":"#/components/schemas/Tree"}}}},{{"type":"array","items":{{"$ref":"#/components/schemas/Tree"}},"minItems":1}},{{"type":"string"}}]}},
    "Uneval":{{"allOf":[{{"anyOf":[{{"properties":{{"a":{{"$ref":"#/components/schemas/Uneval"}}}}}},{{"properties":{{"b":{{"$ref":"#/components/schemas/Uneval"}}}}}}]}}],"unevaluatedProperties":false}}
    }}}}}}"##)
}

#[test]
fn times() {
    let reps = |text: &str, n: usize| text.repeat(n);
    let list = |item: &str, n: usize| format!("[{}]", vec![item; n].join(","));
    let ints = format!("[{}]", (0..40_000).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    let strs = format!("[{}]", (0..26_000).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(","));
    let objs = format!("[{}]", (0..12_000).map(|n| format!("{{\"a\":{n},\"b\":1}}")).collect::<Vec<_>>().join(","));
    let wide = format!("{{{}}}", (0..20_000).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(","));
    let deep = |n: usize, o: &str, m: &str, c: &str| format!("{}{}{}", reps(o, n), m, reps(c, n));
    let enumeration = format!("{{\"type\":\"array\",\"items\":{{\"enum\":[{}]}}}}", (0..2_000).map(|n| format!("\"v{n}\"")).collect::<Vec<_>>().join(","));
    let enum_objs = format!("{{\"type\":\"array\",\"items\":{{\"enum\":[{}]}}}}", (0..2_000).map(|n| format!("{{\"a\":{n}}}")).collect::<Vec<_>>().join(","));
    let one_of = format!("{{\"type\":\"array\",\"items\":{{\"oneOf\":[{}]}}}}", (0..100).map(|n| format!("{{\"type\":\"object\",\"required\":[\"m{n}\"],\"properties\":{{\"m{n}\":{{\"type\":\"string\"}}}}}}")).collect::<Vec<_>>().join(","));
    let j = "application/json";
    let look = r#"{"type":"array","items":{"type":"string","pattern":"^(?=.*[a-z])(?=.*[0-9])(?=.*[!]).{8,}$"}}"#;
    let look1 = r#"{"type":"string","pattern":"(?=.*x)y"}"#;
    let back = r#"{"type":"string","pattern":"^(a|aa)+(?!b)c$"}"#;
    let cases: Vec<(&str, String, &str, String)> = vec![
        ("unique ints", r#"{"type":"array","uniqueItems":true}"#.into(), j, ints.clone()),
        ("unique strs", r#"{"type":"array","uniqueItems":true}"#.into(), j, strs.clone()),
        ("unique objs", r#"{"type":"array","uniqueItems":true}"#.into(), j, objs.clone()),
        ("unique dup", r#"{"type":"array","uniqueItems":true}"#.into(), j, list("1", 128_000)),
        ("wide free", r#"{"type":"object"}"#.into(), j, wide.clone()),
        ("wide add false", r#"{"type":"object","additionalProperties":false}"#.into(), j, wide.clone()),
        ("wide add int fail", r#"{"type":"object","additionalProperties":{"type":"string"}}"#.into(), j, wide.clone()),
        ("wide names pattern", r#"{"type":"object","propertyNames":{"pattern":"^[a-z]+$"}}"#.into(), j, wide.clone()),
        ("wide patternProperties", r#"{"type":"object","patternProperties":{"^k":{"type":"string"},"[0-9]+$":{"type":"null"}}}"#.into(), j, wide.clone()),
        ("items type fail", r#"{"type":"array","items":{"type":"string"}}"#.into(), j, list("1", 128_000)),
        ("items obj fail", r#"{"type":"array","items":{"type":"object","required":["a","b","c"]}}"#.into(), j, list("{}", 85_000)),
        ("contains", r#"{"type":"array","contains":{"type":"string"}}"#.into(), j, list("1", 128_000)),
        ("enum strs", enumeration.clone(), j, list("\"zz\"", 50_000)),
        ("enum objs", enum_objs.clone(), j, list("{\"a\":9999}", 23_000)),
        ("oneOf 100", one_of.clone(), j, list("{}", 85_000)),
        ("oneOf 100 ok", one_of.clone(), j, list("{\"m99\":\"\"}", 23_000)),
        ("Node deep", r##"{"$ref":"#/components/schemas/Node"}"##.into(), j, deep(60, "{\"a\":", "1", "}")),
        ("Node deep8", r##"{"$ref":"#/components/schemas/Node"}"##.into(), j, deep(8, "{\"a\":", "1", "}")),
        ("Tree deep", r##"{"$ref":"#/components/schemas/Tree"}"##.into(), j, deep(60, "[", "1", "]")),
        ("Tree wide deep", r##"{"$ref":"#/components/schemas/Tree"}"##.into(), j, deep(6, "[", &list("1", 100_000), "]")),
        ("Tree bushy", r##"{"$ref":"#/components/schemas/Tree"}"##.into(), j, list(&deep(7, "[", "1", "]"), 15_000)),
        ("Uneval deep", r##"{"$ref":"#/components/schemas/Uneval"}"##.into(), j, deep(60, "{\"a\":", "1", "}")),
        ("regex (a+)+$", r#"{"type":"string","pattern":"^(a+)+$"}"#.into(), j, format!("\"{}!\"", reps("a", 250_000))),
        ("regex reps", r#"{"type":"string","pattern":"(a{0,500}){2}b"}"#.into(), j, format!("\"{}!\"", reps("a", 250_000))),
        ("look strs", look.into(), j, list("\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", 6_000)),
        ("look strs short", look.into(), j, list("\"a\"", 60_000)),
        ("look long", look1.into(), j, format!("\"{}\"", reps("y", 250_000))),
        ("look long x", look1.into(), j, format!("\"{}\"", reps("yx", 125_000))),
        ("back", back.into(), j, format!("\"{}\"", reps("a", 250_000))),
        ("back list", format!("{{\"type\":\"array\",\"items\":{back}}}"), j, list(&format!("\"{}\"", reps("a", 40)), 6_000)),
        ("format email", r#"{"type":"array","items":{"type":"string","format":"email"}}"#.into(), j, list("\"a@b\"", 40_000)),
        ("format uri", r#"{"type":"string","format":"uri"}"#.into(), j, format!("\"http://{}\"", reps("a.", 120_000))),
        ("format idn", r#"{"type":"string","format":"idn-hostname"}"#.into(), j, format!("\"{}\"", reps("ü.", 80_000))),
        ("format host", r#"{"type":"string","format":"hostname"}"#.into(), j, format!("\"{}\"", reps("a.", 120_000))),
        ("format idn2", r#"{"type":"string","format":"idn-email"}"#.into(), j, format!("\"{}@{}\"", reps("ü.", 40_000), reps("ü", 40_000))),
        ("format regex", r#"{"type":"string","format":"regex"}"#.into(), j, format!("\"{}\"", reps("(a{1,1000})", 20_000))),
        ("format iri", r#"{"type":"string","format":"iri"}"#.into(), j, format!("\"http://{}\"", reps("ü", 80_000))),
        ("format uri-template", r#"{"type":"string","format":"uri-template"}"#.into(), j, format!("\"{}\"", reps("{", 250_000))),
        ("format jsonptr", r#"{"type":"string","format":"json-pointer"}"#.into(), j, format!("\"{}\"", reps("/~", 120_000))),
        ("format duration", r#"{"type":"string","format":"duration"}"#.into(), j, format!("\"P{}\"", reps("1Y", 120_000))),
        ("big number", r#"{"type":"number","multipleOf":0.01}"#.into(), j, format!("1{}", reps("0", 250_000))),
        ("big decimals", r#"{"type":"array","items":{"type":"number","multipleOf":0.01}}"#.into(), j, list("1e-300", 30_000)),
        ("multipleOf", r#"{"type":"array","items":{"type":"number","multipleOf":0.01}}"#.into(), j, list("1.005", 40_000)),
        ("big exp", r#"{"type":"array","items":{"type":"integer"}}"#.into(), j, list("1e308", 40_000)),
        ("minLength", r#"{"type":"array","items":{"type":"string","minLength":5}}"#.into(), j, list("\"a\"", 60_000)),
        ("xml wide", r#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}},"b":{"type":"string"}}}"#.into(), "application/xml", format!("<r>{}</r>", reps("<a/>", 60_000))),
        ("xml attrs", r#"{"type":"object","properties":{"a":{"type":"string","xml":{"attribute":true}}}}"#.into(), "application/xml", format!("<r {}/>", reps("b='' ", 48_000))),
        ("xml amp", r#"{"type":"object"}"#.into(), "application/xml", format!("<r>{}</r>", reps("&amp;", 50_000))),
        ("form dup", r#"{"type":"object","properties":{"z":{"type":"string"}}}"#.into(), "application/x-www-form-urlencoded", reps("a=1&", 1_000)),
        ("form many", r#"{"type":"object","additionalProperties":{"type":"integer"}}"#.into(), "application/x-www-form-urlencoded", (0..30_000).map(|n| format!("k{n}=x&")).collect()),
        ("form list", r#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}}}"#.into(), "application/x-www-form-urlencoded", reps("a=x&", 60_000)),
        ("form esc", r#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}}}"#.into(), "application/x-www-form-urlencoded", format!("a={}", reps("%41+", 60_000))),
        ("ndjson", r#"{"type":"object"}"#.into(), "application/x-ndjson", reps("1\n", 128_000)),
        ("ndjson obj", r#"{"type":"object","required":["a","b"],"properties":{"c":{"type":"string"}}}"#.into(), "application/x-ndjson", reps("{\"c\":1}\n", 32_000)),
        ("text", r#"{"type":"string","maxLength":5}"#.into(), "text/plain", reps("ü", 128_000)),
        ("multipart", r#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}}}"#.into(), "multipart/form-data; boundary=x", reps("--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n", 4_900) + "--x--"),
        ("multipart near", r#"{"type":"object"}"#.into(), "multipart/form-data; boundary=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", reps("--xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 7_000)),
    ];
    for (name, schema, media, body) in &cases {
        let essence = media.split(';').next().unwrap();
        let zone = ZoneObject {
            schemas: vec![SchemaObject { name: "s".into(), document: judging::file("s.json", doc(schema, essence).as_bytes()), formats: true, undeclared_parameters: true, ..Default::default() }],
            ..judging::zone()
        };
        let judge = match gatewatch::policy::compile(&[zone]) { Ok(p) => judging::judge_by(p), Err(e) => { println!("{name}: REFUSED {:?}", e.0.first()); continue } };
        let fields = format!("content-type: {media}");
        let mut ex = judging::exchange("POST", "/x", &fields);
        ex.request.body = Some(Cow::Borrowed(body.as_bytes()));
        let t = Instant::now();
        let judged = judging::judged(&judge, &ex).unwrap();
        let ms = t.elapsed().as_secs_f64()*1e3;
        println!("{}{name:>24}: {ms:9.2} ms  {} bytes {:?} {:?}", if ms > 50.0 {"SLOW "} else {"     "}, body.len(), judged.schema.request, judged.schema.violations.first().map(|v| (&v.class, &v.detail)));
    }
    let zone = ZoneObject { schemas: vec![SchemaObject { name: "s".into(), document: judging::file("s.json", doc("{}", j).as_bytes()), formats: true, undeclared_parameters: true, ..Default::default() }], ..judging::zone() };
    let judge = judging::judge(zone).unwrap();
    for (name, target, fields) in [
        ("query many", format!("/x?{}", reps("q=1&", 10_000)), String::new()),
        ("query undeclared", format!("/x?{}", (0..100_000).map(|n| format!("k{n}=1&")).collect::<String>()), String::new()),
        ("query deep", format!("/x?{}", reps("d[a]=1&", 1_000)), String::new()),
        ("query deep many", format!("/x?{}", (0..100_000).map(|n| format!("d[a{n}]=1&")).collect::<String>()), String::new()),
        ("query pct", format!("/x?q={}", reps("%2C", 300_000)), String::new()),
        ("path slashes", reps("/", 1_000_000), String::new()),
        ("path dots", reps("/a/..", 200_000), String::new()),
        ("path dots2", format!("{}{}", reps("/a", 300_000), reps("/..", 300_000)), String::new()),
        ("path pct", reps("/%41", 250_000), String::new()),
        ("path ids", reps("/12", 300_000), String::new()),
        ("cookies", "/x".into(), format!("cookie: {}", reps("sid=1; ", 100_000))),
        ("cookies empty", "/x".into(), format!("cookie: {}", reps("sid=; ", 100_000))),
        ("headers", "/x".into(), reps("authorization: Basic x\n", 10_000)),
        ("bearer", "/x".into(), format!("authorization: Bearer {}", reps("a.", 100_000))),
        ("bearer spaces", "/x".into(), format!("authorization: Bearer {}x", reps(" ", 100_000))),
    ] {
        let ex = judging::exchange("POST", &target, &fields);
        let t = Instant::now();
        let judged = judging::judged(&judge, &ex).unwrap();
        let ms = t.elapsed().as_secs_f64()*1e3;
        println!("{}{name:>24}: {ms:9.2} ms  {:?} {:?}", if ms > 50.0 {"SLOW "} else {"     "}, judged.schema.request, judged.schema.violations.first().map(|v| (&v.class, &v.detail)));
    }
}
