//! What reference pages say, made of what the code says of itself: help texts, the manifest's schema, the description of
//! the admin API, the lists of serve paths, the metrics of a running node.

use std::fmt::Write;
use std::fs;

use forerun_types::{ServePath, VmDiscard};
use serde_json::Value;

use crate::support::{App, Command, Node, eventually, hello, repository};

/// Help texts by command, without the options that all share; those under the empty name, with the overview.
pub fn commands() -> Vec<(String, String)> {
    let overview = help(&[]);
    let list = overview.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    // The name stands two spaces in; a longer explanation goes on further right.
    let names = list.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.contains(&"up") && names.contains(&"explain"), "{names:?}");
    let mut commands = vec![(String::new(), overview.clone())];
    commands.extend(names.into_iter().map(|name| (name.to_owned(), without_shared(&help(&[name])))));
    commands
}

fn help(command: &[&str]) -> String {
    // A narrow terminal would wrap it in another way.
    let ended = Command::new(&[command, &["--help"]].concat()).environment("COLUMNS", "100").run();
    assert_eq!(ended.code, Some(0), "{command:?}: {}", ended.stderr);
    let lines: Vec<&str> = ended.stdout.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_end())
}

/// Leaves out the global options, which stand once at the head of the page, and the two that every program has.
fn without_shared(help: &str) -> String {
    let parts = help.split("\n\n").filter(|part| {
        let own = part.trim_start();
        !["-h, --help", "-V, --version"].iter().any(|shared| own.starts_with(shared))
    });
    let text = parts.collect::<Vec<_>>().join("\n\n");
    match text.split_once("\n\nGlobal options:\n") {
        None => text,
        Some((before, global)) => {
            // Examples follow behind the last of them, at the left edge.
            let after = global.split("\n\n").skip_while(|part| part.starts_with(' ')).collect::<Vec<_>>().join("\n\n");
            format!("{before}\n\n{after}")
        }
    }
}

pub fn command_reference() -> String {
    let mut text = String::new();
    for (name, help) in commands() {
        let title = if name.is_empty() { "forerun".to_owned() } else { format!("forerun {name}") };
        let _ = write!(text, "## {title}\n\n```text\n{}\n```\n\n", help.trim_end());
    }
    text
}

pub fn manifest_reference() -> String {
    let schema: Value = serde_json::from_str(&forerun_manifest::forerun_schema()).unwrap();
    let mut text = String::new();
    table_of_keys(&mut text, "the top", "", &schema);
    text
}

/// A heading and a table for an object of the schema, then the same for the objects in it.
fn table_of_keys(text: &mut String, title: &str, path: &str, object: &Value) {
    let required: Vec<&str> = object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let _ = write!(text, "## Keys of {title}\n\n| key | value | meaning |\n|---|---|---|\n");
    let properties = object["properties"].as_object().unwrap();
    for (key, value) in properties {
        let must = if required.contains(&key.as_str()) { " (required)" } else { "" };
        let _ = writeln!(text, "| `{key}`{must} | {} | {} |", kind(value), cell(&value["description"]));
    }
    text.push('\n');
    for (key, value) in properties {
        let inner = format!("{path}{key}");
        for (object, name) in objects_in(value, &inner) {
            let within = name.trim_start_matches('[').trim_end_matches(']');
            table_of_keys(text, &format!("`[{name}]`"), &format!("{within}."), object);
        }
    }
}

/// The objects with keys of their own that a value may be or hold, with the names of their tables.
fn objects_in<'a>(value: &'a Value, name: &str) -> Vec<(&'a Value, String)> {
    if value["properties"].is_object() {
        return vec![(value, name.to_owned())];
    }
    if value["additionalProperties"]["properties"].is_object() {
        return vec![(&value["additionalProperties"], format!("{name}.NAME"))];
    }
    if value["items"]["properties"].is_object() {
        return vec![(&value["items"], format!("[{name}]"))];
    }
    value["anyOf"].as_array().into_iter().flatten().flat_map(|alternative| objects_in(alternative, name)).collect()
}

/// What a value may be, in words.
fn kind(value: &Value) -> String {
    if let Some(alternatives) = value["anyOf"].as_array() {
        let mut kinds: Vec<String> = alternatives.iter().map(kind).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    match value["type"].as_str() {
        Some("string") => "text".to_owned(),
        Some("integer") => "number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => format!("list of {}", kind(&value["items"])),
        Some("object") if value["additionalProperties"].is_object() => {
            format!("table: name to {}", kind(&value["additionalProperties"]))
        }
        Some("object") => "table".to_owned(),
        Some(_) | None => "any".to_owned(),
    }
}

fn cell(text: &Value) -> String {
    text.as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

pub fn api_reference() -> String {
    let file = repository("crates/node/src/admin/openapi.json");
    let description: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut text = "| request | what it does | answers |\n|---|---|---|\n".to_owned();
    let paths = description["paths"].as_object().unwrap();
    for (path, operations) in paths {
        for (method, operation) in methods(operations) {
            let answers: Vec<&str> = operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
            let (method, summary) = (method.to_uppercase(), cell(&operation["summary"]));
            let _ = writeln!(text, "| `{method} {path}` | {summary} | {} |", answers.join(", "));
        }
    }
    text.push_str("\n## Parameters\n\n| request | parameter | where | meaning |\n|---|---|---|---|\n");
    for (path, operations) in paths {
        for (method, operation) in methods(operations) {
            let shared = operations["parameters"].as_array().into_iter().flatten();
            for parameter in shared.chain(operation["parameters"].as_array().into_iter().flatten()) {
                let _ = writeln!(
                    text,
                    "| `{} {path}` | `{}` | {} | {} |",
                    method.to_uppercase(),
                    parameter["name"].as_str().unwrap(),
                    parameter["in"].as_str().unwrap(),
                    parameter_meaning(parameter),
                );
            }
        }
    }
    text.push_str("\n## Objects\n\n");
    for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
        object(&mut text, name, schema);
    }
    text
}

fn methods(operations: &Value) -> impl Iterator<Item = (&String, &Value)> {
    operations.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters")
}

fn parameter_meaning(parameter: &Value) -> String {
    let mut meaning = cell(&parameter["description"]);
    let schema = &parameter["schema"];
    for value in schema["enum"].as_array().into_iter().flatten() {
        let _ = write!(meaning, " `{}`", value.as_str().unwrap_or_default());
    }
    if let Some(default) = schema.get("default") {
        let _ = write!(meaning, " Default {default}.");
    }
    meaning.trim().to_owned()
}

fn object(text: &mut String, name: &str, schema: &Value) {
    let _ = write!(text, "### {name}\n\n");
    if schema["description"].is_string() {
        let _ = write!(text, "{}\n\n", cell(&schema["description"]));
    }
    let Some(properties) = schema["properties"].as_object() else {
        let _ = write!(text, "{}\n\n", api_kind(schema));
        return;
    };
    text.push_str("| member | value | meaning |\n|---|---|---|\n");
    let manifest = manifest_part(name);
    for (key, value) in properties {
        let own = &value["description"];
        let meaning = if own.is_string() { own } else { &manifest[key]["description"] };
        let _ = writeln!(text, "| `{key}` | {} | {} |", api_kind(value), cell(meaning));
    }
    text.push('\n');
}

/// The keys of the manifest that become the members of an object; they are explained there.
fn manifest_part(name: &str) -> Value {
    let schema: Value = serde_json::from_str(&forerun_manifest::forerun_schema()).unwrap();
    let function = &schema["properties"]["function"]["additionalProperties"]["properties"];
    let part = match name {
        "FunctionSpec" => function,
        "Limits" => &function["limits"]["properties"],
        "WarmUp" => &function["warm_up"]["items"]["properties"],
        "CallAnswer" => &function["warm_up"]["items"]["properties"]["answer_to_calls"]["properties"],
        "Reuse" => function["reuse"]["anyOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| &kind["properties"])
            .find(|kind| kind.is_object())
            .unwrap(),
        _ => &Value::Null,
    };
    part.clone()
}

fn api_kind(value: &Value) -> String {
    if let Some(reference) = value["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        return format!("[{name}](#{})", name.to_ascii_lowercase());
    }
    if let Some(words) = value["enum"].as_array() {
        let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if let Some(pattern) = value["pattern"].as_str() {
        return format!("text like `{}`", pattern.replace('|', "\\|"));
    }
    if let [Value::String(only), Value::String(null)] = value["type"].as_array().map(Vec::as_slice).unwrap_or_default()
        && null == "null"
    {
        return format!("{} or null", kind(&serde_json::json!({ "type": only })));
    }
    match value["type"].as_str() {
        Some("array") => format!("list of {}", api_kind(&value["items"])),
        Some("object") if value["additionalProperties"].is_object() => {
            format!("object: name to {}", api_kind(&value["additionalProperties"]))
        }
        Some("object") => "object".to_owned(),
        Some("number") => "number".to_owned(),
        Some(_) | None => kind(value),
    }
}

pub fn serve_paths() -> String {
    let mut text = "| `path` | meaning |\n|---|---|\n".to_owned();
    for path in ServePath::ALL {
        let _ = writeln!(text, "| `{}` | {} |", path.label(), path.explanation());
    }
    text
}

pub fn vm_discards() -> String {
    let mut text = "| reason | it was thrown away because |\n|---|---|\n".to_owned();
    for reason in VmDiscard::ALL {
        let _ = writeln!(text, "| `{}` | {} |", reason.label(), reason.explanation());
    }
    text
}

/// Names, kinds and meanings of what `/metrics` has after a request, in the order in which it comes.
pub fn metrics() -> String {
    let app = App::new("[function.hello]\nsource = \"hello.wasm\"\nroutes = [\"/\"]\n");
    app.component("hello.wasm", &hello());
    let node: Node = Command::up(app.path()).argument("--no-watch").start();
    assert_eq!(node.text("/"), "hello\n");
    // Those of functions are there once an invocation has been recorded.
    let metrics = eventually("the metrics of a function", || {
        let metrics = node.admin("GET", "/metrics", b"").text();
        metrics.contains("forerun_invocations_total").then_some(metrics)
    });
    let mut text = "| metric | kind | meaning |\n|---|---|---|\n".to_owned();
    for line in metrics.lines() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else { continue };
        let kind = metrics.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap_or("?");
        // OpenMetrics puts it behind the name of each sample.
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let _ = writeln!(text, "| `{name}` | {kind} | {} |", help.trim_end_matches('.').replace('|', "\\|"));
    }
    text
}
