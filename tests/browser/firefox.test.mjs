// The client and the demo page in a real Firefox.

import { after, before } from "node:test";
import { Firefox } from "./bidi.mjs";
import { testIn } from "./everywhere.mjs";

let firefox;

before(async () => {
  firefox = await Firefox.launch();
});
after(() => firefox?.close());

testIn(() => firefox);
