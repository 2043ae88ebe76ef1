//! The variables that lead other programs to the emulator, and their text for a shell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// First line of a file with the variables. Only a file that begins with it is written again.
const FIRST_LINE: &str = "# Written by apigw-local when it started. Read it in a shell with: . FILE";

/// Variables of functions that would break the shell or the programs that get them.
const OF_THE_MACHINE: [&str; 7] = ["BASH_ENV", "ENV", "HOME", "IFS", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH"];

/// The variables of other programs.
#[derive(Debug)]
pub(crate) struct Variables {
    values: BTreeMap<String, String>,
    /// Variables with different values in the functions.
    differing: BTreeSet<String>,
}

/// Why a file with the variables cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    /// It has something else in it.
    #[error("{0} was not written by apigw-local: name another file with --env-file")]
    Foreign(PathBuf),
    /// It cannot be read or written.
    #[error("cannot write {0}")]
    Io(PathBuf, #[source] io::Error),
}

impl Variables {
    /// Joins the addresses of the emulator, the variables that lead AWS clients to it, and those that all functions
    /// that have them have alike. AWS endpoints of functions are left out: the emulator replaces them.
    pub(crate) fn new(
        aws: &BTreeMap<String, String>,
        functions: &BTreeMap<String, BTreeMap<String, String>>,
        web_socket: String,
        http: String,
    ) -> Self {
        let (mut values, mut differing) = (BTreeMap::new(), BTreeSet::new());
        for (name, value) in functions.values().flatten() {
            if name.starts_with("AWS_ENDPOINT_URL") || OF_THE_MACHINE.contains(&name.as_str()) {
                continue;
            }
            if values.insert(name.clone(), value.clone()).is_some_and(|before| before != *value) {
                differing.insert(name.clone());
            }
        }
        values.retain(|name, _| !differing.contains(name));
        values.extend(aws.clone());
        values.insert("APIGW_LOCAL_WS_URL".to_owned(), web_socket);
        values.insert("APIGW_LOCAL_HTTP_URL".to_owned(), http);
        Self { values, differing }
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

    /// Writes the variables to a file that only this user can read. A reader sees all of it or what was there before.
    pub(crate) fn write(&self, file: &Path) -> Result<(), EnvFileError> {
        check_file(file)?;
        let directory = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let written = tempfile::NamedTempFile::new_in(directory).and_then(|mut new| {
            write!(new, "{FIRST_LINE}\n{}", self.to_shell())?;
            new.persist(file).map_err(|error| error.error)
        });
        written.map(|_| ()).map_err(|error| EnvFileError::Io(file.to_owned(), error))
    }
}

/// Refuses a file that has something else in it, such as a project's own `.env`.
pub(crate) fn check_file(file: &Path) -> Result<(), EnvFileError> {
    match fs::read(file) {
        Ok(text) if text.is_empty() || text.starts_with(FIRST_LINE.as_bytes()) => Ok(()),
        Ok(_) => Err(EnvFileError::Foreign(file.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(EnvFileError::Io(file.to_owned(), error)),
    }
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
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn of(functions: &[&[(&str, &str)]]) -> Variables {
        let map = |own: &[(&str, &str)]| {
            own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let functions = functions.iter().enumerate().map(|(index, own)| (format!("f{index}"), map(own))).collect();
        let aws = map(&[("AWS_REGION", "eu-central-1")]);
        Variables::new(&aws, &functions, "ws://127.0.0.1:1/dev".to_owned(), "http://127.0.0.1:2".to_owned())
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
}
