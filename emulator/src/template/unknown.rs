//! What only AWS knows of a template. It has made-up values here, and the user is told.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use super::inputs::TemplateInputs;

/// Most names in one note.
const NAMES_MAX: usize = 12;

/// Names of values that were made up, of secrets that are not known, and of parts that are not read. All templates of
/// one start share it.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    values: RefCell<BTreeSet<String>>,
    secrets: RefCell<BTreeSet<String>>,
    parts: RefCell<BTreeSet<String>>,
    /// Values of the user that were read.
    used: RefCell<BTreeSet<String>>,
    /// How often something unknown was read.
    reads: Cell<usize>,
}

impl Unknown {
    /// Returns a value that the user gave.
    pub(super) fn given<'a>(&self, name: &str, inputs: &'a TemplateInputs) -> Option<&'a str> {
        let value = inputs.values.get(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(value)
    }

    /// Notes a value that `--value` can set.
    pub(super) fn value(&self, name: &str) {
        self.reads.set(self.reads.get() + 1);
        self.values.borrow_mut().insert(name.to_owned());
    }

    /// Notes a secret that `--secret` can set.
    pub(super) fn secret(&self, name: &str) {
        self.reads.set(self.reads.get() + 1);
        self.secrets.borrow_mut().insert(name.to_owned());
    }

    /// Notes a part of the template that is not read.
    pub(super) fn part(&self, name: impl Into<String>) {
        self.reads.set(self.reads.get() + 1);
        self.parts.borrow_mut().insert(name.into());
    }

    /// How often something unknown was read so far.
    pub(super) fn reads(&self) -> usize {
        self.reads.get()
    }

    /// What may help after an error, because something was made up.
    pub(super) fn hint(&self) -> Option<String> {
        let values = self.values.borrow();
        let first = values.first()?;
        Some(format!("only AWS knows {}, which --value {first}=VALUE sets", listed(&values)))
    }

    /// One note for each of the three, and one for values of the user that nothing has read.
    pub(super) fn notes(&self, inputs: &TemplateInputs) -> Vec<String> {
        let (values, secrets, parts) = (self.values.borrow(), self.secrets.borrow(), self.parts.borrow());
        let values = values.first().map(|first| {
            format!(
                "only AWS knows {}: functions see made-up values; set them with --value {first}=VALUE",
                listed(&values)
            )
        });
        let secrets = secrets
            .first()
            .map(|first| format!("no secret {} is known; set it with --secret {first}=VALUE", listed(&secrets)));
        let parts = (!parts.is_empty()).then(|| format!("the emulator does not read {}", listed(&parts)));
        let used = self.used.borrow();
        let unused: BTreeSet<String> = inputs.values.keys().filter(|name| !used.contains(*name)).cloned().collect();
        let unused = (!unused.is_empty()).then(|| format!("nothing reads the --value {}", listed(&unused)));
        [parts, values, secrets, unused].into_iter().flatten().collect()
    }
}

/// Names in a note, of which the last ones are counted.
pub(super) fn listed(names: &BTreeSet<String>) -> String {
    let mut list = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX {
        list += &format!(" and {} more", names.len() - NAMES_MAX);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_one_note_that_names_the_flag() {
        let unknown = Unknown::default();
        assert!(unknown.notes(&TemplateInputs::default()).is_empty());
        for name in ["B.Arn", "A.Url", "B.Arn"] {
            unknown.value(name);
        }
        unknown.secret("/app/key");
        unknown.part("Fn::Transform");
        assert_eq!(
            unknown.notes(&TemplateInputs::default()),
            [
                "the emulator does not read Fn::Transform",
                "only AWS knows A.Url, B.Arn: functions see made-up values; set them with --value A.Url=VALUE",
                "no secret /app/key is known; set it with --secret /app/key=VALUE",
            ]
        );
        let values = [("A.Url", "1"), ("A.Uri", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let inputs = TemplateInputs { values, ..TemplateInputs::default() };
        assert_eq!(unknown.given("A.Url", &inputs), Some("1"));
        assert_eq!(unknown.notes(&inputs)[3], "nothing reads the --value A.Uri");
        (0..20).for_each(|n| unknown.value(&format!("C{n:02}")));
        assert!(
            unknown.notes(&TemplateInputs::default())[1].contains("C09 and 10 more: "),
            "{:?}",
            unknown.notes(&TemplateInputs::default())
        );
        assert_eq!(unknown.reads(), 25);
    }
}
