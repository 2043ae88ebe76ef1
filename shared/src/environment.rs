//! The environment, read once into typed structs. No function reads environment variables in any other way.

use std::{collections::BTreeMap, fmt, str::FromStr};

use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

/// The variables that a function sees: those of its process, or those that a test or the local mode gives it.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. Those that are not UTF-8 are left out.
    #[expect(clippy::disallowed_methods, reason = "the place where it is read")]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Starts reading a configuration from the variables.
    pub fn reader(&self) -> Reader<'_> {
        Reader { environment: self, problems: Vec::new() }
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// Hands an AWS client its settings (`AWS_ENDPOINT_URL_…`) from this environment.
impl LoadServiceConfig for Environment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        self.get(&format!("{}_{service}", key.env())).or_else(|| self.get(key.env())).map(str::to_owned)
    }
}

/// Reads variables one by one and collects what is wrong, so that all of it is reported at once.
#[derive(Debug)]
pub struct Reader<'a> {
    environment: &'a Environment,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// The value of a variable that must be set. On failure the result is empty and [`Reader::finish`] reports it.
    pub fn required(&mut self, name: &str) -> String {
        match self.environment.get(name) {
            Some(value) if !value.is_empty() => value.to_owned(),
            _ => {
                self.problems.push(format!("{name} is not set"));
                String::new()
            }
        }
    }

    /// The parsed value of a variable, or `default` when it is unset or empty.
    pub fn parsed<T>(&mut self, name: &str, default: T) -> T
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match self.environment.get(name).filter(|value| !value.is_empty()).map(T::from_str) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                self.problems.push(format!("{name} cannot be used: {error}"));
                default
            }
        }
    }

    /// The parsed value of a variable that must be set. On failure there is none, and [`Reader::finish_whole`] reports it.
    pub fn required_parsed<T>(&mut self, name: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.required(name);
        let parsed = (!text.is_empty()).then(|| text.parse());
        parsed?.inspect_err(|error| self.problems.push(format!("{name} cannot be used: {error}"))).ok()
    }

    /// What was made of a variable, or none with the reason noted.
    pub fn understood<T, E: fmt::Display>(&mut self, name: &str, made: Result<T, E>) -> Option<T> {
        made.inspect_err(|error| self.problems.push(format!("{name} cannot be used: {error}"))).ok()
    }

    /// Notes what is wrong with several variables together.
    pub fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// The finished configuration, which is missing only where something was wrong, or everything that was.
    pub fn finish_whole<T>(self, configuration: Option<T>) -> Result<T, InvalidEnvironment> {
        self.finish(())?;
        configuration.ok_or_else(|| InvalidEnvironment(vec!["a variable is missing".to_owned()]))
    }

    /// The finished configuration, or everything that was wrong.
    pub fn finish<T>(self, configuration: T) -> Result<T, InvalidEnvironment> {
        if self.problems.is_empty() { Ok(configuration) } else { Err(InvalidEnvironment(self.problems)) }
    }
}

/// Everything that is wrong with the environment of a function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function's environment is incomplete, see Environment in template.yaml: {}", .0.join("; "))]
pub struct InvalidEnvironment(Vec<String>);

impl InvalidEnvironment {
    /// Something that the environment leads to cannot be used.
    pub fn because(reason: impl fmt::Display) -> Self {
        Self(vec![reason.to_string()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_together() {
        let environment: Environment =
            [("NUMBER".to_owned(), "x".to_owned()), ("EMPTY".to_owned(), String::new())].into_iter().collect();
        let mut reader = environment.reader();
        let configuration = (reader.required("TABLE"), reader.parsed("NUMBER", 1_u8), reader.parsed("EMPTY", 2_u8));
        let message = reader.finish(configuration).expect_err("two problems").to_string();
        assert!(message.contains("TABLE is not set; NUMBER cannot be used: invalid digit"), "{message}");
    }

    #[test]
    fn endpoint_variables_reach_the_client_they_name() {
        let environment: Environment =
            [("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), "http://127.0.0.1:1".to_owned())].into_iter().collect();
        let endpoint = |service| {
            let key = ServiceConfigKey::builder().service_id(service).profile("endpoint_url").env("AWS_ENDPOINT_URL");
            environment.load_config(key.build().expect("complete"))
        };
        assert_eq!(endpoint("DynamoDB").as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(endpoint("Lambda"), None);
    }
}
