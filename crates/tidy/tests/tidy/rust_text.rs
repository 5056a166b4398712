//! Rust source reduced to its code: comments, strings and characters are blanked, lines stay where they are.
//!
//! Only as much of the language as tells code from text: nested comments, raw strings, and lifetimes, which look like
//! the beginning of a character.

/// The code of a source text, of the same number of lines.
pub(crate) fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let skipped = text_length(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|character| *character == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// Whether `word` stands in the code on its own, not as a part of a longer name.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    code.split(|character: char| !is_name(character)).any(|found| found == word)
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Bytes of the comment, string or character that `rest` begins with; 0 if it begins with code.
fn text_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return string_length(rest);
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    // A prefix such as `br` of a string begins a word; the `r` at the end of a name does not.
    if before.is_some_and(is_name) { 0 } else { raw_string_length(rest) }
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let bytes = &rest.as_bytes()[at..];
        if bytes.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// `'x'` and `'\...'` are characters, `'x` without a closing quote is a lifetime.
fn character_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped_at, escaped))) => {
            let from = escaped_at + escaped.len_utf8();
            rest[from..].find('\'').map_or(rest.len(), |end| from + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        (Some(_) | None, _) => 0,
    }
}

/// `r"..."`, `r#"..."#`, and the same with `b` or `c` before; `b"..."` is left to the string rule.
fn raw_string_length(rest: &str) -> usize {
    let unprefixed = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let Some(after_r) = unprefixed.strip_prefix('r') else { return 0 };
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let Some(body) = after_r[hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let body_at = rest.len() - body.len();
    body.find(&end).map_or(rest.len(), |at| body_at + at + end.len())
}

#[test]
fn only_code_is_left() {
    let cases = [
        ("let a = 1; // unsafe", false),
        ("/* unsafe /* unsafe */ unsafe */ let a;", false),
        (r#"let a = "unsafe \" unsafe";"#, false),
        (r##"let a = r#"unsafe " unsafe"#;"##, false),
        (r#"let a = br"unsafe \"; let b;"#, false),
        (r#"let a = '"'; let b = "unsafe";"#, false),
        (r"let a = '\''; let b = '\u{27}'; // unsafe", false),
        ("#![deny(unsafe_code)]", false),
        ("unsafe { f() }", true),
        ("fn f<'a>(a: &'a str) { unsafe { g(a) } }", true),
        (r#"let a = "text"; unsafe { f() }"#, true),
        (r##"let a = r#"text"#; unsafe { f() }"##, true),
        (r"let a = '\\'; unsafe { f() }", true),
        (r#"let bar = "x"; unsafe fn f() {}"#, true),
        ("/* a */ unsafe impl Send for A {}", true),
    ];
    for (source, expected) in cases {
        assert_eq!(has_word(&code_of(source), "unsafe"), expected, "{source}");
    }
    assert_eq!(code_of("a\n/*\n\n*/\n\"\n\"\nb").lines().count(), 7);
}
