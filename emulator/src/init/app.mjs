// Called for each message: see DefaultRoute in template.yaml. A change here counts from the next message on.
export async function handler(event) {
  const { connectionId } = event.requestContext;
  console.log('message of', connectionId, event.body);
  return { statusCode: 200, body: `you said: ${event.body}` };
}
