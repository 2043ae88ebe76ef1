//! What the processes of all functions share: files, interpreters, and the addresses that they are led to.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;

use crate::aws::{self, REGION, URL_SUFFIX};

/// What all processes of functions share.
#[derive(Debug)]
pub(crate) struct ProcessHost {
    /// Directory of the template.
    pub(super) template: PathBuf,
    /// Loaders and inline code, as long as the local mode runs.
    pub(super) files: TempDir,
    /// First part of the API's host name in the cloud.
    host: String,
    /// The gateway that stands in for it.
    gateway: SocketAddr,
    /// Where SQS answers.
    queues: SocketAddr,
    /// Variables that make clients trust the gateway's certificate.
    pub(super) trust: BTreeMap<String, String>,
    /// Interpreters that were found, by runtime.
    interpreters: Mutex<BTreeMap<String, Result<OsString, String>>>,
}

impl ProcessHost {
    /// Prepares for functions of the template in the directory `template`, behind `gateway`, whose certificate `trust` leads to,
    /// with SQS at `queues`.
    pub(crate) fn new(
        template: &Path,
        files: TempDir,
        api_id: &str,
        gateway: SocketAddr,
        queues: SocketAddr,
        trust: BTreeMap<String, String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            template: template.to_owned(),
            files,
            host: format!("{api_id}.execute-api."),
            gateway,
            queues,
            trust,
            interpreters: Mutex::default(),
        })
    }

    /// A variable's value with local addresses in place of those that the API and the queues have in the cloud.
    pub(crate) fn localised(&self, value: &str) -> String {
        let cloud = format!("{}{REGION}.{URL_SUFFIX}", self.host);
        let value = value.replace(&aws::sqs_endpoint(), &format!("http://{}", self.queues));
        [("https", "http"), ("wss", "ws")].iter().fold(value, |value, (secure, plain)| {
            value.replace(&format!("{secure}://{cloud}"), &format!("{plain}://{}", self.gateway))
        })
    }

    /// What a loader needs to lead the API's name in the cloud to the gateway.
    pub(super) fn redirection(&self) -> String {
        format!("{} {} {}", self.host, self.gateway.ip(), self.gateway.port())
    }

    /// Writes a file that comes with this program, where it is not written yet.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.files.path().join(name);
        if !path.exists() {
            std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(path)
    }

    pub(super) fn node(&self, runtime: &str) -> Result<OsString, String> {
        self.interpreter(runtime, || {
            let version = output(Command::new("node").arg("--version"));
            let version = version.ok_or_else(|| format!("{runtime} needs Node.js, and there is no program node"))?;
            let wanted = runtime.trim_start_matches("nodejs").trim_end_matches(".x");
            if !version.starts_with(&format!("v{wanted}.")) {
                tracing::warn!(runtime, found = version.trim(), "another version of Node.js than in Lambda");
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
            let (found, version) = [runtime, "python3"].into_iter().find_map(version).ok_or_else(|| {
                format!(
                    "neither {runtime} nor python3 can import awslambdaric: \
                     pip install awslambdaric boto3, or start this from a virtual environment that has both"
                )
            })?;
            if version != runtime {
                tracing::warn!(runtime, found = version, "another version of Python than in Lambda");
            }
            Ok(found.into())
        })
    }

    /// Looks for an interpreter once.
    fn interpreter(&self, runtime: &str, find: impl FnOnce() -> Result<OsString, String>) -> Result<OsString, String> {
        let mut known = self.interpreters.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(runtime.to_owned()).or_insert_with(find).clone()
    }
}

/// What a program prints. `None` when it cannot be run or fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
