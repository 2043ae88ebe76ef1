//! The command that starts a function of a runtime on this machine.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use tokio::process::Command;

use super::{
    code::{self, CodeVersion},
    handlers,
    host::ProcessHost,
    layers::{self, Layers, MissingLayer, SearchPaths},
};
use crate::template;

// Loaders that are built into this program.
const NODE_RUNTIME: &str = include_str!("runtime.mjs");
const NODE_RESOLUTION: &str = include_str!("resolve.mjs");
const PYTHON_RUNTIME: &str = include_str!("runtime.py");

/// How the names of runtimes begin that run here.
const SUPPORTED: [&str; 3] = ["provided", "python3", "nodejs"];

/// Variables of this process that functions inherit.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// Variables of this process that are searched after what functions have.
const SEARCHED: [&str; 2] = ["NODE_PATH", "PYTHONPATH"];

/// Why a function cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// Nothing can be done about it on this machine.
    #[error("{0}; run the function elsewhere and name the place with --lambda-endpoint")]
    Unsupported(String),
    /// The function needs a program that is not on this machine. Functions of other runtimes do not.
    #[error("{0}")]
    Interpreter(String),
    /// Something is missing that the user can add.
    #[error("{0}")]
    Missing(String),
}

impl From<String> for LaunchError {
    fn from(missing: String) -> Self {
        Self::Missing(missing)
    }
}

/// The command and environment that start a function.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    program: OsString,
    arguments: Vec<OsString>,
    environment: BTreeMap<String, String>,
    runtime: String,
    code: LaunchCode,
    /// The file or directory that changes with the code.
    watched: PathBuf,
    layers: Layers,
    /// Directories with modules that Lambda has, where the code does not find them itself.
    provided: Vec<PathBuf>,
    host: Arc<ProcessHost>,
    /// Layers that are not here.
    pub(super) missing: Vec<MissingLayer>,
    /// What is wrong with the handler, if its file was not found.
    pub(super) problem: Option<String>,
}

/// Where the code is.
#[derive(Clone, Debug)]
enum LaunchCode {
    Directory(PathBuf),
    /// A zip file, and whether the program to start is in it.
    Zip {
        file: PathBuf,
        has_program: bool,
    },
}

impl Launch {
    /// Finds the interpreter and the code of a function. An error says what is missing and how to get it.
    pub(super) fn new(
        name: &str,
        function: &template::Function,
        environment: BTreeMap<String, String>,
        host: &Arc<ProcessHost>,
    ) -> Result<Self, LaunchError> {
        let runtime = match function.runtime.as_deref() {
            _ if function.is_image => {
                return Err(LaunchError::Unsupported("the emulator does not run container images".to_owned()));
            }
            None => return Err(LaunchError::Missing("Runtime is missing".to_owned())),
            Some(runtime) if !SUPPORTED.iter().any(|supported| runtime.starts_with(supported)) => {
                return Err(LaunchError::Unsupported(format!(
                    "unsupported runtime {runtime}: expected provided.*, python3.* or nodejs*"
                )));
            }
            Some(runtime) => runtime,
        };
        let inline = host.files.path().join("inline");
        let source = code::source(function, &host.template, &inline)?;
        let is_zip = code::is_zip(&source);
        let directory = if is_zip { host.unpacked(&source, CodeVersion::of(&source))? } else { source.clone() };
        let handler = function.handler.clone().unwrap_or_default();
        let (layers, missing) = Layers::find(function, host);
        let directories = layers.directories(host)?;
        let problem = handlers::problem(function, &directory, &directories);
        let provided = provided(&host.template, directories.iter().chain([&source]));
        let (program, arguments, watched) = if runtime.starts_with("provided") {
            let program = code::program(function, &directory).ok_or_else(|| missing_program(function, &directory))?;
            (program.clone().into_os_string(), Vec::new(), program)
        } else if runtime.starts_with("python3") {
            let loader = host.file("runtime.py", PYTHON_RUNTIME)?;
            (
                host.python(runtime).map_err(LaunchError::Interpreter)?,
                vec!["-u".into(), loader.into(), handler.clone().into()],
                directory.clone(),
            )
        } else {
            host.file("resolve.mjs", NODE_RESOLUTION)?;
            let loader = host.file("runtime.mjs", NODE_RUNTIME)?;
            (
                host.node(runtime).map_err(LaunchError::Interpreter)?,
                vec![loader.into(), handler.clone().into()],
                directory.clone(),
            )
        };
        let has_program = runtime.starts_with("provided");
        let (code, watched) = if is_zip {
            (LaunchCode::Zip { file: source.clone(), has_program }, source)
        } else {
            (LaunchCode::Directory(directory), watched)
        };
        let mut variables = inherited(&INHERITED);
        variables.extend(host.trust.clone());
        variables.extend(environment);
        let own = [
            ("AWS_EXECUTION_ENV", format!("AWS_Lambda_{runtime}")),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mb.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", name.to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
            ("LAMBDA_RUNTIME_DIR", host.files.path().display().to_string()),
            ("LOCAL_EXECUTE_API", host.redirection()),
            ("TZ", ":UTC".to_owned()),
            ("_HANDLER", handler),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        Ok(Self {
            program,
            arguments,
            environment: variables,
            runtime: runtime.to_owned(),
            code,
            watched,
            layers,
            provided,
            host: Arc::clone(host),
            missing,
            problem,
        })
    }

    /// Returns the state of the code.
    pub(super) fn version(&self) -> CodeVersion {
        self.layers.version(CodeVersion::of(&self.watched))
    }

    /// Builds the command of a process that polls the Runtime API at `address`. Unpacks code of a new version.
    pub(super) fn command(&self, version: CodeVersion, address: &str, log_stream: &str) -> Result<Command, String> {
        let (program, directory) = match &self.code {
            LaunchCode::Directory(directory) => (self.program.clone(), directory.clone()),
            LaunchCode::Zip { file, has_program } => {
                let directory = self.host.unpacked(file, version)?;
                let own = directory.join("bootstrap").into_os_string();
                (if *has_program { own } else { self.program.clone() }, directory)
            }
        };
        let layers = self.layers.directories(&self.host)?;
        let search = SearchPaths {
            runtime: &self.runtime,
            layers: &layers,
            inherited: &inherited(&SEARCHED),
            provided: &self.provided,
        };
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .current_dir(&directory)
            .env_clear()
            .envs(&self.environment)
            .envs(search.variables(&self.environment))
            .env("LOCAL_LAYERS", layers::list(&layers))
            .env("LAMBDA_TASK_ROOT", &directory)
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_LOG_STREAM_NAME", log_stream)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C in the terminal stops the emulator, which lets invocations finish.
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }
}

/// The directories `node_modules` of the template's directory and above, which stand for the modules that Lambda has,
/// unless all code is below them and finds them itself.
fn provided<'a>(template: &Path, code: impl Iterator<Item = &'a PathBuf> + Clone) -> Vec<PathBuf> {
    let template = std::fs::canonicalize(if template == Path::new("") { Path::new(".") } else { template });
    let above = template.iter().flat_map(|template| template.ancestors());
    let unseen = above.filter(|above| code.clone().any(|code| !code.starts_with(above)));
    unseen.map(|above| above.join("node_modules")).filter(|modules| modules.is_dir()).collect()
}

/// Returns the variables of this process that are UTF-8.
#[expect(clippy::disallowed_methods, reason = "inherited variables are read only here")]
fn inherited(names: &[&str]) -> BTreeMap<String, String> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

fn missing_program(function: &template::Function, directory: &Path) -> String {
    let build = match &function.binary {
        Some(binary) => format!("build it with `cargo build --bin {binary}`, `cargo lambda build` or `sam build`"),
        None => {
            "build it, or set CodeUri to the directory of the build (`sam build` writes .aws-sam/build/template.yaml)"
                .to_owned()
        }
    };
    format!("no bootstrap in {}: {build}", directory.display())
}
