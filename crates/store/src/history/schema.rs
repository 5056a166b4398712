//! The tables of the history. `HISTORY.md` describes them for users, who may query the file themselves.

use crate::database::{DatabaseKind, Durability};

pub(super) const KIND: DatabaseKind = DatabaseKind {
    file_name: "history.db",
    application_id: u32::from_be_bytes(*b"FRhi"),
    migrations: &[FORMAT_1, FORMAT_2, FORMAT_3],
    // The last seconds may go with the power; a sync per batch would make the disk the bottleneck.
    durability: Durability::Checkpoints,
    // A node must not wait for its past: 64 MB of it, a third of a million invocations, were a tenth of a second.
    checked_bytes_max: 4 << 20,
};

/// Sums have the same columns per minute and per hour. There is no index on invocation ids: ids are random,
/// and keeping such an index costs more than everything else together, for a look-up that is rare.
pub(super) const FORMAT_1: &str = "
    CREATE TABLE classes (
        id INTEGER PRIMARY KEY,
        function TEXT NOT NULL,
        app TEXT NOT NULL,
        method TEXT NOT NULL,
        route TEXT NOT NULL,
        size_bucket INTEGER NOT NULL,
        UNIQUE (function, app, method, route, size_bucket)
    ) STRICT;
    CREATE TABLE calls (
        id INTEGER PRIMARY KEY,
        started_unix_us INTEGER NOT NULL,
        invocation_id BLOB NOT NULL,
        trace_id BLOB NOT NULL,
        span_id BLOB NOT NULL,
        parent_span_id BLOB,
        class INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        caller TEXT,
        serve_path TEXT NOT NULL,
        outcome TEXT NOT NULL,
        status INTEGER NOT NULL,
        routed_us INTEGER NOT NULL,
        admitted_us INTEGER NOT NULL,
        deployed_us INTEGER NOT NULL,
        first_byte_us INTEGER NOT NULL,
        total_us INTEGER NOT NULL,
        busy_us INTEGER NOT NULL,
        memory_bytes_peak INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX calls_by_time ON calls (started_unix_us);
    CREATE TABLE minutes (
        start_unix_s INTEGER NOT NULL,
        class INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        total_us_sum INTEGER NOT NULL,
        total_us_max INTEGER NOT NULL,
        busy_us_sum INTEGER NOT NULL,
        memory_bytes_peak_max INTEGER NOT NULL,
        bytes_in_sum INTEGER NOT NULL,
        bytes_out_sum INTEGER NOT NULL,
        PRIMARY KEY (start_unix_s, class)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE hours (
        start_unix_s INTEGER NOT NULL,
        class INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        total_us_sum INTEGER NOT NULL,
        total_us_max INTEGER NOT NULL,
        busy_us_sum INTEGER NOT NULL,
        memory_bytes_peak_max INTEGER NOT NULL,
        bytes_in_sum INTEGER NOT NULL,
        bytes_out_sum INTEGER NOT NULL,
        PRIMARY KEY (start_unix_s, class)
    ) STRICT, WITHOUT ROWID;
    CREATE VIEW invocations AS SELECT
        calls.id, started_unix_us, lower(hex(invocation_id)) AS invocation_id, lower(hex(trace_id)) AS trace_id,
        lower(hex(span_id)) AS span_id, nullif(lower(hex(parent_span_id)), '') AS parent_span_id, function, app, revision,
        method, route, size_bucket, caller, serve_path, outcome, status, routed_us, admitted_us, deployed_us,
        first_byte_us, total_us, busy_us, memory_bytes_peak, bytes_in, bytes_out
        FROM calls JOIN classes ON classes.id = calls.class;
    CREATE VIEW loads AS
        SELECT start_unix_s, 60 AS seconds, function, app, method, route, size_bucket, calls, failures, total_us_sum,
            total_us_max, busy_us_sum, memory_bytes_peak_max, bytes_in_sum, bytes_out_sum
            FROM minutes JOIN classes ON classes.id = minutes.class
        UNION ALL
        SELECT start_unix_s, 3600, function, app, method, route, size_bucket, calls, failures, total_us_sum,
            total_us_max, busy_us_sum, memory_bytes_peak_max, bytes_in_sum, bytes_out_sum
            FROM hours JOIN classes ON classes.id = hours.class;
";

/// Who called in the end, and CPU time where it was measured. The views name their columns, so that new ones of the
/// tables have to be named there, too.
const FORMAT_2: &str = "
    ALTER TABLE calls ADD COLUMN session BLOB;
    ALTER TABLE calls ADD COLUMN cpu_us INTEGER;
    DROP VIEW invocations;
    CREATE VIEW invocations AS SELECT
        calls.id, started_unix_us, lower(hex(invocation_id)) AS invocation_id, lower(hex(trace_id)) AS trace_id,
        lower(hex(span_id)) AS span_id, nullif(lower(hex(parent_span_id)), '') AS parent_span_id, function, app, revision,
        method, route, size_bucket, caller, nullif(lower(hex(session)), '') AS session, serve_path, outcome, status,
        routed_us, admitted_us, deployed_us, first_byte_us, total_us, busy_us, cpu_us, memory_bytes_peak, bytes_in,
        bytes_out
        FROM calls JOIN classes ON classes.id = calls.class;
";

/// How far the journal is settled: all segments before that one, and that many events of it.
const FORMAT_3: &str = "
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        segment INTEGER NOT NULL,
        events INTEGER NOT NULL
    ) STRICT;
    INSERT INTO journal VALUES (1, 0, 0);
";

/// The end of an insertion of sums, per minute or per hour: they are added to those of the row that is there.
macro_rules! add_sums_to_row {
    () => {
        "ON CONFLICT (start_unix_s, class) DO UPDATE SET
                calls = calls + excluded.calls,
                failures = failures + excluded.failures,
                total_us_sum = total_us_sum + excluded.total_us_sum,
                total_us_max = max(total_us_max, excluded.total_us_max),
                busy_us_sum = busy_us_sum + excluded.busy_us_sum,
                memory_bytes_peak_max = max(memory_bytes_peak_max, excluded.memory_bytes_peak_max),
                bytes_in_sum = bytes_in_sum + excluded.bytes_in_sum,
                bytes_out_sum = bytes_out_sum + excluded.bytes_out_sum"
    };
}

pub(super) use add_sums_to_row;
