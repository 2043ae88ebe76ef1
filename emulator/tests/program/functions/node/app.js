// CommonJS: every way in which a handler of Node.js may end, chosen by the message.
const https = require('node:https');

const answer = (value) => ({ statusCode: 200, body: JSON.stringify(value) });

/** Posts to the connection by the address that the API has in the cloud. */
const post = (path, text) =>
  new Promise((resolve, reject) => {
    const options = { method: 'POST', headers: { authorization: 'AWS4-HMAC-SHA256 unchecked' } };
    const request = https.request(process.env.CLOUD + path, options, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    });
    request.on('error', reject);
    request.end(text);
  });

/** Asks DynamoDB by its name in the cloud, as SDKs do that know no AWS_ENDPOINT_URL. */
const tables = () =>
  new Promise((resolve, reject) => {
    const host = `dynamodb.${process.env.AWS_REGION}.amazonaws.com`;
    const headers = {
      host,
      'x-amz-target': 'DynamoDB_20120810.ListTables',
      'content-type': 'application/x-amz-json-1.0',
      'x-amz-date': '20260101T000000Z',
      authorization: 'AWS4-HMAC-SHA256 Credential=local, SignedHeaders=host, Signature=unchecked',
    };
    const agent = new https.Agent({ keepAlive: true });
    const request = https.request({ host, port: 443, path: '/', method: 'POST', headers, agent }, (response) => {
      response.on('data', (chunk) => resolve(String(chunk)));
    });
    request.on('error', reject);
    request.end('{}');
  });

exports.handler = (event, context, callback) => {
  const { requestContext, body } = event;
  const { apiId, connectionId } = requestContext;
  const region = body === 'post elsewhere' ? 'us-gov-west-1' : process.env.AWS_REGION;
  const host = body === 'post to the domain'
    ? requestContext.domainName
    : `${apiId}.execute-api.${region}.amazonaws.com`;
  process.env.CLOUD = `https://${host}/dev`;
  switch (body) {
    case 'callback':
      return void setTimeout(() => callback(null, answer('called back')), 1);
    case 'waits':
    case 'does not wait': {
      context.callbackWaitsForEmptyEventLoop = body === 'waits';
      const result = answer('early');
      setTimeout(() => { result.body = answer('drained').body; }, 20);
      return void callback(null, result);
    }
    case 'never drained': {
      setInterval(() => {}, 1000);
      return void callback(null, answer(body));
    }
    case 'fails at once':
    case 'succeeds at once': {
      const pending = setInterval(() => {}, 1000);
      if (body === 'fails at once') callback(new Error(body));
      else context.succeed(answer(body));
      return void setImmediate(() => clearInterval(pending));
    }
    case 'first':
      callback(null, answer('first'));
      return Promise.resolve(answer('second'));
    case 'tables':
      return tables().then(answer);
    case 'nothing':
      return undefined;
    case 'throw':
      throw new TypeError('thrown');
    case 'reject':
      return Promise.reject(new Error('rejected'));
    case 'stray':
      setTimeout(() => { throw new Error('stray'); }, 1);
      return new Promise(() => {});
    case 'context':
      return Promise.resolve(answer([
        context.functionName,
        context.memoryLimitInMB,
        context.invokedFunctionArn,
        context.getRemainingTimeInMillis() > 0,
        context.awsRequestId.length,
        process.env.LOCAL_EXECUTE_API === undefined,
      ]));
    case 'post':
    case 'post elsewhere':
    case 'post to the domain':
      return post(`/@connections/${encodeURIComponent(connectionId)}`, 'posted').then(answer);
    default:
      return Promise.resolve(answer(body));
  }
};
