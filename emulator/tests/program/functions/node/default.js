// CommonJS with a handler that is called `default`, as some frameworks name it.
exports.default = async (event) => ({ statusCode: 200, body: `default ${event.body}` });
