//! Command lines and what they mean, or why they mean nothing.

use clap::Parser;

use super::*;

/// A home, and no terminal.
fn plain() -> Environment {
    with(&[("HOME", "/home/a")])
}

fn with(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment { variables, folder: "/work".into(), ..Environment::default() }
}

fn meant_in(line: &str, environment: &Environment) -> Result<Invocation, UsageError> {
    of(Args::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")), environment)
}

fn meant(line: &str) -> Command {
    meant_in(line, &plain()).unwrap_or_else(|error| panic!("{line}: {error}")).command
}

fn refused(line: &str) -> String {
    let error = meant_in(line, &plain()).unwrap_err();
    assert!(!error.hint.is_empty(), "{line}");
    error.to_string()
}

fn malformed(line: &str) -> bool {
    Args::try_parse_from(line.split(' ')).is_err()
}

fn up_of(line: &str) -> Up {
    match meant(line) {
        Command::Up(up) => up,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn up_has_sensible_defaults() {
    let up = up_of("forerun up /tmp");
    assert!(up.watch && !up.build);
    assert_eq!(up.node.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(up.node.admin.to_string(), "127.0.0.1:8081");
    assert_eq!(up.node.data, DataFolder::At("/tmp/.forerun".into()));
    assert_eq!((up.node.tls, up.node.otlp_endpoint), (None, None));
    assert_eq!(up_of("forerun up --ephemeral").node.data, DataFolder::Temporary);
    assert_eq!(up_of("forerun up --data /x").node.data, DataFolder::At("/x".into()));
    assert!(malformed("forerun up --ephemeral --data /x"));
    assert!(!up_of("forerun up --no-watch").watch && up_of("forerun up --build").build);
}

#[test]
fn serve_keeps_its_data_with_the_user() {
    let data = |environment: &Environment| match meant_in("forerun serve", environment).unwrap().command {
        Command::Serve(node) => node.data,
        other => panic!("{other:?}"),
    };
    assert_eq!(data(&plain()), DataFolder::At("/home/a/.local/share/forerun".into()));
    assert_eq!(data(&with(&[("FORERUN_DATA", "/d")])), DataFolder::At("/d".into()));
    assert!(meant_in("forerun serve", &with(&[])).unwrap_err().to_string().contains("--data"));
}

#[test]
fn node_options_are_checked() {
    assert!(refused("forerun up --listen :8080").contains("0.0.0.0:8080"));
    assert!(refused("forerun up --listen 9000 --admin 127.0.0.1:9000").contains("both"));
    assert_eq!(up_of("forerun up --listen 0 --admin 0").node.listen.port(), 0);
    assert!(malformed("forerun up --tls-cert a.pem"));
    assert!(refused("forerun up --tls-cert /none/a.pem --tls-key /none/b.pem").contains("/none/a.pem"));
    assert!(refused("forerun up --otlp-endpoint localhost:4317").contains("http"));
    let environment = with(&[("HOME", "/h"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")]);
    match meant_in("forerun up", &environment).unwrap().command {
        Command::Up(up) => assert_eq!(up.node.otlp_endpoint.as_deref(), Some("http://c:4318")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_option_wins_over_the_environment() {
    let environment = with(&[("HOME", "/h"), ("FORERUN_NODE", "http://env:1"), ("FORERUN_TOKEN", "t")]);
    let node = |line: &str| match meant_in(line, &environment).unwrap().command {
        Command::Functions(connection) => connection,
        other => panic!("{other:?}"),
    };
    assert_eq!(node("forerun functions").node.to_string(), "http://env:1");
    assert_eq!(node("forerun functions --node opt:2").node.to_string(), "http://opt:2");
    assert_eq!(node("forerun functions").token, Some(Secret("t".into())));
    assert!(!node("forerun functions").node_is_default);
    match meant("forerun --data /d functions") {
        Command::Functions(connection) => {
            assert!(connection.node_is_default && connection.token.is_none());
            assert_eq!(connection.data_folders, [PathBuf::from("/d")]);
        }
        other => panic!("{other:?}"),
    }
    assert!(refused("forerun functions --node ftp://x").contains("http://127.0.0.1:8081"));
    assert!(refused("forerun functions --token ä").contains("token"));
}

#[test]
fn deploy_tells_components_from_manifests() {
    let folder = std::env::temp_dir().join(format!("forerun-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["My_Cart.wasm", "forerun.toml", "9.wasm"] {
        std::fs::write(folder.join(file), "x").unwrap();
    }
    let folder_text = folder.display();
    let deploy = |line: String| meant_in(&line, &plain()).map(|invocation| invocation.command);
    match deploy(format!("forerun deploy {folder_text}/My_Cart.wasm --route /cart/... --env A=b=c")).unwrap() {
        Command::Deploy(_, Deploy::Component { name, routes, environment, .. }) => {
            assert_eq!(name.as_str(), "my-cart");
            assert_eq!(routes[0].to_string(), "/cart/...");
            assert_eq!(environment["A"], "b=c");
        }
        other => panic!("{other:?}"),
    }
    for target in ["", "/forerun.toml"] {
        match deploy(format!("forerun deploy {folder_text}{target} --name cart")).unwrap() {
            Command::Deploy(_, Deploy::Manifest { only, .. }) => assert_eq!(only.unwrap().as_str(), "cart"),
            other => panic!("{other:?}"),
        }
    }
    let hint = |line: String| deploy(line).unwrap_err().hint;
    assert!(hint(format!("forerun deploy {folder_text}/9.wasm")).contains("--name"));
    assert!(hint(format!("forerun deploy {folder_text}/none.wasm")).contains("component"));
    assert!(hint(format!("forerun deploy {folder_text} --route /x")).contains("manifest"));
    assert!(hint(format!("forerun deploy {folder_text}/My_Cart.wasm --route x")).contains("--route /cart"));
    assert!(hint(format!("forerun deploy {folder_text}/My_Cart.wasm --env A")).contains("--env LOG=info"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn function_commands() {
    assert!(matches!(meant("forerun revisions cart"), Command::Revisions(_, name) if name.as_str() == "cart"));
    assert!(matches!(meant("forerun rollback cart"), Command::Rollback(_, _, None)));
    assert!(matches!(meant("forerun rollback cart --to 3"), Command::Rollback(_, _, Some(RevisionNumber(3)))));
    assert!(refused("forerun rollback cart --to 0").contains("from 1"));
    assert!(refused("forerun revisions Cart").contains("forerun functions"));
    assert!(refused("forerun remove cart").contains("--yes"));
    assert!(matches!(meant("forerun remove cart -y"), Command::Remove(_, _, Consent::Given)));
    let terminal = Environment { stdin_is_terminal: true, ..plain() };
    let asked = meant_in("forerun remove cart", &terminal).unwrap().command;
    assert!(matches!(asked, Command::Remove(_, _, Consent::Ask)));
    match meant("forerun logs cart -f -n 4000000000") {
        Command::Logs(_, logs) => assert_eq!((logs.follow, logs.lines), (true, LOG_LINES_MAX)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(meant("forerun images"), Command::Images(_, None)));
    assert!(matches!(meant("forerun images cart"), Command::Images(_, Some(name)) if name.as_str() == "cart"));
    assert!(matches!(meant("forerun doctor"), Command::Doctor(_)));
    assert!(matches!(meant("forerun completions zsh"), Command::Completions(clap_complete::Shell::Zsh)));
}

#[test]
fn invoke_reads_like_curl() {
    let invoke = |line: &str| match meant(line) {
        Command::Invoke(_, invoke) => invoke,
        other => panic!("{other:?}"),
    };
    let plain = invoke("forerun invoke cart");
    assert_eq!((plain.method.as_str(), plain.path.as_str(), plain.body), ("GET", "/", Body::Empty));
    assert_eq!(invoke("forerun invoke cart -d x /a?b").method, "POST");
    assert_eq!(invoke("forerun invoke cart -X put -d @- /a").body, Body::Stdin);
    assert_eq!(invoke("forerun invoke cart -d @a.json").body, Body::File("a.json".into()));
    let headers = invoke("forerun invoke cart -H Accept:x -H a:").headers;
    assert_eq!(headers, [("accept".to_owned(), "x".to_owned()), ("a".to_owned(), String::new())]);
    for bad in ["forerun invoke cart a", "forerun invoke cart -H x", "forerun invoke cart -X G/T"] {
        refused(bad);
    }
}

#[test]
fn nodes_log_more_than_commands_and_machines_get_json() {
    let log = |line: &str, environment: &Environment| meant_in(line, environment).unwrap().log;
    assert_eq!(log("forerun up", &plain()).filter, "info");
    assert_eq!(log("forerun functions", &plain()).filter, "warn");
    assert_eq!(log("forerun functions --log debug", &with(&[("FORERUN_LOG", "trace")])).filter, "debug");
    assert_eq!(log("forerun functions", &with(&[("FORERUN_LOG", "trace")])).filter, "trace");
    assert_eq!(log("forerun up", &plain()).format, LogFormat::Json);
    let terminal = Environment { stderr_is_terminal: true, ..plain() };
    assert_eq!(log("forerun up", &terminal).format, LogFormat::Human);
    assert_eq!(log("forerun up --json", &terminal).format, LogFormat::Json);
}

#[test]
fn arguments_that_are_not_known_are_refused_by_clap() {
    for line in ["forerun", "forerun fly", "forerun up --lisen x", "forerun rollback cart --to x", "forerun logs"] {
        assert!(malformed(line), "{line}");
    }
}

#[test]
fn a_replay_is_refused_before_it_takes_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, name) = (folder.path().join("a.csv"), folder.path().display().to_string());
    std::fs::write(&trace, "x").unwrap();
    let line = format!("forerun replay {}", trace.display());
    let replay = |options: &str| match meant_in(&format!("{line}{options}"), &plain()).unwrap().command {
        Command::Replay(replay) => replay,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        replay(""),
        Replay {
            traces: vec![trace.clone()],
            format: None,
            svg: None,
            which: false,
            by_session: false,
            on_vms: Vec::new(),
            progress: false
        }
    );
    assert_eq!(replay(" --format spans").format, Some(TraceFormat::Spans));
    assert!(replay(" --which --by-session").by_session);
    assert!(malformed("forerun replay") && malformed(&format!("{line} --by-session")));
    assert!(malformed(&format!("{line} --format nonsense")));
    assert!(refused("forerun replay /none.csv").contains("/none.csv"));
    assert!(refused(&format!("forerun replay {name}")).contains("folder"));
    assert!(refused(&format!("{line} --svg {name}/none/a.svg")).contains("no such folder"));
    assert!(
        refused(&format!("{line} --svg {name}/../{}/a.csv", folder.path().file_name().unwrap().display()))
            .contains("it is the trace")
    );
}

#[test]
fn every_format_of_the_library_can_be_named() {
    for (format, name) in forerun_sim::reader::FORMATS {
        assert!(!malformed(&format!("forerun replay a --format {name}")));
        assert_eq!(trace_format(name).unwrap(), format);
    }
}
