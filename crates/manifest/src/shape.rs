//! Holds a parsed manifest against the schema of its format: unknown keys, missing keys, wrong types.
//!
//! Finds all such errors in one go, which deserialization cannot (it stops at the first). Of JSON schema only what
//! our own types produce is understood: `type`, `properties`, `additionalProperties`, `required`, `items`, `anyOf`
//! and `minimum`. Values are given meaning elsewhere.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Findings;
use crate::nearest::nearest;
use crate::spanned::Span;

/// Checks `table` and takes the unknown keys out of it after naming them, so that the rest can be read.
/// True if nothing but unknown keys was wrong, which means that the table can be deserialized.
pub(crate) fn check(root: &mut Spanned<DeTable<'_>>, schema: &Value, findings: &mut Findings) -> bool {
    let mut check = Check { findings, readable: true };
    check.table(root.get_mut(), None, schema, &mut Vec::new());
    check.readable
}

/// Where each key of a manifest stands, by its path joined with dots: `function.cart.limits.timeout_ms`.
pub(crate) fn positions(root: &DeTable<'_>) -> HashMap<String, Span> {
    let mut found = HashMap::new();
    index(root, "", &mut found);
    found
}

fn index(table: &DeTable<'_>, prefix: &str, found: &mut HashMap<String, Span>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let place = match value.get_ref() {
            DeValue::Table(inner) => {
                index(inner, &path, found);
                key.span()
            }
            _ => value.span(),
        };
        found.insert(path, place);
    }
}

struct Check<'a> {
    findings: &'a mut Findings,
    readable: bool,
}

impl Check<'_> {
    fn value(&mut self, value: &mut Spanned<DeValue<'_>>, schema: &Value, path: &mut Vec<String>) {
        let span = value.span();
        let kind = kind_of(value.get_ref());
        let Some(schema) = alternatives(schema).find(|schema| allows(schema, kind)) else {
            return self.wrong_type(value, schema, path);
        };
        match value.get_mut() {
            DeValue::Table(table) => self.table(table, Some(&span), schema, path),
            DeValue::Array(list) => {
                let Some(items) = schema.get("items") else { return };
                for (index, item) in list.iter_mut().enumerate() {
                    path.push(format!("[{index}]"));
                    self.value(item, items, path);
                    path.pop();
                }
            }
            DeValue::Integer(number) => {
                let negative = number.as_str().starts_with('-');
                if negative && schema.get("minimum").is_some_and(|least| least.as_f64() >= Some(0.0)) {
                    self.readable = false;
                    self.findings.error(span, format_args!("`{}` cannot be negative", shown(path)));
                }
            }
            DeValue::String(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
        }
    }

    fn table(&mut self, table: &mut DeTable<'_>, span: Option<&Span>, schema: &Value, path: &mut Vec<String>) {
        let empty = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let closed = schema.get("additionalProperties").and_then(Value::as_bool) == Some(false);
        let mut unknown = Vec::new();
        for (key, value) in table.iter_mut() {
            path.push(key.get_ref().to_string());
            match known.get(key.get_ref().as_ref()).or(others) {
                Some(schema) => self.value(value, schema, path),
                None if closed => {
                    self.unknown_key(key, known, path);
                    unknown.push(key.get_ref().to_string());
                }
                None => {}
            }
            path.pop();
        }
        for key in unknown {
            table.remove(key.as_str());
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for key in required.filter_map(Value::as_str).filter(|key| !table.contains_key(*key)) {
            self.missing_key(key, known.get(key), span.cloned(), path);
        }
    }

    fn unknown_key(&mut self, key: &Spanned<Cow<'_, str>>, known: &Map<String, Value>, path: &[String]) {
        let (word, parent) = (key.get_ref().as_ref(), &path[..path.len() - 1]);
        let finding = self.findings.error(key.span(), format_args!("unknown key `{word}` {}", in_table(parent)));
        let table = table_with(word, known);
        match (nearest(word, known.keys().map(String::as_str)), table) {
            (_, Some(table)) => finding
                .label("not a key here")
                .help(format_args!("`{word}` belongs {}", in_table(&[parent, &[table]].concat()))),
            (Some(meant), None) => finding.label(format_args!("did you mean `{meant}`?")),
            (None, None) => finding
                .label("not a key here")
                .help(format_args!("keys here: {}", known.keys().cloned().collect::<Vec<_>>().join(", "))),
        };
    }

    fn missing_key(&mut self, key: &str, schema: Option<&Value>, span: Option<Span>, path: &[String]) {
        self.readable = false;
        let finding = self.findings.error(span, format_args!("the key `{key}` is missing {}", in_table(path)));
        if let Some(description) = schema.and_then(|schema| schema.get("description")).and_then(Value::as_str) {
            finding.help(format_args!("`{key}`: {}", first_sentence(description)));
        }
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, schema: &Value, path: &[String]) {
        self.readable = false;
        let kinds: Vec<_> = alternatives(schema).map(|schema| in_words(schema.get("type"))).collect();
        let found = kind_of(value.get_ref());
        let expected = kinds.join(" or ");
        let message = format!("`{}` must be {expected}, not {}", shown(path), with_article(found));
        let finding = self.findings.error(value.span(), message).label(format_args!("expected {expected}"));
        match (expected.as_str(), found) {
            ("a string", "integer" | "number" | "boolean" | "date") => finding.help("put it in quotes"),
            ("an array", "string" | "integer") => finding.help("put it in brackets: a list of one"),
            _ => finding,
        };
    }
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    let list = schema.get("anyOf").and_then(Value::as_array);
    let own = if list.is_none() { Some(schema) } else { None };
    list.into_iter().flatten().chain(own)
}

fn allows(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        Some(one) => one == kind,
    }
}

/// The kind of a TOML value, in the words of JSON schema; a date has none there.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Datetime(_) => "date",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    }
}

fn in_words(kind: Option<&Value>) -> String {
    match kind {
        Some(Value::String(kind)) => with_article(kind).to_owned(),
        Some(_) | None => "something else".to_owned(),
    }
}

/// A kind as TOML calls it.
fn with_article(kind: &str) -> &'static str {
    match kind {
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number with a fraction",
        "boolean" => "true or false",
        "array" => "an array",
        "object" => "a table",
        "date" => "a date",
        _ => "something else",
    }
}

/// The one of the tables below that has `word` as a key.
fn table_with(word: &str, known: &Map<String, Value>) -> Option<String> {
    let has = |schema: &Value| schema.get("properties").is_some_and(|keys| keys.get(word).is_some());
    known.iter().find(|(_, schema)| alternatives(schema).any(has)).map(|(table, _)| table.clone())
}

/// A path as a person writes it: `function.cart.warm_up[0]`.
fn shown(path: &[String]) -> String {
    path.join(".").replace(".[", "[")
}

/// A table's place in words.
fn in_table(path: &[String]) -> String {
    match path.split_last() {
        None => "at the top of the file".to_owned(),
        Some((last, rest)) if last.starts_with('[') => format!("in [[{}]]", shown(rest)),
        Some(_) => format!("in [{}]", shown(path)),
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}
