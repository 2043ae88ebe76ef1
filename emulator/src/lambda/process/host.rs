//! What all function processes share: files, interpreters, and the emulator's addresses.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;

use super::{archive, code::CodeVersion, local_host::LocalHost};
use crate::aws::{self, API_HOST, REGION, URL_SUFFIX};

/// What all function processes share.
#[derive(Debug)]
pub(crate) struct ProcessHost {
    /// The directory of the template.
    pub(super) template: PathBuf,
    /// Layers that the user names: directories or zip files, by ARN.
    pub(super) layers: BTreeMap<String, PathBuf>,
    /// Loaders, inline code and unpacked zip files. Removed when the emulator stops.
    pub(super) files: TempDir,
    addresses: LocalAddresses,
    /// Variables that make clients trust the gateway's certificate.
    pub(super) trust: BTreeMap<String, String>,
    /// Results of the search for interpreters, by runtime.
    interpreters: Mutex<BTreeMap<String, Result<OsString, String>>>,
    /// Directories of zip files, each with the state of the file at the time.
    unpacked: Mutex<BTreeMap<PathBuf, (CodeVersion, PathBuf)>>,
}

/// Where on this machine is what has an address in the cloud.
#[derive(Clone, Debug)]
pub(crate) struct LocalAddresses {
    /// Id of the WebSocket API.
    pub(crate) api_id: String,
    /// The gateway, which serves it.
    pub(crate) gateway: SocketAddr,
    /// Ids of the HTTP and REST APIs.
    pub(crate) http_api_ids: Vec<String>,
    /// What serves them.
    pub(crate) http: SocketAddr,
    /// The host names of Event APIs, which are at the same address.
    pub(crate) event_apis: Vec<LocalHost>,
    /// SQS.
    pub(crate) queues: SocketAddr,
}

impl ProcessHost {
    pub(crate) fn new(
        template: &Path,
        layers: BTreeMap<String, PathBuf>,
        files: TempDir,
        addresses: LocalAddresses,
        trust: BTreeMap<String, String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            template: template.to_owned(),
            layers,
            files,
            addresses,
            trust,
            interpreters: Mutex::default(),
            unpacked: Mutex::default(),
        })
    }

    /// Replaces the AWS addresses of the APIs and the queues in a variable by the emulator's.
    pub(crate) fn localised(&self, value: &str) -> String {
        let LocalAddresses { api_id, gateway, http_api_ids, http, event_apis, queues } = &self.addresses;
        let cloud = |id: &str| format!("{id}{API_HOST}{REGION}.{URL_SUFFIX}");
        let value = value.replace(&aws::sqs_endpoint(), &format!("http://{queues}"));
        let value = [("https", "http"), ("wss", "ws")].iter().fold(value, |value, (secure, plain)| {
            value.replace(&format!("{secure}://{}", cloud(api_id)), &format!("{plain}://{gateway}"))
        });
        let value = event_apis.iter().fold(value, |value, host| host.localised(&value));
        http_api_ids
            .iter()
            .fold(value, |value, id| value.replace(&format!("https://{}", cloud(id)), &format!("http://{http}")))
    }

    /// Tells a loader how to redirect the API's AWS host name to the gateway.
    pub(super) fn redirection(&self) -> String {
        let LocalAddresses { api_id, gateway, .. } = &self.addresses;
        format!("{api_id}{API_HOST} {} {}", gateway.ip(), gateway.port())
    }

    /// Writes a file that is built into this program, unless it exists.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.files.path().join(name);
        if !path.exists() {
            std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(path)
    }

    /// Returns the directory with the contents of a zip file. Unpacks the file if it has changed.
    pub(super) fn unpacked(&self, zip: &Path, version: CodeVersion) -> Result<PathBuf, String> {
        let mut known = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, directory)) = known.get(zip)
            && *of == version
        {
            return Ok(directory.clone());
        }
        let directory = archive::unpack(zip, &self.files.path().join("code"))
            .map_err(|error| format!("cannot unpack {}: {error}", zip.display()))?;
        known.insert(zip.to_owned(), (version, directory.clone()));
        Ok(directory)
    }

    pub(super) fn node(&self, runtime: &str) -> Result<OsString, String> {
        self.interpreter(runtime, || {
            let version = output(Command::new("node").arg("--version"));
            let version = version.ok_or_else(|| {
                format!("no program `node` on the path for {runtime}: install Node.js from https://nodejs.org")
            })?;
            let wanted = runtime.trim_start_matches("nodejs").trim_end_matches(".x");
            if !version.starts_with(&format!("v{wanted}.")) {
                tracing::warn!(runtime, found = version.trim(), "version of Node.js differs from Lambda's");
            }
            Ok("node".into())
        })
    }

    pub(super) fn python(&self, runtime: &str) -> Result<OsString, String> {
        self.interpreter(runtime, || {
            let version = |program| {
                let print = "import awslambdaric, sys; print('python%d.%d' % sys.version_info[:2])";
                output(Command::new(program).args(["-c", print])).map(|version| (program, version.trim().to_owned()))
            };
            let programs = [runtime, "python3"];
            let is_there = |program: &&str| output(Command::new(program).arg("--version")).is_some();
            let (found, version) = programs.into_iter().find_map(version).ok_or_else(|| {
                if !programs.iter().any(is_there) {
                    return format!(
                        "no program `{runtime}` or `python3` on the path: install Python from \
                         https://www.python.org, and then run `pip install awslambdaric boto3`"
                    );
                }
                format!(
                    "neither {runtime} nor python3 can import awslambdaric: run `pip install awslambdaric boto3`, or \
                     start the emulator from a virtual environment that has both"
                )
            })?;
            if version != runtime {
                tracing::warn!(runtime, found = version, "version of Python differs from Lambda's");
            }
            Ok(found.into())
        })
    }

    /// Looks for the interpreter of a runtime once.
    fn interpreter(&self, runtime: &str, find: impl FnOnce() -> Result<OsString, String>) -> Result<OsString, String> {
        let mut known = self.interpreters.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(runtime.to_owned()).or_insert_with(find).clone()
    }
}

/// Returns the output of a program. `None` if it cannot be run or fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
