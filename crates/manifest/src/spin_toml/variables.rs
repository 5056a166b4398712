//! Application variables of `spin.toml`, and the `{{ name }}` templates that use them.
//!
//! Values are fixed when the manifest is read: given ones first, then defaults. Providers such as Vault are not asked.

use std::collections::{BTreeMap, BTreeSet};

use forerun_types::limits::VARIABLE_BYTES_MAX;

use super::raw::Variable;
use crate::diagnostic::Findings;
use crate::nearest::nearest;
use crate::spanned::{At, Span};

/// The declared variables and the values given from outside.
pub(crate) struct Variables<'a> {
    declared: BTreeMap<At<String>, Variable>,
    given: &'a BTreeMap<String, String>,
    /// Those that were found to have no value, so that each is said once.
    missing: BTreeSet<String>,
}

impl<'a> Variables<'a> {
    /// Takes the declarations; what is wrong with them goes to `findings`.
    pub(crate) fn new(
        declared: BTreeMap<At<String>, Variable>,
        given: &'a BTreeMap<String, String>,
        findings: &mut Findings,
    ) -> Self {
        for (name, variable) in &declared {
            if variable.default.is_none() && !variable.required {
                let message = format!("the variable `{}` has neither a default nor `required = true`", name.value);
                findings.error(name.span.clone(), message);
            }
            if let Some(secret) = variable.secret.as_ref().filter(|secret| secret.value) {
                let finding = findings.warning(secret.span.clone(), "`secret` is ignored");
                finding.label("ignored").help("the value is kept in plain text with the function's other settings");
            }
        }
        Self { declared, given, missing: BTreeSet::new() }
    }

    /// `template` with all variables filled in; `None` if that is not possible, with the reason in `findings`.
    pub(crate) fn expand(&mut self, template: &At<String>, findings: &mut Findings) -> Option<String> {
        let span = &template.span;
        let mut rest = template.value.as_str();
        let mut expanded = String::new();
        while let Some((literal, expression)) = rest.split_once("{{") {
            let Some((name, after)) = expression.split_once("}}") else {
                findings.error(span.clone(), "a `{{` without `}}`").help("write {{ variable }}");
                return None;
            };
            expanded.push_str(literal);
            expanded.push_str(&self.value(name.trim(), span, findings)?);
            // Checked on the way: a short template may repeat a long value without end.
            if expanded.len() > VARIABLE_BYTES_MAX {
                findings.error(span.clone(), format_args!("filled in, this has more than {VARIABLE_BYTES_MAX} bytes"));
                return None;
            }
            rest = after;
        }
        expanded.push_str(rest);
        Some(expanded)
    }

    fn value(&mut self, name: &str, span: &Span, findings: &mut Findings) -> Option<String> {
        let key = At { value: name.to_owned(), span: 0..0 };
        let Some((declared, variable)) = self.declared.get_key_value(&key) else {
            // Guessing among many for each of many takes long, and beyond the findings kept is not shown.
            let known = if findings.is_full() { None } else { Some(self.declared.keys()) };
            let meant = nearest(name, known.into_iter().flatten().map(|known| known.value.as_str()));
            let finding = findings.error(span.clone(), format_args!("there is no variable `{name}`"));
            match meant {
                Some(meant) => finding.help(format_args!("did you mean `{meant}`?")),
                None => finding.help("declare it in [variables]"),
            };
            return None;
        };
        let value = self.given.get(name).or(variable.default.as_ref());
        if value.is_none() && self.missing.insert(name.to_owned()) {
            let finding = findings.error(span.clone(), format_args!("the variable `{name}` has no value"));
            let finding = finding.label("needed here").related(declared.span.clone(), "declared here");
            finding.help(format_args!(
                "give it a default, or set SPIN_VARIABLE_{} in the environment",
                name.to_ascii_uppercase()
            ));
        }
        value.cloned()
    }
}
