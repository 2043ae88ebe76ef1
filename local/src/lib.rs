//! Viral Alerts on one machine: the emulator with the functions of the service in its process, and the demo page.

mod demo;
mod functions;

use std::{path::Path, sync::Arc};

use apigw_local::{
    Embedding, Function, FunctionSetting, Invoke, LinkedFunctions, Options, Pages, Site, Stack, StartError,
    StartFailure, TemplateSource,
};

/// The service: how the emulator runs its functions, and its demo page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service {
    /// Whether the functions run as processes of their own, from the binaries that were built last.
    pub processes: bool,
}

impl Service {
    /// The template, as this program was built with it. Paths in it are relative to the checkout it was built from.
    pub fn template() -> TemplateSource {
        TemplateSource::Text {
            text: include_str!("../../template.yaml"),
            directory: Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default(),
        }
    }

    /// Starts the service on free ports, with its functions in this process and everything in memory.
    ///
    /// # Errors
    ///
    /// Those of [`Stack::embedded`].
    pub async fn start(options: &Options) -> Result<Stack, StartError> {
        Stack::embedded(options, &Self::default()).await
    }
}

impl LinkedFunctions for Service {
    fn start(&self, function: &Function, setting: FunctionSetting) -> Option<Result<Arc<dyn Invoke>, StartFailure>> {
        if self.processes { None } else { functions::start(function, setting) }
    }
}

impl Embedding for Service {
    fn pages(&self, site: Site) -> Option<Arc<dyn Pages>> {
        Some(Arc::new(demo::DemoPage::new(site)))
    }
}
