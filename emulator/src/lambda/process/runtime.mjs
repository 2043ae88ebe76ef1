// The Lambda runtime for Node.js: takes invocations from the Runtime API, calls the handler and posts its results.
//
// aws-lambda-ric does the same, but needs a C++ compiler, CMake and libcurl. This needs only Node.js.

import { existsSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import Module, { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import path from 'node:path';
import { pathToFileURL, urlToHttpOptions } from 'node:url';

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

/** First parts of the names of AWS services in the cloud, and the variables that have their addresses here. */
const SERVICES = {
  dynamodb: 'DYNAMODB',
  'streams.dynamodb': 'DYNAMODB_STREAMS',
  events: 'EVENTBRIDGE',
  lambda: 'LAMBDA',
  secretsmanager: 'SECRETS_MANAGER',
  sns: 'SNS',
  sqs: 'SQS',
  ssm: 'SSM',
};

/**
 * Version 2 of the AWS SDK, and version 3 until 2023, know no variables that lead their clients here. They may be
 * part of a bundle, so requests to the names of services in the cloud are sent here instead.
 */
function redirectServices() {
  const local = new Map();
  for (const [service, variable] of Object.entries(SERVICES)) {
    const endpoint = process.env[`AWS_ENDPOINT_URL_${variable}`];
    if (endpoint?.startsWith('http:')) local.set(service, new URL(endpoint));
  }
  const cloud = /^(?<service>[a-z.]+)\.[a-z]+(?:-[a-z]+)+-[0-9]+\.amazonaws\.com(?:\.cn)?$/;
  const requests = new http.Agent({ keepAlive: true });
  const { request } = https;
  https.request = (...args) => {
    const url = typeof args[0] === 'string' ? new URL(args[0]) : args[0];
    const options = typeof args[1] === 'object' ? args[1] : {};
    const named = url instanceof URL ? { ...urlToHttpOptions(url), ...options } : url;
    const host = String(named?.hostname ?? named?.host ?? '').toLowerCase();
    const found = local.get(cloud.exec(host)?.groups.service);
    if (!found) return request(...args);
    const { hostname, port } = found;
    const headers = { ...named.headers };
    for (const name of Object.keys(headers)) if (name.toLowerCase() === 'host') delete headers[name];
    const changed = { agent: requests, protocol: 'http:', host: hostname, hostname, port, headers };
    return http.request({ ...named, ...changed }, args.find((argument) => typeof argument === 'function'));
  };
  https.get = (...args) => https.request(...args).end();
  syncBuiltinESMExports();
}

/** What code requires or imports by `/opt/…` is in the directories of the layers. */
function redirectLayers() {
  const layers = (process.env.LOCAL_LAYERS ?? '').split(path.delimiter).filter(Boolean);
  delete process.env.LOCAL_LAYERS;
  const resolveFilename = Module._resolveFilename;
  Module._resolveFilename = function (name, ...rest) {
    for (const layer of name.startsWith('/opt/') ? layers : []) {
      try {
        return resolveFilename.call(this, layer + name.slice('/opt'.length), ...rest);
      } catch (error) {
        if (error.code !== 'MODULE_NOT_FOUND') throw error;
      }
    }
    return resolveFilename.call(this, name, ...rest);
  };
  // Versions of Node.js before 20.6 do not have it.
  if (process.env.NODE_PATH || layers.length > 0) {
    Module.register?.('./resolve.mjs', { parentURL: import.meta.url, data: layers });
  }
  return layers;
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
  const inLayers = module.startsWith('/opt/') ? layers.map((layer) => layer + module.slice('/opt'.length)) : [];
  const modules = [...inLayers, path.resolve(TASK_ROOT, module)];
  const files = modules.flatMap((file) => ['.js', '.mjs', '.cjs'].map((extension) => file + extension));
  const file = files.find(existsSync);
  if (!file) throw runtimeError('Runtime.ImportModuleError', `cannot find ${files.join(' or ')}`);
  let loaded;
  try {
    loaded = await import(pathToFileURL(file));
  } catch (error) {
    const sdk = /'((?:@(?:aws-sdk|smithy)\/|aws-sdk\b)[^'/]*)/.exec(error.message)?.[1];
    if (sdk) error.message += `\nInstall the AWS SDK, which Lambda includes, beside the template: npm install ${sdk}`;
    throw error;
  }
  const find = (from) => names.split('.').reduce((value, name) => value?.[name], from);
  // The default export of CommonJS is all that it exports, and may have a handler that is called `default`.
  const isDefault = /^default(?:\.|$)/.test(names);
  const found = isDefault ? find(loaded.default) ?? find(loaded) : find(loaded) ?? find(loaded.default);
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

/** Ends the invocation under way when the event loop is empty; set while there is one. */
let drained = null;

/**
 * Calls the handler. Of callback, promise and context, the first one decides. As in Lambda, only the result of a
 * callback waits until nothing is left to do.
 */
function invoke(handler, event, context) {
  return new Promise((resolve, reject) => {
    let isDecided = false;
    const first = (decide) => (...args) => {
      if (isDecided) return;
      isDecided = true;
      decide(...args);
    };
    const done = (error, result) => (error === undefined || error === null ? resolve(result) : reject(error));
    drained = () => resolve(null);
    const callback = first((error, result) => {
      const waits = (error === undefined || error === null) && context.callbackWaitsForEmptyEventLoop;
      if (waits) drained = () => resolve(result);
      else done(error, result);
    });
    context.done = first(done);
    context.succeed = first(resolve);
    context.fail = first((error) => reject(error ?? 'handled'));
    const returned = handler(event, context, callback);
    if (typeof returned?.then === 'function') returned.then(context.succeed, context.fail);
  }).finally(() => {
    drained = null;
  });
}

let current = 'init';
redirect();
redirectServices();
const layers = redirectLayers();
// A handler that neither returns a promise nor calls back returns null when it has nothing left to do.
process.on('beforeExit', () => drained?.());
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (thrown) => {
    const exit = () => process.exit(1);
    if (current !== 'init' && drained === null) {
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
