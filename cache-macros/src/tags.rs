//! What tags are made of: `tags = ["user:{id}", "org:{value.org}"]`.

use std::collections::BTreeSet;

use crate::errors::Errors;
use crate::item::FnItem;
use crate::site::{Part, Results, fill, roots};
use crate::template::Template;
use syn::LitStr;

/// Templates of tags.
pub(crate) struct Tags {
    /// Over the arguments.
    pub(crate) before: Vec<Vec<Part>>,
    /// Those that need the result.
    pub(crate) after: Vec<Vec<Part>>,
}

impl Tags {
    pub(crate) fn resolve(tags: &[LitStr], item: &FnItem, errors: &mut Errors) -> Self {
        let parts = tags.iter().filter_map(|tag| {
            let template = errors.ok(Template::parse(tag))?;
            if tag.value().starts_with('\0') {
                errors
                    .at(tag, "tags that begin with NUL are those of functions: begin it with something else");
            }
            fill(&template, item, Results::Value, errors)
        });
        let (after, before) = parts
            .collect::<Vec<_>>()
            .into_iter()
            .partition(|parts| parts.iter().any(|part| matches!(part, Part::Result { .. })));
        Self { before, after }
    }

    /// Names that they read.
    pub(crate) fn reads(&self) -> BTreeSet<String> {
        self.before.iter().chain(&self.after).flat_map(|parts| roots(parts)).collect()
    }
}
