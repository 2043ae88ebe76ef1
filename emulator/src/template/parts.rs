//! What templates declare.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::{
    code::Code,
    document::Document,
    error::TemplateError,
    event_apis::{self, EventApi},
    functions::{self, Function, Schedule},
    http_apis::HttpApis,
    intrinsics::{Resolver, Scope},
    layers::{self, DeclaredLayer},
    queues::{self, DeclaredQueue},
    references::FunctionReference,
    resources::Resources,
    rules::Rule,
    services, sockets,
    stored_parameters::{self, StoredParameter},
    tables,
    triggers::DeclaredTriggers,
    websocket_api::WebSocketApi,
    yaml::YamlNode,
};

/// What one template declares, or several together.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) functions: BTreeMap<String, Function>,
    pub(super) layers: Vec<DeclaredLayer>,
    pub(super) tables: BTreeMap<String, Value>,
    pub(super) queues: Vec<DeclaredQueue>,
    pub(super) sockets: Option<WebSocketApi>,
    pub(super) http: HttpApis,
    pub(super) event_apis: Vec<EventApi>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) stored_parameters: BTreeMap<String, StoredParameter>,
    pub(super) rules: Vec<Rule>,
    pub(super) triggers: DeclaredTriggers,
    pub(super) notes: Vec<String>,
    /// Functions that routes and authorizers name.
    pub(super) references: Vec<FunctionReference>,
}

impl Parts {
    /// Reads a template.
    pub(super) fn read(document: &Document, scope: Scope<'_>) -> Result<Self, TemplateError> {
        let resolver = Resolver::new(&document.root, scope)?;
        let resources = Resources::of(&document.root, &resolver);
        let parts = resources.and_then(|resources| Self::of_resources(&document.root, &resolver, &resources));
        // What is missing may be missing because it is invalid.
        let parts = resolver.failure().map_or(parts, Err);
        let hint = || document.repeated.clone().or_else(|| scope.unknown.hint());
        let mut parts = parts.map_err(|error| error.with_hint(hint()))?;
        parts.notes.extend(document.repeated.clone());
        Ok(parts)
    }

    fn of_resources(
        root: &YamlNode,
        resolver: &Resolver<'_>,
        resources: &Resources<'_>,
    ) -> Result<Self, TemplateError> {
        let sockets = sockets::read(resources)?;
        let mut functions = functions::read(resources)?;
        let http = HttpApis::read(root, resolver, resources, std::mem::take(&mut functions.http_events))?;
        let (queues, of_queues) = queues::read(resources)?;
        let events = event_apis::read(resources)?;
        Ok(Self {
            triggers: DeclaredTriggers::of(&mut functions, resources)?,
            functions: functions.functions,
            layers: layers::declared(resources),
            tables: tables::read(resources),
            queues: [queues, functions.queues].concat(),
            sockets: sockets.api,
            http,
            event_apis: events.apis,
            schedules: functions.schedules,
            stored_parameters: stored_parameters::read(resources),
            rules: functions.rules,
            notes: [sockets.notes, functions.notes, of_queues, events.notes, services::notes(resources)].concat(),
            references: [sockets.references, events.references].concat(),
        })
    }

    /// Looks for packaged code beside the template, and makes paths absolute if other templates are elsewhere.
    pub(super) fn find_code(&mut self, directory: &Path, is_one_of_several: bool) {
        let here = if directory == Path::new("") { Path::new(".") } else { directory };
        let layers = self.layers.iter_mut().map(|layer| &mut layer.code);
        for code in self.functions.values_mut().map(|function| &mut function.code).chain(layers) {
            match code {
                Code::Packaged(package) => {
                    if let Some(found) = package.find(here) {
                        *code = Code::Path(found.display().to_string());
                    }
                }
                Code::Path(path) if is_one_of_several => {
                    let path = directory.join(&*path);
                    let path = std::path::absolute(&path).unwrap_or(path);
                    *code = Code::Path(path.display().to_string());
                }
                Code::Path(_) | Code::Inline(_) => {}
            }
        }
    }

    /// Gives functions the layers of all templates that were added.
    pub(super) fn find_layers(&mut self) {
        let layers = self.functions.values_mut().flat_map(|function| &mut function.layers);
        layers.for_each(|layer| layer.find_among(&self.layers));
    }

    /// Adds what another template declares. Of several WebSocket APIs, the first one runs.
    pub(super) fn extend(&mut self, other: Self) {
        // With every field, so that none is forgotten.
        let Self {
            functions,
            layers,
            tables,
            queues,
            sockets,
            http,
            event_apis,
            schedules,
            stored_parameters,
            rules,
            triggers,
            notes,
            references,
        } = other;
        self.functions.extend(functions);
        self.layers.extend(layers);
        self.tables.extend(tables);
        self.queues.extend(queues);
        self.notes.extend(notes);
        match (&self.sockets, sockets) {
            (Some(_), Some(second)) => self.notes.push(format!(
                "the WebSocket API with the stage {} of another stack is not run: the emulator runs one",
                second.stage
            )),
            (None, sockets) => self.sockets = sockets,
            (Some(_), None) => {}
        }
        self.http.extend(http);
        self.event_apis.extend(event_apis);
        self.schedules.extend(schedules);
        self.stored_parameters.extend(stored_parameters);
        self.rules.extend(rules);
        self.triggers.extend(triggers);
        self.references.extend(references);
    }
}
