//! One template, or several that are stacks of one application.

use std::collections::BTreeMap;

use super::{
    document::Document,
    error::{LoadError, TemplateError},
    exports::{self, Exports},
    inputs::TemplateInputs,
    intrinsics::Scope,
    parameters::Parameters,
    parts::Parts,
    source::Source,
    unknown::Unknown,
};

/// Reads all stacks into what they declare together.
pub(super) fn read(sources: &[Source], inputs: &TemplateInputs, unknown: &Unknown) -> Result<Parts, LoadError> {
    let invalid = |source: &Source| {
        let path = source.path.clone();
        move |error| LoadError::Invalid(path, error)
    };
    let documents: Vec<Document> = sources
        .iter()
        .map(|source| Document::parse(&source.text).map_err(invalid(source)))
        .collect::<Result<_, _>>()?;
    let is_declared = |name: &String| documents.iter().any(|document| Parameters::declares(&document.root, name));
    if let (Some(first), Some(name)) = (sources.first(), inputs.parameters.keys().find(|name| !is_declared(name))) {
        let message = format!("unknown parameter {name}: the template does not declare it");
        return Err(invalid(first)(TemplateError::new(message)));
    }
    let is_one_of_several = sources.len() > 1;
    let nothing = Exports::new();
    let scopes = sources.iter().map(|source| Scope {
        inputs,
        configured: &source.configured,
        stack: &source.stack,
        is_one_of_several,
        exports: &nothing,
        unknown,
    });
    let scopes: Vec<Scope<'_>> = scopes.collect();
    let exports = exports::of_all(&documents, &scopes);
    let (mut all, mut references) = (Parts::default(), Vec::new());
    for ((source, document), scope) in sources.iter().zip(&documents).zip(scopes) {
        let scope = Scope { exports: &exports, ..scope };
        let mut parts = Parts::read(document, scope).map_err(invalid(source))?;
        references.extend(std::mem::take(&mut parts.references).into_iter().map(|reference| (source, reference)));
        parts.find_code(&source.directory, is_one_of_several);
        parts.notes.extend(source.notes.iter().cloned());
        parts.notes.extend(of_configuration(document, &source.configured, inputs));
        all.extend(parts);
    }
    // A function may be in another stack than the routes to it.
    for (source, reference) in references {
        reference.check(&all.functions).map_err(invalid(source))?;
    }
    Ok(all)
}

/// Reads one template without looking at files.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_text(text: &str, inputs: &TemplateInputs, unknown: &Unknown) -> Result<Parts, TemplateError> {
    let document = Document::parse(text)?;
    let scope = Scope {
        inputs,
        configured: &BTreeMap::new(),
        stack: crate::aws::STACK_NAME,
        is_one_of_several: false,
        exports: &BTreeMap::new(),
        unknown,
    };
    Parts::read(&document, scope)
}

/// A note on parameters that the project's configuration sets.
fn of_configuration(
    document: &Document,
    configured: &BTreeMap<String, String>,
    inputs: &TemplateInputs,
) -> Option<String> {
    let is_used = |name: &&str| Parameters::declares(&document.root, name) && !inputs.parameters.contains_key(*name);
    let used: Vec<&str> = configured.keys().map(String::as_str).filter(is_used).collect();
    (!used.is_empty()).then(|| format!("samconfig.toml sets the parameters {}", used.join(", ")))
}
