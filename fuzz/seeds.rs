//! Makes the first inputs of the fuzz targets anew, from files of the repository: `cargo run` in this folder.
//!
//! They are kept in `seeds/`, a few kB each. Components are not copied: an input of `passes` says which one it is of.

use forerun_fuzz::components::{CHANGE_BYTES, KINDS, all};
use forerun_fuzz::numbers::Numbers;
use forerun_fuzz::{chains, http, records};
use forerun_specialize::passes::coverage::add_coverage;
use forerun_specialize::passes::split::{Bundle, Known, SplitIndex, SplitPlan, split};
use forerun_specialize::passes::{Made, PassReport, apply, known};
use std::path::{Path, PathBuf};

/// Bytes of a text that is taken over; the rest of it says nothing new.
const TEXT_BYTES_MAX: usize = 2_000;

fn main() {
    passes();
    generated();
    records_of_a_split();
    texts();
    words();
    images();
    engine();
}

/// The first input of a target, under a name of its own.
fn seed(target: &str, name: &str, parts: &[&[u8]]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    std::fs::write(folder.join(name), parts.concat()).expect("a file can be written");
}

/// Every chain of an unchanged component, and one change of each kind.
fn passes() {
    for chain in 0..chains::CHAINS {
        for component in [0, 1, 5] {
            seed("passes", &format!("chain-{chain}-component-{component}"), &[&[component, chain]]);
        }
    }
    let mut numbers = Numbers::new(1);
    for kind in 0..KINDS {
        let mut change = numbers.bytes(CHANGE_BYTES);
        change[0] = 2 * kind;
        let component = kind % all().len() as u8;
        seed("passes", &format!("change-{kind}"), &[&[component, kind % chains::CHAINS], &change]);
    }
}

fn generated() {
    for number in 0..12 {
        for target in ["generated", "runs"] {
            seed(target, &format!("numbers-{number}"), &[&Numbers::new(number).bytes(64 + 40 * number as usize)]);
        }
    }
}

/// What the passes say of the smallest component, shortened where it is long, and the records of the shared types.
fn records_of_a_split() {
    let prelink = known("prelink").expect("it has this name");
    let smallest = all().iter().min_by_key(|component| component.len()).expect("there are some");
    let (merged, reports) = apply(smallest, &[prelink]);
    let merged = merged.unwrap_or_else(|| smallest.clone());
    let mut index = None;
    if let Ok(split) = split(&merged, &SplitPlan::new(Known::ByIndex([(0, 1)].into()), 500)) {
        let mut of = SplitIndex::of(&split, false);
        of.groups.truncate(1);
        of.groups.iter_mut().for_each(|group| group.entries.truncate(4));
        of.slots = of.groups.iter().map(|group| group.entries.len() as u32).sum::<u32>();
        index = Some(of.to_json());
    }
    let index = index.unwrap_or_default();
    let file = Bundle::encode(index.as_bytes(), &[&b"one"[..], b"", b"three"]).expect("it is small");
    seed("records", "bundle", &[&[0], &file]);
    seed("records", "index", &[&[1], index.as_bytes()]);
    if let Ok(covered) = add_coverage(smallest) {
        let mut map = covered.map;
        map.functions.truncate(4);
        seed("records", "map", &[&[2], &map.encode()]);
    }
    let passes = reports.into_iter().chain([PassReport::refused("state", "invalid", "not valid")]).collect();
    seed("records", "made", &[&[3], &Made { code: b"machine code".to_vec(), passes }.into_artifact()]);
    seed("records", "profile", &[&[4], PROFILE.as_bytes()]);
    seed("records", "specification", &[&[5], SPECIFICATION.as_bytes()]);
    // Each is read once, so that a seed that has rotted is seen here.
    records::read(4, PROFILE.as_bytes());
    forerun_types::SpecializationProfile::from_json(PROFILE.as_bytes()).expect("the profile is one");
    serde_json::from_str::<forerun_types::FunctionSpec>(SPECIFICATION).expect("the specification is one");
}

/// Manifests and traces of the repository's tests and examples.
fn texts() {
    let cases = below("crates/manifest/tests/cases");
    let manifests = cases.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    for path in manifests.chain([root().join("examples/shop/forerun.toml")]) {
        let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
        let text = beginning(&path);
        seed("manifest", &name, &[&[u8::from(name.starts_with("spin"))], &text]);
    }
    let traces = [("azure2021.csv", 1), ("access.log", 4), ("export.csv", 5), ("deeplog_hdfs.txt", 6)];
    for (name, format) in traces {
        seed("traces", name, &[&[format], &beginning(&root().join("crates/sim/tests/data").join(name))]);
    }
    for (name, format, text) in TRACES {
        seed("traces", name, &[&[format], text.as_bytes()]);
    }
    seed("traces", "detected", &[&[7], &beginning(&root().join("crates/sim/tests/data/export.csv"))]);
}

fn words() {
    for (number, (kind, word)) in WORDS.iter().enumerate() {
        seed("http", &format!("word-{number}"), &[&[*kind], word.as_bytes()]);
        http::read(*kind, word.as_bytes());
    }
}

/// Changes of the image and of the index.
fn images() {
    for which in [0, 1, 2, 3, 4, 5] {
        for number in 0..2 {
            let change = Numbers::new(u64::from(which) * 2 + number).bytes(15);
            seed("images", &format!("which-{which}-{number}"), &[&[which], &change]);
        }
    }
}

/// Enough events for something to repeat. The fuzzer would not come to inputs of the length of one event by itself for long.
fn engine() {
    for number in 0..4 {
        let events = Numbers::new(100 + number).bytes(12 * (10 + 30 * number as usize));
        seed("calls", &format!("events-{number}"), &[&events]);
        seed("mutate", &format!("changes-{number}"), &[&[number as u8], &events]);
        seed("restore", &format!("body-{number}"), &[&events]);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn below(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect("the folder is there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.sort();
    paths
}

fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).expect("a file of the repository can be read");
    bytes.truncate(TEXT_BYTES_MAX);
    bytes
}

const PROFILE: &str = r#"{"version":1,"build":{"optimisation":"full","coverage":{"kind":"paths","paths":[
{"body":"00000000000000000000000000000001","probability":999}]},"libraries":[{"name":"libc.so","probability":900}]},
"vm":{"memory_bytes_max":67108864,"resident_bytes":4194304,"epochs_max":100,"cpus":[0,3],"reuse":{"policy":"fresh"},
"parked":2,"cold_groups_max":8},"confidence":950,"source":{"kind":"observed","requests":40,"revision":3}}"#;

const SPECIFICATION: &str = r#"{"name":"cart","app":"shop","routes":["/cart/...","shop.example/cart"],
"environment":{"A":"1"},"config":{},"allowed_outbound_hosts":["https://*.example.com"],"key_value_stores":["carts"],
"reuse":{"policy":"reuse","requests_max":10,"idle_ms":1000},"warm_up":[{"path":"/cart/1"}]}"#;

/// Formats of which the repository has no uncompressed file.
const TRACES: [(&str, u8, &str); 5] = [
    ("azure2019-sparse", 0, "func,minute,count\n0,0,1\n0,3,1\n1,3,2\n"),
    ("azure2019-wide", 0, "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,0,2,1\no,a,g,timer,1,1,1\n"),
    ("alibaba", 2, "gmt_create,groupId,checkpoint_model_version_id,exec_time_seconds\n2024-10-10 20:55:36,7,m,1.5\n"),
    (
        "spans",
        3,
        "trace,span,parent,op,start_us,dur_us\n0,0,-1,0,1674982159219000,28160\n0,1,0,1,1674982159219813,27\n",
    ),
    (
        "export-json",
        5,
        "{\"at_us\":1700000000000000,\"function\":\"cart\",\"app\":\"shop\",\"session\":\"s\",\"count\":2}\n",
    ),
];

const WORDS: [(u8, &str); 15] = [
    (0, "/cart\n/cart/...\nshop.example/cart/1"),
    (0, "shop.example/...\n/\n/x"),
    (0, "/a/b/...\nShop.example/a/"),
    (1, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    (1, "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"),
    (2, "https://*.example.com\napi.example.com"),
    (2, "http://[::1]:8080\n::1"),
    (2, "*://*:*\nanything"),
    (2, "https://api.example.com:8443/\napi.example.com"),
    (3, "client"),
    (3, "cookie:sid"),
    (3, "header:X-Session"),
    (4, "cart-2"),
    (4, "Cart"),
    (5, "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
];
