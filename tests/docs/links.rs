//! Every relative link leads to a file, and to a heading where it names one.

use std::path::{Component, Path};

use crate::pages::Page;
use crate::support::repository;

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in Page::all() {
        for (line, target) in links(&page) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            if let Err(why) = follow(&page, target) {
                broken.push(format!("{}:{line}: ({target}) {why}", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(followed > 20, "only {followed} links were found");
}

/// What stands in `](...)`, with its line.
fn links(page: &Page) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (number, line) in page.prose() {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            links.push((number, target));
        }
    }
    links
}

fn follow(page: &Page, target: &str) -> Result<(), String> {
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { page.path.clone() } else { below_root(&page.path, file)? };
    if !repository(&path).exists() {
        return Err(format!("there is no `{path}`"));
    }
    if heading.is_empty() || !path.ends_with(".md") {
        return Ok(());
    }
    let target = Page::read(&path);
    let headings: Vec<String> = target.prose().into_iter().filter_map(|(_, line)| anchor(line)).collect();
    if headings.iter().any(|own| own == heading) { Ok(()) } else { Err(format!("`{path}` has {headings:?}")) }
}

/// The path below the root of what a page in the repository calls `target`.
fn below_root(page: &str, target: &str) -> Result<String, String> {
    let mut path = Path::new(page).parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err("it leads out of the repository".to_owned());
            }
        }
    }
    Ok(path.to_string_lossy().into_owned())
}

/// How GitHub names a heading.
fn anchor(line: &str) -> Option<String> {
    let text = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect())
}

#[test]
fn headings_are_named_as_github_names_them() {
    assert_eq!(anchor("## What `up` does, in short").as_deref(), Some("what-up-does-in-short"));
    assert_eq!(anchor("text"), None);
}
