//! Look-ups per second of the router, for 10, 1,000 and 100,000 templates.
//!
//! `cargo bench --bench router` prints one line per size: operations of one host, asked for in an order that no cache
//! foresees.

use std::hint::black_box;

use gatewatch::model::Method;
use gatewatch::policy::compile;
use gatewatch::policy::objects::{OperationObject, ZoneObject};

const HOST: &str = "api.shop.example";
const LOOK_UPS: usize = 2_000_000;

fn main() {
    for size in [10, 1_000, 100_000] {
        let operations = (0..size)
            .map(|number| OperationObject {
                method: "GET".into(),
                host: HOST.into(),
                endpoint: format!("/api/v1/resource{number}/{{id}}"),
            })
            .collect();
        let zone = ZoneObject {
            id: "bench".into(),
            hosts: vec![HOST.into()],
            operations,
            ..ZoneObject::default()
        };
        let Ok(policy) = compile(&[zone]) else {
            println!("{size:>7} templates: refused");
            continue;
        };
        let Some(zone) = policy.zones.first() else {
            continue;
        };
        let paths: Vec<String> = (0..size)
            .map(|number| format!("/api/v1/resource{number}/12345"))
            .collect();
        // A multiplier that shares no factor with the sizes visits every path in a scattered order.
        let order = (0..LOOK_UPS).map(|turn| turn.wrapping_mul(7_919_357) % size);
        #[expect(
            clippy::disallowed_methods,
            reason = "a bench measures the present, it does not judge by it"
        )]
        let start = std::time::Instant::now();
        let mut found = 0_usize;
        for number in order {
            if let Some(path) = paths.get(number) {
                let matched = zone
                    .operations
                    .find(Method::Get, HOST, black_box(path.as_str()));
                found += usize::from(matched.operation.is_some());
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let rate = LOOK_UPS as f64 / seconds / 1e6;
        println!(
            "{size:>7} templates: {rate:.2} million look-ups per second, {found} of {LOOK_UPS} found"
        );
    }
}
