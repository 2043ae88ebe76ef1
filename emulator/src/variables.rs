//! The variables that lead other programs to the emulator, and their text for a shell and for `sam local`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use regex::{Captures, Regex};
use serde_json::json;

use crate::http::HOST_OF_CONTAINERS;

/// First line of a file with the variables. Only a file that begins with it is written again.
const FIRST_LINE: &str = "# Written by apigw-local when it started. Read it in a shell with: . FILE";

/// The same of a file for `sam local`, which skips functions that the template does not have.
const FIRST_LINE_FOR_SAM: &str = r#"{"Written by apigw-local when it started, for sam local --env-vars": {}"#;

/// Most links that lead to a file. Source: Linux, `path_resolution(7)`.
const LINKS_MAX: usize = 40;

/// The address of a machine in a URL.
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"//((?:[0-9.]+|\[[0-9a-f:]+\]):[0-9]+)").expect("a valid pattern"));

/// Variables of functions that would break the shell or the programs that get them.
const OF_THE_MACHINE: [&str; 7] = ["BASH_ENV", "ENV", "HOME", "IFS", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH"];

/// The variables of other programs.
#[derive(Debug)]
pub(crate) struct Variables {
    values: BTreeMap<String, String>,
    /// Variables with different values in the functions.
    differing: BTreeSet<String>,
    /// The variables of each function by logical id, with those that lead AWS clients here. Functions of several stacks
    /// may have one id: then those that they have alike.
    of_functions: BTreeMap<String, BTreeMap<String, String>>,
    /// Where the emulator listens.
    addresses: [SocketAddr; 3],
}

/// Why a file with the variables cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    /// It has something else in it.
    #[error("{0} was not written by apigw-local: name another file with --env-file")]
    Foreign(PathBuf),
    /// It is a directory, a device, a pipe or a socket.
    #[error("{0} is not a regular file: name another one with --env-file")]
    Special(PathBuf),
    /// It cannot be read or written.
    #[error("cannot write {0}")]
    Io(PathBuf, #[source] io::Error),
}

impl Variables {
    /// Joins the addresses of the emulator, the variables that lead AWS clients to it, and those that all functions
    /// that have them have alike. AWS endpoints of functions are left out: the emulator replaces them. The addresses
    /// are those of the gateway, the HTTP API and the AWS services; `functions` has each function with its logical id.
    pub(crate) fn new(
        aws: &BTreeMap<String, String>,
        functions: &[(String, BTreeMap<String, String>)],
        addresses: [SocketAddr; 3],
        stage: &str,
    ) -> Self {
        let is_passed_on = |(name, _): &(&String, &String)| {
            !name.starts_with("AWS_ENDPOINT_URL") && !OF_THE_MACHINE.contains(&name.as_str())
        };
        let (mut values, differing) = alike(functions.iter().flat_map(|(_, variables)| variables).filter(is_passed_on));
        values.extend(aws.clone());
        let [web_socket, http, _] = addresses;
        values.insert("APIGW_LOCAL_WS_URL".to_owned(), format!("ws://{web_socket}/{stage}"));
        values.insert("APIGW_LOCAL_HTTP_URL".to_owned(), format!("http://{http}"));
        let mut by_id: BTreeMap<&String, Vec<&BTreeMap<String, String>>> = BTreeMap::new();
        for (id, variables) in functions {
            by_id.entry(id).or_default().push(variables);
        }
        let with_aws = |(id, all): (&String, Vec<&BTreeMap<String, String>>)| {
            let mut variables = alike(all.into_iter().flatten()).0;
            variables.extend(aws.clone());
            (id.clone(), variables)
        };
        let of_functions = by_id.into_iter().map(with_aws).collect();
        Self { values, differing, of_functions, addresses }
    }

    /// The values by name.
    pub(crate) fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// Returns `export` lines for a POSIX shell.
    pub(crate) fn to_shell(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.values {
            if is_name(name) {
                text.push_str(&format!("export {name}={}\n", quoted(value)));
            }
        }
        for name in self.differing.iter().filter(|name| is_name(name)) {
            text.push_str(&format!("# {name} differs between functions\n"));
        }
        text
    }

    /// Returns the variables of each function as `sam local --env-vars` reads them, with addresses that lead here from
    /// a container.
    fn to_sam(&self) -> String {
        let mut text = FIRST_LINE_FOR_SAM.to_owned();
        for (function, variables) in &self.of_functions {
            let variables: BTreeMap<_, _> =
                variables.iter().map(|(name, value)| (name, self.for_container(value))).collect();
            text.push_str(&format!(",\n{}: {:#}", json!(function), json!(variables)));
        }
        text + "}\n"
    }

    /// Replaces the emulator's addresses that only this machine reaches.
    fn for_container(&self, value: &str) -> String {
        let for_one = |found: &Captures<'_>| {
            let here = self.addresses.iter().find(|address| found[1] == address.to_string());
            match here.filter(|address| address.ip().is_loopback()) {
                Some(address) => format!("//{HOST_OF_CONTAINERS}:{}", address.port()),
                None => found[0].to_owned(),
            }
        };
        ADDRESS.replace_all(value, for_one).into_owned()
    }

    /// Writes the variables to a file that only this user can read, for `sam local` if its name ends with `.json`. A
    /// reader sees all of it or what was there before. A link stays, and leads to the new file.
    pub(crate) fn write(&self, file: &Path) -> Result<(), EnvFileError> {
        check_file(file)?;
        let text = if is_for_sam(file) { self.to_sam() } else { format!("{FIRST_LINE}\n{}", self.to_shell()) };
        let file = &without_links(file);
        let directory = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let written = tempfile::NamedTempFile::new_in(directory).and_then(|mut new| {
            new.write_all(text.as_bytes())?;
            new.persist(file).map_err(|error| error.error)
        });
        written.map(|_| ()).map_err(|error| EnvFileError::Io(file.to_owned(), error))
    }
}

/// The variables that have one value wherever they are, and the names of the others.
fn alike<'a>(all: impl Iterator<Item = (&'a String, &'a String)>) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (mut values, mut differing) = (BTreeMap::new(), BTreeSet::new());
    for (name, value) in all {
        if values.insert(name.clone(), value.clone()).is_some_and(|before| before != *value) {
            differing.insert(name.clone());
        }
    }
    values.retain(|name, _| !differing.contains(name));
    (values, differing)
}

/// Refuses a file that has something else in it, such as a project's own `.env`.
pub(crate) fn check_file(file: &Path) -> Result<(), EnvFileError> {
    let first_line = if is_for_sam(file) { FIRST_LINE_FOR_SAM } else { FIRST_LINE };
    let unusable = |error| EnvFileError::Io(file.to_owned(), error);
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(EnvFileError::Special(file.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(error)),
    }
    let mut beginning = Vec::new();
    let opened = fs::File::open(file).map_err(unusable)?;
    opened.take(first_line.len() as u64).read_to_end(&mut beginning).map_err(unusable)?;
    let is_own = beginning.is_empty() || beginning == first_line.as_bytes();
    is_own.then_some(()).ok_or_else(|| EnvFileError::Foreign(file.to_owned()))
}

/// What a path leads to, which need not exist.
fn without_links(file: &Path) -> PathBuf {
    let mut file = file.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&file) else { break };
        file = file.parent().map_or_else(|| target.clone(), |parent| parent.join(&target));
    }
    file
}

fn is_for_sam(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "json")
}

/// Whether a shell takes a text for the name of a variable.
fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.bytes().next().is_some_and(is_letter) && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

/// A value as a shell reads it: in single quotes, within which only the single quote means something, unless it has
/// only characters that mean nothing anywhere.
pub(crate) fn quoted(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+.,:/@%=".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::symlink, net::UnixListener},
        process::Command,
        sync::mpsc,
        thread,
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;

    fn of(functions: &[&[(&str, &str)]]) -> Variables {
        let names: Vec<String> = (0..functions.len()).map(|index| format!("f{index}")).collect();
        named(&names.iter().map(String::as_str).zip(functions.iter().copied()).collect::<Vec<_>>())
    }

    /// The variables of functions with these logical ids.
    fn named(functions: &[(&str, &[(&str, &str)])]) -> Variables {
        let map = |own: &[(&str, &str)]| {
            own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let functions: Vec<_> = functions.iter().map(|(id, own)| ((*id).to_owned(), map(own))).collect();
        let aws = map(&[("AWS_REGION", "eu-central-1")]);
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Variables::new(&aws, &functions, addresses, "dev")
    }

    /// Lets a shell read the variables and returns the value of one, as a program gets it.
    fn sourced(text: &str, name: &str) -> String {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        // `env` shows what is exported; the last character keeps new lines at the end.
        let print = format!(". '{}' && sh -c 'printf %s. \"${name}\"'", file.path().display());
        let output = Command::new("sh").args(["-e", "-u", "-c", &print]).output().expect("a shell");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8").trim_end_matches('.').to_owned()
    }

    #[test]
    fn a_shell_reads_every_value_as_it_is() {
        let values = [
            ("PLAIN", "http://127.0.0.1:1/dev?a=b"),
            ("EMPTY", ""),
            ("SPACES", "  hello  world "),
            ("JSON", r#"{"a": 1, "b": "x y"}"#),
            ("QUOTES", r#"it's "so" '' \' \\"#),
            ("PATTERN", "^a|b$ * ? [a-z] ~ #"),
            ("COMMAND", "5$ & more; $(touch /nowhere/x) `false` $HOME ${HOME} !1"),
            ("TEXT", "one\ntwo\n\nthree\n"),
            ("TABS", "a\tb\r\n"),
            ("HERE", "<<EOF\nexit 1\nEOF\n"),
            ("WORDS", "żółw 😀"),
        ];
        let text = of(&[&values]).to_shell();
        for (name, value) in values {
            assert_eq!(sourced(&text, name), value, "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_reads_any_value_as_it_is(value in "[^\0.]{0,40}") {
            prop_assert_eq!(sourced(&of(&[&[("VALUE", value.as_str())]]).to_shell(), "VALUE"), value);
        }
    }

    #[test]
    fn what_differs_between_functions_and_what_would_break_a_shell_is_left_out() {
        let first = [("TABLE", "t"), ("LEVEL", "1\nexit 3"), ("AWS_ENDPOINT_URL_X", "https://cloud"), ("PATH", "/x")];
        let variables = of(&[&first, &[("TABLE", "t"), ("LEVEL", "2"), ("A B=1; exit 3", ""), ("1", "")]]);
        assert_eq!(
            variables.to_shell().lines().collect::<Vec<_>>(),
            [
                "export APIGW_LOCAL_HTTP_URL=http://127.0.0.1:2",
                "export APIGW_LOCAL_WS_URL=ws://127.0.0.1:1/dev",
                "export AWS_REGION=eu-central-1",
                "export TABLE=t",
                "# LEVEL differs between functions",
            ]
        );
    }

    #[test]
    fn what_differs_between_functions_of_two_stacks_with_one_logical_id_is_left_out() {
        let of_both = |table| [("TABLE", table), ("LEVEL", "1")];
        let variables = named(&[("F", &of_both("a")), ("F", &of_both("b")), ("G", &[("ONLY", "g")])]);
        let values = variables.values();
        assert_eq!((values.get("TABLE"), values["LEVEL"].as_str(), values["ONLY"].as_str()), (None, "1", "g"));
        assert!(variables.to_shell().ends_with("# TABLE differs between functions\n"), "{}", variables.to_shell());
        let for_sam: serde_json::Value = serde_json::from_str(&variables.to_sam()).expect("JSON");
        assert_eq!(for_sam["F"], json!({"AWS_REGION": "eu-central-1", "LEVEL": "1"}));
        assert_eq!(for_sam["G"], json!({"AWS_REGION": "eu-central-1", "ONLY": "g"}));
    }

    #[test]
    fn a_json_file_has_the_variables_of_each_function_with_addresses_for_a_container() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("sam.json");
        let own =
            [("QUEUE", "http://127.0.0.1:3/0/jobs"), ("FEED", "http://127.0.0.1:30/"), ("OTHER", "http://10.0.0.1:3")];
        for functions in [&[][..], &[&[][..]], &[&own[..], &[("TABLE", "a \"table\"")]]] {
            of(functions).write(&file).expect("written");
            let written: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
            let all = written.as_object().expect("an object");
            assert!(all.len() == functions.len() + 1 && all.values().all(|of_one| of_one.is_object()), "{written:#}");
            if functions.len() == 2 {
                let queue = "http://host.docker.internal:3/0/jobs";
                let first = json!({"AWS_REGION": "eu-central-1", "QUEUE": queue, "FEED": own[1].1, "OTHER": own[2].1});
                assert_eq!(written["f0"], first);
                assert_eq!(written["f1"]["TABLE"], "a \"table\"");
            }
        }
        fs::write(&file, "{\"PublishFunction\": {}}").expect("written");
        of(&[]).write(&file).expect_err("somebody else's");
    }

    #[test]
    fn a_file_is_written_again_unless_it_is_somebody_else_s() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("local.env");
        of(&[&[("A", "one")]]).write(&file).expect("written");
        of(&[&[("A", "two words")]]).write(&file).expect("written again");
        assert_eq!(sourced(&fs::read_to_string(&file).expect("read"), "A"), "two words");
        fs::write(&file, "SECRET=mine\n").expect("written");
        let error = of(&[]).write(&file).expect_err("somebody else's").to_string();
        assert!(error.ends_with("was not written by apigw-local: name another file with --env-file"), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("read"), "SECRET=mine\n");
    }

    #[test]
    fn a_link_stays_and_a_file_that_is_not_regular_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("below")).expect("created");
        symlink("second", at("first")).expect("a link");
        symlink("below/file", at("second")).expect("a link");
        for value in ["made", "again"] {
            of(&[&[("A", value)]]).write(&at("first")).expect("written");
            assert_eq!(sourced(&fs::read_to_string(at("below/file")).expect("read"), "A"), value);
            for link in ["first", "second"] {
                assert!(fs::symlink_metadata(at(link)).expect("there").is_symlink(), "{link}");
            }
        }
        let _listening = UnixListener::bind(at("socket")).expect("a socket");
        assert!(Command::new("mkfifo").arg(at("pipe")).status().expect("run").success());
        symlink("pipe", at("to_pipe")).expect("a link");
        symlink("circle", at("circle")).expect("a link");
        for (name, reason) in [
            ("socket", "is not a regular file: name another one with --env-file"),
            ("pipe", "is not a regular file: name another one with --env-file"),
            ("to_pipe", "is not a regular file: name another one with --env-file"),
            ("below", "is not a regular file: name another one with --env-file"),
            ("circle", "circle"),
        ] {
            let (file, before) = (at(name), fs::symlink_metadata(at(name)).expect("there").file_type());
            let (sender, written) = mpsc::channel();
            // Who opens a pipe that nobody writes to waits forever.
            thread::spawn(move || sender.send(of(&[]).write(&file)));
            let written = written.recv_timeout(Duration::from_secs(20)).expect("in time");
            let error = written.expect_err(name).to_string();
            assert!(error.ends_with(reason), "{error}");
            assert_eq!(fs::symlink_metadata(at(name)).expect("there").file_type(), before, "{name}");
        }
    }
}
