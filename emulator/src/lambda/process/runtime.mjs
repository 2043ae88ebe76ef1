// The Lambda runtime for Node.js: takes invocations from the Runtime API, calls the handler and posts its results.
//
// aws-lambda-ric does the same, but needs a C++ compiler, CMake and libcurl. This needs only Node.js.

import { existsSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import net from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const { AWS_LAMBDA_RUNTIME_API: API, LAMBDA_TASK_ROOT: TASK_ROOT } = process.env;
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

/** Code that names the API's address in the cloud reaches the local gateway, as it would reach the API there. */
function redirect() {
  const [name, host, port] = (process.env.LOCAL_EXECUTE_API ?? '').split(' ');
  delete process.env.LOCAL_EXECUTE_API;
  if (!port) return;
  const { connect } = net.Socket.prototype;
  net.Socket.prototype.connect = function (...args) {
    // Node's own callers pass their normalized arguments as one array, which must stay the same array.
    const holder = Array.isArray(args[0]) ? args[0] : args;
    if (holder[0] !== null && typeof holder[0] === 'object' && String(holder[0].host).startsWith(name)) {
      holder[0] = { ...holder[0], host, port: Number(port) };
    }
    return connect.apply(this, args);
  };
}

/** Version 2 of the AWS SDK, where a function has it, knows no variables that lead its clients here. */
function redirectSdk2(file) {
  const { AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL_LAMBDA } = process.env;
  try {
    const { config } = createRequire(file)('aws-sdk/global');
    config.dynamodb = { endpoint: AWS_ENDPOINT_URL_DYNAMODB };
    config.lambda = { endpoint: AWS_ENDPOINT_URL_LAMBDA };
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error;
  }
}

function call(method, resource, headers, body, through = agent) {
  return new Promise((resolve, reject) => {
    const options = { agent: through, method, headers, path: `/2018-06-01/runtime/${resource}` };
    const request = http.request(`http://${API}`, options, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ headers: response.headers, text: Buffer.concat(chunks).toString() }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

function reportError(resource, thrown) {
  const isError = thrown instanceof Error;
  const errorType = isError ? thrown.name : typeof thrown;
  const errorMessage = isError ? thrown.message : String(thrown);
  const trace = isError ? String(thrown.stack).split('\n') : [];
  console.error(isError ? thrown : errorMessage);
  const headers = { 'content-type': 'application/json', 'lambda-runtime-function-error-type': errorType };
  // Not through the agent, whose one connection may be waiting for the next invocation.
  return call('POST', resource, headers, JSON.stringify({ errorType, errorMessage, trace }), false);
}

function runtimeError(name, message) {
  return Object.assign(new Error(message), { name });
}

async function load(handler) {
  const match = /^(?<module>(?:.*\/)?[^/.]+)\.(?<names>.+)$/.exec(handler);
  if (!match) throw runtimeError('Runtime.MalformedHandlerName', `invalid handler ${handler}: expected file.name`);
  const { module, names } = match.groups;
  const files = ['.js', '.mjs', '.cjs'].map((extension) => path.resolve(TASK_ROOT, module + extension));
  const file = files.find(existsSync);
  if (!file) throw runtimeError('Runtime.ImportModuleError', `cannot find ${files.join(' or ')}`);
  redirectSdk2(file);
  let loaded;
  try {
    loaded = await import(pathToFileURL(file));
  } catch (error) {
    const sdk = /'(@(?:aws-sdk|smithy)\/[^']+)'/.exec(error.message)?.[1];
    if (sdk) error.message += `\nInstall the AWS SDK, which Lambda includes, beside the template: npm install ${sdk}`;
    throw error;
  }
  const find = (from) => names.split('.').reduce((value, name) => value?.[name], from);
  const found = find(loaded) ?? find(loaded.default);
  if (typeof found !== 'function') {
    throw runtimeError('Runtime.HandlerNotFound', `${file} exports no function ${names}`);
  }
  return found;
}

function contextOf(headers) {
  const env = process.env;
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  return {
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    callbackWaitsForEmptyEventLoop: true,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

/** Ends the invocation under way; set while there is one. */
let abandon = null;

function invoke(handler, event, context) {
  return new Promise((resolve, reject) => {
    abandon = resolve;
    const callback = (error, result) => (error ? reject(error) : resolve(result));
    context.done = callback;
    context.succeed = resolve;
    context.fail = reject;
    const returned = handler(event, context, callback);
    if (typeof returned?.then === 'function') returned.then(resolve, reject);
  }).finally(() => {
    abandon = null;
  });
}

let current = 'init';
redirect();
// A handler that neither returns a promise nor calls back returns null when it has nothing left to do.
process.on('beforeExit', () => abandon?.(null));
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (thrown) => {
    const exit = () => process.exit(1);
    if (current !== 'init' && abandon === null) {
      console.error(thrown);
      exit();
    }
    reportError(current === 'init' ? 'init/error' : `invocation/${current}/error`, thrown).then(exit, exit);
  });
}

const handler = await load(process.argv[2]);
for (;;) {
  const { headers, text } = await call('GET', 'invocation/next');
  current = headers['lambda-runtime-aws-request-id'];
  process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
  let answer;
  try {
    answer = JSON.stringify((await invoke(handler, JSON.parse(text), contextOf(headers))) ?? null);
  } catch (thrown) {
    await reportError(`invocation/${current}/error`, thrown);
    continue;
  }
  await call('POST', `invocation/${current}/response`, { 'content-type': 'application/json' }, answer);
}
