//! `forerun images`: the machine code that is kept, and what went and why.

use std::io;

use forerun_types::FunctionName;
use serde_json::Value;

use super::answers::{Function, GoneImage, Image, Images, SplitImage, VmParameters};
use super::api::Api;
use super::error::ClientError;
use super::text;
use crate::cli::output::{Format, Output};
use crate::cli::table::{Align, Table, printable};

/// Bytes of the unit that worth is shown in: what a byte saves is too small a number to read.
const VALUE_BYTES: f64 = (1 << 20) as f64;

/// Lists the images of a node, or those of one of its functions.
pub(super) fn list(output: &Output, api: &Api, of: Option<&FunctionName>) -> Result<(), ClientError> {
    if let Some(name) = of {
        // A name with a typing error is not a function without images.
        let _: Function = api.understand(api.get(&format!("/v1/functions/{name}"))?)?;
    }
    let mut answer = api.get("/v1/images")?;
    if let Some(name) = of {
        keep_those_of(name, &mut answer);
    }
    let Images { images, mut split, vms, gone } = api.understand(answer.clone())?;
    // What is so for most functions of most nodes is said of one that is asked for.
    split.retain(|image| of.is_some() || image.state != "too_small");
    let empty = "no images yet; they are made when functions are deployed";
    match output.format {
        Format::Json => output.json(&answer),
        Format::Human => show(output, &answer, (&images, &split, &vms, &gone), empty),
    }
    .map_err(ClientError::Stdout)
}

fn show(
    output: &Output,
    answer: &Value,
    (images, split, vms, gone): (&[Image], &[SplitImage], &[VmParameters], &[GoneImage]),
    empty: &str,
) -> io::Result<()> {
    output.table(&table_of(images), answer, empty)?;
    let passes = table_of_passes(images);
    if !passes.is_empty() {
        output.note("\nwhat was done to the components before:");
        output.table(&passes, answer, empty)?;
    }
    if !split.is_empty() {
        output.note("\nimages of just the code that requests run:");
        output.table(&table_of_split(split), answer, empty)?;
    }
    if !vms.is_empty() {
        output.note("\nhow VMs are run:");
        output.table(&table_of_vms(vms), answer, empty)?;
    }
    if gone.is_empty() {
        return Ok(());
    }
    output.note("\nno longer here, the latest first:");
    output.table(&table_of_gone(gone), answer, empty)
}

/// Leaves what belongs to the active revision of one function.
fn keep_those_of(name: &FunctionName, answer: &mut Value) {
    for list in ["images", "split", "vms", "gone"] {
        if let Some(rows) = answer.get_mut(list).and_then(Value::as_array_mut) {
            let is_its = |user: &Value| user.as_str() == Some(name.as_str());
            rows.retain(|row| {
                row.get("functions").and_then(Value::as_array).is_some_and(|list| list.iter().any(is_its))
            });
        }
    }
}

fn table_of(images: &[Image]) -> Table {
    let mut table = Table::new(&[
        ("functions", Align::Left),
        ("component", Align::Left),
        ("kind", Align::Left),
        ("state", Align::Left),
        ("size", Align::Right),
        ("age", Align::Right),
        ("hits", Align::Right),
        ("saved", Align::Right),
        ("last use", Align::Right),
        ("ms/MiB", Align::Right),
        ("why", Align::Left),
    ]);
    for image in images {
        let there = image.bytes > 0;
        let or_none = |text: String| if there { text } else { "-".to_owned() };
        table.row([
            users(&image.functions),
            text::digest(&image.component),
            image.kind.clone().unwrap_or_else(|| "-".to_owned()),
            image.state.clone(),
            or_none(text::bytes(image.bytes)),
            or_none(text::span(image.age_ms)),
            image.hits.to_string(),
            text::span(saved_ms(image)),
            last_use(image),
            format!("{:.1}", image.value_ms_per_byte * VALUE_BYTES),
            image.why.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn table_of_passes(images: &[Image]) -> Table {
    let mut table = Table::new(&[
        ("functions", Align::Left),
        ("component", Align::Left),
        ("kind", Align::Left),
        ("pass", Align::Left),
        ("done", Align::Left),
        ("what or why", Align::Left),
    ]);
    for image in images {
        for pass in &image.passes {
            let done = if pass.applied { "yes" } else { "no" };
            table.row([
                users(&image.functions),
                text::digest(&image.component),
                image.kind.clone().unwrap_or_default(),
                pass.pass.clone(),
                done.to_owned(),
                pass.detail.clone(),
            ]);
        }
    }
    table
}

fn table_of_split(split: &[SplitImage]) -> Table {
    let mut table = Table::new(&[("functions", Align::Left), ("state", Align::Left), ("", Align::Left)]);
    for image in split {
        table.row([users(&image.functions), image.state.clone(), printable(&image.line)]);
    }
    table
}

fn table_of_vms(vms: &[VmParameters]) -> Table {
    let mut table = Table::new(&[
        ("functions", Align::Left),
        ("reuse", Align::Left),
        ("memory at most", Align::Right),
        ("room", Align::Right),
        ("resident", Align::Right),
        ("time at most", Align::Right),
        ("processors", Align::Left),
        ("ready", Align::Right),
        ("cold groups at most", Align::Right),
    ]);
    for vm in vms {
        let cpus: Vec<String> = vm.cpus.iter().map(u16::to_string).collect();
        table.row([
            users(&vm.functions),
            vm.policy.clone(),
            text::bytes(vm.memory_bytes_max),
            text::bytes(vm.room_bytes),
            text::bytes(vm.resident_bytes),
            text::span(vm.time_ms_max),
            if cpus.is_empty() { "any".to_owned() } else { cpus.join(" ") },
            vm.ready.to_string(),
            vm.cold_groups_max.to_string(),
        ]);
    }
    table
}

fn table_of_gone(gone: &[GoneImage]) -> Table {
    let mut table = Table::new(&[
        ("functions", Align::Left),
        ("component", Align::Left),
        ("gone", Align::Left),
        ("size", Align::Right),
        ("why", Align::Left),
    ]);
    for image in gone.iter().rev() {
        let (component, moment) = (text::digest(&image.key.component), text::moment(image.at_unix_ms));
        table.row([users(&image.functions), component, moment, text::bytes(image.bytes), image.why.clone()]);
    }
    table
}

fn users(functions: &[String]) -> String {
    if functions.is_empty() { "-".to_owned() } else { functions.join(" ") }
}

/// Time that compiling would have taken wherever the image was used instead.
fn saved_ms(image: &Image) -> u64 {
    image.hits.saturating_mul(image.build_ms.unwrap_or(0))
}

/// The cache keeps the order of uses, not their time: clocks jump, and only the order decides who gives way.
fn last_use(image: &Image) -> String {
    match (image.in_use, image.uses_since) {
        (1.., _) => "in use".to_owned(),
        (0, Some(uses)) => format!("{uses} uses ago"),
        (0, None) => "never".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::args::ColorChoice;
    use crate::cli::environment::Environment;
    use crate::client::testing::{Canned, api_of};

    fn answer() -> Value {
        let image = |functions: Value, state: &str, bytes: u64, in_use: u64| {
            json!({ "component": "sha256:8b312c429c6e0011", "functions": functions, "kind": "t2-full", "state": state,
                "build_ms": 4_000, "passes": [{ "pass": "prelink", "applied": in_use > 0, "detail": "core modules 14 to 2" }], "bytes": bytes, "age_ms": 5000, "hits": 3, "uses_since": 4, "in_use": in_use, "value_ms_per_byte": 0.00001 })
        };
        json!({
            "images": [image(json!(["cart", "lamp"]), "loaded", 2048, 1), image(json!([]), "stored", 2048, 0),
                { "component": "sha256:00", "state": "quarantined", "bytes": 0, "why": "it trapped" }],
            "split": [{ "functions": ["cart"], "state": "serving", "line": "60 ‰ kept" }],
            "vms": [{ "functions": ["cart"], "policy": "rollback", "memory_bytes_max": 64 << 20, "room_bytes": 0,
                "resident_bytes": 81_920, "time_ms_max": 30_000, "cpus": [0, 3], "ready": 2, "cold_groups_max": 256 }],
            "gone": [{ "key": { "component": "sha256:01" }, "functions": ["cart"], "at_unix_ms": 0, "bytes": 7,
                "reason": "vanished", "why": "its file was removed by somebody else" }],
        })
    }

    #[test]
    fn a_row_says_whose_it_is_and_why_it_is_not_there() {
        let Images { images, split, vms, gone } = serde_json::from_value(answer()).unwrap();
        assert!(table_of_split(&split).render(false).contains("cart       serving  60 ‰ kept"), "{split:?}");
        let text = table_of(&images).render(false);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "cart lamp 8b312c429c6e t2-full loaded 2.0 KiB 5 s 3 12 s in use 10.5");
        assert_eq!(lines[2], "- 8b312c429c6e t2-full stored 2.0 KiB 5 s 3 12 s 4 uses ago 10.5");
        assert_eq!(lines[3], "- 00 - quarantined - - 0 0 s never 0.0 it trapped");
        let text = table_of_passes(&images).render(false);
        assert!(text.contains("prelink  yes   core modules 14 to 2"), "{text}");
        let text = table_of_vms(&vms).render(false);
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row.join(" "), "cart rollback 64.0 MiB 0 B 80.0 KiB 30 s 0 3 2 256", "{text}");
        let text = table_of_gone(&gone).render(false);
        assert!(text.contains("1970-01-01 00:00:00Z") && text.contains("removed by somebody else"), "{text}");
    }

    #[test]
    fn one_function_has_its_own_only() {
        let mut answer = answer();
        keep_those_of(&"lamp".parse().unwrap(), &mut answer);
        assert_eq!(answer["images"].as_array().unwrap().len(), 1);
        assert_eq!(answer["gone"], json!([]));
    }

    #[test]
    fn a_function_that_is_not_there_is_said_to_be_so() {
        let problem = r#"{"title":"x","status":404,"reason":"unknown_function","detail":"no function named `a`"}"#;
        let server = Canned::answer("404 Not Found", "application/problem+json", problem);
        let output = Output::new(false, ColorChoice::Never, &Environment::default());
        let error = list(&output, &api_of(&server), Some(&"a".parse().unwrap())).unwrap_err();
        assert_eq!(error.to_string(), "no function named `a`");
    }
}
