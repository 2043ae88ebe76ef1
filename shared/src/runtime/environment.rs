//! The environment, read once into typed structs. No function reads environment variables in any other way.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr};

use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

/// Variable that leads the calls of all AWS services elsewhere. Source: AWS SDKs and Tools guide, "Service-specific
/// endpoints".
const ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL";

/// Up to this number, `f64` has every whole number: 2^53.
const EXACT_NUMBER_MAX: f64 = 9_007_199_254_740_992.0;

/// The variables that a function sees: those of its process, or those that a test or the local mode gives it.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. Those that are not UTF-8 are left out.
    #[expect(clippy::disallowed_methods, reason = "the place where it is read")]
    pub fn from_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns where the variables lead the calls of an AWS service, named as in `AWS_ENDPOINT_URL_{service}`: that
    /// variable counts, or else `AWS_ENDPOINT_URL`, which is for all services, as in AWS clients. One that is empty
    /// counts as unset.
    pub fn endpoint_url(&self, service: &str) -> Option<&str> {
        self.of_service(ENDPOINT_VARIABLE, service)
    }

    /// The value of the first of `{name}_{service}` and `{name}` that is set and not empty.
    fn of_service(&self, name: &str, service: &str) -> Option<&str> {
        let set = |name: &str| self.get(name).filter(|value| !value.is_empty());
        set(&format!("{name}_{service}")).or_else(|| set(name))
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

/// Hands an AWS client its settings (`AWS_ENDPOINT_URL_…`) from this environment. AWS clients panic at an endpoint that
/// is empty, which is what `sam local` makes of a variable without a value.
impl LoadServiceConfig for Environment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        self.of_service(key.env(), &service).map(str::to_owned)
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

    /// The whole number in a variable that a parameter of the template sets, or `default` when it is unset or empty.
    /// CloudFormation takes `3600.0` and `50.5` for a `Number` and passes the text on, so a fraction is rounded up:
    /// down could be 0, which means no limit. On failure the result is `default`, and [`Reader::finish`] reports what
    /// the parameter has to be.
    pub fn whole_number<T>(&mut self, name: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + fmt::Display + TryFrom<u64>,
    {
        let within = |whole: f64| {
            let is_exact = (0.0..=EXACT_NUMBER_MAX).contains(&whole);
            is_exact.then(|| T::try_from(whole as u64).ok()).flatten().filter(|whole| range.contains(whole))
        };
        // Both, because a number just below the least is not within the range either.
        self.number(name, default, "a number", &range, |number| within(number.floor()).and(within(number.ceil())))
    }

    /// The same for a number that keeps its fraction.
    pub fn decimal_number(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        self.number(name, default, "a number", &range, Some)
    }

    fn number<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        name: &str,
        default: T,
        kind: &str,
        range: &RangeInclusive<T>,
        read: impl Fn(f64) -> Option<T>,
    ) -> T {
        let Some(text) = self.environment.get(name).filter(|text| !text.is_empty()) else { return default };
        let number = text.parse().ok().and_then(read).filter(|number| range.contains(number));
        number.unwrap_or_else(|| {
            let (parameter, min, max) = (parameter_of(name), range.start(), range.end());
            let expected = format!("{kind} from {min} to {max}");
            self.problems.push(format!("{name} is {text:?}: set the parameter {parameter} to {expected}"));
            default
        })
    }

    /// The parsed value of a variable that must be set. On failure there is none, and [`Reader::finish_whole`] reports
    /// it.
    pub fn required_parsed<T>(&mut self, name: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.required(name);
        let parsed = (!text.is_empty()).then(|| text.parse());
        parsed?.inspect_err(|error| self.problems.push(format!("{name} cannot be used: {error}"))).ok()
    }

    /// The parsed endpoint of an AWS service that must be set, see [`Environment::endpoint_url`].
    pub fn required_endpoint<T>(&mut self, service: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let name = format!("{ENDPOINT_VARIABLE}_{service}");
        match self.environment.endpoint_url(service) {
            Some(url) => self.understood(&name, url.parse()),
            None => {
                self.problems.push(format!("{name} is not set"));
                None
            }
        }
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

/// The parameter of the template that sets a variable: `EventsShare` for `EVENTS_SHARE`.
fn parameter_of(variable: &str) -> String {
    let word =
        |word: &str| format!("{}{}", &word[..word.len().min(1)], word.get(1..).unwrap_or_default().to_lowercase());
    variable.split('_').map(word).collect()
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
    fn numbers_are_read_as_cloudformation_writes_them_and_an_error_names_the_parameter() {
        const NAME: &str = "PUSHES_PER_X";
        let read = |text: &str| {
            let environment: Environment = [(NAME.to_owned(), text.to_owned())].into_iter().collect();
            let [mut whole, mut decimal] = [environment.reader(), environment.reader()];
            let numbers = (whole.whole_number(NAME, 7_u8, 1..=200), decimal.decimal_number(NAME, 7.5, 0.1..=200.0));
            let told = |error: InvalidEnvironment| error.to_string();
            (whole.finish(numbers.0).map_err(told), decimal.finish(numbers.1).map_err(told))
        };
        for (text, whole, decimal) in [
            ("", 7, 7.5),
            ("1", 1, 1.0),
            ("1.1", 2, 1.1),
            ("199.5", 200, 199.5),
            ("200.0", 200, 200.0),
            ("2e2", 200, 200.0),
        ] {
            assert_eq!(read(text), (Ok(whole), Ok(decimal)), "{text}");
        }
        assert_eq!(read("0.5").1, Ok(0.5));
        for text in ["0.5", "200.5", "201", "256", "-0.5", "-1", "0", "x", " 1", "1,5", "nan", "inf", "1e300"] {
            let message = read(text).0.expect_err(text);
            let expected = format!("{NAME} is {text:?}: set the parameter PushesPerX to a number from 1 to 200");
            assert!(message.ends_with(&expected), "{message}");
        }
        for text in ["201", "0", "-1", "x", "nan", "inf"] {
            let message = read(text).1.expect_err(text);
            assert!(message.ends_with("set the parameter PushesPerX to a number from 0.1 to 200"), "{message}");
        }
    }

    #[test]
    fn endpoint_variables_reach_the_client_they_name_unless_they_are_empty() {
        let variables = [("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1"), ("AWS_ENDPOINT_URL", "")];
        let environment: Environment =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let endpoint = |service| {
            let key = ServiceConfigKey::builder().service_id(service).profile("endpoint_url").env("AWS_ENDPOINT_URL");
            environment.load_config(key.build().expect("complete"))
        };
        assert_eq!(endpoint("DynamoDB").as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(endpoint("Lambda"), None);
    }

    #[test]
    fn the_endpoint_of_a_service_wins_over_that_of_all() {
        let of = |variables: &[(&str, &str)]| -> Environment {
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let (own, all) = (("AWS_ENDPOINT_URL_SSM", "http://own"), ("AWS_ENDPOINT_URL", "http://all"));
        assert_eq!(of(&[own, all]).endpoint_url("SSM"), Some("http://own"));
        assert_eq!(of(&[own, all]).endpoint_url("LAMBDA"), Some("http://all"));
        assert_eq!(of(&[("AWS_ENDPOINT_URL_SSM", ""), all]).endpoint_url("SSM"), Some("http://all"));
        assert_eq!(of(&[("AWS_ENDPOINT_URL", "")]).endpoint_url("SSM"), None);
        let environment = of(&[own]);
        let mut reader = environment.reader();
        assert_eq!(reader.required_endpoint("SSM"), Some("http://own".to_owned()));
        assert_eq!(reader.required_endpoint::<String>("LAMBDA"), None);
        let problem = reader.finish(()).expect_err("one is missing").to_string();
        assert!(problem.ends_with("AWS_ENDPOINT_URL_LAMBDA is not set"), "{problem}");
    }
}
