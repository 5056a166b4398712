//! JSON schemas from the types that declare the formats: published for editors, and used to check shapes.
//!
//! One source of truth: a key exists because a field of a raw type does.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::forerun_toml::raw::ForerunToml;

/// The JSON schema (draft 7, which editors' TOML plug-ins read) of `forerun.toml`, as committed in
/// `forerun.schema.json`. A manifest names it in its first line: `#:schema <path or URL>`.
pub fn forerun_schema() -> String {
    let mut schema = of::<ForerunToml>();
    if let Value::Object(root) = &mut schema {
        root.insert("title".to_owned(), "forerun.toml".into());
    }
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema of `T`, without references.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.with_transform(RecursiveTransform(WithoutNull)).into_generator().into_root_schema_for::<T>().to_value()
}

/// TOML has no null: an optional key is absent. Takes it out of types, alternatives and defaults.
#[derive(Clone, Debug)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else { return };
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(alternatives)) = object.get_mut("anyOf") {
            alternatives.retain(|alternative| alternative.get("type").is_none_or(|kind| kind != "null"));
            if let [only] = alternatives.as_slice() {
                let only = only.as_object().cloned().unwrap_or_default();
                object.remove("anyOf");
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
}
