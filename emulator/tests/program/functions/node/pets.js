// A function behind an HTTP API and a REST API: what each calls itself, and the parameter of the path.
exports.handler = async ({ version, resource, pathParameters }) => ({
  statusCode: 200,
  body: JSON.stringify({ version, resource, id: pathParameters.id }),
});
