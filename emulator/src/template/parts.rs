//! What one template declares.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::{
    error::TemplateError,
    event_sources::{self, EventSourceMapping, TableStream},
    functions::{self, Code, Function, HttpRoute, Rule, Schedule},
    globals,
    http_apis::{self, Cors},
    inputs::TemplateInputs,
    intrinsics::{self, Resolver, Scope},
    parameters::Parameters,
    queues::{self, QueueSettings},
    references::FunctionReference,
    resources::Resources,
    services, sockets, tables,
    throttles::Throttles,
    unknown::Unknown,
    websocket_api::WebSocketApi,
    yaml::{RepeatedKey, YamlError, YamlNode},
};

/// Most notes on repeated keys.
const REPEATED_NOTES_MAX: usize = 10;

/// What one template declares.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) functions: BTreeMap<String, Function>,
    pub(super) tables: BTreeMap<String, Value>,
    pub(super) queues: Vec<QueueSettings>,
    pub(super) sockets: Option<WebSocketApi>,
    pub(super) http_routes: Vec<HttpRoute>,
    pub(super) cors: Option<Cors>,
    pub(super) http_throttles: Throttles,
    pub(super) schedules: Vec<Schedule>,
    pub(super) rules: Vec<Rule>,
    pub(super) event_sources: Vec<EventSourceMapping>,
    pub(super) streams: Vec<TableStream>,
    pub(super) notes: Vec<String>,
    references: Vec<FunctionReference>,
}

impl Parts {
    /// Reads a template by itself.
    pub(super) fn read(
        text: &str,
        inputs: &TemplateInputs,
        stack: &str,
        unknown: &Unknown,
    ) -> Result<Self, TemplateError> {
        let (mut root, repeated) = YamlNode::parse_repeating(text, intrinsics::long_form)
            .map_err(|YamlError { line, message }| TemplateError::at(line, message))?;
        if let Some(undeclared) = inputs.parameters.keys().find(|name| !Parameters::declares(&root, name)) {
            let message = format!("unknown parameter {undeclared}: the template does not declare it");
            return Err(TemplateError::new(message));
        }
        globals::apply(&mut root)?;
        let exports = BTreeMap::new();
        let scope = Scope { inputs, stack, is_one_of_several: false, exports: &exports, unknown };
        let repeated: Vec<String> = repeated
            .iter()
            .take(REPEATED_NOTES_MAX)
            .map(|RepeatedKey { key, line }| {
                format!("the key {key} stands twice: the value in line {line} counts, as with SAM")
            })
            .collect();
        let mut parts = Self::of_root(&root, scope).map_err(|error| error.with_hint(repeated.first().cloned()))?;
        parts.notes.extend(repeated);
        Ok(parts)
    }

    fn of_root(root: &YamlNode, scope: Scope<'_>) -> Result<Self, TemplateError> {
        let resolver = Resolver::new(root, scope)?;
        let resources = Resources::of(root, &resolver)?;
        let parts = Self::of_resources(root, &resolver, &resources);
        // What is missing may be missing because it is invalid.
        match resolver.failure() {
            Some(error) => Err(error),
            None => parts.map_err(|error| error.with_hint(scope.unknown.hint())),
        }
    }

    fn of_resources(
        root: &YamlNode,
        resolver: &Resolver<'_>,
        resources: &Resources<'_>,
    ) -> Result<Self, TemplateError> {
        let sockets = sockets::read(resources)?;
        let functions = functions::read(resources)?;
        let http_apis = http_apis::read(root, resolver, resources)?;
        let (queues, of_queues) = queues::read(resources)?;
        let tables = tables::read(resources);
        let fifo = |name: &str| queues.iter().find(|queue| queue.name == name).map(|queue| queue.is_fifo);
        let is_function = |name: &str| functions.functions.contains_key(name);
        let sources = event_sources::read(functions.mappings, is_function, &tables, fifo, resources)?;
        let services = services::notes(resources);
        Ok(Self {
            functions: functions.functions,
            tables,
            queues,
            sockets: sockets.api,
            http_routes: functions.http_routes,
            cors: http_apis.cors,
            http_throttles: http_apis.throttles,
            schedules: functions.schedules,
            rules: functions.rules,
            event_sources: sources.mappings,
            streams: sources.streams,
            notes: [sockets.notes, functions.notes, http_apis.notes, of_queues, sources.notes, services].concat(),
            references: sockets.references,
        })
    }

    /// Looks for packaged code beside the template.
    pub(super) fn find_code(&mut self, directory: &Path) {
        let directory = if directory == Path::new("") { Path::new(".") } else { directory };
        for function in self.functions.values_mut() {
            if let Code::Packaged(package) = &function.code
                && let Some(found) = package.find(directory)
            {
                function.code = Code::Path(found.display().to_string());
            }
        }
    }

    /// Refuses a route or an authorizer whose function the template does not have.
    pub(super) fn check_references(&self) -> Result<(), TemplateError> {
        self.references.iter().try_for_each(|reference| reference.check(&self.functions))
    }
}
