use std::time::Duration;

use super::*;
use crate::template::Template;

const TEMPLATE: &str = "
Resources:
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: { ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.action }
  Topic:
    Type: AWS::SNS::Topic
    Properties: { TopicName: topic, Subscription: [{ Protocol: sqs, Endpoint: !GetAtt Wrapped.Arn }] }
  Wrapped: { Type: AWS::SQS::Queue }
  Raw: { Type: AWS::SQS::Queue }
  Subscription:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !Ref Topic
      Protocol: sqs
      Endpoint: !GetAtt Raw.Arn
      RawMessageDelivery: true
      FilterPolicy: { kind: [wanted], n: [{ numeric: ['>', 1] }] }
";

fn topics() -> (Arc<Topics>, Arc<Queues>) {
    let template = Template::parse(TEMPLATE, &Default::default()).expect("valid");
    assert!(template.notes.is_empty(), "{:?}", template.notes);
    let queues = Arc::new(Queues::new(template.queues, Clock::System));
    let functions = Functions::unreachable(&template.functions);
    (Topics::new(template.topics, functions, Arc::clone(&queues), Clock::System), queues)
}

/// Bodies and attributes of the messages of a queue.
async fn messages(queues: &Queues, queue: &str) -> Vec<Value> {
    let polled = tokio::time::timeout(Duration::from_millis(1), queues.poll(queue, 10, usize::MAX, Duration::ZERO));
    let messages = polled.await.ok().flatten().unwrap_or_default();
    messages.into_iter().map(|(_, message)| message).collect()
}

const ARN: &str = "arn:aws:sns:eu-central-1:000000000000:topic";

#[tokio::test]
async fn a_message_reaches_the_queues_whose_policy_it_passes() {
    let (topics, queues) = topics();
    let attributes = |kind: &str, n: u32| {
        format!(
            "&MessageAttributes.entry.1.Name=kind&MessageAttributes.entry.1.Value.DataType=String\
             &MessageAttributes.entry.1.Value.StringValue={kind}&MessageAttributes.entry.2.Name=n\
             &MessageAttributes.entry.2.Value.DataType=Number&MessageAttributes.entry.2.Value.StringValue={n}"
        )
    };
    for (message, attributes) in [
        ("a", attributes("wanted", 2)),
        ("b", attributes("wanted", 1)),
        ("c", attributes("other", 2)),
        ("d", String::new()),
    ] {
        let form = format!("Action=Publish&TopicArn={ARN}&Subject=s&Message={message}{attributes}");
        let (status, document) = topics.perform(&form);
        assert!(status.is_success() && document.contains("<PublishResult><MessageId>"), "{document}");
    }
    let raw = messages(&queues, "Raw").await;
    assert_eq!(raw.iter().map(|message| &message["body"]).collect::<Vec<_>>(), ["a"]);
    assert_eq!(raw[0]["messageAttributes"]["n"]["stringValue"], "2");
    let wrapped = messages(&queues, "Wrapped").await;
    assert_eq!(wrapped.len(), 4);
    let body: Value = serde_json::from_str(wrapped[0]["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!((&body["Type"], &body["Message"], &body["Subject"]), (&json!("Notification"), &json!("a"), &json!("s")));
    assert_eq!(
        (&body["TopicArn"], &body["MessageAttributes"]["n"]),
        (&json!(ARN), &json!({"Type": "Number", "Value": "2"}))
    );
    assert_eq!(wrapped[0]["messageAttributes"], json!({}));
}

#[tokio::test]
async fn a_batch_is_published_as_a_whole_or_not_at_all() {
    let (topics, queues) = topics();
    let entry = |number: u32, message: &str| {
        let prefix = format!("&PublishBatchRequestEntries.member.{number}");
        format!("{prefix}.Id=i{number}{prefix}.Message={message}")
    };
    let publish = |entries: &str| topics.perform(&format!("Action=PublishBatch&TopicArn={ARN}{entries}"));
    let (_, document) = publish(&(entry(1, "a") + &entry(2, "b")));
    assert!(document.contains("<Successful><member><Id>i1</Id><MessageId>"), "{document}");
    assert_eq!(messages(&queues, "Wrapped").await.len(), 2);
    let half = "x".repeat(MESSAGE_BYTES_MAX / 2);
    let id = |id: &str| entry(1, "a") + "&PublishBatchRequestEntries.member.2.Id=" + id;
    for (entries, code, text) in [
        (String::new(), "EmptyBatchRequest", "contain any entries."),
        (
            (1..=11).map(|number| entry(number, "a")).collect(),
            "TooManyEntriesInBatchRequest",
            "The batch request contains more entries than permissible.",
        ),
        (id("i1"), "BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id."),
        (id("i.2"), "InvalidBatchEntryId", "contains an impermissible character: i.2"),
        (id(&"i".repeat(81)), "InvalidBatchEntryId", "is too long: iii"),
        (entry(1, "a") + &entry(2, ""), "InvalidParameter", "Invalid parameter: Empty message"),
        (
            entry(1, "a") + "&PublishBatchRequestEntries.member.1.MessageAttributes.entry.1.Name=n",
            "ValidationError",
            "publishBatchRequestEntries.1.member.messageAttributes.n.member.dataType",
        ),
        (
            entry(1, &half) + &entry(2, &(half.clone() + "x")),
            "BatchRequestTooLong",
            "The length of all the messages put together is more than the limit.",
        ),
    ] {
        let (status, document) = publish(&entries);
        let is_expected = document.contains(&format!("<Code>{code}</Code>")) && document.contains(text);
        assert!(status == StatusCode::BAD_REQUEST && is_expected, "{document}");
    }
    assert_eq!(messages(&queues, "Wrapped").await.len(), 0);
}

#[tokio::test]
async fn a_topic_in_order_wants_a_group_and_a_way_to_tell_messages_apart() {
    let publish = |properties: &str, form: &str| {
        let text =
            TEMPLATE.replace("TopicName: topic,", &format!("TopicName: topic.fifo, FifoTopic: true{properties},"));
        let template = Template::parse(&text, &Default::default()).expect("valid");
        let queues = Arc::new(Queues::new(template.queues, Clock::System));
        let topics = Topics::new(template.topics, Functions::unreachable(&template.functions), queues, Clock::System);
        topics.perform(&format!("Action=Publish&Message=a&TopicArn={ARN}{form}")).1
    };
    for (properties, form, text) in [
        ("", ".fifo", "The MessageGroupId parameter is required for FIFO topics"),
        ("", ".fifo&MessageGroupId=g", "should either have ContentBasedDeduplication enabled"),
        ("", ".fifo&MessageGroupId=g&MessageDeduplicationId=d", "<MessageId>"),
        (", ContentBasedDeduplication: true", ".fifo&MessageGroupId=g", "<MessageId>"),
    ] {
        let document = publish(properties, form);
        assert!(document.contains(text), "{properties} {form}: {document}");
    }
}

#[tokio::test]
async fn what_the_service_refuses_is_refused() {
    let (topics, _) = topics();
    for (form, status, code) in [
        ("Action=Publish&TopicArn=arn:aws:sns:eu-central-1:1:none&Message=a".to_owned(), 404, "NotFound"),
        (format!("Action=Publish&TopicArn={ARN}&Message="), 400, "InvalidParameter"),
        (
            format!("Action=Publish&TopicArn={ARN}&Message={}", "a".repeat(MESSAGE_BYTES_MAX + 1)),
            400,
            "InvalidParameter",
        ),
        (format!("Action=Publish&TopicArn={ARN}&Message=x&MessageStructure=json"), 400, "InvalidParameter"),
        (format!("Action=Publish&TopicArn={ARN}&Message=x&MessageAttributes.entry.1.Name=a"), 400, "ValidationError"),
        ("Action=Publish&TopicArn=topic&Message=a".to_owned(), 400, "InvalidParameter"),
        (format!("Action=Publish&TopicArn={ARN}&Message=x&Subject="), 400, "InvalidParameter"),
        (format!("Action=Publish&TopicArn={ARN}&Message=x&MessageDeduplicationId=d"), 400, "InvalidParameter"),
        ("Action=Subscribe".to_owned(), 400, "InvalidAction"),
    ] {
        let (answered, document) = topics.perform(&form);
        assert!(answered == status && document.contains(&format!("<Code>{code}</Code>")), "{document}");
    }
}

#[test]
fn the_event_of_a_function_is_as_documented() {
    // Source: Lambda developer guide, "Invoking Lambda functions with Amazon SNS notifications"; the names of the two
    // addresses as in events that were recorded.
    let text = |kind: &str, value: &str| MessageAttribute {
        kind: kind.to_owned(),
        value: AttributeValue::Text(value.to_owned()),
    };
    let bytes = AttributeValue::Bytes(b"TestBinary".to_vec());
    let message = Message {
        text: "Hello from SNS!".to_owned(),
        subject: Some("TestInvoke".to_owned()),
        attributes: [
            ("Test".to_owned(), text("String", "TestString")),
            ("TestBinary".to_owned(), MessageAttribute { kind: "Binary".to_owned(), value: bytes }),
        ]
        .into(),
        ..Message::default()
    };
    let notification = Notification {
        topic_arn: ARN,
        subscription_arn: "arn:aws:sns:eu-central-1:000000000000:topic:21be56ed-a058-49f5-8c98-aedd2564c486",
        message_id: "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
        message: &message,
        at: clock::Timestamp::from_millis(1_546_433_107_000),
    };
    let mut event = notification.event();
    let sns = event["Records"][0]["Sns"].as_object_mut().expect("an object");
    for made_up in ["Signature", "SigningCertUrl", "UnsubscribeUrl"] {
        assert!(sns.remove(made_up).is_some_and(|value| value.is_string()), "{made_up}");
    }
    assert_eq!(
        event,
        json!({"Records": [{
            "EventVersion": "1.0",
            "EventSubscriptionArn": "arn:aws:sns:eu-central-1:000000000000:topic:21be56ed-a058-49f5-8c98-aedd2564c486",
            "EventSource": "aws:sns",
            "Sns": {
                "SignatureVersion": "1",
                "Timestamp": "2019-01-02T12:45:07.000Z",
                "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
                "Message": "Hello from SNS!",
                "MessageAttributes": {
                    "Test": {"Type": "String", "Value": "TestString"},
                    "TestBinary": {"Type": "Binary", "Value": "VGVzdEJpbmFyeQ=="}
                },
                "Type": "Notification",
                "TopicArn": ARN,
                "Subject": "TestInvoke"
            }
        }]})
    );
}

#[test]
fn a_policy_may_be_about_the_body() {
    let policy = "FilterPolicy: { kind: [wanted], n: [{ numeric: ['>', 1] }] }";
    let subscription = |scope: &str| {
        let text = TEMPLATE.replace(policy, &format!("FilterPolicyScope: {scope}\n      FilterPolicy: {{ a: [x] }}"));
        let template = Template::parse(&text, &Default::default()).expect("valid");
        template.topics[0].subscriptions[1].clone()
    };
    let (of_body, of_attributes) = (subscription("MessageBody"), subscription("MessageAttributes"));
    let list =
        MessageAttribute { kind: "String.Array".to_owned(), value: AttributeValue::Text("[\"y\", \"x\"]".to_owned()) };
    let message = Message {
        text: "{\"a\": \"x\"}".to_owned(),
        attributes: [("a".to_owned(), list)].into(),
        ..Message::default()
    };
    assert!(passes(&of_body, &message) && passes(&of_attributes, &message));
    let text = Message { text: "x".to_owned(), ..Message::default() };
    assert!(!passes(&of_body, &text) && !passes(&of_attributes, &text));
}
