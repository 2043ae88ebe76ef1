//! Functions of a later version, which run beside those of this one after a deployment: what they store and send has a
//! field more than this version knows.

use serde_json::{Value, json};

/// The number of the later form, as an attribute and as a field.
const FORM: &str = shared::forms::FORM;

/// What it has added.
const ADDED: &str = "from_form_2";

fn add_to_item(item: &mut Value) {
    item[FORM] = json!({"N": "2"});
    item[ADDED] = json!({"S": "added"});
}

/// Adds to what an update sets.
fn add_to_update(request: &mut Value) {
    let Some(expression) = request["UpdateExpression"].as_str().map(str::to_owned) else { return };
    let set = format!("{FORM} = :later_form, {ADDED} = :added");
    request["UpdateExpression"] = json!(match expression.split_once("SET ") {
        Some((before, after)) => format!("{before}SET {set}, {after}"),
        None => format!("SET {set} {expression}"),
    });
    request["ExpressionAttributeValues"][":later_form"] = json!({"N": "2"});
    request["ExpressionAttributeValues"][":added"] = json!({"S": "added"});
}

/// Makes of a request to the database what a later version would send.
pub(super) fn later_request(operation: &str, body: &mut Value) {
    match operation {
        "PutItem" => add_to_item(&mut body["Item"]),
        "UpdateItem" => add_to_update(body),
        "BatchWriteItem" => {
            for writes in body["RequestItems"].as_object_mut().into_iter().flat_map(|tables| tables.values_mut()) {
                for write in writes.as_array_mut().into_iter().flatten() {
                    if write["PutRequest"].is_object() {
                        add_to_item(&mut write["PutRequest"]["Item"]);
                    }
                }
            }
        }
        "TransactWriteItems" => {
            for action in body["TransactItems"].as_array_mut().into_iter().flatten() {
                if action["Put"].is_object() {
                    add_to_item(&mut action["Put"]["Item"]);
                } else if action["Update"].is_object() {
                    add_to_update(&mut action["Update"]);
                }
            }
        }
        _ => {}
    }
}

/// Makes of an event what a later version would send.
pub(super) fn later_event(event: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(event) {
        Ok(Value::Object(mut fields)) => {
            fields.insert(FORM.to_owned(), json!(2));
            fields.insert(ADDED.to_owned(), json!("added"));
            Value::Object(fields).to_string().into_bytes()
        }
        _ => event.to_vec(),
    }
}
