//! The node's own log: lines for people on a terminal, JSON otherwise, always on stderr.
//!
//! What guests write goes elsewhere: see [`crate::guest_logs`].

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people if stderr is a terminal, else JSON.
    #[default]
    Automatic,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging was not set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoggingError {
    /// The filter is none.
    #[error("`{filter}` is not a log filter: {detail}; write for example `info` or `warn,forerun_gateway=debug`")]
    BadFilter {
        /// The text as given.
        filter: String,
        /// What is wrong.
        detail: String,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    SetUpAlready,
}

/// Sets up logging for this process. `filter` is what the user wrote (`--log`, `FORERUN_LOG`); without one,
/// everything from `info` up is logged.
///
/// # Errors
/// See [`LoggingError`]; nothing is set up then.
pub fn set_up_logging(filter: Option<&str>, format: LogFormat) -> Result<(), LoggingError> {
    let terminal = std::io::stderr().is_terminal();
    let human = match format {
        LogFormat::Automatic => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    subscriber(filter, human, terminal, std::io::stderr)?.try_init().map_err(|_| LoggingError::SetUpAlready)
}

fn subscriber<W>(
    filter: Option<&str>,
    human: bool,
    colors: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LoggingError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(parse(filter)?).with_writer(writer);
    Ok(if human {
        Box::new(builder.with_ansi(colors).with_target(false).finish())
    } else {
        Box::new(builder.json().flatten_event(true).with_current_span(false).with_ansi(false).finish())
    })
}

fn parse(filter: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let filter = filter.unwrap_or("").trim();
    let bad = |detail: String| LoggingError::BadFilter { filter: filter.to_owned(), detail };
    // The library takes a lone word that is no level for the name of a place, and then logs nothing else: a
    // mistyped level would silence the node.
    if let Some(word) = filter.split(',').map(str::trim).find(|part| is_no_level(part)) {
        return Err(bad(format!("`{word}` is none of error, warn, info, debug, trace, off")));
    }
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(filter)
        .map_err(|error| bad(error.to_string()))
}

fn is_no_level(part: &str) -> bool {
    !part.is_empty() && !part.contains(['=', '[', ']', '{', '}']) && part.parse::<LevelFilter>().is_err()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: Option<&str>, human: bool, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(filter, human, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_for_people_and_an_object_for_machines() {
        let log = || tracing::info!(port = 8080, "listening");
        let human = logged(None, true, log);
        assert!(human.ends_with(" INFO listening port=8080\n"), "{human}");
        let object: serde_json::Value = serde_json::from_str(&logged(None, false, log)).unwrap();
        assert_eq!(object["message"], "listening");
        assert_eq!((&object["port"], &object["level"]), (&8080.into(), &"INFO".into()));
    }

    #[test]
    fn filters_by_level_and_place() {
        let log = || {
            tracing::debug!("quiet");
            tracing::warn!("loud");
        };
        let count = |filter| logged(filter, true, log).lines().count();
        assert_eq!([None, Some("debug"), Some("error"), Some("off")].map(count), [1, 2, 0, 0]);
        assert_eq!(count(Some("error,forerun_telemetry=debug")), 2);
    }

    #[test]
    fn terminal_escapes_in_a_message_are_not_passed_on() {
        let text = logged(None, true, || tracing::info!(detail = "\u{1b}[2Jgone", "bad \u{1b}]0;title\u{7}"));
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }

    #[test]
    fn a_bad_filter_is_refused_by_name() {
        for filter in ["inf", "=", "forerun=loud", "a=b=c", "[{"] {
            let error = parse(Some(filter)).unwrap_err();
            assert!(matches!(&error, LoggingError::BadFilter { filter: given, .. } if given == filter), "{error}");
        }
    }
}
