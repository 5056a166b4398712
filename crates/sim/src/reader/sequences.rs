//! Sequences of symbols, one a line, separated by blanks: sessions without times (DeepLog's form).
//!
//! Each symbol is given the second of its position in the file, so that order is kept; timing means nothing here.

use super::lines::Lines;
use super::{Context, TraceError};
use crate::trace::{Invocation, UNKNOWN};

/// Reads the lines.
pub fn read(lines: &mut Lines<'_>, context: &mut Context<'_>) -> Result<(), TraceError> {
    let scope = context.directory.scopes.number("sequence");
    let mut second = 0;
    while let Some(line) = lines.next_line()? {
        for symbol in line.split_ascii_whitespace() {
            let kind = context.directory.kinds.number(symbol);
            (context.sink)(Invocation {
                at_us: second * 1_000_000,
                function: context.directory.function(scope, kind),
                scope,
                kind,
                session: lines.number(),
                caller: UNKNOWN,
                count: 1,
                duration_us: 0,
            })?;
            second += 1;
        }
    }
    Ok(())
}
