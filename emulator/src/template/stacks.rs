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
    queues,
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
    let (mut all, mut references, mut queues_of) = (Parts::default(), Vec::new(), Vec::new());
    for ((source, document), scope) in sources.iter().zip(&documents).zip(scopes) {
        let scope = Scope { exports: &exports, ..scope };
        let mut parts = Parts::read(document, scope).map_err(invalid(source))?;
        references.extend(std::mem::take(&mut parts.references).into_iter().map(|reference| (source, reference)));
        queues_of.extend(std::iter::repeat_n(source, parts.queues.len()));
        parts.find_code(&source.directory, is_one_of_several);
        parts.notes.extend(source.notes.iter().cloned());
        parts.notes.extend(of_configuration(document, &source.configured, inputs));
        all.extend(parts);
    }
    // A function may be in another stack than the routes to it.
    for (source, reference) in references {
        reference.check(&all.functions).map_err(invalid(source))?;
    }
    // So may a dead-letter queue.
    for (at, source) in queues_of.into_iter().enumerate() {
        all.notes.extend(queues::check(&all.queues, at).map_err(invalid(source))?);
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
    let mut parts = Parts::read(&document, scope)?;
    for at in 0..parts.queues.len() {
        parts.notes.extend(queues::check(&parts.queues, at)?);
    }
    Ok(parts)
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    /// Reads templates as stacks of one application.
    fn stacks(texts: [&'static str; 2]) -> Result<Parts, LoadError> {
        let source = |(stack, text): (&str, &'static str)| Source {
            text: Cow::Borrowed(text),
            path: format!("{stack}.yaml").into(),
            directory: stack.into(),
            stack: stack.to_owned(),
            configured: BTreeMap::new(),
            notes: Vec::new(),
        };
        let sources: Vec<Source> = ["a", "b"].into_iter().zip(texts).map(source).collect();
        read(&sources, &TemplateInputs::default(), &Unknown::default())
    }

    #[test]
    fn queues_of_several_stacks_are_checked_together() {
        let jobs = "Resources:\n  Jobs: { Type: AWS::SQS::Queue, Properties: { QueueName: jobs, RedrivePolicy: { \
                    deadLetterTargetArn: 'arn:aws:sqs:eu-central-1:000000000000:dead', maxReceiveCount: 3 } } }\n";
        let dead = "Resources:\n  Dead: { Type: AWS::SQS::Queue, Properties: { QueueName: dead } }\n";
        for both in [[jobs, dead], [dead, jobs]] {
            let notes = stacks(both).expect("valid").notes;
            assert_eq!(notes, Vec::<String>::new(), "the dead-letter queue is in the other stack");
        }
        let twice = "\nResources:\n  Mine: { Type: AWS::SQS::Queue, Properties: { QueueName: jobs } }\n";
        let LoadError::Invalid(path, error) = stacks([jobs, twice]).expect_err("a name twice") else { panic!() };
        assert_eq!(
            (path, error.to_string()),
            ("b.yaml".into(), "line 3: Mine: another queue has the name jobs".into())
        );
    }
}
