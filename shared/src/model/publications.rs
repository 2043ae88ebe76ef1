//! What one request asks to publish: one publication, or several in an envelope.

use serde_json::{Map, Value};

use crate::{
    error::{ApiError, Code},
    limits::{PUBLICATIONS_BODY_BYTES_MAX, PUBLICATIONS_MAX, PUBLISH_BODY_BYTES_MAX},
    model::{
        publication::{IdempotencyKey, Publication},
        strict_json,
    },
};

/// Field of the envelope.
const PUBLICATIONS: &str = "publications";

/// What one request asks to publish.
#[derive(Clone, Debug, PartialEq)]
pub enum Publications {
    One(Publication),
    /// Several, each valid or not for itself.
    Several(Vec<Result<Publication, ApiError>>),
}

impl Publications {
    /// Reads the body of an HTTP request: one publication, or several under `publications`.
    ///
    /// # Errors
    ///
    /// Those of [`Publication::from_bytes`], if there is one publication. Of several, each has its own result.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ApiError> {
        let too_large = |bytes_max: usize| {
            let message = format!("the body has {} bytes, at most {bytes_max} are taken", bytes.len());
            ApiError::new(Code::TooLarge, message)
        };
        if bytes.len() > PUBLICATIONS_BODY_BYTES_MAX {
            return Err(too_large(PUBLICATIONS_BODY_BYTES_MAX));
        }
        let fields = strict_json::object(bytes)?;
        if bytes.len() > PUBLISH_BODY_BYTES_MAX && !is_envelope(&fields) {
            return Err(too_large(PUBLISH_BODY_BYTES_MAX));
        }
        Self::from_fields(fields)
    }

    /// Reads a publication, or an envelope: `{"publications":[…]}`, with an `id` for those that have none of their own.
    pub fn from_fields(mut fields: Map<String, Value>) -> Result<Self, ApiError> {
        if !is_envelope(&fields) {
            return Publication::from_fields(fields).map(Self::One);
        }
        let publications = match fields.remove(PUBLICATIONS) {
            Some(Value::Array(publications)) if (1..=PUBLICATIONS_MAX).contains(&publications.len()) => publications,
            _ => {
                let message = format!("{PUBLICATIONS} must be a list of 1 to {PUBLICATIONS_MAX} publications");
                return Err(ApiError::of_field(Code::InvalidField, PUBLICATIONS, message));
            }
        };
        let id = match fields.get("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(IdempotencyKey::parse(id, "id")?),
            Some(_) => return Err(ApiError::of_field(Code::InvalidField, "id", "id must be a string")),
        };
        let read = |publication| match publication {
            Value::Object(fields) => Publication::from_fields(fields),
            _ => Err(ApiError::new(Code::NotAnObject, "a publication must be an object")),
        };
        let mut several = Self::Several(publications.into_iter().map(read).collect());
        if let Some(id) = id {
            several.name(&id);
        }
        Ok(several)
    }

    /// Gives `key` to a publication that has none. Of several, each gets one of its own, which ends in its index.
    pub fn name(&mut self, key: &IdempotencyKey) {
        match self {
            Self::One(publication) => {
                publication.idempotency_key.get_or_insert_with(|| key.clone());
            }
            Self::Several(publications) => {
                for (index, publication) in publications.iter_mut().enumerate() {
                    if let Ok(publication) = publication {
                        publication.idempotency_key.get_or_insert_with(|| key.of_part(index));
                    }
                }
            }
        }
    }
}

/// Whether a document is a publication, has several, or is another event of a publisher. These carry whatever else a
/// publisher tells the pages, so none of their fields says that an invocation is for something else.
pub fn is_of_a_publisher(fields: &Map<String, Value>) -> bool {
    ["event", PUBLICATIONS, "video", "video_id"].iter().any(|field| fields.contains_key(*field))
}

/// Whether a document has several publications. One that names a video is a publication, whatever else it tells the
/// pages.
fn is_envelope(fields: &Map<String, Value>) -> bool {
    fields.contains_key(PUBLICATIONS) && !["video", "video_id"].iter().any(|of_one| fields.contains_key(*of_one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn publication(id: Option<&str>) -> Value {
        let mut publication = json!({"region": "pl", "video": {"id": "v", "title": "t", "thumbnail": "", "score": 90}});
        if let Some(id) = id {
            publication["id"] = json!(id);
        }
        publication
    }

    fn read(envelope: &Value) -> Result<Publications, ApiError> {
        Publications::from_bytes(envelope.to_string().as_bytes())
    }

    fn keys(publications: &Publications) -> Vec<Option<String>> {
        let Publications::Several(publications) = publications else { panic!("several") };
        let key = |publication: &Publication| publication.idempotency_key.as_ref().map(|key| key.as_str().to_owned());
        publications.iter().map(|publication| publication.as_ref().ok().and_then(key)).collect()
    }

    #[test]
    fn what_names_a_video_is_one_publication_whatever_its_other_fields_are() {
        let flat = json!({"region": "PL", "video_id": "v", "title": "t", "publications": [publication(None)]});
        let mut nested = publication(None);
        nested["publications"] = json!(12);
        for one in [flat, nested] {
            assert!(matches!(read(&one), Ok(Publications::One(_))), "{one}");
        }
        let padding = "x".repeat(PUBLISH_BODY_BYTES_MAX);
        let large = json!({"region": "PL", "video_id": "v", "title": "t", "publications": padding});
        assert_eq!(read(&large).expect_err("too large").code, Code::TooLarge);
    }

    #[test]
    fn each_of_several_is_read_for_itself_and_named_by_its_own_id_or_by_its_index() {
        let envelope = json!({"publications": [publication(Some("own")), {"region": "pl"}, 7, publication(None)]});
        let mut several = read(&envelope).expect("an envelope");
        assert_eq!(keys(&several), [Some("own".to_owned()), None, None, None]);
        several.name(&IdempotencyKey::parse("event-1", "id").expect("a key"));
        assert_eq!(keys(&several), [Some("own".to_owned()), None, None, Some("event-1/3".to_owned())]);
        let Publications::Several(list) = several else { panic!("several") };
        let codes: Vec<_> = list.iter().map(|one| one.as_ref().err().map(|refusal| refusal.code)).collect();
        assert_eq!(codes, [None, Some(Code::MissingField), Some(Code::NotAnObject), None]);

        let named = json!({"id": "tick", "publications": [publication(None), publication(Some("own"))]});
        assert_eq!(keys(&read(&named).expect("named")), [Some("tick/0".to_owned()), Some("own".to_owned())]);
    }

    #[test]
    fn an_envelope_holds_one_to_25_and_a_megabyte() {
        let of = |count: usize| json!({"publications": vec![publication(None); count]});
        assert_eq!(keys(&read(&of(25)).expect("as many as there may be")).len(), 25);
        for envelope in
            [of(0), of(26), json!({"publications": {}}), json!({"publications": [publication(None)], "id": 7})]
        {
            assert_eq!(read(&envelope).expect_err("invalid").code, Code::InvalidField, "{envelope}");
        }
        let mut large = of(25);
        for publication in large["publications"].as_array_mut().expect("a list") {
            publication["video"]["more"] = json!("x".repeat(31 * 1024));
        }
        assert!(read(&large).expect("a frame each").clone() != read(&of(25)).expect("small"));
        large["publications"][0]["video"]["more"] = json!("x".repeat(300 * 1024));
        assert_eq!(read(&large).expect_err("too large").code, Code::TooLarge);
        // One alone has the bound that it always had.
        let mut one = publication(None);
        one["padding"] = json!("x".repeat(PUBLISH_BODY_BYTES_MAX));
        assert_eq!(read(&one).expect_err("too large").code, Code::TooLarge);
    }
}
