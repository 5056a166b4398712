//! The keys of `spin.toml` version 2, as typed tables, including those that are not supported.
//!
//! Taken from Spin's manifest reference and its schema types (spinframework/spin, `crates/manifest`). Keys without a
//! meaning at run time are declared so that they are known, and read over.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::build::BuildTable;
use crate::spanned::{At, TextOr};

#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpinToml {
    /// Version of this format; write `spin_manifest_version = 2`.
    #[expect(dead_code, reason = "declares the key; its value is checked before the rest is read")]
    pub(crate) spin_manifest_version: At<u64>,
    /// The application; it needs a name.
    pub(crate) application: Application,
    #[serde(default)]
    pub(crate) variables: BTreeMap<At<String>, Variable>,
    #[serde(default)]
    pub(crate) trigger: Triggers<Vec<At<HttpTrigger>>>,
    #[serde(default)]
    pub(crate) component: BTreeMap<At<String>, Component>,
}

#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "keys that are known and have no meaning at run time")]
pub(crate) struct Application {
    /// Name of the application.
    pub(crate) name: At<String>,
    version: Option<Unread>,
    description: Option<Unread>,
    authors: Option<Unread>,
    targets: Option<Unread>,
    tool: Option<Unread>,
    #[serde(default)]
    pub(crate) trigger: Triggers<HttpSettings>,
}

#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variable {
    pub(crate) default: Option<String>,
    #[serde(default)]
    pub(crate) required: bool,
    pub(crate) secret: Option<At<bool>>,
    #[expect(dead_code, reason = "a key that is known and has no meaning at run time")]
    description: Option<Unread>,
}

#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpTrigger {
    /// A path such as /cart or /cart/..., or { private = true }.
    pub(crate) route: At<TextOr<PrivateRoute>>,
    pub(crate) component: Option<At<TextOr<Component>>>,
    pub(crate) id: Option<At<String>>,
    pub(crate) executor: Option<At<Executor>>,
    pub(crate) static_response: Option<At<Unread>>,
    pub(crate) components: Option<At<Unread>>,
    pub(crate) dependencies: Option<At<Unread>>,
}

#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrivateRoute {
    /// True: no route from outside.
    pub(crate) private: At<bool>,
}

#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "keys that belong to an executor that is not supported")]
pub(crate) struct Executor {
    /// How the component is called.
    pub(crate) r#type: At<String>,
    argv: Option<Unread>,
    entrypoint: Option<Unread>,
}

#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "keys that are known and have no meaning at run time")]
pub(crate) struct Component {
    /// Path of the component, relative to the manifest.
    pub(crate) source: At<TextOr<RemoteSource>>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, At<String>>,
    #[serde(default)]
    pub(crate) allowed_outbound_hosts: Vec<At<String>>,
    #[serde(default)]
    pub(crate) allowed_http_hosts: Vec<At<String>>,
    #[serde(default)]
    pub(crate) key_value_stores: Vec<At<String>>,
    pub(crate) build: Option<BuildTable>,
    description: Option<Unread>,
    targets: Option<Unread>,
    tool: Option<Unread>,
    exclude_files: Option<Unread>,
    dependencies_inherit_configuration: Option<Unread>,
    pub(crate) files: Option<At<Unread>>,
    pub(crate) sqlite_databases: Option<At<Unread>>,
    pub(crate) ai_models: Option<At<Unread>>,
    pub(crate) dependencies: Option<At<Unread>>,
    pub(crate) profile: Option<At<Unread>>,
}

#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "keys of sources that are not supported")]
pub(crate) struct RemoteSource {
    url: Option<Unread>,
    digest: Option<Unread>,
    registry: Option<Unread>,
    package: Option<Unread>,
    version: Option<Unread>,
}

/// Settings of all HTTP triggers.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSettings {
    /// Path before all routes; Spin 3 has taken it out.
    pub(crate) base: Option<At<String>>,
}

/// A table by kind of trigger: HTTP, and the names of all others, which may be any (plug-ins add theirs).
#[derive(Debug, Default)]
pub(crate) struct Triggers<H> {
    pub(crate) http: H,
    pub(crate) others: Vec<At<String>>,
}

/// A value that is not read, only whether there is something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    Empty,
    Something,
}

impl<'de, H: Deserialize<'de> + Default> Deserialize<'de> for Triggers<H> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByKind<H>(PhantomData<H>);
        impl<'de, H: Deserialize<'de> + Default> Visitor<'de> for ByKind<H> {
            type Value = Triggers<H>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of triggers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Triggers<H>, A::Error> {
                let mut triggers = Triggers::default();
                while let Some(kind) = map.next_key::<At<String>>()? {
                    if kind.value == "http" {
                        triggers.http = map.next_value()?;
                    } else {
                        map.next_value::<Unread>()?;
                        triggers.others.push(kind);
                    }
                }
                Ok(triggers)
            }
        }
        deserializer.deserialize_map(ByKind(PhantomData))
    }
}

impl<H: JsonSchema> JsonSchema for Triggers<H> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Triggers_of_{}", H::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let http = generator.subschema_for::<H>();
        schemars::json_schema!({ "type": "object", "properties": { "http": http } })
    }
}

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Unread;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Unread, E> {
                Ok(if value { Unread::Something } else { Unread::Empty })
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Unread, E> {
                Ok(Unread::Something)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Unread, E> {
                Ok(Unread::Something)
            }

            fn visit_i128<E: de::Error>(self, _: i128) -> Result<Unread, E> {
                Ok(Unread::Something)
            }

            fn visit_u128<E: de::Error>(self, _: u128) -> Result<Unread, E> {
                Ok(Unread::Something)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Unread, E> {
                Ok(Unread::Something)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Unread, E> {
                Ok(if text.is_empty() { Unread::Empty } else { Unread::Something })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Unread, A::Error> {
                let mut found = Unread::Empty;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    found = Unread::Something;
                }
                Ok(found)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unread, A::Error> {
                let mut found = Unread::Empty;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    found = Unread::Something;
                }
                Ok(found)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for Unread {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Unread".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::default()
    }
}
