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

exports.handler = (event, context, callback) => {
  const { requestContext, body } = event;
  const { apiId, connectionId } = requestContext;
  process.env.CLOUD = `https://${apiId}.execute-api.${process.env.AWS_REGION}.amazonaws.com/dev`;
  switch (body) {
    case 'callback':
      return void setTimeout(() => callback(null, answer('called back')), 1);
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
      return post(`/@connections/${encodeURIComponent(connectionId)}`, 'posted').then(answer);
    default:
      return Promise.resolve(answer(body));
  }
};
