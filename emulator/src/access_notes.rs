//! What the start says about who is let in.

use crate::{
    event_api,
    gateway::GatewayOptions,
    http_api,
    template::{Authorization, Template},
};

/// Notes on what is open to anybody, on signatures that are not verified, and on resource policies.
pub(crate) fn access_notes(template: &Template, options: &GatewayOptions) -> Vec<String> {
    let connect = template.sockets.routes.get("$connect").map(|route| &route.authorization);
    let is_open = matches!(connect, None | Some(Authorization::None));
    let mut notes = Vec::new();
    notes.extend(is_open.then(|| "anybody may connect: the route $connect has no authorization".to_owned()));
    if !options.check_signatures {
        let any_signature = |of: String| {
            format!("AWS_IAM of {of} takes any signature: wrong ones are let in without --check-signatures")
        };
        notes.extend((connect == Some(&Authorization::Iam)).then(|| any_signature("the route $connect".to_owned())));
        let signed = event_api::signed(&template.event_apis);
        notes.extend(signed.into_iter().map(|api| any_signature(format!("the Event API {api}"))));
        notes.extend(http_api::unsigned_note(&template.http_apis));
    }
    notes.extend(http_api::policy_notes(&template.http_apis));
    notes
}
