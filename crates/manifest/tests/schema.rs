//! The published schema is the one the code gives.

/// The committed file, relative to the package.
const COMMITTED: &str = "forerun.schema.json";

#[test]
fn committed_schema_is_the_generated_one() {
    let generated = forerun_manifest::forerun_schema();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(COMMITTED, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert_eq!(committed, generated, "run with UPDATE_GOLDEN=1 and commit {COMMITTED}");
}

#[test]
fn every_key_has_a_description() {
    fn descend(schema: &serde_json::Value, path: &str, bare: &mut Vec<String>) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            if inner["description"].as_str().is_none_or(str::is_empty) {
                bare.push(path.clone());
            }
            descend(inner, &path, bare);
        }
        for key in ["additionalProperties", "items"] {
            if schema[key].is_object() {
                descend(&schema[key], &format!("{path}.*"), bare);
            }
        }
        for alternative in schema["anyOf"].as_array().into_iter().flatten() {
            descend(alternative, path, bare);
        }
    }
    let schema: serde_json::Value = serde_json::from_str(&forerun_manifest::forerun_schema()).unwrap();
    let mut bare = Vec::new();
    descend(&schema, "", &mut bare);
    assert!(bare.is_empty(), "without a description: {bare:?}");
    assert!(schema["properties"]["function"]["additionalProperties"]["properties"]["limits"].is_object());
}
