// An ES module, with a handler that is nested.
export const nested = { handler: async (event) => ({ statusCode: 200, body: `module ${event.body}` }) };
