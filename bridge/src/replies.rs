//! Parses what Redis replies about streams. Pure.

use redis::{FromRedisValue, RedisResult, Value, from_redis_value};

/// An entry of a stream. A deleted one has no fields.
#[derive(Debug, PartialEq)]
pub(crate) struct EntryReply {
    pub(crate) id: String,
    /// Names and values in turn, of any bytes.
    pub(crate) fields: Option<Vec<Vec<u8>>>,
}

/// Parses `[[id, [name, value, …]], …]`. The client's own types fail a whole batch for a name that is not UTF-8.
pub(crate) fn entries(value: Value) -> RedisResult<Vec<EntryReply>> {
    let Value::Array(entries) = value else { return Ok(Vec::new()) };
    let read = |entry| {
        let mut parts = <Vec<Value>>::from_redis_value(entry)?.into_iter();
        let id = from_redis_value(parts.next().unwrap_or(Value::Nil))?;
        let fields = match parts.next() {
            None | Some(Value::Nil) => None,
            Some(fields) => Some(from_redis_value(fields)?),
        };
        Ok(EntryReply { id, fields })
    };
    // Redis 6 returns a deleted entry as nil, without its id.
    entries.into_iter().filter(|entry| *entry != Value::Nil).map(read).collect()
}

pub(crate) fn value_of<'a>(fields: &'a [Vec<u8>], name: &str) -> Option<&'a [u8]> {
    fields.chunks_exact(2).find(|pair| pair[0] == name.as_bytes()).map(|pair| pair[1].as_slice())
}

/// Returns the pending entries of a group, and its lag: entries that no consumer has read yet.
pub(crate) fn standing(reply: &Value, group: &str) -> Option<(u64, Option<u64>)> {
    let Value::Array(groups) = reply else { return None };
    groups.iter().find_map(|fields| {
        let Value::Array(fields) = fields else { return None };
        let get = |name: &str| fields.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1]);
        let number = |name| match get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        (get("name").and_then(text) == Some(group)).then(|| (number("pending").unwrap_or_default(), number("lag")))
    })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn an_entry_has_any_bytes_or_was_deleted() {
        let odd = Value::Array(vec![Value::BulkString(vec![0xff]), bulk("x"), bulk("data"), bulk("{}")]);
        let reply = Value::Array(vec![
            Value::Array(vec![bulk("1-0"), odd]),
            Value::Array(vec![bulk("1-1"), Value::Nil]),
            Value::Nil,
        ]);
        let read = entries(reply).expect("entries");
        assert_eq!(read.iter().map(|read| read.id.as_str()).collect::<Vec<_>>(), ["1-0", "1-1"]);
        let fields = read[0].fields.as_deref().expect("fields");
        assert_eq!((value_of(fields, "data"), value_of(fields, "x")), (Some(&b"{}"[..]), None));
        assert_eq!(read[1].fields, None);
        assert_eq!(entries(Value::Nil).expect("nothing"), []);
        assert!(entries(Value::Array(vec![Value::Int(1)])).is_err());
    }

    #[test]
    fn the_standing_of_a_group_is_found_by_its_name() {
        let group = |name: &str, lag: Value| {
            Value::Array(vec![bulk("name"), bulk(name), bulk("pending"), Value::Int(3), bulk("lag"), lag])
        };
        let reply = Value::Array(vec![group("a", Value::Int(7)), group("b", Value::Nil)]);
        assert_eq!(standing(&reply, "a"), Some((3, Some(7))));
        assert_eq!(standing(&reply, "b"), Some((3, None)));
        assert_eq!(standing(&reply, "c"), None);
    }
}
