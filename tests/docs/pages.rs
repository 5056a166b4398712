//! The Markdown files of the repository, and the parts of one that the tests look at.
//!
//! Only as much of Markdown as ours uses: fences of three backquotes, code spans, headings with `#`.

use std::fs;
use std::path::Path;

use crate::support::repository;

/// Folders that hold nothing written by hand.
const MADE_BY_TOOLS: [&str; 7] = ["corpus", "dist", "licenses", "node_modules", "results", "target", "__pycache__"];

/// One Markdown file.
#[derive(Clone)]
pub struct Page {
    /// Path below the root of the repository.
    pub path: String,
    pub text: String,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block<'a> {
    /// What follows the opening fence, by words: the language first.
    pub info: Vec<&'a str>,
    pub text: String,
    /// Of the opening fence, from 1.
    pub line: usize,
}

impl Page {
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// Every Markdown file that somebody wrote.
    pub fn all() -> Vec<Self> {
        let mut paths = Vec::new();
        visit(&repository(""), "", &mut paths);
        paths.sort();
        assert!(paths.contains(&"README.md".to_owned()), "{paths:?}");
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// What is written for those who use Forerun: the root's pages and `docs/`.
    pub fn for_users() -> Vec<Self> {
        let is_for_users = |page: &Self| !page.path.contains('/') || page.path.starts_with("docs/");
        Self::all().into_iter().filter(is_for_users).collect()
    }

    pub fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut open: Option<Block<'_>> = None;
        for (index, line) in self.text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(info)) => {
                    let info = info.split_whitespace().collect();
                    open = Some(Block { info, text: String::new(), line: index + 1 });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", self.path);
        blocks
    }

    /// The lines outside of fences, with their numbers. Blocks that are indented by four are code, too.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut in_fence = false;
        let mut lines = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_fence = !in_fence;
            } else if !in_fence && !line.starts_with("    ") {
                lines.push((index + 1, line));
            }
        }
        lines
    }

    /// The texts between single backquotes, with the numbers of their lines.
    pub fn code_spans(&self) -> Vec<(usize, &str)> {
        let spans = |(number, line)| code_spans_of(line).map(move |span| (number, span));
        self.prose().into_iter().flat_map(spans).collect()
    }

    /// Lines of code: those of fences of shells and of indented blocks.
    pub fn command_lines(&self) -> Vec<(usize, String)> {
        let mut lines = Vec::new();
        for block in self.blocks().iter().filter(|block| matches!(block.info.first(), None | Some(&"sh" | &"console")))
        {
            lines.extend(block.text.lines().enumerate().map(|(at, line)| (block.line + 1 + at, line.to_owned())));
        }
        let indented = self.text.lines().enumerate().filter(|(_, line)| line.starts_with("    "));
        lines.extend(indented.map(|(index, line)| (index + 1, line.to_owned())));
        lines
    }
}

fn code_spans_of(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn visit(folder: &Path, below: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') && !MADE_BY_TOOLS.contains(&name.as_str()) {
                visit(&entry.path(), &path, paths);
            }
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
}

#[test]
fn a_page_is_taken_apart() {
    let text = "a `b` c\n```sh test node\nrun `x`\n```\n    forerun up\n`d`\n".to_owned();
    let page = Page { path: "test.md".to_owned(), text };
    assert_eq!(page.code_spans(), [(1, "b"), (6, "d")]);
    let blocks = page.blocks();
    assert_eq!((blocks[0].info.as_slice(), blocks[0].line), (&["sh", "test", "node"][..], 2));
    assert_eq!(page.command_lines(), [(3, "run `x`".to_owned()), (5, "    forerun up".to_owned())]);
}
